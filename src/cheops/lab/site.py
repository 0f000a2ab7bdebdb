"""One site of a lab: its agent, its Envoy and its instance of the application."""

import datetime
import json
import os
import shutil
import signal
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from cheops.config import read_site
from cheops.intercept.envoy.process import Running
from cheops.lab.description import App, fill
from cheops.lab.ending import AGENT_PATIENCE, PATIENCE
from cheops.lab.errors import LabFailed
from cheops.lab.instance import Instance
from cheops.lab.layout import ENVOY_LOGS, Place, peers_of
from cheops.lab.processes import Processes, kill, read_running
from cheops.lab.waiting import Hope, answer, last_lines
from cheops.sites.invitation import invite_site, join_site
from cheops.sites.making import KnownSite, Wanted, make_site

READY_SECONDS = 60.0


class LabSite:
    """A site of a lab that runs, or that is about to."""

    def __init__(self, place: Place, app: App, processes: Processes) -> None:
        self._place, self._app, self._processes = place, app, processes
        self._values = place.values(app.folder)
        self._instance = Instance(
            owner=place.name,
            part=app.lab,
            folder=app.folder,
            data=place.app_data,
            values=self._values,
            log=place.log,
            processes=processes,
            agent_ready=partial(self.until_agent_ready, with_peers=False),
        )
        self._started: tuple[str, ...] = ()
        self.name, self.address = place.name, place.address
        self.admin = f"http://{place.admin}"
        self.data = place.data

    def front(self, service: str) -> str:
        """The URL where clients reach a service."""
        return f"http://{self._place.services[service][0]}"

    def backend(self, service: str) -> str:
        """The URL where the service itself listens."""
        return f"http://{self._place.services[service][1]}"

    @property
    def services(self) -> tuple[str, ...]:
        return tuple(self._place.services)

    @property
    def applications(self) -> tuple[str, ...]:
        """The names of the application's processes."""
        return self._instance.names

    @property
    def tour(self) -> tuple[str, ...]:
        return tuple(fill(command, self._values) for command in self._app.lab.tour)

    def access_log(self) -> list[dict[str, Any]]:
        """What Envoy wrote so far, one mapping a request; it writes twice a second."""
        with suppress(FileNotFoundError):
            lines = self.log("access").read_text().split("\n")
            return [json.loads(line) for line in lines[:-1]]  # the last one may not be whole
        return []

    def log(self, what: str) -> Path:
        """The path of a log: agent, envoy, access, or a process of the application. Raises LabFailed."""
        self._check(what, ("agent", *ENVOY_LOGS, *self.applications))
        return self._place.log(what)

    def logs(self) -> list[str]:
        """The names of the logs that there are."""
        return [name for name in ("agent", *ENVOY_LOGS, *self.applications) if self._place.log(name).exists()]

    def _check(self, what: str, known: Iterable[str]) -> None:
        if what not in known:
            raise LabFailed(f"{self.name} has no {what}; it has {', '.join(known)}")

    def _running(self, what: str) -> Running | None:
        if what == "envoy":
            return read_running(self.data / "run" / "envoy.json")
        return self._instance.running(what)

    def _key(self, what: str) -> str:
        return self._instance.key(what)

    def status(self) -> dict[str, Any]:
        """Where the site is, whether it serves, and the pid of each of its processes; None for what doesn't run."""
        running = {what: self._running(what) for what in ("agent", "envoy", *self.applications)}
        return {
            "address": self.address,
            "services": {service: self.front(service) for service in self.services},
            "admin": self.admin,
            "ready": not self._why_not_ready(),
            "pids": {what: process.pid if process else None for what, process in running.items()},
        }

    # Making and starting

    def make(self, deployment: Path, places: list[Place], now: datetime.datetime) -> None:
        """Makes site.yaml and the certificate. Raises BadSettings."""
        made = make_site(self._wanted(deployment, peers_of(self._place, places)), now)
        read_site(made.settings)  # a mistake is told now, not in the log of an agent

    def join(self, deployment: Path, now: datetime.datetime) -> None:
        """Lets the site in, as `cheops site invite` and `cheops site join` do. Raises BadSettings."""
        invitation = invite_site(deployment, self.name, self._place.number, now)
        read_site(join_site(invitation, self._wanted(deployment, None)))

    def _wanted(self, deployment: Path, peers: dict[str, KnownSite] | None) -> Wanted:
        place = self._place
        return Wanted(
            name=place.name,
            folder=place.folder,
            deployment=deployment,
            mesh=place.mesh,
            admin=place.admin,
            services=place.services,
            application=self._app.description,
            number=place.number,
            peers=peers,
            workers=1,
            credentials=self._app.lab.credentials,
        )

    def start_agent(self) -> None:
        command = (self._values["python"], "-m", "cheops", "agent", "--config", str(self._place.settings))
        self._start("agent", command, self._place.folder)

    def start_application(self) -> None:
        """Starts what needs nothing else. Raises LabFailed, or BadSettings for a file that can't be filled in."""
        self._started = self._instance.start_first(self.applications)

    def until_application_ready(self, hope: Hope) -> None:
        """Starts the rest, each once what it comes after is ready; waits for all. Raises LabFailed or BadSettings."""
        self._instance.until_ready(self.applications, hope, started=self._started)

    def _start(self, what: str, command: tuple[str, ...], folder: Path) -> None:
        self._processes.start(self._key(what), command, folder=folder, log=self._place.log(what))

    # Waiting

    def until_agent_ready(self, hope: Hope, *, with_peers: bool) -> None:
        """Waits until the agent says that it is, and, if asked for, that it reaches its peers. Raises LabFailed."""

        def missing() -> str:
            self._instance.check_lives("agent")
            return self._why_not_ready() or (self._unreached() if with_peers else "")

        hope.until(missing, f"the agent of {self.name}", seconds=READY_SECONDS, log=self._place.log("agent"))

    def _why_not_ready(self) -> str:
        got = answer(f"{self.admin}/readyz")
        if not got:
            return f"{self.admin}/readyz doesn't answer"
        return "" if got[0] == 200 else f"{self.admin}/readyz says {got[1].decode(errors='replace').strip()}"

    def _unreached(self) -> str:
        got = answer(f"{self.admin}/site")
        if not got or got[0] != 200:
            return f"{self.admin}/site doesn't answer"
        peers = json.loads(got[1])["peers"]
        unreached = [name for name, peer in peers.items() if not peer["reachable"]]
        return f"it doesn't reach {', '.join(unreached)}" if unreached else ""

    # Breaking and mending

    def _meant(self, what: str) -> tuple[str, ...]:
        """What a command means by a word: app stands for all processes of the application."""
        self._check(what, ("agent", "envoy", "app", *self.applications))
        return self.applications if what == "app" else (what,)

    def kill(self, what: str) -> dict[str, int]:
        """SIGKILL for agent, envoy, app or one process; answers the pids of what was killed."""
        pids = {name: self._kill(name) for name in self._meant(what)}
        return {name: pid for name, pid in pids.items() if pid is not None}

    def _kill(self, what: str) -> int | None:
        if what != "envoy":
            return self._processes.kill(self._key(what))
        envoy = self._running("envoy")
        if envoy:
            kill(envoy)
        return envoy.pid if envoy else None

    def restart(self, what: str) -> None:
        """Ends it if it runs, starts it, and waits until it is ready. Raises LabFailed."""
        names = self._meant(what)
        if what == "envoy":
            self._restart_envoy()
        elif what == "agent":
            self._processes.end({self._key(what): AGENT_PATIENCE})
            self.start_agent()
            self.until_agent_ready(Hope(), with_peers=False)
        else:
            self._processes.end({self._key(name): PATIENCE for name in names})
            self._instance.until_ready(names, Hope())

    def wipe(self) -> None:
        """Takes away all that the agent keeps, and starts it anew: a machine that came back with an empty disk."""
        self._processes.end({self._key("agent"): AGENT_PATIENCE})
        self._kill("envoy")
        shutil.rmtree(self.data, ignore_errors=True)
        self.start_agent()
        self.until_agent_ready(Hope(), with_peers=False)

    def _restart_envoy(self) -> None:
        """The agent starts Envoy again whenever it ends."""
        if not self._running("agent"):
            raise LabFailed(
                f"the agent of {self.name} doesn't run, and it is who starts Envoy",
                hint=f"Restart it first: cheops lab restart {self.name} agent",
            )
        old = self._running("envoy")
        if old:
            os.kill(old.pid, signal.SIGTERM)

        def missing() -> str:
            new = self._running("envoy")
            return self._why_not_ready() if new and new != old else "Envoy isn't back yet"

        Hope().until(missing, f"the Envoy of {self.name}", seconds=READY_SECONDS, log=self._place.log("envoy"))

    def last_lines(self, what: str, count: int) -> list[str]:
        return last_lines(self.log(what), count)
