"""Sites with replicated resources inside one process, on time that the test owns: links that can be cut, agents that
can be killed at any moment, services that fail. All but the services, the links and the disks is the product.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from blackbox import BlackBox, request
from cheops.applications import Application
from cheops.carry import carry_locations
from cheops.errors import CheopsError
from cheops.execute import Patience
from cheops.model import Headers, PeerState, Reply, Request
from cheops.pipeline import Pipeline
from cheops.ports import COMMAND, CONTENT, HOLDERS, LOG, LogStore, Transport
from cheops.reconcile.assembly import Ground, Reconciling
from cheops.reconcile.service import Settings
from cheops.record.operation import Dot
from cheops.replicate import requests_on
from cheops.sites.memory import PeersInMemory
from cheops.stores.blobs import BlobsInMemory
from cheops.stores.kept import KeptInMemory
from cheops.stores.memory import LogInMemory
from cheops.transports.memory import MemoryTransport, Network, blobs_of
from values import application, site_of, view_of, whole

NOTES = application("services: {notes: {}}")
BEGIN = 1_700_000_000.0  # seconds since 1970
EPOCH = 3600.0  # stores are that much older than the first request


@dataclass
class Answer:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def rid(self) -> str:
        return self.headers["cheops-resource"]

    @property
    def outcome(self) -> str:
        return self.headers.get("cheops-outcome", "")


@dataclass
class OwnCredentials:
    """The site's own, by service; `made` counts how often they were made anew."""

    of: dict[str, Headers] = field(default_factory=dict)
    refusals: int = 0

    async def headers(self, service: str) -> Headers | None:
        return self.of.get(service)

    def refused(self, service: str) -> None:
        self.refusals += 1


class SiteInMemory:
    """One site: what survives a crash of its agent, and the agent while it runs."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        numbers = Random(f"{world.seed} {name}")
        self.box = BlackBox(name, lambda: f"{numbers.getrandbits(128):032x}")
        self.peers = PeersInMemory(near={})
        self.credentials = OwnCredentials()
        self.clock_ahead = 0.0
        self.stores = self.starts = 0
        self.new_store()
        self.task: asyncio.Task[None] | None = None
        self.parts: Reconciling | None = None

    def new_store(self) -> None:
        """The disk is lost, or there was none yet."""
        self.stores += 1
        born = self.world.now() - EPOCH if self.stores == 1 else self.world.now()
        self.store = self.disk(f"{self.stores:08x}", born)
        self.blobs = BlobsInMemory()

    def disk(self, store: str, born: float) -> LogInMemory:
        return LogInMemory(store, born=born)

    def opened(self) -> LogStore:
        """The store, as an agent opens it."""
        return self.store

    def transport(self) -> Transport:
        """The way of an agent to the others."""
        return MemoryTransport(self.name, self.world.network)

    def now(self) -> float:
        return self.world.now() + self.clock_ahead

    async def start(self) -> None:
        """The agent."""
        assert self.parts is None, "it runs"
        described = self.world.application
        self.starts += 1
        transport = self.transport()
        drawn = Random(f"{self.world.seed} {self.name} {self.starts}")  # no rid is drawn twice
        ground = Ground(
            here=self.name,
            store=self.opened(),
            blobs=self.blobs,
            transport=transport,
            credentials=self.credentials,
            peers=self.peers,
            now=self.now,
            drawn=drawn.random,
            digits=lambda count: f"{drawn.getrandbits(4 * count):0{count}x}",
            owner=self.name,
        )
        view = view_of(site_of(described, self.name, self.world.numbers))

        def carry(request: Request, shares: Mapping[str, str]) -> Request:
            return carry_locations(request, shares, described, view, ground.digits)[0].request

        self.parts = Reconciling(ground, Settings(application=described, seconds=5.0, carry=carry))
        await self.parts.open()
        parts = self.parts
        replication = requests_on(parts, transport, self.peers, lambda: described)
        replication.managed = frozenset(described.services)
        self.pipeline = Pipeline(
            application=described,
            view=view,
            transport=transport,
            kept=KeptInMemory(self.now),
            peers=self.peers,
            random=lambda digits: f"{drawn.getrandbits(4 * digits):0{digits}x}",
            patience=Patience(seconds=5.0),
            replication=replication,
        )

        async def agent(sender: str, path: str, body: bytes | None) -> bytes:
            if path == LOG and body is not None:
                return await parts.exchange.receive(body, sender)
            if path.startswith(LOG):
                asked = dict(pair.split("=", 1) for pair in path.partition("?")[2].split("&"))
                return await parts.exchange.give(
                    sender, int(asked["after"]), asked["of"], asked["store"], int(asked["limit"])
                )
            if path == HOLDERS and body is not None:
                return await replication.holders_told(body)
            if path == COMMAND and body is not None:
                return await parts.operator.commanded(body)
            raise AssertionError(f"nobody asks for {path}")

        self.world.network.agents[self.name] = agent
        self.world.network.doors[self.name] = self.pipeline.serve
        kept = blobs_of(self.blobs, self.name)

        async def fetched(sender: str, path: str, offset: int) -> AsyncGenerator[bytes, None]:
            asked = dict(pair.split("=", 1) for pair in path.partition("?")[2].split("&") if pair)
            if path.startswith(CONTENT):
                body = parts.content(asked["rid"], Dot(asked["author"], int(asked["n"])))
            else:
                body = kept(sender, path, offset)
            async with aclosing(body):
                async for chunk in body:
                    yield chunk

        self.world.network.fetched[self.name] = fetched
        self.task = asyncio.create_task(self.parts.run())

    async def kill(self) -> None:
        """As kill -9 does: what is under way ends where it is."""
        assert self.task
        self.world.network.agents.pop(self.name)
        self.world.network.doors.pop(self.name)
        self.parts = None
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task
        self.task = None

    async def ask(
        self, method: str, target: str, document: Any = None, *, service: str = "notes", **headers: str
    ) -> Answer:
        """A client's request at the front of this site; `X_Scope` is the header X-Scope."""
        pairs = [(name.lower().replace("_", "-"), value) for name, value in headers.items()]
        asked = request(service, method, target, document, *pairs)
        try:
            answered = await self.pipeline.serve(asked)
        except CheopsError as error:
            return Answer(status=error.status, headers={}, body=error.problem())
        content = await whole_of(answered)
        body = json.loads(content) if content[:1] in (b"{", b"[") else content
        told = {name.decode(): value.decode() for name, value in answered.headers}
        return Answer(status=answered.status, headers=told, body=body)


class World:
    """The sites and the links between them."""

    site_type: type[SiteInMemory] = SiteInMemory

    def __init__(self, *names: str, described: Application = NOTES, seed: int = 0) -> None:
        self.seed, self.application, self.network = seed, described, Network()
        self.numbers = {name: number for number, name in enumerate(names, start=1)}
        self.sites = {name: self.site_type(self, name) for name in names}
        for site in self.sites.values():
            for service in described.services:
                self.network.services[site.name, service] = site.box
        self._find()

    def now(self) -> float:
        return BEGIN + asyncio.get_running_loop().time()

    def __getitem__(self, name: str) -> SiteInMemory:
        return self.sites[name]

    async def __aenter__(self) -> "World":
        for site in self.sites.values():
            await site.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for site in self.sites.values():
            if site.task:
                await site.kill()

    def cut(self, one: str, other: str) -> None:
        """Nothing passes any more, and both find so at once."""
        self.network.cut(one, other)
        self._find()

    def heal(self) -> None:
        for one in self.sites:
            for other in self.sites:
                if one != other:
                    self.network.heal(one, other)
        self._find()

    def _find(self) -> None:
        for one, site in self.sites.items():
            for other in self.sites:
                if one != other:
                    joined = self.network.joins(one, other)
                    site.peers.states[other] = PeerState.UP if joined else PeerState.DOWN

    async def settled(self, seconds: float = 600.0) -> None:
        """Waits until every holder is through with every operation. Raises TimeoutError, and says what is left."""
        async with asyncio.timeout(seconds):
            while left := [text async for text in self._left()]:
                await asyncio.sleep(0.05)
                self.left = left

    async def _left(self) -> Any:
        for site in self.sites.values():
            summaries = await site.store.summaries(limit=100_000)
            for summary in summaries:
                assert site.parts, f"{site.name} doesn't run"
                book = await site.parts.ledger.book(summary.rid)
                if book is None:
                    continue
                for op in book.log.effective:
                    for holder in book.holders:
                        outcome = book.outcome(op.dot, holder)
                        if outcome is None or outcome.state.value in ("pending", "begun"):
                            yield f"{site.name}: {summary.rid} {op.dot} at {holder}: {outcome}"


async def whole_of(answered: Reply) -> bytes:
    return await whole(answered.body)
