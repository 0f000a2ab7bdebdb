"""The processes of an instance: started in order, waited for, and told of when they fail. Real processes, no sites."""

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cheops.documents import parse_document
from cheops.lab.description import LabDescription
from cheops.lab.errors import LabFailed
from cheops.lab.instance import Instance
from cheops.lab.processes import Processes, Record, write_record
from cheops.lab.waiting import Hope

# Notes in the file `story` what it does; `serve` listens, and others may wait for it.
SCRIPT = """\
import pathlib, socket, sys, time
name, *what = sys.argv[1:]
with pathlib.Path("story").open("a") as story:
    story.write(name + "\\n")
if "listen" in what:
    place = socket.create_server(("127.0.0.1", int(what[1])))
if "fail" in what:
    sys.exit(f"{name} has failed")
if what:
    time.sleep(60)
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    write_record(tmp_path, Record(net="127.0.34", sites=1, app="/app", running={}))
    (tmp_path / "act.py").write_text(SCRIPT)
    found = Processes(tmp_path)
    yield found
    found.end(dict.fromkeys(found.all(), 1.0))


def instance(tmp_path: Path, processes: Processes, text: str, **more: object) -> Instance:
    part = parse_document(text, "lab.yaml", LabDescription)
    values = {"python": sys.executable, "folder": str(tmp_path), "data": str(tmp_path)}
    return Instance(
        owner="Site1",
        part=part,
        folder=tmp_path,
        data=tmp_path,
        values=values,
        log=lambda name: tmp_path / f"{name}.log",
        processes=processes,
        **more,  # type: ignore[arg-type]
    )


def story(tmp_path: Path) -> list[str]:
    path = tmp_path / "story"
    return path.read_text().split() if path.exists() else []


def test_all_that_has_to_come_first_does(tmp_path: Path, processes: Processes) -> None:
    """`before`, then each process once those it comes after are ready and the fronts listen, then `after`."""
    port, act = free_port(), '"{python}", "{folder}/act.py"'

    def agent_ready(_: Hope) -> None:
        with (tmp_path / "story").open("a") as file:
            file.write("agent\n")

    told = instance(
        tmp_path,
        processes,
        f"""
before: [{act}, before]
processes:
  database: {{command: [{act}, database, listen, "{port}"], ready: "tcp://127.0.0.1:{port}"}}
  api: {{command: [{act}, api, stay], after: [database, agent], ready: [grep, api, story]}}
  last: {{command: [{act}, last, stay], after: [api], ready: [grep, last, story]}}
after: [{act}, after]
""",
        agent_ready=agent_ready,
    )
    assert told.start_first(told.names) == ()  # `before` comes before all
    told.until_ready(told.names, Hope())
    assert story(tmp_path) == ["before", "database", "agent", "api", "last", "after"]
    assert set(processes.all()) == {"Site1/database", "Site1/api", "Site1/last"}


def test_what_waits_for_nothing_is_started_first_and_not_twice(tmp_path: Path, processes: Processes) -> None:
    act = '"{python}", "{folder}/act.py"'
    told = instance(
        tmp_path,
        processes,
        f"processes:\n  one: {{command: [{act}, one, stay]}}\n  two: {{command: [{act}, two, stay], after: [one]}}\n",
    )
    started = told.start_first(told.names)
    assert started == ("one",)
    told.until_ready(told.names, Hope(), started=started)
    end = time.monotonic() + 10
    while len(story(tmp_path)) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert sorted(story(tmp_path)) == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "before: [ACT, early, fail]\nprocesses: {one: {command: [ACT, one, stay]}}",
            "`before` on Site1 ended with status 1",
        ),
        (
            "processes: {one: {command: [ACT, one, stay]}}\nafter: [ACT, late, fail]",
            "`after` on Site1 ended with status 1",
        ),
        (
            "processes: {one: {command: [ACT, one, stay], ready: [ACT, ask, fail]}}\nready_within: 0.2",
            "one of Site1 wasn't ready in 0.2 s: ask has failed",
        ),
        (
            "processes: {one: {command: [ACT, one, stay], ready: ['false']}}\nready_within: 0.2",
            "one of Site1 wasn't ready in 0.2 s: false ended with 1",
        ),
        (
            "processes: {one: {command: [ACT, one, stay], ready: tcp://127.0.0.1:1}}\nready_within: 0.2",
            "one of Site1 wasn't ready in 0.2 s: nothing listens at tcp://127.0.0.1:1",
        ),
        ("processes: {one: {command: [ACT, one, fail], ready: ['false']}}", "one of Site1 has ended by itself"),
        ("processes: {one: {command: [ACT, one, stay], ready: [no-such-program]}}", "no-such-program can't be started"),
    ],
)
def test_a_failure_is_told_with_what_failed(tmp_path: Path, processes: Processes, text: str, sentence: str) -> None:
    told = instance(tmp_path, processes, text.replace("ACT", '"{python}", "{folder}/act.py"'))
    with pytest.raises(LabFailed) as caught:
        told.until_ready(told.names, Hope())
    assert str(caught.value).startswith(sentence)
