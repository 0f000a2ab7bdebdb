"""The parts that keep replicated resources alike, put together; what they stand on is given."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from cheops.applications import Application
from cheops.errors import NotThere
from cheops.ports import Blobs, Credentials, LogStore, Peers, Transport
from cheops.reconcile.applying import Applier
from cheops.reconcile.asking import Asker
from cheops.reconcile.audit import Audit
from cheops.reconcile.bodies import Bodies
from cheops.reconcile.book import Book
from cheops.reconcile.children import Family
from cheops.reconcile.engine import Engine
from cheops.reconcile.exchange import Exchange
from cheops.reconcile.ledger import Ledger
from cheops.reconcile.operating import Operator
from cheops.reconcile.placing import Placer
from cheops.reconcile.reading import Reader
from cheops.reconcile.service import Settings
from cheops.reconcile.spanning import Spanner
from cheops.reconcile.writing import Writer
from cheops.record.operation import Dot


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """What a site's replication stands on. `now` is in seconds since 1970, `drawn` gives a number from 0 to 1,
    `digits` random hexadecimal digits. `owner` names this agent among those of the site; `shared`: there may be others.
    """

    here: str
    store: LogStore
    blobs: Blobs
    transport: Transport
    credentials: Credentials
    peers: Peers
    now: Callable[[], float]
    drawn: Callable[[], float]
    digits: Callable[[int], str]
    owner: str
    shared: bool = False


class Reconciling:
    """The ledger of a site, and who works on it."""

    def __init__(self, ground: Ground, settings: Settings) -> None:
        self.blobs = ground.blobs
        self.ledger = Ledger(ground.store, ground.here, ground.now, shared=ground.shared)
        self.applier = Applier(self.ledger, ground.transport, ground.blobs, ground.credentials, settings)
        self.bodies = Bodies(self.ledger, ground.blobs, ground.transport)
        self.engine = Engine(
            self.ledger,
            self.applier,
            self.bodies.fetch,
            self._look_after,
            ground.drawn,
            owner=ground.owner,
            shared=ground.shared,
        )
        self.exchange = Exchange(self.ledger, self.engine, ground.transport, ground.peers, ground.drawn)
        self.writer = Writer(
            self.ledger,
            self.engine,
            self.exchange,
            ground.blobs,
            ground.transport,
            ground.peers,
            self._application,
            ground.digits,
        )

        self.asker = Asker(self.ledger, ground.transport, self._application)
        family = Family(self.asker, self._application)
        self.spanner = Spanner(
            self.ledger, self.writer, self.exchange, self.asker, family, ground.peers, self._application
        )
        reader = Reader(self.ledger, ground.transport, ground.credentials, ground.peers, lambda: self.applier.settings)
        audit = Audit(self.ledger, self.engine, self.applier, reader, self.bodies)
        placer = Placer(
            self.ledger, family, ground.peers, ground.credentials, self.writer.dependencies, self._application
        )
        self.operator = Operator(
            self.ledger, self.engine, ground.transport, ground.peers, self._application, audit, placer
        )

    def _application(self) -> Application:
        return self.applier.settings.application

    async def _look_after(self, book: Book) -> None:
        """Once there is nothing to be executed for a resource here."""
        await self.bodies.tidy(book)
        await self.spanner.look_after(book)

    async def open(self) -> None:
        """Takes up where the store ended. Raises StoreFailed."""
        await self.ledger.open()
        for rid in self.ledger.wholes:
            self.engine.wake(rid)

    async def content(self, rid: str, dot: Dot) -> AsyncGenerator[bytes, None]:
        """What the service here has where an operation has put a body. Raises NotThere, Refused, SiteUnreachable."""
        book = await self.ledger.book(rid)
        op = book.log.operations.get(dot) if book else None
        if book is None or op is None or op.request is None:
            raise NotThere(f"{self.ledger.here} knows no such operation")
        async with aclosing(self.applier.content(book, op)) as content:
            async for chunk in content:
                yield chunk

    async def work(self) -> None:
        """Until it is cancelled: executes what is due, and leaves the peers to another agent of the site."""
        await self.engine.run()

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.engine.run(), name="engine")
            group.create_task(self.exchange.run(), name="exchange")
