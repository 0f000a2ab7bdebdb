"""One conformance suite for whatever keeps scopes, and what files alone promise."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cheops.ports import KeptScopes
from cheops.stores.kept import KEPT_SECONDS, KeptFiles, KeptInMemory

ONE, OTHER = "c4e0f001-0000-8000-8000-000000000001", "c4e0f001-0000-8000-8000-000000000002"
TEXT = "{compute: Site1, image: Site2}"


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now


Kept = KeptFiles | KeptInMemory
MAKERS: dict[str, Callable[[Path, Clock], Kept]] = {
    "files": lambda folder, clock: KeptFiles(folder / "kept", clock),
    "memory": lambda _, clock: KeptInMemory(clock),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=MAKERS)
def kept(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Kept:
    return MAKERS[request.param](tmp_path, clock)


def test_it_is_what_the_core_asks_for(kept: Kept) -> None:
    asked: KeptScopes = kept
    asked.keep(ONE, TEXT)
    assert asked.recall(ONE) == TEXT


def test_what_was_never_kept(kept: Kept) -> None:
    assert kept.recall(ONE) is None
    kept.keep(OTHER, TEXT)
    assert kept.recall(ONE) is None


def test_each_under_its_own_id(kept: Kept) -> None:
    kept.keep(ONE, TEXT)
    kept.keep(OTHER, "{}")
    assert (kept.recall(ONE), kept.recall(OTHER), kept.recall(ONE)) == (TEXT, "{}", TEXT)


@pytest.mark.parametrize("text", ["", "é\n\r\n\0", "x" * 100_000])
def test_any_text_comes_back_as_it_was(kept: Kept, text: str) -> None:
    kept.keep(ONE, text)
    assert kept.recall(ONE) == text


def test_the_last_one_counts(kept: Kept, clock: Clock) -> None:
    kept.keep(ONE, TEXT)
    clock.now += KEPT_SECONDS - 1
    kept.keep(ONE, "{}")
    clock.now += KEPT_SECONDS - 1
    assert kept.recall(ONE) == "{}"


def test_a_scope_is_kept_for_a_day_and_no_longer(kept: Kept, clock: Clock) -> None:
    kept.keep(ONE, TEXT)
    clock.now += KEPT_SECONDS - 1
    assert kept.recall(ONE) == TEXT
    clock.now += 1
    assert kept.recall(ONE) is None


def test_reading_does_not_make_it_younger(kept: Kept, clock: Clock) -> None:
    kept.keep(ONE, TEXT)
    clock.now += KEPT_SECONDS / 2
    assert kept.recall(ONE) == TEXT
    clock.now += KEPT_SECONDS / 2
    assert kept.recall(ONE) is None


def test_forgetting_takes_the_old_and_leaves_the_young(kept: Kept, clock: Clock) -> None:
    kept.forget_old()
    kept.keep(ONE, TEXT)
    clock.now += KEPT_SECONDS / 2
    kept.keep(OTHER, TEXT)
    clock.now += KEPT_SECONDS / 2
    kept.forget_old()
    clock.now -= KEPT_SECONDS / 2  # were it only hidden, it would be seen again
    assert (kept.recall(ONE), kept.recall(OTHER)) == (None, TEXT)


@pytest.mark.parametrize("uuid", ["", "..", f"../{ONE}", f"{ONE}/..", ONE.upper(), ONE[:-1], f"{ONE}0", f"{ONE}.half"])
def test_what_is_no_uuid_keeps_nothing(kept: Kept, uuid: str) -> None:
    with pytest.raises(ValueError, match="not a UUID"):
        kept.keep(uuid, TEXT)
    assert kept.recall(uuid) is None


def test_files_outlive_who_wrote_them(tmp_path: Path, clock: Clock) -> None:
    KeptFiles(tmp_path / "a/b", clock).keep(ONE, TEXT)
    assert KeptFiles(tmp_path / "a/b", clock).recall(ONE) == TEXT


def test_half_a_file_is_never_seen(tmp_path: Path, clock: Clock) -> None:
    """What an agent was writing as it died is no scope, and is swept away in its time."""
    kept = KeptFiles(tmp_path, clock)
    half = tmp_path / f"{ONE}.half"
    half.write_text("{comp")
    os.utime(half, (clock.now, clock.now))
    assert kept.recall(ONE) is None
    kept.forget_old()
    kept.keep(ONE, TEXT)
    assert ([path.name for path in tmp_path.iterdir()], kept.recall(ONE)) == ([ONE], TEXT)
    half.write_text("{comp")
    os.utime(half, (clock.now, clock.now))
    clock.now += KEPT_SECONDS
    kept.forget_old()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told(tmp_path: Path, clock: Clock) -> None:
    kept = KeptFiles(tmp_path / "kept", clock)
    (tmp_path / "kept").rmdir()
    with pytest.raises(OSError, match="No such file"):
        kept.keep(ONE, TEXT)
