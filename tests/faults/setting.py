"""What the faults happen to: five sites in a lab; two keep their logs in PostgreSQL, one has a small disk of its own,
and two have clocks of their own.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import postgres
from cheops.errors import CheopsError
from cheops.lab.lab import Lab
from cheops.lab.site import LabSite

HERE = Path(__file__).parent
APP, INSIDE = HERE / "app", HERE / "inside"
FOLDER = "CHEOPS_FAULTS_FOLDER"
ALONE = "CHEOPS_FAULTS_ALONE"  # set where mounts are our own
SITES = 5
IN_POSTGRESQL = ("Site2", "Site4")
SMALL_DISK, SMALL_MB = "Site3", 48
OWN_CLOCKS = ("Site3", "Site5")
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
BACK_SECONDS = 120.0
TWICE = 0.1  # how probably a message between agents is sent again


@dataclass(frozen=True, kw_only=True)
class Setting:
    """`database` is the server of IN_POSTGRESQL; `disk` the small disk, None where nothing may be mounted."""

    folder: Path
    lab: Lab
    database: postgres.Server | None
    disk: Path | None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(site.name for site in self.lab.sites)

    def site(self, name: str) -> LabSite:
        return self.lab.site(name)

    def clock(self, site: str, seconds: float) -> None:
        """How far the clock of a site is ahead from now on."""
        _write(self.folder / "clock" / site, f"{seconds:+.0f}\n")

    def fill(self) -> None:
        """Leaves no room on the small disk."""
        assert self.disk
        with suppress(OSError), (self.disk / "full").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def empty(self) -> None:
        assert self.disk
        (self.disk / "full").unlink(missing_ok=True)

    def agent_again(self, site: str) -> None:
        """Starts an agent that was killed. It may end as long as its database is away or its disk full."""
        end = time.monotonic() + BACK_SECONDS
        while True:
            try:
                self.site(site).restart("agent")
                return
            except CheopsError:
                if time.monotonic() > end:
                    raise


@contextmanager
def setting(folder: Path, net: str) -> Iterator[Setting]:
    """Starts it; it ends with the context. Raises CheopsError, RuntimeError."""
    for site in OWN_CLOCKS if FAKETIME else ():
        _write(folder / "clock" / site, "+0\n")
    with (
        postgres.running() as database,
        _inside(folder, twice=TWICE),
        _mounted(folder) as mounted,
        Lab.up(folder / "lab", app=str(APP), sites=SITES, net=net) as lab,
    ):
        disk = mounted(lab)
        _keep_in(lab, database)
        yield Setting(folder=folder, lab=lab, database=database, disk=disk)


@contextmanager
def small_setting(folder: Path, net: str, broken: str) -> Iterator[Setting]:
    """Two sites; `broken` names what is broken on purpose in their agents, if anything is. Raises CheopsError."""
    with _inside(folder, broken=broken), Lab.up(folder / "lab", app=str(APP), sites=2, net=net) as lab:
        yield Setting(folder=folder, lab=lab, database=None, disk=None)


@contextmanager
def _inside(folder: Path, *, twice: float = 0.0, broken: str = "") -> Iterator[None]:
    """What the agents that are started meanwhile find in their environment."""
    _write(folder / "inside.json", json.dumps({"broken": broken, "twice": twice}))
    with _environment(PYTHONPATH=str(INSIDE), **{FOLDER: str(folder)}):
        yield


@contextmanager
def _environment(**given: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        for name in given:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


def _keep_in(lab: Lab, database: postgres.Server) -> None:
    for name in IN_POSTGRESQL:
        settings = lab.folder / name / "site.yaml"
        url = database.create(name.lower())
        settings.write_text(f"{settings.read_text()}\nstore: {{url: {json.dumps(url)}}}\n")
        lab.restart(name, "agent")


@contextmanager
def _mounted(folder: Path) -> Iterator[Callable[[Lab], Path | None]]:
    """What puts the data of a site on a small disk, if we may mount one; it is gone afterwards, and so is the lab."""
    disk = folder / "lab" / SMALL_DISK / "data"

    def mount(lab: Lab) -> Path | None:
        site, kept = lab.site(SMALL_DISK), folder / "kept"
        if ALONE not in os.environ:
            return None
        site.kill("agent")
        site.kill("envoy")
        shutil.copytree(disk, kept, ignore=lambda *_: ["run"])
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MB}m", "tmpfs", disk], capture_output=True, check=False
        )
        if not done.returncode:
            shutil.copytree(kept, disk, dirs_exist_ok=True)
        site.restart("agent")
        return None if done.returncode else disk

    try:
        yield mount
    finally:
        if disk.is_mount():
            subprocess.run(["umount", "--lazy", disk], check=False)
        shutil.rmtree(folder / "lab", ignore_errors=True)


def _write(path: Path, text: str) -> None:
    """At once: who reads it never finds half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(path.name + ".half")
    half.write_text(text)
    half.replace(path)


def keep_logs(setting: Setting, to: Path) -> None:
    """What an engineer needs to find out why: the logs and stores of all sites, and what their services keep."""
    for name in setting.names:
        for part in ("log", "data", "app"):
            source = setting.lab.folder / name / part
            with suppress(OSError, shutil.Error):
                shutil.copytree(source, to / name / part, ignore=shutil.ignore_patterns("run", "full", "kept"))


def environment_of(setting: Setting) -> dict[str, Any]:
    """What is said at the beginning of a run."""
    return {
        "PostgreSQL": ", ".join(IN_POSTGRESQL) if setting.database else "nowhere",
        "small disk": SMALL_DISK if setting.disk else "nowhere: nothing may be mounted here",
        "own clocks": ", ".join(OWN_CLOCKS) if FAKETIME else "nowhere: the Debian package faketime is missing",
    }
