"""The Envoy of a site: started, watched, told of changes, drained.

Envoy outlives the agent, so that requests go on while the agent doesn't; the next agent adopts it. A change is made
before what it replaces is broken: new clusters, then routes, then listeners, and only then are old clusters taken away.
"""

import asyncio
import datetime
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import structlog

from cheops.config import Site
from cheops.errors import BadSettings, DataPlaneFailed
from cheops.intercept.envoy.files import Document, bootstrap, discovery, watched_files

START_SECONDS = 15
APPLY_SECONDS = 10
LOG_FLUSH_SECONDS = 0.5
WARNING = datetime.timedelta(days=30)  # before the site's certificate ends
LOG_FORMAT = '{"time":"%Y-%m-%dT%T.%eZ","level":"%l","logger":"envoy.%n","event":"%j"}'
ACCESS_LOG_BYTES = 64 << 20  # then a new file is begun; one old one is kept
log = structlog.get_logger("envoy")


@dataclass(frozen=True, kw_only=True)
class Running:
    """A process, told from a later one with the same pid by when it began."""

    pid: int
    began: str
    bootstrap: str = ""

    @property
    def lives(self) -> bool:
        return began(self.pid) == self.began


@dataclass(frozen=True, kw_only=True)
class Validity:
    """From when to when a certificate is good."""

    begins: datetime.datetime
    ends: datetime.datetime

    def ends_soon(self, now: datetime.datetime) -> str:
        """What to do about it; nothing while it is good for long."""
        if self.ends - now > WARNING:
            return ""
        ends = "ends" if self.ends > now else "ended"
        return f"the site's certificate {ends} on {self.ends:%Y-%m-%d}, and with it all links to peers; renew it"


_VALIDITY = ("valid_from", "expiration_time")


def began(pid: int) -> str | None:
    """When a process began, in clock ticks since boot (proc(5), field 22); None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


class Envoy:
    """One Envoy and its files. `start` first, then `supervise` for as long as it shall run."""

    def __init__(self, site: Site, binary: str) -> None:
        self._site, self._binary = site, binary
        self._folder, self._pid_file = site.data / "envoy", site.run / "envoy.json"
        self._running: Running | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self.starts = 0

    async def start(self) -> None:
        """Adopts the Envoy that runs already, or starts one, and waits until it serves.

        Raises DataPlaneFailed, or BadSettings if others listen where it shall.
        """
        for folder in (self._folder, self._site.run, self._site.data / "log"):
            folder.mkdir(parents=True, exist_ok=True)
        self._site.run.chmod(0o700)
        start_file = json.dumps([bootstrap(self._site), self._arguments()])
        running = self._known()
        if running and running.lives and running.bootstrap == start_file:
            self._running = running
            log.info("adopted", pid=running.pid)
            await self.apply(self._site)
            return
        if running and running.lives:
            self._running = running
            await self._end(running)
        check_free(self._site)
        self._write_all(watched_files(self._site))
        await self._spawn(start_file)

    def _known(self) -> Running | None:
        try:
            return Running(**json.loads(self._pid_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _arguments(self) -> list[str]:
        envoy = self._site.settings.envoy
        path = str(self._folder / "bootstrap.json")
        return [
            *(self._binary, "-c", path, "--concurrency", str(envoy.workers), "--disable-hot-restart"),
            *("--log-level", envoy.log_level, "--log-path", str(self._log), "--log-format", LOG_FORMAT),
            *(
                "--drain-time-s",
                str(envoy.drain_seconds),
                "--file-flush-interval-msec",
                str(int(1000 * LOG_FLUSH_SECONDS)),
            ),
        ]

    async def _spawn(self, start_file: str) -> None:
        _replace(self._folder / "bootstrap.json", bootstrap(self._site))
        self.starts += 1
        said = self._said()
        child = subprocess.Popen(
            self._arguments(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a signal for the agent's group isn't for Envoy
        )
        self._child, self._running = child, Running(pid=child.pid, began=began(child.pid) or "", bootstrap=start_file)
        _replace(self._pid_file, self._running.__dict__)
        try:
            await self._until_ready(child, said)
        except DataPlaneFailed:
            child.kill()
            child.wait()
            raise
        log.info("started", pid=child.pid)

    async def _until_ready(self, child: "subprocess.Popen[bytes]", said: int) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if child.poll() is not None:
                await self._fail(f"Envoy ended with status {child.returncode} as it started", said, patience=0)
            if (await self.ask("/ready")).startswith("LIVE"):
                refused = [name for name, (_, refused) in (await self._versions()).items() if refused]
                if refused:
                    await self._fail(f"Envoy refused {', '.join(refused)}", said)
                return
            await asyncio.sleep(0.02)
        await self._fail(f"Envoy wasn't ready in {START_SECONDS} s", said)

    @property
    def _log(self) -> Path:
        return self._site.data / "log" / "envoy.jsonl"

    def _said(self) -> int:
        """How much Envoy has logged so far, in bytes."""
        return self._log.stat().st_size if self._log.exists() else 0

    async def _fail(self, what: str, said: int, patience: float = 2 * LOG_FLUSH_SECONDS) -> NoReturn:
        """Raises DataPlaneFailed with Envoy's own last complaint since then, which it writes a moment later."""
        end = time.monotonic() + patience
        while not (last := _last_complaint(self._log, said)) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        raise DataPlaneFailed(f"{what}: {last}" if last else what, hint=f"See {self._log}.")

    async def ask(self, path: str, *, post: bool = False) -> str:
        """What Envoy's admin interface answers; nothing if it doesn't."""
        connector = aiohttp.UnixConnector(path=str(self._site.run / "envoy.sock"))
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.request("POST" if post else "GET", f"http://envoy{path}") as reply,
            ):
                return await reply.text()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return ""

    async def validity(self) -> Validity | None:
        """From when to when the site's certificate is good, as Envoy has it; None if it doesn't say."""
        try:
            (first, *_) = json.loads(await self.ask("/certs"))["certificates"]
            times = [datetime.datetime.fromisoformat(first["cert_chain"][0][key]) for key in _VALIDITY]
        except (ValueError, KeyError, IndexError):
            return None
        return Validity(begins=times[0], ends=times[1])

    async def supervise(self) -> None:
        """Starts Envoy again whenever it ends; longer and longer pauses if it doesn't stay. Ends with `stop`."""
        pause = 0.05
        while running := self._running:
            lived_since = time.monotonic()
            await _until_ended(running.pid)
            if self._stopping:
                return
            status = self._child.poll() if self._child else None
            log.error("ended by itself; starting it again", pid=running.pid, status=status)
            pause = 0.05 if time.monotonic() - lived_since > 10 else min(pause * 2, 5)
            while True:
                await asyncio.sleep(pause)
                try:
                    await self._spawn(running.bootstrap)
                    break
                except DataPlaneFailed as error:
                    log.error("doesn't start", detail=error.detail)
                    pause = min(pause * 2, 5)

    async def apply(self, site: Site) -> None:
        """Lets Envoy take up the site's settings, without a pause.

        Raises DataPlaneFailed if it refuses them; then all is as it was.
        """
        before, old = self._site, self._read_all()
        self._site = site
        try:
            await self._change(old, watched_files(site))
        except DataPlaneFailed:
            self._site = before
            self._write_all(old)
            raise

    async def _change(self, old: dict[str, Document], new: dict[str, Document]) -> None:
        clusters, listeners = new.pop("clusters.json"), new.pop("listeners.json")
        await self._write_and_wait({"secret.json": new["secret.json"]})
        await self._write_and_wait({"clusters.json": _both(old.get("clusters.json"), clusters)})
        await self._write_and_wait(new)
        await self._write_and_wait({"listeners.json": listeners})
        await self._write_and_wait({"clusters.json": clusters})
        for name in old.keys() - new.keys() - {"clusters.json", "listeners.json"}:
            (self._folder / name).unlink(missing_ok=True)

    def _read_all(self) -> dict[str, Document]:
        paths = (path for path in self._folder.glob("*.json") if path.name != "bootstrap.json")
        return {path.name: json.loads(path.read_text()) for path in paths}

    def _write_all(self, files: Mapping[str, Document]) -> None:
        for name, document in files.items():
            _replace(self._folder / name, document)

    async def _write_and_wait(self, files: Mapping[str, Document]) -> None:
        """Writes those of the files that say something new, and waits until Envoy has taken them up."""
        old = self._read_all()
        changed = {name: document for name, document in files.items() if old.get(name) != document}
        if not changed:
            return
        before, said = await self._versions(), self._said()
        self._write_all(changed)
        awaited = {name: document["version_info"] for name, document in changed.items() if name in before}
        end = time.monotonic() + APPLY_SECONDS
        while time.monotonic() < end:
            now = await self._versions()
            if all(now.get(name, ("", 0))[0] == version for name, version in awaited.items()):
                return
            refused = [name for name in awaited if now.get(name, ("", 0))[1] > before[name][1]]
            if refused:
                await self._fail(f"Envoy refused {', '.join(refused)}", said)
            await asyncio.sleep(0.01)
        await self._fail(f"Envoy didn't take up {', '.join(awaited)} in {APPLY_SECONDS} s", said)

    async def _versions(self) -> dict[str, tuple[str, int]]:
        """For each watched file that Envoy has read: the version in force, and how many it has refused."""
        stats = await self.ask("/stats?filter=%5C.(version_text|update_rejected)$")
        versions: dict[str, str] = {}
        refused: dict[str, int] = {}
        for line in stats.splitlines():
            if found := re.fullmatch(r"(.+)\.(version_text|update_rejected): (.*)", line):
                name = _file_of(found[1])
                if found[2] == "version_text":
                    versions[name] = found[3].strip('"')
                else:
                    refused[name] = int(found[3])
        return {name: (version, refused.get(name, 0)) for name, version in versions.items()}

    async def peers(self) -> dict[str, bool]:
        """For each peer, whether its mesh answers this Envoy's health checks."""
        answer = await self.ask("/clusters?format=json")
        found: dict[str, bool] = {}
        for cluster in json.loads(answer)["cluster_statuses"] if answer else ():
            kind, _, name = cluster["name"].partition("/")
            if kind == "site":
                states = [host.get("health_status", {}) for host in cluster.get("host_statuses", ())]
                found[name] = any(not state.get("failed_active_health_check") for state in states)
        return found

    async def begin_new_access_log(self) -> None:
        """Once the access log is long, begins another and keeps one old one."""
        path = self._site.data / "log" / "access.jsonl"
        if path.exists() and path.stat().st_size > ACCESS_LOG_BYTES:
            path.replace(path.with_suffix(".jsonl.1"))
            await self.ask("/reopen_logs", post=True)

    async def stop(self) -> None:
        """Drains Envoy and ends it: no new connection, and what is under way may finish within `drain_seconds`."""
        self._stopping = True
        if self._running and self._running.lives:
            await self._end(self._running)

    async def _end(self, running: Running) -> None:
        await self.ask("/healthcheck/fail", post=True)  # peers turn elsewhere
        await self.ask("/drain_listeners", post=True)
        end = time.monotonic() + self._site.settings.envoy.drain_seconds
        while time.monotonic() < end and await self._under_way():
            await asyncio.sleep(0.05)
        await self.ask("/quitquitquit", post=True)
        try:
            await asyncio.wait_for(_until_ended(running.pid), timeout=5)
        except TimeoutError:
            if running.lives:
                os.kill(running.pid, signal.SIGKILL)
        if self._child:
            self._child.wait()
        self._pid_file.unlink(missing_ok=True)

    async def _under_way(self) -> int:
        stats = await self.ask("/stats?filter=http%5C.(front|mesh|egress).*downstream_rq_active$")
        return sum(int(line.rpartition(": ")[2]) for line in stats.splitlines() if ": " in line)


def check_free(site: Site) -> None:
    """Raises BadSettings if something listens where Envoy shall.

    Envoy wouldn't notice another Envoy, such as that of a copied site: they share an address (SO_REUSEPORT), and each
    gets half of the requests.
    """
    fronts = {f"services.{name}.front": front.front for name, front in site.settings.services.items()}
    for setting, address in {"mesh.listen": site.settings.mesh.listen, **fronts}.items():
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended don't count
            if family == socket.AF_INET6:
                trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                trial.bind((address.host, address.port))
            except OSError as error:
                raise BadSettings(
                    f"{setting}: nothing can listen on {address}: {error.strerror}",
                    hint="End what listens there, or choose another address.",
                ) from error


def _file_of(statistic: str) -> str:
    """The name of the file whose state a statistic tells."""
    match statistic.split(".rds."):
        case [_, route]:
            return f"{route.replace('/', '-')}.json"
    if statistic.startswith("sds."):
        return "secret.json"
    return "clusters.json" if statistic.startswith("cluster_manager") else "listeners.json"


def _both(old: Document | None, new: Document) -> Document:
    """The new clusters, and those old ones that routes may still name."""
    names = {cluster["name"] for cluster in new["resources"]}
    left = [cluster for cluster in (old or {}).get("resources", ()) if cluster["name"] not in names]
    return discovery([*new["resources"], *left]) if left else new


def _replace(path: Path, document: Any) -> None:
    """Envoy notices a rename only, and must never read half a file."""
    half = path.with_suffix(".half")
    try:
        half.write_text(json.dumps(document))
        half.replace(path)
    except OSError as error:
        raise DataPlaneFailed(f"{path} can't be written: {error.strerror}") from error


async def _until_ended(pid: int) -> None:
    """Waits for the end of any process, child or not (pidfd_open(2))."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _last_complaint(path: Path, since: int) -> str:
    """The last line of Envoy's log after so many bytes that isn't mere information, in at most 500 characters."""
    try:
        lines = path.read_bytes()[since:][-20_000:].decode(errors="replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        found = re.search(
            r'"level":"(warning|error|critical)","logger":"envoy.(?!backtrace|envoy_bug)\w+","event":"(.*)', line
        )
        if found:
            return found[2].rstrip('"}')[:500]
    return ""
