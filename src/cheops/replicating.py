"""The agent's part in replication, on the stores and transports of this site: opened, run, and told of changes."""

import random
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

from cheops.carry import carry_locations
from cheops.config import Site
from cheops.model import Request, View
from cheops.observe.replicas import Replicas
from cheops.ports import Credentials, KeptScopes, LogStore, Peers, Transport
from cheops.reconcile.assembly import Ground, Reconciling
from cheops.reconcile.service import Settings
from cheops.record.operation import Dot
from cheops.replicate import requests_on
from cheops.sites.roll import marked
from cheops.stores.blobs import BlobFiles
from cheops.stores.sql import open_log
from cheops.web.admin import names_of

Manages = Callable[[frozenset[str]], Awaitable[None]]
"""Is told the services that have replicated resources here, and the marked names (see sites/roll.py) of those that have
some that span sites. When it returns, their writes come to this agent, and so do reads of what spans sites.
"""


class Replicating:
    """Keeps the replicated resources of a site."""

    def __init__(
        self,
        site: Site,
        view: View,
        store: LogStore,
        transport: Transport,
        credentials: Credentials,
        peers: Peers,
        kept: KeptScopes,
        *,
        alone: bool = True,
    ) -> None:
        self._site, self._view, self._store, self._kept = site, view, store, kept
        ground = Ground(
            here=site.name,
            store=store,
            blobs=BlobFiles(site.data / "blobs", clear=alone),
            transport=transport,
            credentials=credentials,
            peers=peers,
            now=time.time,
            drawn=random.random,
            digits=lambda count: secrets.token_hex((count + 1) // 2)[:count],
            owner=site.settings.store.owner or secrets.token_hex(4),
            shared=site.settings.store.url is not None,
        )
        self.parts = Reconciling(ground, self._settings())
        self.requests = requests_on(self.parts, transport, peers, lambda: self._site.application)
        self.requests.managed = site.managed
        self._own: frozenset[str] = frozenset()

    def _settings(self) -> Settings:
        return Settings(
            application=self._site.application,
            seconds=self._site.settings.otherwise.patience_seconds,
            carry=self._carry,
            host=self._host,
        )

    def _host(self, service: str) -> str:
        front = self._site.settings.services.get(service)
        return str(front.front) if front else "localhost"

    def _carry(self, request: Request, shares: Mapping[str, str]) -> Request:
        """The request of an operation, with what the scope said of other services."""
        carrying, text = carry_locations(request, shares, self._site.application, self._view, self._digits)
        if carrying.keep_under:
            self._kept.keep(carrying.keep_under, text)
        return carrying.request

    def _digits(self, count: int) -> str:
        return secrets.token_hex((count + 1) // 2)[:count]

    def change_to(self, site: Site, view: View) -> None:
        """Other settings are in force."""
        self._site, self._view = site, view
        self.parts.applier.settings = self._settings()
        self.requests.managed = site.managed

    # What peers ask

    async def receive(self, wire: bytes, sender: str) -> bytes:
        return await self.parts.exchange.receive(wire, sender)

    async def give(self, sender: str, after: int, of: str, store: str, limit: int) -> bytes:
        return await self.parts.exchange.give(sender, after, of, store, limit)

    async def holders_told(self, wire: bytes) -> bytes:
        return await self.requests.holders_told(wire)

    async def commanded(self, wire: bytes) -> bytes:
        return await self.parts.operator.commanded(wire)

    def content(self, rid: str, dot: Dot) -> AsyncGenerator[bytes, None]:
        return self.parts.content(rid, dot)

    # While the agent runs

    async def run(self) -> None:
        """Until it is cancelled."""
        await self.parts.run()

    async def manage(self, service: str, spans: bool = False) -> None:
        """The service has a replicated resource here from now on: its writes come to this agent once this returns.

        `spans`: it spans sites, so reads that concern it come too.
        """
        words = {service, marked(service)} if spans else {service}
        if not words <= self._own:
            self._own |= words
            await self._manages(self._own)

    async def watch_services(self, manages: Manages) -> None:
        """Finds out which services have replicated resources here, and says so now and whenever there are more."""
        self._manages = manages
        self._own = await self._found()
        await manages(self._own)
        self.parts.ledger.manage = self.manage

    async def _found(self) -> frozenset[str]:
        """What `manage` would have been told of all that the store holds."""
        spanning = {marked(whole.service) for whole in await self._store.wholes()}
        return await self._store.services() | spanning

    def observed_by(self, replicas: Replicas) -> None:
        """Lets it know what becomes of operations here."""
        self.parts.ledger.changed, self.parts.ledger.failed = replicas.changed, replicas.failed

    def look(self, replicas: Replicas) -> Callable[[], Awaitable[None]]:
        """What lets it count the operations."""
        return partial(replicas.look, self._store)

    def complaints(self) -> list[str]:
        """What somebody should mend."""
        return [complaint] if (complaint := self.parts.ledger.complaint) else []


@asynccontextmanager
async def replicating(
    site: Site,
    view: View,
    transport: Transport,
    credentials: Credentials,
    peers: Peers,
    kept: KeptScopes,
    *,
    alone: bool = True,
) -> AsyncIterator[Replicating]:
    """Opens the store of a site; `alone`: no other agent uses its folder. Raises StoreFailed, StoreTooNew."""
    async with open_log(site.store_url, name=lambda: secrets.token_hex(4), now=time.time) as store:
        parts = Replicating(site, view, store, transport, credentials, peers, kept, alone=alone)
        await parts.parts.open()
        yield parts


def view_of(site: Site) -> View:
    """What a site knows of itself and the others that doesn't change while its settings don't."""
    numbers = {name: service.number for name, service in site.application.services.items()}
    return View(
        site=site.name,
        names=names_of(site),
        site_numbers=site.site_numbers,
        service_numbers={name: number for name, number in numbers.items() if number is not None},
    )
