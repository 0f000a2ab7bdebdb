"""Sites in memory whose agents are killed where they wait, whose links lose, delay and repeat, and whose disks fill up.

An agent that was killed writes, sends and answers nothing more, whatever its tasks still try; what its service was
asked before goes on there. What is broken on purpose is here too: a test of faults must find it.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any, TypeVar, cast

from blackbox import BlackBox, reply
from cheops.errors import CheopsError, Refused, SiteUnreachable, StoreFailed
from cheops.model import PeerState, Reply, Request
from cheops.ports import LOG, Changes, LogStore, Transport
from cheops.reconcile.outcomes import Applied, version_after
from cheops.reconcile.wire import packed_push, read_push
from cheops.record.operation import Dot, Operation, Outcome, State
from cheops.stores.memory import LogInMemory
from cheops.transports.memory import Agent, Handler, MemoryTransport
from replicated import Answer, SiteInMemory, World, whole_of

T = TypeVar("T")
_MARK = re.compile(r"mark-\d+")
FLUSH_SECONDS = 0.5
ENVOY_SECONDS = 15.0  # then it answers in the place of a service
NOTHING_HEARD = Answer(status=0, headers={}, body=None)
"""What a client gets whose connection breaks."""


class BrokenOff(SiteUnreachable):
    """The agent was killed while it served."""


class ActingBox(BlackBox):
    """A service that counts its actions, by their body, outside of what it keeps; ids that a client chooses begin with
    "own-".
    """

    def __init__(self, site: str, ids: Callable[[], str]) -> None:
        super().__init__(site, ids)
        self.acted: Counter[str] = Counter()

    def _execute(self, request: Request, content: bytes) -> Reply:
        path = request.target.decode().partition("?")[0]
        if request.method == "POST" and path in self.documents:
            self.acted[content.decode()] += 1
            return reply(200, self.documents[path])
        known = path == "/notes" or path in self.documents or path.startswith("/notes/own-")
        return super()._execute(request, content) if known else reply(404, {"error": "no such thing"})


def mark_of(op: Operation) -> str:
    """What a client has marked its request with, in the path or in the body."""
    request = op.request
    inline = (request.body.inline if request and request.body else b"") or b""
    found = _MARK.findall(f"{request.target if request else ''} {inline.decode()}")
    return found[-1] if found else ""


class Disk(LogInMemory):
    """A store that takes time, before and after what it writes is durable."""

    def __init__(self, store: str, born: float, random: Random) -> None:
        super().__init__(store, born=born)
        self._random = random
        self.seen: dict[tuple[str, Dot], Operation] = {}

    async def write(self, changes: Changes) -> Mapping[str, int]:
        await asyncio.sleep(self._random.random() * 0.004)
        heads = await super().write(changes)
        self._see(changes)
        await asyncio.sleep(self._random.random() * 0.004)
        return heads

    def _see(self, changes: Changes) -> None:
        """Keeps in `seen` the operations that were ever written, with their requests; logs are pruned."""
        for told in changes.told:
            if isinstance(told.item, Operation) and told.item.request:
                self.seen[told.item.rid, told.item.dot] = told.item

    def crash(self) -> None:
        """Power is lost: what is durable stays."""


class LyingDisk(Disk):
    """Broken on purpose: it says that all is durable, and makes it so later."""

    def __init__(self, store: str, born: float, random: Random) -> None:
        super().__init__(store, born, random)
        self._flushed, self._flushed_at = self._state(), 0.0

    async def write(self, changes: Changes) -> Mapping[str, int]:
        now = asyncio.get_running_loop().time()
        if now - self._flushed_at >= FLUSH_SECONDS:
            self._flushed, self._flushed_at = self._state(), now
        return await super().write(changes)

    def _state(self) -> tuple[Any, ...]:
        resources = {
            rid: replace(one, operations=dict(one.operations), outcomes=dict(one.outcomes))
            for rid, one in self._resources.items()
        }
        feeds = {peer: replace(one, items=dict(one.items)) for peer, one in self._feeds.items()}
        return resources, feeds, dict(self._cursors)

    def crash(self) -> None:
        self._resources, self._feeds, self._cursors = self._flushed
        self._flushed = self._state()


class Life:
    """One run of an agent, from its start until it is killed: after some more of its waits, or at once."""

    def __init__(self, die: Callable[[], None]) -> None:
        self.alive, self.waits, self._die = True, -1, die

    async def moment(self) -> None:
        """A place where the agent waits for something; when it was killed it never goes on."""
        if self.alive and self.waits >= 0:
            self.waits -= 1
            if self.waits < 0:
                self._die()
        if not self.alive:
            raise asyncio.CancelledError

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            await self.moment()
        except asyncio.CancelledError:
            work.close()
            raise
        done = await work
        await self.moment()
        return done


class Lived:
    """What an agent uses, for as long as it lives: a store."""

    def __init__(self, of: LogInMemory, life: Life) -> None:
        self._of, self._life = of, life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if not asyncio.iscoroutinefunction(found):
            return found
        return lambda *args, **named: self._life.during(found(*args, **named))


class FaultyTransport:
    """Loses, delays and repeats what agents tell each other, as the world says; ends with its agent."""

    def __init__(self, site: "FaultySite", life: Life) -> None:
        self._of = MemoryTransport(site.name, site.world.network)
        self._site, self._life, self._random = site, life, site.random

    async def send(self, request: Request, *, site: str, door: bool = False) -> Reply:
        """What was sent is on its way, whether or not the agent lives."""
        await self._life.moment()
        content = b"".join([chunk async for chunk in request.body]) if request.body else None
        whole = request if content is None else replace(request, body=_once(content))
        sending = asyncio.create_task(self._sent(whole, site, door))
        sending.add_done_callback(_heard)
        await asyncio.wait((sending,))
        await self._life.moment()
        return sending.result()

    async def _sent(self, request: Request, site: str, door: bool) -> Reply:
        await asyncio.sleep(self._random.random() * 0.02)
        try:
            async with asyncio.timeout(ENVOY_SECONDS):
                return await self._of.send(request, site=site, door=door)
        except TimeoutError:
            return reply(504, {}, (b"cheops-executed", b"unknown"))

    async def recall(self, uuid: str, *, site: str) -> str | None:
        return await self._life.during(self._of.recall(uuid, site=site))

    async def ask(self, path: str, *, site: str, body: bytes | None = None, seconds: float = 5) -> bytes:
        await self._life.moment()
        asking = asyncio.create_task(self._asked(path, site, body))
        asking.add_done_callback(_heard)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wait((asking,))
        except TimeoutError as error:
            raise SiteUnreachable("no answer", site=site, why="no answer") from error
        await self._life.moment()
        return asking.result()

    async def _asked(self, path: str, site: str, body: bytes | None) -> bytes:
        faults = self._site.world.faults
        await asyncio.sleep(self._random.random() * (2.0 if self._random.random() < faults else 0.01))
        if self._random.random() < faults:
            raise SiteUnreachable("lost on its way", site=site, why="it was lost")
        if path == LOG and self._random.random() < 2 * faults:
            self._site.world.later(self._random.random() * 5.0, lambda: self._of.ask(path, site=site, body=body))
        answer = await self._of.ask(path, site=site, body=body)
        if self._random.random() < faults:
            raise SiteUnreachable("the answer is lost", site=site, why="its answer was lost")
        return answer

    async def fetch(self, path: str, *, site: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        async for chunk in self._of.fetch(path, site=site, offset=offset):
            await self._life.moment()
            yield chunk


class FaultySite(SiteInMemory):
    """A site whose agent can be killed wherever it waits."""

    world: "FaultyWorld"

    def __init__(self, world: World, name: str) -> None:
        self.random = Random(f"{world.seed} faults of {name}")
        super().__init__(world, name)
        numbers = Random(f"{world.seed} ids of {name}")
        self.box = ActingBox(name, lambda: f"{numbers.getrandbits(128):032x}")
        self._serving: set[asyncio.Task[Any]] = set()

    def disk(self, store: str, born: float) -> LogInMemory:
        return self.world.disk_type(store, born, self.random)

    def opened(self) -> LogStore:
        return cast(LogStore, Lived(self.store, self.life))

    def transport(self) -> Transport:
        return FaultyTransport(self, self.life)

    async def start(self) -> None:
        self.life = Life(lambda: self.world.later(0.0, self.die))
        await super().start()
        network = self.world.network
        network.agents[self.name] = self._agent(network.agents[self.name])
        network.doors[self.name] = self._door(network.doors[self.name])
        if self.world.skips_probes:
            assert self.parts
            self.parts.applier.probe = self._not_looked_for  # type: ignore[method-assign]

    async def _not_looked_for(self, book: object, op: object, before: Outcome, callers: object) -> Applied:
        """Broken on purpose: what was begun counts as not executed."""
        version = version_after(before, self.now())
        return Applied(outcome=replace(before, state=State.PENDING, code="absent", version=version))

    async def die(self) -> None:
        """As kill -9 does, at once."""
        if self.task is None or not self.life.alive:
            return
        self.life.alive = False
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await self.kill()
        await asyncio.gather(*serving, return_exceptions=True)
        cast(Disk, self.store).crash()

    async def _served(self, work: Coroutine[Any, Any, T]) -> T:
        """What the agent does for somebody ends with it."""
        task = asyncio.create_task(work)
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        await asyncio.wait((task,))
        if task.cancelled():
            raise BrokenOff(f"{self.name} broke off", site=self.name, why="it broke off")
        return task.result()

    def _agent(self, of: Agent) -> Agent:
        async def agent(sender: str, path: str, body: bytes | None) -> bytes:
            if path == LOG and body is not None and self.random.random() < self.world.skipped_items:
                body = packed_push(replace(read_push(body), items=(), previous=0))  # broken on purpose
            try:
                return await self._served(of(sender, path, body))
            except StoreFailed as error:
                raise Refused(error.detail, site=self.name, answer=error.status) from error

        return agent

    def _door(self, of: Handler) -> Handler:
        async def door(asked: Request) -> Reply:
            try:
                answered = await self._served(of(asked))
                content = await self._served(whole_of(answered))
            except BrokenOff as error:
                return reply(503, error.problem(), (b"cheops-executed", b"unknown"))
            except CheopsError as error:
                return reply(error.status, error.problem())
            return replace(answered, body=_once(content))

        return door

    async def ask(
        self, method: str, target: str, document: Any = None, *, service: str = "notes", **headers: str
    ) -> Answer:
        if self.task is None:
            return NOTHING_HEARD
        with suppress(BrokenOff):
            return await self._served(super().ask(method, target, document, service=service, **headers))
        return NOTHING_HEARD


class FaultyWorld(World):
    """`faults`: how probably a message between agents is lost, late or repeated, each. What is broken on purpose: the
    type of the disks, `skips_probes`, and how probably the items of a push are skipped and its position isn't.
    """

    site_type = FaultySite
    sites: dict[str, FaultySite]  # type: ignore[assignment]

    def __init__(
        self,
        names: Sequence[str],
        seed: int,
        *,
        disk_type: type[Disk] = Disk,
        skips_probes: bool = False,
        skipped_items: float = 0.0,
    ) -> None:
        self.disk_type, self.skips_probes, self.skipped_items = disk_type, skips_probes, skipped_items
        self.faults = 0.05
        self._later: set[asyncio.Task[None]] = set()
        super().__init__(*names, seed=seed)

    def __getitem__(self, name: str) -> FaultySite:
        return self.sites[name]

    def later(self, seconds: float, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        async def done() -> None:
            await asyncio.sleep(seconds)
            with suppress(SiteUnreachable):
                await work()

        task = asyncio.create_task(done())
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def quiet(self) -> None:
        """Waits until nothing is on its way any more that was sent twice."""
        while self._later:
            await asyncio.wait(set(self._later))

    def _find(self) -> None:
        """Who doesn't run is found to be down, as who is cut off is."""
        super()._find()
        for one, site in self.sites.items():
            for other in self.sites.values():
                if one != other.name and other.task is None and other.starts:
                    site.peers.states[other.name] = PeerState.DOWN

    async def watch(self) -> None:
        """Sites find out about each other from time to time, as heartbeats do. Until it is cancelled."""
        while True:
            await asyncio.sleep(1.0)
            self._find()


def _heard(done: "asyncio.Task[Any]") -> None:
    """Nobody may be left to hear what came of it."""
    if not done.cancelled():
        done.exception()


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content
