"""A lab: N sites on this machine, each with its own address, and links between them that can be cut.

For trying things out and for tests. Whatever it starts it also ends, and what it keeps goes with it. Not promised:
that the sites are apart in anything but address; they share the machine's cores, disk and clock.
"""

import datetime
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from cheops.errors import BadSettings
from cheops.lab.addresses import check_free
from cheops.lab.description import App, fill, find_app, read_app
from cheops.lab.ending import RECORD, clear, end_all_of, end_lab, living
from cheops.lab.errors import LabFailed
from cheops.lab.instance import Instance
from cheops.lab.layout import (
    MOST_SITES,
    SHARED,
    Place,
    check_net,
    install_values,
    links_spec,
    listening,
    shared_values,
)
from cheops.lab.links import LinksError, ask_now
from cheops.lab.processes import LOCK, Processes, Record, alone, read_record, write_record
from cheops.lab.site import READY_SECONDS, LabSite
from cheops.lab.waiting import GivenUp, Hope, end_of_log
from cheops.scope import Around, ScopeError, parse

DEFAULT_NET = "127.0.34"
LINKS = "links"


class Lab:
    """The lab in a folder. `Lab.up` starts one, `Lab.at` finds one that runs; as a context it ends itself."""

    def __init__(self, folder: Path, record: Record, app: App) -> None:
        self.folder, self.net, self.app = folder, record.net, app
        self._processes = Processes(folder)
        self._control = folder / "links.sock"
        self._places = _places(folder, record.net, record.sites, app)
        self.sites = tuple(LabSite(place, app, self._processes) for place in self._places)
        self._shared = _shared(folder, record, app, self._processes)

    @classmethod
    def up(cls, folder: Path, *, app: str = "shop", sites: int = 3, net: str = DEFAULT_NET) -> "Lab":
        """Makes and starts all; returns once all is ready. Raises CheopsError, and then leaves nothing behind."""
        if not 1 <= sites <= MOST_SITES:
            raise BadSettings(f"a lab has 1 to {MOST_SITES} sites, not {sites}")
        found = read_app(find_app(app))
        record = Record(net=check_net(net), sites=sites, app=str(found.folder), running={})
        folder = folder.resolve()
        _install(found, folder)
        lab = cls(folder, record, found)
        try:
            with _new(folder):
                check_free(listening(lab._places))
                write_record(folder, record)
                lab._start()
        finally:
            lab._processes.reap()
        return lab

    @classmethod
    def at(cls, folder: Path) -> "Lab":
        """The lab that runs in a folder. Raises LabFailed if there is none."""
        folder = folder.resolve()
        record = read_record(folder)
        return cls(folder, record, read_app(Path(record.app)))

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def down(self) -> None:
        """Ends every process and removes every file. A second time it does nothing."""
        end_lab(self.folder)
        self._processes.reap()

    def site(self, name: str) -> LabSite:
        """Raises LabFailed if there is no such site."""
        for site in self.sites:
            if site.name == name:
                return site
        raise LabFailed(f"there is no site {name}; there are {', '.join(site.name for site in self.sites)}")

    # Starting

    def _start(self) -> None:
        """Slow starters first: most of an application needs no site, and sites need a moment to be made."""
        self._start_links()
        if self._shared:
            self._shared.until_ready(self._shared.names, Hope())
        for site in self.sites:
            site.start_application()
        now = datetime.datetime.now(datetime.UTC)
        for site in self.sites:
            site.make(self.folder / "deployment", self._places, now)
            site.start_agent()
        self._until_ready()

    def _start_links(self) -> None:
        spec = self.folder / "links.json"
        spec.write_text(json.dumps(links_spec(self._places, self._control)))
        command = (sys.executable, "-m", "cheops.lab.links", str(spec))
        self._processes.start(LINKS, command, folder=self.folder, log=self._links_log)

    @property
    def _links_log(self) -> Path:
        return self.folder / "links.log"

    def _until_ready(self) -> None:
        """Waits for all at the same time; the first failure ends the waiting."""
        hope = Hope()
        waits = [self._until_links_ready]
        for site in self.sites:
            waits.append(site.until_application_ready)
            waits.append(partial(site.until_agent_ready, with_peers=True))
        with ThreadPoolExecutor(len(waits)) as pool:
            tasks = [pool.submit(until, hope) for until in waits]
            try:
                wait(tasks, return_when=FIRST_EXCEPTION)
            finally:
                hope.lose()
        failures = [failure for task in tasks if (failure := task.exception())]
        for failure in sorted(failures, key=lambda failure: isinstance(failure, GivenUp)):
            raise failure

    def _until_links_ready(self, hope: Hope) -> None:
        def missing() -> str:
            if not self._processes.get(LINKS):
                raise LabFailed("the links have ended by themselves", hint=end_of_log(self._links_log))
            try:
                self.links()
            except LabFailed as error:
                return error.detail
            return ""

        hope.until(missing, "the links", seconds=READY_SECONDS, log=self._links_log)

    # Breaking and mending

    def cut(self, one: str, other: str, *, oneway: bool = False) -> None:
        """Ends what goes between two sites, and lets nothing new begin; one way: what `one` sends to `other`."""
        self._ask_links(do="cut", between=[one, other], oneway=oneway)

    def blackhole(self, one: str, other: str, *, oneway: bool = False) -> None:
        """Whatever is sent vanishes without a word."""
        self._ask_links(do="blackhole", between=[one, other], oneway=oneway)

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """Makes a link as it was, but for its delay; all links if none is named."""
        pairs = [(one, other)] if one and other else [(link["from"], link["to"]) for link in self.links()]
        for pair in pairs:
            self._ask_links(do="heal", between=pair)

    def delay(self, one: str, other: str, round_trip: str) -> None:
        """Lets a round trip between two sites take so long; 0ms takes the delay away."""
        self._ask_links(do="delay", between=[one, other], round_trip_ms=milliseconds(round_trip))

    def links(self) -> list[dict[str, Any]]:
        """Of each way: from, to, state, delay_ms (of this way alone), connections, bytes."""
        rows: list[dict[str, Any]] = self._ask_links(do="status")["links"]
        return rows

    def _ask_links(self, **request: object) -> dict[str, Any]:
        try:
            return ask_now(self._control, request)
        except LinksError as error:
            raise LabFailed(str(error)) from error

    def kill(self, site: str, what: str) -> dict[str, int]:
        """SIGKILL for agent, envoy, app or one process of a site; answers the pids of what was killed."""
        with alone(self.folder):
            return self.site(site).kill(what)

    def restart(self, site: str, what: str) -> None:
        """Ends it if it runs, starts it, and returns once it is ready. Raises LabFailed."""
        with alone(self.folder):
            self.site(site).restart(what)

    def wipe(self, site: str) -> None:
        """Takes away what the agent of a site keeps, and starts it anew."""
        with alone(self.folder):
            self.site(site).wipe()

    def join(self) -> LabSite:
        """One more site joins; returns it once it is ready. It reaches the others directly, not by links of the lab."""
        with alone(self.folder):
            record = read_record(self.folder)
            record = Record(**{**record.__dict__, "sites": record.sites + 1})
            places = _places(self.folder, record.net, record.sites, self.app)
            site = LabSite(places[-1], self.app, self._processes)
            check_free(listening(places[-1:]))
            write_record(self.folder, record)
            self._places, self.sites = places, (*self.sites, site)
            self._start_last(site)
        return site

    def _start_last(self, site: LabSite) -> None:
        site.start_application()
        site.join(self.folder / "deployment", datetime.datetime.now(datetime.UTC))
        site.start_agent()
        site.until_application_ready(Hope())
        site.until_agent_ready(Hope(), with_peers=False)

    def _shared_pids(self) -> dict[str, int | None]:
        running = {name: self._shared.running(name) for name in self._shared.names} if self._shared else {}
        return {name: process.pid if process else None for name, process in running.items()}

    def status(self) -> dict[str, Any]:
        """What runs, and how the links are."""
        sites = {site.name: site.status() for site in self.sites}
        try:
            links = self.links()
        except LabFailed:
            links = []
        running = self._processes.get(LINKS)
        return {
            "folder": str(self.folder),
            "application": self.app.application.application,
            "sites": sites,
            "shared": self._shared_pids(),
            "links": {"pid": running.pid if running else None, "ways": links},
        }


def _install(app: App, folder: Path) -> None:
    """Runs `install`, whose output the user sees. Raises LabFailed."""
    if not app.lab.install:
        return
    values = install_values(folder, app.folder)
    command = [fill(text, values) for text in app.lab.install]
    cache = Path(values["cache"])
    cache.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, cwd=cache, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    except OSError as error:
        raise LabFailed(f"`install` can't be started: {command[0]}: {error.strerror}") from error
    if done.returncode:
        raise LabFailed(f"`install` of the application in {app.folder} ended with status {done.returncode}")


def _shared(folder: Path, record: Record, app: App, processes: Processes) -> Instance | None:
    if not app.lab.shared:
        return None
    data = folder / SHARED
    return Instance(
        owner=SHARED,
        part=app.lab.shared,
        folder=app.folder,
        data=data,
        values=shared_values(record.net, record.sites, folder, app.folder),
        log=lambda name: data / "log" / f"{name}.log",
        processes=processes,
    )


def _places(folder: Path, net: str, sites: int, app: App) -> list[Place]:
    ports = {}
    for name in app.services:
        service = app.application.services[name]
        if service.port is None or service.backend_port is None:
            raise BadSettings(
                f"{app.description}: services.{name}: a lab needs its `port` and its `backend_port`",
                hint="The front listens on the first, the service itself on the second.",
            )
        ports[name] = (service.port, service.backend_port)
    return [Place(number=number, net=net, lab=folder, ports=ports, sites=sites) for number in range(1, sites + 1)]


@contextmanager
def _new(folder: Path) -> Iterator[None]:
    """The folder of a new lab; it is gone again if the lab doesn't come up. Raises LabFailed if it isn't free."""
    kept = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if kept - {LOCK} and RECORD not in kept:
        raise LabFailed(f"{folder} isn't empty, and it isn't a lab", hint="Name another folder with --dir.")
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        if living(folder):
            raise LabFailed(
                f"a lab runs in {folder} already", hint="See `cheops lab status`; `cheops lab down` ends it."
            )
        clear(folder)  # of a lab that ended with the machine, say
        try:
            yield
        except BaseException:
            end_all_of(folder)
            raise


def milliseconds(duration: str) -> float:
    """A duration of scope-lang, or zero. Raises LabFailed."""
    if re.fullmatch(r"0+(us|µs|μs|ms|s)?", duration):
        return 0.0
    try:
        location = parse(f"around(here, {duration})").bare
    except ScopeError as error:
        raise _no_duration(duration) from error
    if not isinstance(location, Around):
        raise _no_duration(duration)
    return location.within_us / 1000


def _no_duration(text: str) -> LabFailed:
    return LabFailed(f"'{text}' isn't a duration", hint="Write it like 20ms, 1.5s or 800us; 0ms takes a delay away.")
