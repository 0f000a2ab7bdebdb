"""What this site's own service says of its replica of a resource, read with the site's own credentials. Only GET is
sent, and nothing is written down. Not promised: that the service gives the same to others.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

from cheops.applications import Resource
from cheops.applications.concern import item_of
from cheops.applications.translate import at_site, in_rids, rids_in, values_in
from cheops.errors import CheopsError, SiteUnreachable
from cheops.model import Headers, Reply, Request
from cheops.ports import Credentials, Peers, Transport
from cheops.reconcile.book import Book
from cheops.reconcile.drift import (
    ABSENT,
    PENDING,
    READ,
    SKIPPED,
    UNREADABLE,
    WRITES,
    Part,
    Reading,
    is_content,
    unwrapped,
)
from cheops.reconcile.ledger import Ledger
from cheops.reconcile.service import IN_MEMORY, Settings
from cheops.reconcile.showing import left_at, name_of
from cheops.record.operation import Kind, State

GONE = frozenset({404, 410})
_JSON = (("content-type", "application/json"),)


class Reader:
    """Reads at the site `here`; `settings` are those in force."""

    def __init__(
        self,
        ledger: Ledger,
        transport: Transport,
        credentials: Credentials,
        peers: Peers,
        settings: Callable[[], Settings],
    ) -> None:
        self._ledger, self._transport, self._credentials = ledger, transport, credentials
        self._peers, self._settings = peers, settings

    async def read(self, book: Book, seconds: float) -> Reading:
        """The replica here; all of it takes at most so many seconds."""
        here, rules = self._ledger.here, self.rules(book)
        told: dict[str, Any] = {"site": here, "known": dict(book.log.vector)}
        if rules and (rules.session or rules.moves):
            return Reading(**told, state=SKIPPED, why="it isn't there for others, so it isn't compared")
        waits = next(left_at(book, here, self._peers.peers()), None)
        if waits:
            return Reading(**told, state=PENDING, why=f"{waits.operation}: {waits.why}")
        if not (book.summary.chosen or book.local_id(here)):
            return Reading(**told, state=ABSENT, why="it was never made here, as far as the log says")
        try:
            async with asyncio.timeout(seconds):
                parts = await self._parts(book, rules)
        except (CheopsError, TimeoutError) as error:
            why = error.detail if isinstance(error, CheopsError) else "the service didn't answer in time"
            return Reading(**told, state=UNREADABLE, why=why)
        now = await self._ledger.book(book.rid)
        if now is None or now.log.vector != book.log.vector or now.own(here) != book.own(here):
            return Reading(**told, state=PENDING, why="it was written meanwhile")
        return await self._told(book, parts, told)

    async def _told(self, book: Book, parts: Mapping[str, Part], told: dict[str, Any]) -> Reading:
        if parts[""].status in GONE:
            return Reading(**told, state=ABSENT)
        failed = ((facet, part.status) for facet, part in parts.items() if not _is_told(facet, part.status))
        if refused := next(failed, None):
            facet, status = refused
            what = f"to a read of {facet}" if facet else "to a read"
            hint = "; give the site credentials for it in its site.yaml" if status in (401, 403) else ""
            return Reading(**told, state=UNREADABLE, why=f"the service answers {status} {what}{hint}")
        return Reading(**told, state=READ, parts=parts, replies=await self._replies(book))

    async def _parts(self, book: Book, rules: Resource | None) -> dict[str, Part]:
        """The resource, and its facets as far as they were written. Raises CheopsError, TimeoutError."""
        facets = dict.fromkeys(op.facet for op in book.log.effective if op.kind in WRITES and op.facet)
        credentials = await self.own(book)
        parts = {"": await self._part(book, rules, "", credentials)}
        if parts[""].status < 300:
            for facet in facets:
                parts[facet] = await self._part(book, rules, facet, credentials)
        return parts

    async def own(self, book: Book) -> Headers:
        """What this site shows to the service. Raises CredentialsFailed."""
        return await self._credentials.headers(book.summary.service) or ()

    async def _part(self, book: Book, rules: Resource | None, facet: str, credentials: Headers) -> Part:
        async with aclosing((reply := await self.get(book, facet, credentials)).body) as body:
            beginning, digest, size = bytearray(), hashlib.sha256(), 0
            async for chunk in body:
                digest.update(chunk)
                size += len(chunk)
                beginning += chunk if len(beginning) <= IN_MEMORY else b""
        if reply.status == 401 and credentials:
            self._credentials.refused(book.summary.service)
        if executed := dict(reply.headers).get(b"cheops-executed"):
            why = f"the service doesn't answer a read (executed: {executed.decode()})"
            raise SiteUnreachable(why, site=self._ledger.here, why=why)
        value = None if size > IN_MEMORY or is_content(facet, rules) else await self._in_rids(book, bytes(beginning))
        value = unwrapped(value, facet, rules) if value else None
        return Part(
            status=reply.status,
            json=isinstance(value, dict),
            value=value if isinstance(value, dict) else None,
            sha256=digest.hexdigest(),
            size=size,
        )

    async def get(self, book: Book, facet: str, credentials: Headers | None = None) -> Reply:
        """The service's reply to a read of the resource, or a facet of it. Raises SiteUnreachable, NoIdThere,
        CredentialsFailed, TimeoutError.
        """
        settings, service = self._settings(), book.summary.service
        target = self.item(book) + (f"/{facet}" if facet else "")
        ids = await self._ledger.local_ids(rids_in(target, (), None), self._ledger.here)
        request = Request(
            service=service,
            method="GET",
            target=at_site(target, (), None, ids, self._ledger.here).target.encode("latin1"),
            headers=(
                (b"host", settings.host(service).encode()),
                (b"accept", self._accepted(book, facet).encode("latin1")),
                *(await self.own(book) if credentials is None else credentials),
            ),
        )
        async with asyncio.timeout(settings.seconds):
            return await self._transport.send(request, site=self._ledger.here)

    def _accepted(self, book: Book, facet: str) -> str:
        """What was written last is asked for as it was written, if the service has several forms of it."""
        usual = "*/*" if facet else "application/json, */*;q=0.5"
        for op in reversed(book.log.effective):
            if op.facet == facet and op.kind in (Kind.CREATE, Kind.REPLACE) and op.request:
                named = next((value for name, value in op.request.headers if name.lower() == "content-type"), "")
                return f"{named}, {usual}" if named and named not in usual else usual
        return usual

    async def _in_rids(self, book: Book, body: bytes) -> bytes:
        """A body of this site's service, with rids where it has ids of its own."""
        application, target = self._settings().application, self.item(book)
        named = await self._ledger.store.find(values_in(target, "application/json", body))
        here, service = self._ledger.here, book.summary.service
        return in_rids(target, _JSON, body, named, here, service, application).body or b""

    async def _replies(self, book: Book) -> dict[str, Any]:
        """What the service here answered to what is in force."""
        found: dict[str, Any] = {}
        for op in book.log.effective:
            outcome = book.outcome(op.dot, self._ledger.here)
            if op.facet or op.kind not in WRITES or outcome is None or outcome.state is not State.DONE:
                continue
            value = unwrapped(await self._in_rids(book, outcome.body), "", self.rules(book)) if outcome.body else None
            if isinstance(value, dict):
                found[name_of(op.dot)] = value
        return found

    def item(self, book: Book) -> str:
        """The path of the resource, in rid form."""
        return item_of(book.summary, self._settings().application)

    def rules(self, book: Book) -> Resource | None:
        """What the description says of its type."""
        service = self._settings().application.services.get(book.summary.service)
        return service.resources.get(book.summary.type) if service else None


def _is_told(facet: str, status: int) -> bool:
    """Whether the service has said how it is; that a facet isn't there, or can't be read, is told too."""
    return status < 300 or (bool(facet) and (status in GONE or status == 405))
