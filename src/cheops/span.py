"""Requests that concern resources which span sites, and what belongs to these.

    write, scope `A % B`                   makes a whole, on all of them or none              reconcile/spanning.py
    write of a whole                       changed on all its sites, through its log          the same
    creation inside of a whole, here       made here alone, in the ids of this site's part; or, if its kind spans sites
                                           too, on all sites of the whole
    write, or read, of a child by its id   here, else at the site that has it
    read of a whole                        the parts that can be reached, as one              applications/aggregate.py
    list of wholes, or of children         those of all its sites, each with its site         span_list.py

At a site that has no part, requests go on to one that has (replicate.py).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from cheops.applications import Application
from cheops.applications.aggregate import whole_of
from cheops.applications.concern import READS, Concern
from cheops.applications.fields import body_of_one, fields_at
from cheops.errors import HolderUnreachable, NotReplicated, NotYet, SiteUnreachable, Subset
from cheops.execute import OUTCOME, Executor, Sending
from cheops.model import PeerState, Reply, Request
from cheops.plan import Writes
from cheops.plan.cross import Spanned
from cheops.ports import Peers, Transport
from cheops.reconcile.asking import PASSED, Asker, Said, as_read, bare, unconditional
from cheops.reconcile.book import Book
from cheops.reconcile.children import ChildType, child_types, span_of
from cheops.reconcile.ledger import Ledger
from cheops.reconcile.spanning import Spanner, with_whole
from cheops.record.resource import Summary
from cheops.span_list import SpanList

MOST_BYTES = 1 << 20  # of a body that is looked into


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request, what it concerns, what its scope says of other services, and its scope's text."""

    request: Request
    concern: Concern
    shares: dict[str, str]
    scope: str | None = None


class Spans:
    """The wholes of one site, as requests meet them."""

    def __init__(
        self,
        ledger: Ledger,
        spanner: Spanner,
        asker: Asker,
        transport: Transport,
        peers: Peers,
        application: Callable[[], Application],
    ) -> None:
        self._ledger, self._spanner, self._asker = ledger, spanner, asker
        self._transport, self._peers, self._application = transport, peers, application

    @property
    def _here(self) -> str:
        return self._ledger.here

    def concerns(self, service: str) -> bool:
        """Whether a service has wholes here."""
        return any(whole.service == service for whole in self._ledger.wholes.values())

    def has_parts(self, concern: Concern) -> bool:
        """Whether it concerns what belongs to a part of one site alone."""
        return any(not kind.says.spans for kind in self._kinds(concern))

    async def scoped(self, asked: Asked, where: Spanned, executor: Executor) -> Reply:
        """A request under a scope with %. Raises Subset, NotReplicated, and as Spanner.create does."""
        concern = asked.concern
        _check_sites(concern, where)
        if concern.summary and not concern.summary.gone:
            if self._here not in where.sites:
                return await self._pass_on(asked.request, where.sites, executor)
            return await self.whole(asked, concern.summary)
        if concern.kind is None:
            return await self.listed(asked, where.sites, scoped=True)
        _check_makes(asked)
        if self._here not in where.sites:
            return await self._pass_on(asked.request, (where.prime, *where.sites), executor)
        return await self._spanner.create(asked.request, concern, where, asked.shares)

    async def serve(self, asked: Asked, executor: Executor) -> Reply | None:
        """The reply to a request without such a scope; None if it concerns no whole."""
        concern = asked.concern
        if concern.summary and concern.summary.prime and not concern.summary.gone:
            if self._here not in concern.summary.placement:
                return await self._pass_on(asked.request, concern.summary.placement, executor)
            return await self.whole(asked, concern.summary)
        if not self.concerns(asked.request.service):
            return None
        if concern.kind is None:
            return await self._read(asked, executor)
        if asked.request.values(PASSED) and not concern.id and not self._kinds(concern):
            return None
        return await self._child(asked, executor)

    async def planned(self, asked: Asked, where: Spanned | None) -> Writes | None:
        """What each site would be asked, if a write concerns a whole. Raises Subset, NotReplicated, CantDivide."""
        concern, summary = asked.concern, asked.concern.summary
        if where:
            _check_sites(concern, where)
        if summary and summary.prime and not summary.gone:
            book = await self._ledger.book(summary.rid)
            assert book, "what is found is there"
            sent = await self._spanner.preview_change(asked.request, concern, book, asked.shares)
            return Writes(collaboration="cross", sent=sent)
        if where:
            _check_makes(asked)
        else:
            asked, where = await self._inside(asked)
        if where is None:
            return None
        sent = await self._spanner.preview(asked.request, concern, where, asked.shares)
        return Writes(collaboration="cross", sent=sent, makes=True)

    async def _inside(self, asked: Asked) -> tuple[Asked, Spanned | None]:
        """Where a creation inside of a whole is to be, if its type spans sites too."""
        kinds = self._kinds(asked.concern, asked.request.service)
        if not kinds or asked.concern.id or asked.concern.whole:
            return asked, None
        content, request = await _looked_into(asked.request)
        owner = await self._owner(asked.concern, kinds, request, content)
        spans = owner and next(kind for kind in kinds if kind.owner == owner.type).says.spans
        where = Spanned(sites=owner.placement, prime=owner.prime) if owner and spans else None
        return replace(asked, request=request), where

    async def whole(self, asked: Asked, summary: Summary) -> Reply:
        """A read or a write of a whole that has a part here."""
        book = await self._ledger.book(summary.rid)
        assert book, "what is found is there"
        if asked.concern.kind is not None:
            return await self._spanner.change(asked.request, asked.concern, book, asked.shares)
        if not span_of(asked.concern.rules).divides(asked.concern.facet) or _watches(asked.request):
            return await self._to_service(asked.request, None)
        return await self._united(asked.request, book)

    async def _united(self, request: Request, book: Book) -> Reply:
        """The whole, of the parts that can be had. Raises HolderUnreachable if none can."""
        request = unconditional(request)
        target = await self._asker.in_rids(request.target.decode("latin1"), request.service)
        parts = await asyncio.gather(*(self._said(site, request, target) for site in book.holders))
        words = {said.site: said.word for said in parts}
        told = {said.site: said for said in parts if said.well}
        if not told:
            answered = next((said for said in parts if said.reply), None)
            if answered is None or answered.reply is None:
                raise HolderUnreachable(
                    f"no site that has a part of {book.rid} can be asked: {words}",
                    hint="Send it again once one of them is up: `cheops sites`.",
                )
            return with_whole(replace(answered.reply, body=_once(answered.content)), None, book.rid, words)
        first = told.get(self._here) or told.get(book.log.prime) or next(iter(told.values()))
        assert first.reply
        if request.method == "HEAD":
            return with_whole(replace(first.reply, body=_once(b"")), None, book.rid, words)
        bodies = {site: await self._asker.body_here(said.content, site, request.service) for site, said in told.items()}
        rules = self._application().services[request.service].resources.get(book.summary.type)
        content = whole_of(bodies, rules, book.log.prime, self._here)
        return with_whole(first.reply, content, book.rid, words)

    async def _said(self, site: str, request: Request, target: str) -> Said:
        local = await self._asker.at_site(target, site)
        if local is None:
            return Said(site=site, why="no-part-yet")
        if self._is_down(site):
            return Said(site=site, why="unreachable")
        return await self._asker.ask(site, request, local)

    # Lists

    async def listed(self, asked: Asked, sites: Sequence[str], *, scoped: bool) -> Reply:
        """What these sites hold together."""
        listing = SpanList(self._ledger, self._asker, self._application(), self._is_down)
        return await listing.reply(asked.request, asked.concern, sites, asked.scope if scoped else None)

    def _sites_of(self, concern: Concern, service: str) -> list[str]:
        """This site, and those that have wholes which are of this type, or to which what is of it belongs."""
        if concern.parent and concern.parent.prime:
            return list(concern.parent.placement)
        owners = {kind.owner for kind in self._kinds(concern, service)} | {concern.type}
        wholes = [w for w in self._ledger.wholes.values() if w.service == service and w.type in owners]
        return list(dict.fromkeys([self._here, *(site for whole in wholes for site in whole.placement)]))

    def _kinds(self, concern: Concern, service: str = "") -> list[ChildType]:
        """As what it may belong to a whole: to one that its fields name, or that its path is inside of."""
        named, parent = service or (concern.parent.service if concern.parent else ""), concern.parent
        kinds = child_types(self._application(), named) if named else []
        around = parent.type if parent and parent.prime and not parent.gone else None
        return [kind for kind in kinds if kind.type == concern.type and (kind.says.field or kind.owner == around)]

    async def _read(self, asked: Asked, executor: Executor) -> Reply | None:
        concern, request = asked.concern, asked.request
        spans = concern.rules is not None and concern.rules.span is not None
        sites = self._sites_of(concern, request.service)
        if _looked(request, sites) or not (spans or self._kinds(concern, request.service)) or sites == [self._here]:
            return None
        if concern.parent and concern.parent.prime and self._here not in sites:
            return await self._pass_on(request, sites, executor)
        if concern.lists and not concern.id:
            return None if _watches(request) else await self.listed(asked, sites, scoped=False)
        return await self._found(asked, sites, executor)

    # Children

    async def _child(self, asked: Asked, executor: Executor) -> Reply | None:
        """A write of what belongs to a whole; None if it doesn't."""
        concern, request = asked.concern, asked.request
        kinds = self._kinds(concern, request.service)
        if not kinds:
            return None
        if concern.parent and concern.parent.prime and self._here not in concern.parent.placement:
            return await self._pass_on(request, concern.parent.placement, executor)
        if concern.whole and concern.parent and concern.parent.prime:
            raise _of_all_at_once(concern.parent)
        if concern.id or concern.whole:
            return await self._found(asked, self._sites_of(concern, request.service), executor)
        content, request = await _looked_into(request)
        owner = await self._owner(concern, kinds, request, content)
        if owner is None:
            return await self._to_service(request, content)
        if self._here not in owner.placement:
            return await self._pass_on(request, owner.placement, executor)
        kind = next(kind for kind in kinds if kind.owner == owner.type)
        if kind.says.spans:
            where = Spanned(sites=owner.placement, prime=owner.prime)
            return await self._spanner.create(request, concern, where, asked.shares)
        return await self._to_service(request, content)

    async def _owner(
        self, concern: Concern, kinds: Sequence[ChildType], request: Request, content: bytes | None
    ) -> Summary | None:
        """The whole inside of which a creation is by its path, or which its body names."""
        if concern.parent and concern.parent.prime:
            return concern.parent
        for kind in kinds if content else ():
            value = body_of_one(content or b"", kind.rules)
            named = fields_at(value, kind.says.field) if kind.says.field else []
            ids = [one for one in named if isinstance(one, str)]
            for found in await self._ledger.find(ids, request.service):
                if found.summary.prime and found.summary.type == kind.owner and not found.summary.gone:
                    return found.summary
        return None

    async def _to_service(self, request: Request, content: bytes | None) -> Reply:
        """To the service here, in its own ids."""
        target = await self._asker.in_rids(request.target.decode("latin1"), request.service)
        local = await self._asker.at_site(target, self._here)
        own = replace(bare(request), target=(local or request.target.decode("latin1")).encode("latin1"))
        if content is not None:
            media = next((value.decode("latin1") for value in request.values(b"content-type")), "")
            body = await self._asker.body_at(content, request.service, media)
            headers = tuple(pair for pair in own.headers if pair[0] not in (b"content-length", b"transfer-encoding"))
            own = replace(own, headers=(*headers, (b"content-length", str(len(body)).encode())), body=_once(body))
        return await self._transport.send(own, site=self._here)

    async def _found(self, asked: Asked, sites: Sequence[str], executor: Executor) -> Reply | None:
        """What is asked of one child, at the site that has it: here first."""
        request, concern = asked.request, asked.concern
        if not concern.id:
            return None
        where, mute = await self._where(request, sites)
        if request.method in READS and where == self._here:
            return None
        if where == self._here or where is None:
            content, request = await _looked_into(request)
            return _unsure(await self._to_service(request, content), mute)
        if request.method not in READS:
            return await self._in_own_ids(await self._pass_on(request, [where], executor), where, request.service)
        target = await self._asker.in_rids(request.target.decode("latin1"), request.service)
        said = await self._asker.ask(where, request, await self._asker.at_site(target, where) or target)
        if said.reply is None:
            raise SiteUnreachable(f"{where} has it, and can't be asked any more", site=where)
        body = await self._asker.body_here(said.content, where, request.service)
        headers = tuple(pair for pair in said.reply.headers if pair[0] != b"content-length")
        length = (b"content-length", str(len(body)).encode())
        return replace(said.reply, headers=(*headers, length), body=_once(body))

    async def _in_own_ids(self, reply: Reply, site: str, service: str) -> Reply:
        """What another site has answered, in the ids of this one, if it is short."""
        length = next((int(value) for name, value in reply.headers if name == b"content-length"), MOST_BYTES + 1)
        if length > MOST_BYTES or reply.status >= 300:
            return reply
        async with aclosing(reply.body) as body:
            content = b"".join([chunk async for chunk in body])
        own = await self._asker.body_here(content, site, service)
        headers = tuple(pair for pair in reply.headers if pair[0] != b"content-length")
        return replace(reply, headers=(*headers, (b"content-length", str(len(own)).encode())), body=_once(own))

    async def _where(self, request: Request, sites: Sequence[str]) -> tuple[str | None, list[Said]]:
        """The site that has what stands at a target; None if none does, and which of them couldn't be asked."""
        target = await self._asker.in_rids(request.target.decode("latin1").partition("?")[0], request.service)
        read = as_read(request)
        if (await self._said(self._here, read, target)).well or _looked(request, sites):
            return self._here, []
        mute: list[Said] = []
        others = [asyncio.create_task(self._said(site, read, target)) for site in sites if site != self._here]
        try:
            for said in asyncio.as_completed(others):
                if (found := await said).well:
                    return found.site, []
                mute += [found] if found.reply is None else []
        finally:
            for task in others:
                task.cancel()
        return None, mute

    # Others

    async def _pass_on(self, request: Request, sites: Sequence[str], executor: Executor) -> Reply:
        passed = replace(request, headers=(*request.headers, (PASSED, self._here.encode())))
        ordered = sorted(dict.fromkeys(site for site in sites if site != self._here), key=self._is_down)
        return await executor.execute([Sending(site=site, request=passed, door=True) for site in ordered])

    def _is_down(self, site: str) -> bool:
        if site == self._here:
            return False
        view = self._peers.peers().get(site)
        return view is None or view.state is PeerState.DOWN


def _check_sites(concern: Concern, where: Spanned) -> None:
    """Raises Subset if what is there is on other sites."""
    there = concern.summary
    if there and not there.gone and (set(where.sites) != set(there.placement) or not there.prime):
        raise _other_sites(there, where)


def _check_makes(asked: Asked) -> None:
    if not asked.concern.may_make:
        raise NotReplicated(
            f"nothing that spans sites is at {asked.request.target.decode('latin1')}",
            hint="A scope with % makes a resource that spans sites; send this without it.",
        )


def _other_sites(summary: Summary, where: Spanned) -> Subset:
    sign = " % " if summary.prime else " & "
    return Subset(
        f"the resource is held by {sign.join(summary.placement)}, not by {' % '.join(where.sites)}",
        hint="Send it without a scope. To change its sites: "
        f"cheops resource scope {summary.rid} '{{{summary.service}: {sign.join(where.sites)}}}'",
        resource=summary.rid,
        holders=list(summary.placement),
    )


def _of_all_at_once(whole: Summary) -> NotYet:
    return NotYet(
        f"a change of all of a list at once isn't divided among {' % '.join(whole.placement)}, so nothing was done",
        hint=f"Name one site, whose part of the list it is for: {{{whole.service}: {whole.placement[0]}}}.",
    )


def _unsure(reply: Reply, mute: Sequence[Said]) -> Reply:
    """What is said of something that may yet be at a site which couldn't be asked."""
    told = ", ".join(f"{said.site}={said.word}" for said in mute)
    return replace(reply, headers=(*reply.headers, (OUTCOME, told.encode()))) if mute else reply


def _looked(request: Request, sites: Sequence[str]) -> bool:
    """Whether one of these sites has passed it on, which has looked for it at all of them then."""
    return any(value.decode("latin1") in sites for value in request.values(PASSED))


def _watches(request: Request) -> bool:
    """Whether it follows changes: a stream of one site's own."""
    query = request.target.decode("latin1").partition("?")[2]
    return any(pair in ("watch", "watch=1", "watch=true") for pair in query.split("&"))


async def _looked_into(request: Request) -> tuple[bytes | None, Request]:
    """The body, if it isn't too long to be looked into, and the request with it."""
    if request.body is None:
        return None, request
    content = bytearray()
    async for chunk in request.body:
        content += chunk
        if len(content) > MOST_BYTES:
            return None, replace(request, body=_joined(bytes(content), request.body))
    return bytes(content), replace(request, body=_once(bytes(content)))


async def _joined(beginning: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield beginning
    async for chunk in rest:
        yield chunk


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content
