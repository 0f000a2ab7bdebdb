"""One conformance suite for whatever keeps rolls, and what the file alone promises."""

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cheops.sites.membership import Rolls
from cheops.sites.roll import Member, Remembered, Roll, Standing
from cheops.stores.rolls import RollFile, RollInMemory

SITE2 = Member(name="Site2", number=2, mesh="[fd00::2]:7443", generation=1_800_000_000, revision=3)
GONE = Member(name="Site3", number=3, mesh="a-b.example:1", generation=5, standing=Standing.REMOVED)
SEED = Member(name="Site4", number=4, mesh="10.0.0.4:7443", generation=0)
KEPT = Remembered(incarnation="first", roll=Roll.of(SITE2, GONE))


def made() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"made {next(numbers)}"


MAKERS: dict[str, Callable[[Path], Rolls]] = {
    "file": lambda folder: RollFile(folder / "sites.json", made()),
    "memory": lambda _: RollInMemory(made()),
}


@pytest.fixture(params=MAKERS)
def rolls(request: pytest.FixtureRequest, tmp_path: Path) -> Rolls:
    return MAKERS[request.param](tmp_path)


def test_at_first_nothing_is_known_and_the_data_is_new(rolls: Rolls) -> None:
    assert rolls.recall() == Remembered(incarnation="made 1", roll=Roll())


def test_an_incarnation_is_made_once(rolls: Rolls) -> None:
    assert [rolls.recall().incarnation for _ in range(2)] == ["made 1", "made 1"]


def test_what_was_kept_last_is_recalled(rolls: Rolls) -> None:
    rolls.keep(Remembered(incarnation="first", roll=Roll.of(GONE)))
    rolls.keep(KEPT)
    found = rolls.recall()
    assert found == KEPT
    assert found.roll.digest == KEPT.roll.digest
    assert rolls.complaint == ""


def test_what_site_yaml_says_is_not_kept(rolls: Rolls) -> None:
    rolls.keep(Remembered(incarnation="first", roll=Roll.of(SITE2, SEED)))
    assert list(rolls.recall().roll) == ["Site2"]


# The file.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sites.json"


def test_the_file_outlives_who_wrote_it(path: Path) -> None:
    incarnation = RollFile(path, made()).recall().incarnation
    assert RollFile(path, lambda: "another").recall().incarnation == incarnation
    RollFile(path, made()).keep(KEPT)
    assert RollFile(path, made()).recall() == KEPT
    assert [each.name for each in path.parent.iterdir()] == ["sites.json"]


def document(**site: Any) -> dict[str, Any]:
    one = {"name": "Site2", "number": 2, "mesh": "a:1", "generation": 9, "revision": 0, "standing": "member"}
    return {"incarnation": "first", "sites": [{**one, **site}]}


def without(name: str) -> dict[str, Any]:
    whole = document()
    return {**whole, "sites": [{key: value for key, value in whole["sites"][0].items() if key != name}]}


DAMAGED = {
    "nothing": "",
    "half": json.dumps(document())[:-9],
    "zeros": "\0" * 4096,
    "no UTF-8": b"\xff\xfe",
    "a list": "[]",
    "null": "null",
    "deep": "[" * 100_000,
    "no sites": '{"incarnation": "first"}',
    "sites are null": '{"incarnation": "first", "sites": null}',
    "sites are a text": '{"incarnation": "first", "sites": "abc"}',
    "no incarnation": '{"sites": []}',
    "an incarnation that is a number": '{"incarnation": 7, "sites": []}',
    **{f"no {name}": json.dumps(without(name)) for name in ("name", "number", "mesh", "generation", "revision")},
    "a name that is none": json.dumps(document(name=None)),
    "a number that is a text": json.dumps(document(number="2")),
    "a number that no site has": json.dumps(document(number=1024)),
    "a number that is a truth": json.dumps(document(number=True)),
    "a generation that is a list": json.dumps(document(generation=[])),
    "a standing that is a list": json.dumps(document(standing=["left"])),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_moved_aside_and_the_data_is_new(path: Path, content: str | bytes) -> None:
    written = content.encode() if isinstance(content, str) else content
    path.write_bytes(written)
    rolls = RollFile(path, made())
    assert rolls.recall() == Remembered(incarnation="made 1", roll=Roll())
    assert path.with_suffix(".damaged").read_bytes() == written
    assert RollFile(path, lambda: "another").recall().incarnation == "made 1"


def test_what_a_newer_version_says_besides_is_skipped(path: Path) -> None:
    newer = document(standing="left", region="north")
    path.write_text(json.dumps({**newer, "format": 2}))
    found = RollFile(path, made()).recall()
    site2 = Member(name="Site2", number=2, mesh="a:1", generation=9, standing=Standing.LEFT)
    assert found == Remembered(incarnation="first", roll=Roll.of(site2))
    assert not path.with_suffix(".damaged").exists()


def test_a_standing_that_is_not_known_yet_costs_that_record_alone(path: Path) -> None:
    records = [*document(name="Site5", standing="resting")["sites"], *document()["sites"]]
    path.write_text(json.dumps({"incarnation": "first", "sites": records}))
    found = RollFile(path, made()).recall()
    assert (found.incarnation, list(found.roll)) == ("first", ["Site2"])


def test_a_disk_that_takes_nothing_is_told_and_what_was_there_stays(path: Path) -> None:
    rolls = RollFile(path, made())
    rolls.keep(KEPT)
    half = path.with_suffix(".half")
    half.symlink_to("/dev/full")
    rolls.keep(Remembered(incarnation="first", roll=Roll()))
    assert rolls.complaint == f"the roll of sites can't be written to {path}: No space left on device"
    assert rolls.recall() == KEPT
    half.unlink()
    rolls.keep(KEPT)
    assert rolls.complaint == ""


def test_so_is_one_that_is_full_from_the_start(tmp_path: Path) -> None:
    """An agent starts all the same; its peers will take it for one that has lost its data."""
    rolls = RollFile(tmp_path / "missing" / "sites.json", made())
    assert rolls.recall() == Remembered(incarnation="made 1", roll=Roll())
    assert rolls.complaint.endswith("sites.json: No such file or directory")


def test_half_a_file_is_never_seen(path: Path) -> None:
    RollFile(path, made()).keep(KEPT)
    path.with_suffix(".half").write_text('{"incarnation": "fi')
    rolls = RollFile(path, made())
    assert rolls.recall() == KEPT
    rolls.keep(KEPT)
    assert [each.name for each in path.parent.iterdir()] == ["sites.json"]
