"""Requests that concern replicated resources: who serves a read, and to whom a write goes.

    write, scope `A & B`, here is one of them      written down here, executed on all of them      reconcile/writing.py
    write, no scope, of a resource held here       the same
    write that belongs to others                   passed on to the first of them that can
    write, scope of one site                       refused if other sites hold the resource too
    write of something unknown                     the service here; after its 404, whoever holds it
    read, scope `A & B`                            of one resource: the nearest replica; of a list: the union
    read that missed here                          the replica here under its own id, else a holder's

A request that another site has passed on isn't passed on again, nor what it asks of the service here alone.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cheops.applications import Application, Resource
from cheops.applications.concern import Concern, concern
from cheops.applications.paths import segments
from cheops.applications.translate import at_site, in_rids, rids_in
from cheops.bodies import Ending, KeptBody
from cheops.errors import CheopsError, Circle, NotReplicated, SiteUnreachable, Subset
from cheops.execute import Executor, Sending
from cheops.model import PeerState, Reply, Request, View
from cheops.plan import Writes
from cheops.plan.cross import spanned_by
from cheops.plan.replication import replicas_of
from cheops.ports import HOLDERS, Peers, Transport
from cheops.reconcile.asking import PASSED, Asker, bare
from cheops.reconcile.assembly import Reconciling
from cheops.reconcile.book import Book
from cheops.reconcile.ledger import Ledger
from cheops.reconcile.writing import Writer
from cheops.record.operation import Kind
from cheops.scope import Cross, Location, Replicas, SiteName, Spread
from cheops.span import Asked, Spans

UNABLE = frozenset({502, 503, 504})
ASK_SECONDS = 1.5
UNKNOWN_SECONDS = 1.0  # that nobody holds it isn't asked again
MOST_UNKNOWN = 10_000
MOST_IDS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Meant:
    """A request, what it concerns, and where its scope says that it goes: None if nothing is said of its service."""

    request: Request
    concern: Concern
    location: Location | None
    shares: dict[str, str] = field(default_factory=dict)
    prime: str = ""
    scope: str | None = None

    @property
    def writes(self) -> bool:
        return self.concern.kind is not None


def _asked(meant: Meant) -> Asked:
    return Asked(request=meant.request, concern=meant.concern, shares=meant.shares, scope=meant.scope)


class Replication:
    """The replicated resources of one site, as requests meet them."""

    def __init__(
        self,
        ledger: Ledger,
        writer: Writer,
        transport: Transport,
        peers: Peers,
        application: Callable[[], Application],
        asker: Asker,
        spans: Spans,
    ) -> None:
        self._ledger, self._writer, self._transport, self._peers = ledger, writer, transport, peers
        self._application, self.asker, self.spans = application, asker, spans
        self.managed: frozenset[str] = frozenset()
        self._unknown: dict[tuple[str, bytes], float] = {}

    def may_concern(self, service: str, location: Location | None) -> bool:
        """Whether a request for a service has to be looked at here at all."""
        return (
            service in self.managed
            or isinstance(location, Replicas | Cross)
            or getattr(location, "spread", None) in (Spread.EACH, Spread.ACROSS)
        )

    async def meant(
        self,
        request: Request,
        location: Location | None,
        shares: dict[str, str],
        prime: str = "",
        scope: str | None = None,
    ) -> Meant:
        """What a request concerns, as far as this site knows."""
        target = request.target.decode("latin1")
        named = await self._ledger.find(segments(target), request.service)
        found = concern(request.method, target, request.service, self._application(), named, self._ledger.here)
        return Meant(request=request, concern=found, location=location, shares=shares, prime=prime, scope=scope)

    async def planned(self, meant: Meant, view: View) -> Writes | None:
        """What each site would be asked; None for what concerns no replicated resource, or is a read. Raises Subset,
        NotReplicated, CantDivide.
        """
        if not meant.writes:
            return None
        where = spanned_by(meant.location, meant.prime, view)
        if where or meant.location is None:
            writes = await self.spans.planned(_asked(meant), where)
            inside = meant.concern.parent is not None and bool(meant.concern.parent.prime)
            if writes or inside:
                return writes
        sites = replicas_of(meant.location, view) if meant.location else None
        around = meant.concern.summary or meant.concern.parent
        if around and not around.gone:
            book = await self._book(around.rid)
            named = sites or ([meant.location.name] if isinstance(meant.location, SiteName) else book.holders)
            if set(named) != set(book.holders):
                raise self._subset(book, named)
            sites = book.holders
        if sites is None:
            return None
        sent = await self._writer.preview(meant.request, meant.concern, sites, meant.shares)
        return Writes(collaboration="replication", sent=sent)

    async def serve(self, meant: Meant, view: View, executor: Executor) -> Reply | None:
        """The reply to a request; None if it concerns no replicated resource, so that its plan is carried out."""
        asked = _asked(meant)
        if where := spanned_by(meant.location, meant.prime, view):
            return await self.spans.scoped(asked, where, executor)
        if self._may_span(meant) and (reply := await self.spans.serve(asked, executor)):
            return reply
        sites = replicas_of(meant.location, view) if meant.location else None
        if not meant.writes:
            return await self._read(meant, sites, executor)
        if sites is not None:
            return await self._scoped(meant, sites, executor)
        if meant.concern.summary:
            return await self._managed(meant, executor)
        if meant.concern.parent and not meant.concern.parent.gone:
            return await self._inside(meant, executor)
        if meant.location is None and (meant.concern.id or meant.concern.kind is Kind.CREATE):
            return await self._unknown_here(meant, executor)
        return None

    def _may_span(self, meant: Meant) -> bool:
        """A scope of this site alone means its part of a whole, and of a list; what is made inside of a whole is here
        anyway.
        """
        here = isinstance(meant.location, SiteName) and meant.location.name == self._ledger.here
        summary = meant.concern.summary
        inside = meant.writes and not meant.concern.whole and not (summary and summary.prime)
        return meant.location is None or (here and inside)

    # Writes

    async def _scoped(self, meant: Meant, sites: Sequence[str], executor: Executor) -> Reply:
        summary = meant.concern.summary
        if summary and not summary.gone:
            book = await self._book(summary.rid)
            if set(sites) != set(book.holders):
                raise self._subset(book, sites)
            return await self._to_holders(meant, book.holders, executor)
        if self._ledger.here not in sites:
            return await self._pass_on(meant.request, sites, executor)
        if not meant.concern.may_make:
            raise NotReplicated(
                f"nothing that is replicated is at {meant.request.target.decode('latin1')}",
                hint="A scope with & makes a resource, on several sites; send this without it.",
            )
        return await self._writer.write(meant.request, meant.concern, sites, meant.shares)

    async def _managed(self, meant: Meant, executor: Executor) -> Reply | None:
        assert meant.concern.summary
        book = await self._book(meant.concern.summary.rid)
        if book.log.gone and not meant.concern.may_make:
            return None
        if isinstance(meant.location, SiteName) and set(book.holders) != {meant.location.name}:
            raise self._subset(book, [meant.location.name])
        if book.log.gone:  # what is made anew is this site's own
            return None
        return await self._to_holders(meant, book.holders, executor)

    async def _inside(self, meant: Meant, executor: Executor) -> Reply | None:
        """What is made inside of a replicated resource is where that is."""
        assert meant.concern.parent
        book = await self._book(meant.concern.parent.rid)
        if isinstance(meant.location, SiteName) and set(book.holders) != {meant.location.name}:
            if meant.location.name in book.holders and self.spans.has_parts(meant.concern):
                return None  # what belongs to that site's part is its own business
            raise self._subset(book, [meant.location.name])
        return await self._to_holders(meant, book.holders, executor)

    async def _to_holders(self, meant: Meant, holders: Sequence[str], executor: Executor) -> Reply:
        here = self._ledger.here
        ordered = not (meant.concern.repeats or meant.concern.commutes or meant.concern.alone)
        if ordered and holders[0] != here and not meant.request.values(PASSED):
            return await self._pass_on(meant.request, holders[:1], executor)  # one site alone says what comes first
        if here in holders:
            return await self._writer.write(meant.request, meant.concern, holders, meant.shares)
        return await self._pass_on(meant.request, holders, executor)

    async def _unknown_here(self, meant: Meant, executor: Executor) -> Reply | None:
        """The service here first; if it knows nothing of it, another site may."""
        request = meant.request
        lengths = [int(value) for value in request.values(b"content-length")]
        body = (
            KeptBody(request.body, executor.patience.keep_bytes, lengths[0] if lengths else None)
            if request.body
            else None
        )
        here = replace(bare(request), body=body.again() if body else None)
        reply = await self._transport.send(here, site=self._ledger.here)
        if reply.status != 404 or (body and not body.repeatable) or request.values(PASSED):
            return replace(reply, body=Ending(reply.body, body.close)) if body else reply
        holders = await self._ask_peers(request)
        if not holders:
            return replace(reply, body=Ending(reply.body, body.close)) if body else reply
        await reply.body.aclose()
        again = replace(request, body=body.again() if body else None)
        passed = await self._pass_on(again, holders, executor)
        return replace(passed, body=Ending(passed.body, body.close)) if body else passed

    def _subset(self, book: Book, sites: Sequence[str]) -> Subset:
        sign = " % " if book.log.prime else " & "
        held, named = sign.join(book.holders), sign.join(sites)
        return Subset(
            f"the resource is held by {held}, and a write of it goes to all of them, not to {named} alone",
            hint="Send it without a scope. To change which sites hold it: "
            f"cheops resource scope {book.rid} '{{{book.summary.service}: {named}}}'",
            resource=book.rid,
            holders=list(book.holders),
        )

    # Reads

    async def _read(self, meant: Meant, sites: Sequence[str] | None, executor: Executor) -> Reply | None:
        request, summary = meant.request, meant.concern.summary
        if sites is not None and meant.concern.lists and not summary:
            return None
        if summary and not summary.gone:
            book = await self._book(summary.rid)
            others = self._able(book)
            if self._ledger.here in book.holders and (local := await self._local(request, book)):
                if local.status not in UNABLE or not others:
                    return local
                await local.body.aclose()
            return await self._pass_on(request, others, executor)
        if sites is not None:
            ordered = sorted(sites, key=lambda site: site != self._ledger.here)
            return await self._pass_on(request, ordered, executor)
        here = isinstance(meant.location, SiteName) and meant.location.name == self._ledger.here
        if not (meant.location is None or here) or request.body:
            return None
        reply = await self._transport.send(bare(request), site=self._ledger.here)
        if reply.status != 404 or request.values(PASSED) or not (holders := await self._ask_peers(request)):
            return reply
        await reply.body.aclose()
        return await self._pass_on(request, holders, executor)

    async def _local(self, request: Request, book: Book) -> Reply | None:
        """What the replica here says; None if there is none yet."""
        if not book.local_id(self._ledger.here) or not book.has(self._ledger.here):
            return None
        target = request.target.decode("latin1")
        named = await self._ledger.find(segments(target), request.service)
        cast = in_rids(target, (), None, named, self._ledger.here, request.service, self._application())
        ids = await self._ledger.local_ids(rids_in(cast.target, (), None), self._ledger.here)
        local = at_site(cast.target, (), None, ids)
        own = replace(bare(request), target=local.target.encode("latin1"))
        return await self._transport.send(own, site=self._ledger.here)

    def _able(self, book: Book) -> list[str]:
        """The other holders, those that surely have it first."""
        others = [site for site in book.holders if site != self._ledger.here]
        return sorted(others, key=lambda site: not book.has(site))

    # Others

    async def _pass_on(self, request: Request, sites: Sequence[str], executor: Executor) -> Reply:
        """To the agent of the first of these sites that can."""
        here = self._ledger.here
        if request.values(PASSED):
            sender = request.values(PASSED)[0].decode("latin1")
            raise Circle(
                f"{sender} has taken {here} for a holder of the resource, which it isn't (any more)",
                hint="Send the request again.",
            )
        ordered = sorted((site for site in sites if site != here), key=self._is_down)
        passed = replace(request, headers=(*request.headers, (PASSED, here.encode())))
        return await executor.execute([Sending(site=site, request=passed, door=True) for site in ordered])

    def _is_down(self, site: str) -> bool:
        view = self._peers.peers().get(site)
        return view is None or view.state is PeerState.DOWN

    async def _ask_peers(self, request: Request) -> list[str]:
        """The sites that hold what a request concerns, as others know; the first that knows counts."""
        key, now = (request.service, request.target.partition(b"?")[0]), asyncio.get_running_loop().time()
        if self._unknown.get(key, 0) > now:
            return []
        question = {"service": request.service, "method": request.method, "target": request.target.decode("latin1")}
        wire = json.dumps(question).encode()
        up = [site for site, view in self._peers.peers().items() if view.state is PeerState.UP]
        asked = [asyncio.create_task(self._ask(site, wire)) for site in up]
        try:
            for answered in asyncio.as_completed(asked):
                if holders := await answered:
                    return holders
        finally:
            for task in asked:
                task.cancel()
        if len(self._unknown) >= MOST_UNKNOWN:
            self._unknown.clear()
        self._unknown[key] = now + UNKNOWN_SECONDS
        return []

    async def _ask(self, site: str, question: bytes) -> list[str]:
        try:
            answer = json.loads(await self._transport.ask(HOLDERS, site=site, body=question, seconds=ASK_SECONDS))
            return [str(holder) for holder in answer.get("holders", ())]
        except (SiteUnreachable, CheopsError, ValueError, AttributeError):
            return []

    def rules_of(self, request: Request) -> Resource | None:
        """What the description says of the type whose list a request reads."""
        target = request.target.decode("latin1")
        return concern("GET", target, request.service, self._application(), (), self._ledger.here).rules

    async def holders_told(self, wire: bytes) -> bytes:
        """The answer to a peer that asks who holds what a request concerns."""
        answer: dict[str, Any] = {}
        try:
            asked = json.loads(wire)
            target, service = str(asked["target"]), str(asked["service"])
            if "ids" in asked:
                ids = [str(one) for one in asked["ids"]][:MOST_IDS]
                held = await self.asker.held_here(service, target, ids)
                return json.dumps({"ids": {one: list(each) for one, each in held.items()}}).encode()
            method = str(asked["method"])
        except (ValueError, KeyError, TypeError):
            return b"{}"
        request = Request(service=service, method=method, target=target.encode("latin1", "replace"), headers=())
        meant = await self.meant(request, None, {})
        parent = meant.concern.parent if self.spans.has_parts(meant.concern) else None
        if (known := meant.concern.summary or parent) and not known.gone:
            book = await self._book(known.rid)
            answer = {"rid": book.rid, "holders": list(book.holders)}
        return json.dumps(answer).encode()

    async def _book(self, rid: str) -> Book:
        book = await self._ledger.book(rid)
        assert book, "what is found is there"
        return book


def requests_on(
    parts: Reconciling, transport: Transport, peers: Peers, application: Callable[[], Application]
) -> Replication:
    """What requests meet of all that."""
    spans = Spans(parts.ledger, parts.spanner, parts.asker, transport, peers, application)
    return Replication(parts.ledger, parts.writer, transport, peers, application, parts.asker, spans)
