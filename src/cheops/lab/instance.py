"""An instance of an application in the lab, or what all sites share: processes, started in order and waited for."""

import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cheops.intercept.envoy.process import Running
from cheops.lab.description import Part, Process, fill, fill_file
from cheops.lab.errors import LabFailed
from cheops.lab.processes import Processes
from cheops.lab.waiting import Hope, accepts, answer, end_of_log

AFTER_SECONDS = 120.0
AGENT = "agent"
ASKING_SECONDS = 30.0  # for a command that says whether something is ready


@dataclass(frozen=True, kw_only=True)
class Instance:
    """`owner` is a site or "shared"; processes run in the folder `data`; `agent_ready` waits for the site's agent."""

    owner: str
    part: Part
    folder: Path
    data: Path
    values: Mapping[str, str]
    log: Callable[[str], Path]
    processes: Processes
    agent_ready: Callable[[Hope], None] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.part.processes)

    def key(self, name: str) -> str:
        return f"{self.owner}/{name}"

    def running(self, name: str) -> Running | None:
        return self.processes.get(self.key(name))

    # Starting

    def start_first(self, names: Iterable[str]) -> tuple[str, ...]:
        """Starts what has to wait for nothing, and answers what was started. Raises LabFailed or BadSettings."""
        first = () if self.part.before else tuple(name for name in names if not self.part.processes[name].after)
        for name in first:
            self._start(name)
        return first

    def until_ready(self, names: Iterable[str], hope: Hope, *, started: Iterable[str] = ()) -> None:
        """Runs `before`, starts each process once those it comes after are ready, waits for all and runs `after`.

        Raises LabFailed with the end of the log concerned, or BadSettings for a file that can't be filled in.
        """
        if self.part.before:
            self._run("before", self.part.before, hope)
        for name in (name for name in names if name not in started):
            for earlier in self.part.processes[name].after:
                self._wait_for(earlier, hope)
            self._start(name)
        for name in names:
            self._wait_for(name, hope)
        if self.part.after:
            self._run("after", self.part.after, hope)

    def _start(self, name: str) -> None:
        described = self.part.processes[name]
        self._write_files(described)
        command = self._filled(described.command)
        self.processes.start(self.key(name), command, folder=self.data, log=self.log(name))

    def _filled(self, texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(fill(text, self.values) for text in texts)

    def _write_files(self, described: Process) -> None:
        for template, target in described.files.items():
            source = self.folder / fill(template, self.values)
            path = self.data / fill(target, self.values)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fill_file(source, self.values))

    def _run(self, what: str, command: tuple[str, ...], hope: Hope) -> None:
        """Runs a command of the part to its end. Raises LabFailed."""
        log, title = self.log(what), f"`{what}` {self._where}"
        child = self.processes.start(self.key(what), self._filled(command), folder=self.data, log=log)
        hope.until(lambda: "" if child.poll() is not None else "it still runs", title, seconds=AFTER_SECONDS, log=log)
        if child.returncode:
            raise LabFailed(f"{title} ended with status {child.returncode}", hint=end_of_log(log))

    @property
    def _where(self) -> str:
        return f"on {self.owner}" if self.owner != "shared" else "of what the sites share"

    # Waiting

    def _wait_for(self, name: str, hope: Hope) -> None:
        if name == AGENT and self.agent_ready:
            return self.agent_ready(hope)
        title = f"{name} of {self.owner}" if self.owner != "shared" else f"{name}, which the sites share,"
        seconds = self.part.ready_within
        return hope.until(partial(self._missing, name), title, seconds=seconds, log=self.log(name))

    def _missing(self, name: str) -> str:
        self.check_lives(name)
        match self.part.processes[name].ready:
            case None:
                return ""
            case str(url):
                return _not_answering(fill(url, self.values))
            case command:
                return self._not_yet(self._filled(command))

    def check_lives(self, name: str) -> None:
        if not self.running(name):
            raise LabFailed(f"{name} of {self.owner} has ended by itself", hint=end_of_log(self.log(name)))

    def _not_yet(self, command: tuple[str, ...]) -> str:
        """Why a command that asks whether something is ready says no."""
        try:
            done = subprocess.run(
                command,
                cwd=self.data,
                env=self.processes.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=ASKING_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{command[0]} didn't end"
        except OSError as error:
            raise LabFailed(f"{command[0]} can't be started: {error.strerror}") from error
        said = (done.stderr or done.stdout).strip().splitlines()
        return "" if done.returncode == 0 else said[-1] if said else f"{command[0]} ended with {done.returncode}"


def _not_answering(url: str) -> str:
    if url.startswith("tcp://"):
        return "" if accepts(url) else f"nothing listens at {url}"
    got = answer(url, at_most=0)
    return "" if got and got[0] < 500 else f"{url} answers {got[0] if got else 'nothing'}"
