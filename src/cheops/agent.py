"""The agent of a site: the only place that wires concrete classes.

One process: the door for what Envoy leaves to it, the mesh API for peers, the admin API for people, and the supervision
of Envoy. It holds nothing that a crash would lose; while it is away, Envoy serves what it can serve alone.
"""

import asyncio
import contextlib
import datetime
import fcntl
import gc
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from cheops.config import Site, read_site
from cheops.credentials.site import SiteCredentials
from cheops.errors import BadSettings, CheopsError
from cheops.execute import Patience
from cheops.intercept.door import Door
from cheops.intercept.envoy.binary import find_envoy
from cheops.intercept.envoy.process import Envoy, Validity
from cheops.intercept.envoy.statistics import statistics
from cheops.observe.metrics import Metrics, Now
from cheops.observe.replicas import Replicas
from cheops.observe.watch import Observer, Watch
from cheops.pipeline import Pipeline
from cheops.replicating import replicating, view_of
from cheops.sites.membership import Membership
from cheops.stores.kept import KeptFiles
from cheops.stores.rolls import RollFile
from cheops.transports.http import HttpTransport
from cheops.web.admin import SiteState, admin_api
from cheops.web.mesh import mesh_api
from cheops.web.metrics import metrics_routes
from cheops.web.resources import resources_routes

log = structlog.get_logger("agent")
HOUSEKEEPING_SECONDS = 10
GATHER_SECONDS = 0.2  # in which several sites that come or go make one change
FAREWELL_SECONDS = 3.0  # until a site that leaves has said so
AGAIN_SECONDS = 5.0  # until what Envoy didn't take is tried again
COLLECT = (20_000, 50, 100)  # gc.set_threshold; a tenth less work than by default when many operations come at once
LOOK_SECONDS = 0.05  # between two looks at site.yaml


class Agent:
    """The agent that the site.yaml at `path` describes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._site = read_site(path)
        self._stamps = _stamps(self._files())
        self._site = read_site(path)  # once more, so that what has this stamp is what is in force
        self._stop = asyncio.Event()
        self._changing = asyncio.Lock()
        self._complaint = ""
        self._needs_restart = ""
        self._started = False
        self._validity: Validity | None = None

    async def run(self) -> None:
        """Runs until SIGTERM or SIGINT; raises CheopsError when the site can't be started."""
        self._site.run.mkdir(parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_alone(self._site.run / "agent.lock", self._site.name))
            credentials = SiteCredentials(self._site, time.monotonic, os.environ)
            self._credentials = await stack.enter_async_context(credentials)
            kept = KeptFiles(self._site.data / "kept", time.time)
            transport = await stack.enter_async_context(HttpTransport(self._site.name, self._site.run / "egress.sock"))
            rolls = RollFile(self._site.data / "sites.json", partial(secrets.token_hex, 8))
            self._members = Membership(self._site, transport, rolls)
            self._site = self._members.site()
            self._envoy = Envoy(self._site, find_envoy())
            self._replicating = await stack.enter_async_context(
                replicating(self._site, view_of(self._site), transport, credentials, self._members.beating, kept)
            )
            metrics, replicas = Metrics(self._now()), Replicas(self._site.name, time.time)
            metrics.add(replicas)
            self._replicating.observed_by(replicas)
            spans = stack.enter_context(_spans(self._site))
            self._watch = Watch([metrics, *spans], time.monotonic)
            self._pipeline = Pipeline(
                application=self._site.application,
                view=view_of(self._site),
                transport=transport,
                kept=kept,
                peers=self._members.beating,
                random=lambda digits: secrets.token_hex((digits + 1) // 2)[:digits],
                patience=_patience(self._site),
                planned=self._watch.planned,
                replication=self._replicating.requests,
            )
            self._door = Door(self._watch.on(self._pipeline.serve), self._site.application.errors)
            await stack.enter_async_context(_serving(self._door, _unix(self._site.run / "door.sock")))
            mesh = mesh_api(kept, self._members.beating, self._replicating.parts.blobs, self._replicating)
            await stack.enter_async_context(_serving(mesh, _unix(self._site.run / "mesh.sock")))
            admin = _tcp(self._site.settings.admin.listen.host, self._site.settings.admin.listen.port)
            admin_app = admin_api(self._state())
            stats = partial(statistics, self._site.run / "envoy.sock")
            admin_app.include_router(metrics_routes(metrics.text, stats, self._replicating.look(replicas)))
            admin_app.include_router(resources_routes(self._replicating.parts.operator, lambda: self._pipeline.view))
            await stack.enter_async_context(_serving(admin_app, admin))
            await self._envoy.start()
            await self._replicating.watch_services(self._manage)
            await self._look_at_certificate()
            self._started = True
            gc.collect()
            gc.freeze()  # what lives as long as the agent needn't be looked at again: that takes 20 ms each time
            gc.set_threshold(*COLLECT)
            log.info("ready", site=self._site.name, admin=str(self._site.settings.admin.listen))
            await self._until_stopped(kept)

    async def _until_stopped(self, kept: KeptFiles) -> None:
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(work, name=name)
            for name, work in {
                "supervise": self._envoy.supervise(),
                "watch": self._take_up_changes(),
                "heart": self._members.beating.run(),
                "members": self._take_up_members(),
                "replication": self._replicating.run(),
                "housekeeping": self._keep_house(kept),
            }.items()
        ]
        stopped: asyncio.Task[Any] = asyncio.create_task(self._stop.wait(), name="stop")
        done, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping", because=[task.get_name() for task in done])
        if stopped in done:  # else a fault of ours, in spite of which Envoy goes on
            await self._envoy.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stopped.cancel()
        for task in done - {stopped}:
            task.result()

    def _state(self) -> SiteState:
        return SiteState(
            site=lambda: self._site,
            reasons=self._reasons,
            warnings=self._warnings,
            peers=self._envoy.peers,
            membership=self._members,
        )

    async def _look_at_certificate(self) -> None:
        self._validity = await self._envoy.validity() or self._validity
        if self._validity:
            self._members.certified(int(self._validity.begins.timestamp()))

    async def _take_up_members(self) -> None:
        """Lets Envoy and scopes know of sites that came or went."""
        while True:
            await self._members.changed.wait()
            await asyncio.sleep(FAREWELL_SECONDS if self._members.leaves else GATHER_SECONDS)
            self._members.changed.clear()
            async with self._changing:
                site = self._members.site()
                taken_up = site == self._site or await self._take_up(site)
            if not taken_up:
                await asyncio.sleep(AGAIN_SECONDS)
                self._members.changed.set()

    async def _manage(self, services: frozenset[str]) -> None:
        """Has Envoy leave to this agent what these services need it for, and tells the other sites."""
        self._members.manages(services)
        async with self._changing:
            site = self._members.site()
            if site != self._site and not await self._take_up(site):
                raise CheopsError(
                    "Envoy doesn't leave the writes of a replicated resource to the agent", hint="See its log."
                )

    def _now(self) -> Now:
        return Now(
            view=lambda: self._pipeline.view,
            peers=lambda: self._pipeline.peers.peers(),
            envoy_starts=lambda: self._envoy.starts,
        )

    async def _reasons(self) -> list[str]:
        """Why the site isn't ready; nothing if it is."""
        if not self._started:  # an Envoy that was adopted may still go by the settings of before
            return ["the agent is starting: its settings aren't in force yet"]
        answer = await self._envoy.ask("/ready")
        return [] if answer.startswith("LIVE") else [f"Envoy isn't ready: {answer.strip() or 'it does not answer'}"]

    def _warnings(self) -> list[str]:
        soon = self._validity.ends_soon(datetime.datetime.now(datetime.UTC)) if self._validity else ""
        return [
            *filter(None, (self._complaint, self._needs_restart, soon)),
            *self._members.complaints(),
            *self._replicating.complaints(),
        ]

    async def _take_up_changes(self) -> None:
        """Reads site.yaml and the description again once they have changed and then stayed as they are.

        Looking costs microseconds and misses nothing: neither a change before the agent was ready, nor one that no
        event would tell of. It also spares the site one of the user's 128 inotify instances.
        """
        seen, files = self._stamps, self._files()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            before, seen = seen, _stamps(files)
            if seen == before and seen != self._stamps:
                self._stamps = seen
                async with self._changing:
                    await self._read_again()
                files = self._files()

    def _files(self) -> set[Path]:
        description = self._site.description
        return {self._path.absolute()} | ({description} if description else set())

    async def _read_again(self) -> None:
        try:
            listed = read_site(self._path)
            self._check_restart(listed)
        except CheopsError as error:
            self._complain(error)
            return
        if await self._take_up(self._members.site(listed)):
            self._members.list_anew(listed)

    async def _take_up(self, site: Site) -> bool:
        """Whether these settings are in force now; if not, those before are, and somebody is told."""
        try:
            await self._change_to(site)
        except CheopsError as error:
            self._complain(error)
            return False
        return True

    def _complain(self, error: CheopsError) -> None:
        self._complaint = f"the changed settings aren't in force: {error.detail}"
        log.error("the changed settings aren't in force", detail=error.detail)

    def _check_restart(self, listed: Site) -> None:
        """Raises BadSettings for settings that only a restart can change."""
        fixed = _needs_restart(self._site, listed)
        self._needs_restart = f"needs a restart to take effect: {', '.join(fixed)}" if fixed else ""
        if fixed:
            raise BadSettings(f"{', '.join(fixed)} can't change while the agent runs", hint="Restart the agent.")

    async def _change_to(self, site: Site) -> None:
        await self._envoy.apply(site)
        self._site, self._complaint = site, ""
        self._credentials.change(site)
        self._pipeline = replace(
            self._pipeline,
            application=site.application,
            view=view_of(site),
            patience=_patience(site),
            remembered={},
        )
        self._replicating.change_to(site, view_of(site))
        self._door.serve, self._door.errors = self._watch.on(self._pipeline.serve), site.application.errors
        log.info(
            "changed settings are in force", peers=list(site.settings.peers), services=list(site.settings.services)
        )

    async def _keep_house(self, kept: KeptFiles) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            try:
                kept.forget_old()
                await self._look_at_certificate()
                await self._envoy.begin_new_access_log()
            except OSError as error:
                log.error("housekeeping failed", detail=str(error))


def _stamps(files: set[Path]) -> dict[Path, tuple[int, int, int] | None]:
    """What changes whenever a file does: its time, its inode and its size; None while there is none."""

    def stamp(file: Path) -> tuple[int, int, int] | None:
        try:
            state = file.stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_ino, state.st_size

    return {file: stamp(file) for file in files}


def _needs_restart(old: Site, new: Site) -> list[str]:
    """The settings that only a restart can change, among those that differ."""
    return [
        name
        for name in ("site", "data", "admin", "traces", "envoy", "store")
        if getattr(old.settings, name) != getattr(new.settings, name)
    ]


def _patience(site: Site) -> Patience:
    settings = site.settings.otherwise
    return Patience(keep_bytes=settings.keep_bytes, seconds=settings.patience_seconds)


@contextlib.contextmanager
def _spans(site: Site) -> Iterator[Sequence[Observer]]:
    """What makes spans, if the settings name a collector; the libraries for it aren't there for everybody."""
    if site.settings.traces is None:
        yield ()
        return
    try:
        from cheops.observe.spans import Spans, otlp
    except ImportError as error:
        what = f"traces: what sends them isn't installed: {error}"
        raise BadSettings(what, hint="`pip install 'cheops[traces]'` brings it.") from error
    spans = Spans(site.name, site.settings.traces.sample, otlp(site.settings.traces))
    try:
        yield (spans,)
    finally:
        spans.close()


@contextlib.contextmanager
def _alone(path: Path, site: str) -> Any:
    """One agent a site: a second one says so and ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadSettings(f"another agent of {site} runs already", hint="End it first.") from error
        yield


def _unix(path: Path) -> socket.socket:
    """A listening unix socket that only this user may call; it takes the place of an old one in one step."""
    half = path.with_suffix(".half")
    half.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    old = os.umask(0o177)
    try:
        listening.bind(str(half))
    finally:
        os.umask(old)
    listening.listen(1024)
    half.replace(path)
    return listening


def _tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise BadSettings(f"admin: nothing can listen on {host}:{port}: {error.strerror}") from error
    return listening


@contextlib.asynccontextmanager
async def _serving(app: Any, listening: socket.socket) -> AsyncIterator[None]:
    """Serves an ASGI application; leaving lets requests under way finish for a moment."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=75,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    try:
        yield
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    """Leaves signals to the agent."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield
