"""The processes of a lab: started, written down, found again and ended, by this command or a later one.

lab.json says which processes run. A process is told from a later one with the same pid by when it began; and each has
the lab's folder in its environment, by which even one that nobody wrote down is found in the end.
"""

import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cheops.intercept.envoy.process import Running, began
from cheops.lab.errors import LabFailed

MARK = "CHEOPS_LAB_FOLDER"
LOCK = "lock"
LOOK_EVERY = 0.02
KILLED_WITHIN = 5
_PROXIES = {"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"}


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One command at a time changes a lab; the others wait. Raises LabFailed if the lab is ended meanwhile."""
    path = folder / LOCK
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            raise LabFailed(f"the lab in {folder} was just ended", hint="Try again.")
        yield


@dataclass(frozen=True, kw_only=True)
class Record:
    """lab.json: what the lab is made of, and its processes by name, such as Site1/agent."""

    net: str
    sites: int
    app: str
    running: Mapping[str, Running]


def read_record(folder: Path) -> Record:
    """Raises LabFailed if there is no lab in the folder."""
    try:
        document = json.loads((folder / "lab.json").read_text())
        running = {name: Running(**process) for name, process in document.pop("running").items()}
        return Record(**document, running=running)
    except FileNotFoundError as error:
        raise LabFailed(f"no lab runs in {folder}", hint="Start one: cheops lab up") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise LabFailed(f"{folder / 'lab.json'} can't be used: {error}") from error


def write_record(folder: Path, record: Record) -> None:
    running = {name: {"pid": process.pid, "began": process.began} for name, process in record.running.items()}
    half = folder / "lab.half"
    half.write_text(json.dumps({**record.__dict__, "running": running}, indent=2) + "\n")
    half.replace(folder / "lab.json")


def environment(given: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What a process of the lab gets: no proxy stands between it and its neighbours, and its log is never late."""
    kept = {name: value for name, value in given.items() if name.lower() not in _PROXIES}
    return {**kept, "PYTHONUNBUFFERED": "1", MARK: str(folder)}


class Processes:
    """The processes of the lab in a folder, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writing = threading.Lock()
        self._children: list[subprocess.Popen[bytes]] = []  # ours to reap, if this Python lives that long

    def environment(self) -> dict[str, str]:
        return environment(os.environ, self._folder)

    def start(self, name: str, command: Sequence[str], *, folder: Path, log: Path) -> "subprocess.Popen[bytes]":
        """Starts a process that outlives this one; it is written down at once. Raises LabFailed."""
        for needed in (folder, log.parent):
            needed.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("ab") as output:
                child = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            raise LabFailed(f"{name} can't be started: {command[0]}: {error.strerror}") from error
        self._children.append(child)
        self._write_down(name, Running(pid=child.pid, began=began(child.pid) or ""))
        return child

    def _write_down(self, name: str, process: Running) -> None:
        with self._writing:
            record = read_record(self._folder)
            write_record(self._folder, Record(**{**record.__dict__, "running": {**record.running, name: process}}))

    def all(self) -> dict[str, Running]:
        """Those that live."""
        return {name: process for name, process in read_record(self._folder).running.items() if process.lives}

    def get(self, name: str) -> Running | None:
        return self.all().get(name)

    def end(self, patience: Mapping[str, float]) -> None:
        """Ends processes, all at the same time; each is killed if it still lives after so many seconds."""
        living = self.all()
        end_all({living[name]: seconds for name, seconds in patience.items() if name in living})
        self.reap()

    def kill(self, name: str) -> int | None:
        """Kills a process at once; answers its pid, or nothing if it doesn't run."""
        process = self.get(name)
        if process:
            kill(process)
            self.reap()
        return process.pid if process else None

    def reap(self) -> None:
        for child in self._children:
            child.poll()


def end_all(patience: Mapping[Running, float]) -> None:
    """SIGTERM for each and its group, SIGKILL for what outlives its patience (in seconds) or its leader."""
    began_at = time.monotonic()
    living = {process: began_at + seconds for process, seconds in patience.items() if process.lives}
    for process in living:
        _signal(process, signal.SIGTERM)
    while living:
        for process, end in list(living.items()):
            if not process.lives:
                _signal_group(process.pid, signal.SIGKILL)  # ours: its leader lived when we looked last
                del living[process]
            elif time.monotonic() > end:
                kill(process)
                del living[process]
        time.sleep(LOOK_EVERY if living else 0)


def kill(process: Running) -> None:
    """SIGKILL for a process and its group; returns once it has ended. Raises LabFailed if it doesn't."""
    _signal(process, signal.SIGKILL)
    end = time.monotonic() + KILLED_WITHIN
    while process.lives:
        if time.monotonic() > end:
            raise LabFailed(f"process {process.pid} was killed, but doesn't end")
        time.sleep(LOOK_EVERY / 10)


def _signal(process: Running, number: signal.Signals) -> None:
    if process.lives:
        _signal_group(process.pid, number)


def _signal_group(group: int, number: signal.Signals) -> None:
    if group <= 1:
        raise ValueError(f"{group} is no group of a lab: to kill(2) it means everybody")
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def kill_forgotten(folder: Path) -> None:
    """Kills whatever carries the lab's mark and still lives: of a command that was itself killed, say."""
    end = time.monotonic() + KILLED_WITHIN
    while (forgotten := marked(folder)) and time.monotonic() < end:
        for process in forgotten:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(LOOK_EVERY)


def marked(folder: Path) -> list[Running]:
    """The processes whose environment says that they belong to the lab in `folder`."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in path.read_bytes().split(b"\0") and (since := began(int(path.parent.name))):
                found.append(Running(pid=int(path.parent.name), began=since))
    return found


def read_running(path: Path) -> Running | None:
    """The process that a file of Cheops names, such as an agent's envoy.json, if it lives."""
    with suppress(OSError, ValueError, TypeError):
        document: dict[str, Any] = json.loads(path.read_text())
        process = Running(**document)
        return process if process.lives else None
    return None
