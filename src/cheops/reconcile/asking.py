"""Asks the services of several sites about the parts of what spans them, each in its own ids. Nothing is written."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from cheops.applications import Application
from cheops.applications.concern import concern
from cheops.applications.fields import text_at
from cheops.applications.lists import listed
from cheops.applications.paths import segments
from cheops.applications.resources import Resource
from cheops.applications.translate import at_site, in_rids, rids_in, values_in
from cheops.errors import CheopsError, NoIdThere, SiteUnreachable
from cheops.model import Reply, Request
from cheops.ports import HOLDERS, Transport
from cheops.reconcile.ledger import Ledger

ASK_SECONDS = 10.0
HELD_SECONDS = 1.5
MOST_BYTES = 64 << 20
PASSED = b"cheops-passed"  # the site that has passed a request on, or that asks for its own answer
_CONDITIONS = (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"range")
JSON = (("content-type", "application/json"),)


class Held(NamedTuple):
    """A resource of several sites, as one of them knows it."""

    rid: str
    holders: Sequence[str]
    prime: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a site's service has said; `reply` None: it couldn't be asked, and `why` says so."""

    site: str
    reply: Reply | None = None
    content: bytes = b""
    why: str = ""

    @property
    def well(self) -> bool:
        return self.reply is not None and self.reply.status < 300

    @property
    def word(self) -> str:
        return str(self.reply.status) if self.reply else self.why


class Asker:
    """The way from this site to the services of all."""

    def __init__(self, ledger: Ledger, transport: Transport, application: Callable[[], Application]) -> None:
        self._ledger, self._transport, self._application = ledger, transport, application

    async def ask(self, site: str, request: Request, target: str) -> Said:
        """What the service of a site says to a read, and no other that this might ask; `target` is in its ids."""
        kept = tuple(_plainly(request))
        headers = (*kept, (PASSED, self._ledger.here.encode())) if site != self._ledger.here else kept
        own = Request(service=request.service, method=request.method, target=target.encode("latin1"), headers=headers)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                reply = await self._transport.send(own, site=site)
                async with aclosing(reply.body) as body:
                    content = b"".join([chunk async for chunk in body])
        except TimeoutError:
            return Said(site=site, why="no-answer-in-time")
        except SiteUnreachable:
            return Said(site=site, why="unreachable")
        if any(name == b"cheops-executed" for name, _ in reply.headers):
            return Said(site=site, why="no-such-service" if reply.status == 404 else "unreachable")
        return Said(site=site, reply=reply, content=content)

    async def held_at(self, site: str, request: Request, ids: Sequence[str]) -> dict[str, Held]:
        """By id what is replicated of a collection, or spans sites, as a site knows it."""
        target = request.target.decode("latin1")
        if site == self._ledger.here:
            return await self.held_here(request.service, target, ids)
        question = {"service": request.service, "target": target, "ids": list(ids)}
        try:
            wire = json.dumps(question).encode()
            told = json.loads(await self._transport.ask(HOLDERS, site=site, body=wire, seconds=HELD_SECONDS))
            return {str(one): _held(*each) for one, each in told.get("ids", {}).items()}
        except (CheopsError, ValueError, AttributeError, TypeError):
            return {}

    async def held_here(self, service: str, target: str, ids: Sequence[str]) -> dict[str, Held]:
        """The same, as this site knows it."""
        here = self._ledger.here
        named = await self._ledger.find([*ids, *segments(target)], service)
        about = concern("POST", target, service, self._application(), named, here)
        return {
            n.value: Held(rid=n.summary.rid, holders=n.summary.placement, prime=n.summary.prime)
            for n in named
            if n.value in ids
            and n.site in (here, "")
            and n.summary.collection == about.collection
            and not n.summary.gone
        }

    async def in_rids(self, target: str, service: str) -> str:
        """A target of this site in the words of all sites."""
        named = await self._ledger.find(values_in(target), service)
        return in_rids(target, (), None, named, self._ledger.here, service, self._application()).target

    async def at_site(self, target: str, site: str) -> str | None:
        """A target in the ids of a site; None if that doesn't know what it names (yet)."""
        ids = await self._ledger.local_ids(rids_in(target, (), None), site)
        try:
            return at_site(target, (), None, ids, site).target
        except NoIdThere:
            return None

    async def body_here(self, body: bytes, site: str, service: str) -> bytes:
        """What a site has said, in the ids of this one; what has none here stays as it is."""
        if site == self._ledger.here:
            return body
        named = await self._ledger.find(values_in("", JSON[0][1], body))
        cast = in_rids("/", JSON, body, named, site, service, self._application()).body or body
        rids = rids_in("/", JSON, cast)
        ids = {rid: rid for rid in rids} | await self._ledger.local_ids(rids, self._ledger.here)
        return at_site("/", JSON, cast, ids).body or cast

    async def body_at(self, body: bytes, service: str, media_type: str) -> bytes:
        """What a client has said in anybody's ids, in those of this site. Raises NoIdThere."""
        kind = (("content-type", media_type),)
        named = await self._ledger.find(values_in("", media_type, body))
        cast = in_rids("/", kind, body, named, self._ledger.here, service, self._application()).body or body
        ids = await self._ledger.local_ids(rids_in("/", kind, cast), self._ledger.here)
        return at_site("/", kind, cast, ids, self._ledger.here).body or cast

    async def items(
        self, site: str, request: Request, target: str, rules: Resource | None, where: tuple[str, str] | None = None
    ) -> Sequence[object] | None:
        """The items of a list at a site, of those whose field has this value; None if it can't be asked."""
        said = await self.ask(site, request, target)
        found = listed(said.content, rules) if said.well else None
        if found is None or where is None:
            return found
        return [item for item in found if text_at(item, where[0]) == where[1]]


def bare(request: Request) -> Request:
    """The request without what only Cheops understands; Cheops-Via is for fronts that are met twice."""
    kept = (pair for pair in request.headers if not pair[0].startswith(b"cheops-") or pair[0] == b"cheops-via")
    return replace(request, headers=tuple(kept))


def as_read(request: Request) -> Request:
    """A read for the same caller."""
    dropped = (b"content-length", b"content-type", b"transfer-encoding", b"expect")
    headers = tuple(pair for pair in unconditional(request).headers if pair[0] not in dropped)
    return replace(request, method="GET", headers=headers, body=None)


def unconditional(request: Request) -> Request:
    """The same, without what would have a site answer with less than it has, because of what another one has said."""
    return replace(request, headers=tuple(pair for pair in request.headers if pair[0] not in _CONDITIONS))


def _plainly(request: Request) -> Iterator[tuple[bytes, bytes]]:
    """The headers of a question, of which the answer is to be plain JSON if the caller takes that too: a table of
    Kubernetes', or its protobuf, of several parts can't be made one.
    """
    for name, value in request.headers:
        if name == b"accept" and b"application/json" in (one.partition(b";q=")[0].strip() for one in value.split(b",")):
            yield name, b"application/json"
        elif not name.startswith(b"cheops-"):
            yield name, value


def _held(rid: Any, holders: Any, prime: Any = "", *_: Any) -> Held:
    return Held(rid=str(rid), holders=[str(holder) for holder in holders], prime=str(prime))
