"""What is written down of a lab, durations, waiting, and the end of processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cheops.intercept.envoy.process import Running, began
from cheops.lab.ending import end_lab
from cheops.lab.errors import LabFailed
from cheops.lab.lab import milliseconds
from cheops.lab.processes import (
    MARK,
    Processes,
    Record,
    end_all,
    environment,
    kill,
    marked,
    read_record,
    read_running,
    write_record,
)
from cheops.lab.waiting import GivenUp, Hope, end_of_log, last_lines

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)


@contextmanager
def child(*words: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def running(process: "subprocess.Popen[bytes]") -> Running:
    return Running(pid=process.pid, began=began(process.pid) or "")


def record(**processes: Running) -> Record:
    return Record(net="127.0.34", sites=2, app="/app", running=processes)


def test_what_is_written_down_is_read_again(tmp_path: Path) -> None:
    written = record(links=Running(pid=7, began="8"))
    write_record(tmp_path, written)
    assert read_record(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == ["lab.json"]


def test_no_lab_and_half_a_lab_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(LabFailed, match="no lab runs in"):
        read_record(tmp_path)
    for text in ("{", "[]", "{}", '{"running": []}', '{"running": {"links": {"pod": 1}}}'):
        (tmp_path / "lab.json").write_text(text)
        with pytest.raises(LabFailed, match="can't be used"):
            read_record(tmp_path)


def test_a_child_gets_no_proxy_and_carries_the_mark() -> None:
    given = {"PATH": "/bin", "http_proxy": "x", "HTTPS_PROXY": "x", "all_proxy": "x", "NO_PROXY": "x"}
    assert environment(given, Path("/lab")) == {"PATH": "/bin", "PYTHONUNBUFFERED": "1", MARK: "/lab"}


def test_a_process_is_written_down_logged_and_found(tmp_path: Path) -> None:
    write_record(tmp_path, record())
    processes = Processes(tmp_path)
    log = tmp_path / "log" / "sleeper.log"
    command = [sys.executable, "-c", "print('asleep'); import time; time.sleep(60)"]
    processes.start("sleeper", command, folder=tmp_path / "data", log=log)
    wait_until(lambda: log.read_text() == "asleep\n")
    found = processes.get("sleeper")
    assert found
    assert [process.pid for process in marked(tmp_path)] == [found.pid]
    assert processes.kill("sleeper") == found.pid
    assert processes.kill("sleeper") is None
    assert not found.lives


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_record(tmp_path, record())
    with pytest.raises(LabFailed, match="sleeper can't be started: no-such-command: No such file"):
        Processes(tmp_path).start("sleeper", ["no-such-command"], folder=tmp_path, log=tmp_path / "log")


def test_the_deaf_are_killed_after_their_patience_and_all_end_at_the_same_time() -> None:
    with child(sys.executable, "-c", STUBBORN) as deaf, child("sleep", "60") as sleeper:
        assert deaf.stdout
        assert deaf.stdout.readline() == b"deaf\n"
        both = {running(deaf): 0.3, running(sleeper): 30.0}
        began_at = time.monotonic()
        end_all(both)
        assert 0.3 <= time.monotonic() - began_at < 10
        assert not any(process.lives for process in both)
        assert (deaf.wait(), sleeper.wait()) == (-signal.SIGKILL, -signal.SIGTERM)


def test_a_later_process_with_the_same_pid_is_left_alone() -> None:
    with child("sleep", "60") as sleeper:
        recycled = Running(pid=sleeper.pid, began="1")
        end_all({recycled: 0.0})
        kill(recycled)
        with pytest.raises(subprocess.TimeoutExpired):
            sleeper.wait(0.1)


def test_the_group_of_a_process_that_ended_before_is_left_alone() -> None:
    """Its number may be somebody else's by now; here, a member of the group stands for him."""
    with child("sh", "-c", "sleep 60 & echo $!") as leader:
        assert leader.stdout
        member = int(leader.stdout.readline())
        process = running(leader)
        wait_until(lambda: not process.lives)
        try:
            end_all({process: 0.0})
            assert began(member)
        finally:
            os.kill(member, signal.SIGKILL)


def test_the_group_of_a_process_ends_with_it() -> None:
    with child("sh", "-c", "sleep 60 & echo $!; wait") as leader:
        assert leader.stdout
        member = int(leader.stdout.readline())
        end_all({running(leader): 30.0})
        wait_until(lambda: not began(member))


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_lab_of_which_little_is_left_ends_too(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    (folder / "Site1" / "data").mkdir(parents=True)
    write_record(folder, record())
    processes = Processes(folder)
    processes.start("forgotten", ["sleep", "60"], folder=folder, log=folder / "links.log")
    with child("sleep", "60") as stranger:
        write_record(folder, record(recycled=Running(pid=stranger.pid, began="1")))
        assert end_lab(folder)
        assert began(stranger.pid)
    processes.reap()
    assert not folder.exists()
    assert marked(folder) == []
    assert not end_lab(folder)


def test_what_is_not_the_lab_s_stays(tmp_path: Path) -> None:
    write_record(tmp_path, record())
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "Sites").mkdir()
    assert end_lab(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "Sites"}


def test_the_process_of_a_file_is_found_only_while_it_lives(tmp_path: Path) -> None:
    path = tmp_path / "envoy.json"
    assert read_running(path) is None
    path.write_text("{")
    assert read_running(path) is None
    with child("sleep", "60") as sleeper:
        path.write_text(f'{{"pid": {sleeper.pid}, "began": "{began(sleeper.pid)}", "bootstrap": ""}}')
        assert read_running(path) == running(sleeper)
    assert read_running(path) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [("20ms", 20), ("1.5s", 1500), ("800us", 0.8), ("800µs", 0.8), ("0ms", 0), ("0", 0), ("0s", 0)],
)
def test_durations_are_those_of_scope_lang_and_zero(text: str, found: float) -> None:
    assert milliseconds(text) == found


@pytest.mark.parametrize("text", ["20", "ms", "-1ms", "1m", "", "1ms)", "1ms) & around(x, 2ms", "around(x, 2ms)"])
def test_other_durations_are_refused_with_what_is_right(text: str) -> None:
    with pytest.raises(LabFailed, match="Write it like 20ms"):
        milliseconds(text)


def test_waiting_ends_when_nothing_is_missing(tmp_path: Path) -> None:
    missing = iter(["this", "that", ""])
    Hope().until(lambda: next(missing), "it", seconds=30, log=tmp_path)
    assert list(missing) == []


def test_waiting_in_vain_is_told_with_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    with pytest.raises(LabFailed, match=r"it wasn't ready in 0 s: the ink\n.*:\n  \| line 85\n(.*\n)*  \| line 99$"):
        Hope().until(lambda: "the ink", "it", seconds=0, log=log)


def test_who_waits_gives_up_once_another_has_failed(tmp_path: Path) -> None:
    hope = Hope()
    hope.lose()
    hope.until(lambda: "", "what is there already", seconds=30, log=tmp_path)
    with pytest.raises(GivenUp):
        hope.until(lambda: "the ink", "it", seconds=30, log=tmp_path)


def test_last_lines_of_what_is_there(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none", 3) == []
    (tmp_path / "log").write_bytes(b"one\ntwo \xff\nthree")
    assert last_lines(tmp_path / "log", 2) == ["two \ufffd", "three"]
    assert "is empty" in end_of_log(tmp_path / "none")
