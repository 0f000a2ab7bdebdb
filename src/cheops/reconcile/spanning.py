"""Writes of resources that span sites (decision 16): made on all of their sites or on none, changed through their log.

Not promised: that nobody sees the parts of a whole that is being made, or unmade.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from cheops.applications import Application, Resource
from cheops.applications.aggregate import whole_of
from cheops.applications.concern import Concern, item_of
from cheops.applications.divide import Parts, divided, overlapping, range_of
from cheops.applications.paths import encoded
from cheops.applications.replies import has_key, key_in, made
from cheops.errors import AlreadyThere, BadRequest, HolderUnreachable
from cheops.execute import OUTCOME
from cheops.model import Headers, PeerState, Reply, Request
from cheops.plan import Sent
from cheops.plan.cross import Spanned
from cheops.ports import Peers
from cheops.reconcile.answering import (
    RESOURCE,
    WAIT_SECONDS,
    done_reply,
    has_answered,
    outcomes_of,
    own_reply,
    told_reply,
    wish_of,
)
from cheops.reconcile.asking import Asker, as_read
from cheops.reconcile.book import Book, parts_of
from cheops.reconcile.children import Family, span_of
from cheops.reconcile.dependencies import DEPENDENCIES
from cheops.reconcile.drafting import Written
from cheops.reconcile.exchange import Exchange
from cheops.reconcile.ledger import Draft, Ledger
from cheops.reconcile.writing import Begun, Writer
from cheops.record.operation import Body, Kind, Operation, Outcome, Recorded, State
from cheops.record.resource import Summary
from cheops.record.superseding import same_request


def parts_at_birth(where: Spanned) -> Parts:
    return Parts(prime=where.prime, sites=where.sites, slots=where.sites, born=len(where.sites))


HEARD_SECONDS = 3.0  # until it is known of each site whether it is up


class Spanner:
    """Writes of wholes at one site."""

    def __init__(
        self,
        ledger: Ledger,
        writer: Writer,
        exchange: Exchange,
        asker: Asker,
        family: Family,
        peers: Peers,
        application: Callable[[], Application],
    ) -> None:
        self._ledger, self._writer, self._exchange, self._asker = ledger, writer, exchange, asker
        self._family, self._peers, self._application = family, peers, application
        self._making: set[str] = set()

    # Making one

    async def create(self, request: Request, concern: Concern, where: Spanned, shares: Mapping[str, str]) -> Reply:
        """Makes a whole: the reply is the whole. Raises BadRequest, CantDivide, AlreadyThere, HolderUnreachable, and as
        Writer.write does.
        """
        async with self._writer.kept(request) as body:
            written = await self._draft(request, concern, body, where, shares)
            await self._check_free(request, concern, written, where)
            self._making.add(written.rid)
            begun = await self._writer.begin(written, request)
            try:
                book = await self._settled(begun, max(wish_of(request).wait, WAIT_SECONDS))
                if begun.op.dot in book.log.superseded:
                    return await self._made_by_another(begun, book)
                outcomes = outcomes_of(book, begun.op)
                if all(outcome.state is State.DONE for outcome in outcomes.values()):
                    return await self.whole(begun, book)
                return await self._undone(begun, book, request)
            finally:
                self._making.discard(written.rid)
                self._exchange.answered(begun.op.rid, begun.op.dot)

    async def _made_by_another(self, begun: Begun, book: Book) -> Reply:
        """Somebody has made it at the same moment. Raises AlreadyThere if that isn't what was asked for here."""
        winner = next((op for op in book.log.effective if op.birth), None)
        if winner is None or not same_request(winner, begun.op):
            raise AlreadyThere(
                "somebody else has made, or unmade, it at the same moment", hint=f"cheops resource show {book.rid}"
            )
        other = Begun(book=book, op=winner, own=None)
        after = await self._settled(other, WAIT_SECONDS)
        if not all(outcome.state is State.DONE for outcome in outcomes_of(after, winner).values()):
            raise AlreadyThere("somebody else is making it", hint=f"cheops resource show {book.rid}")
        return await self.whole(other, after)

    async def look_after(self, book: Book) -> None:
        """Undoes what one site has refused to make, should the agent have died that was to do so."""
        if len(book.log.order) != 1 or book.rid in self._making:
            return
        (creation,) = book.log.order
        refused = any(outcome.state is State.REFUSED for outcome in outcomes_of(book, creation).values())
        if creation.prime and creation.author == self._ledger.author and refused:
            await self._ledger.append(book.rid, lambda _, draft: self._deletion(book, creation, draft))

    async def preview(
        self, request: Request, concern: Concern, where: Spanned, shares: Mapping[str, str]
    ) -> list[Sent]:
        """What each site would be asked to make. Nothing is kept but for a moment. Raises BadRequest, CantDivide."""
        async with self._writer.kept(request) as body:
            _refuse_long(body)
            asked = await self._writer.preview(request, concern, where.sites, shares, body)
            return self._parts(asked, concern, parts_at_birth(where))

    async def preview_change(
        self, request: Request, concern: Concern, book: Book, shares: Mapping[str, str]
    ) -> list[Sent]:
        """What each site would be asked to do with its part. Raises CantDivide."""
        async with self._writer.kept(request) as body:
            asked = await self._writer.preview(request, concern, book.holders, shares, body)
            return self._parts(asked, concern, parts_of(book))

    def _parts(self, asked: Sequence[Sent], concern: Concern, parts: Parts) -> list[Sent]:
        rules = concern.rules if span_of(concern.rules).divides(concern.facet) else None
        return [sent._replace(body=self._part(sent.body, rules, parts, sent.site)) for sent in asked]

    async def _draft(
        self, request: Request, concern: Concern, body: Body | None, where: Spanned, shares: Mapping[str, str]
    ) -> Written:
        """The request as it goes into the log, once it is sure that it can be divided, and that all sites are up."""
        _refuse_long(body)
        for site in where.sites:
            self._part(body.inline if body else None, concern.rules, parts_at_birth(where), site)
        await self._check_up(where.sites)
        lacks = await self._writer.lacking(_sharing(request), concern, body, where.sites)
        return await self._writer.drafter.written(request, concern, body, where.sites, {**shares, **lacks}, where.prime)

    def _part(self, body: bytes | None, rules: Resource | None, parts: Parts, site: str) -> bytes | None:
        return divided(body, rules, parts, site) if body is not None and rules else body

    async def _check_up(self, sites: Sequence[str]) -> None:
        """A site of which nothing is known yet is given a moment."""
        loop = asyncio.get_running_loop()
        end = loop.time() + HEARD_SECONDS
        while any(self._state(site) is PeerState.SUSPECT for site in sites) and loop.time() < end:
            await asyncio.sleep(0.1)
        away = [site for site in sites if not self._is_up(site)]
        if away:
            raise HolderUnreachable(
                f"{' and '.join(away)} can't be reached, and what spans sites is made on all of them or on none; "
                "nothing was sent anywhere",
                hint="Send it again once all are up (`cheops sites`), or name others: it can be extended later.",
                sites=away,
            )

    def _is_up(self, site: str) -> bool:
        return self._state(site) is PeerState.UP

    def _state(self, site: str) -> PeerState:
        view = self._peers.peers().get(site)
        return PeerState.UP if site == self._ledger.here else view.state if view else PeerState.DOWN

    # What must not be there

    async def _check_free(self, request: Request, concern: Concern, written: Written, where: Spanned) -> None:
        """Asks all sites whether it is there, or what overlaps it. Raises AlreadyThere, HolderUnreachable."""
        book = await self._ledger.book(written.rid)
        if book and not book.log.gone:
            raise AlreadyThere(f"it is there already, as {book.rid}", hint=f"cheops resource show {book.rid}")
        body = written.recorded.body.inline if written.recorded.body else None
        rules = concern.rules
        if body is None or rules is None:
            return
        found = await asyncio.gather(*(self._in_the_way(site, request, concern, written, body) for site in where.sites))
        if clashes := [sentence for sentence in found if sentence]:
            raise AlreadyThere(
                f"{'; '.join(clashes)}; nothing was made anywhere", hint="Choose another name or range.", sites=clashes
            )

    async def _in_the_way(
        self, site: str, request: Request, concern: Concern, written: Written, body: bytes
    ) -> str | None:
        rules, birth = concern.rules, written.birth
        assert rules
        if birth and birth.chosen and await self._has(site, request, f"{birth.collection}/{encoded(birth.chosen)}"):
            return f"{site} has {birth.chosen} already"
        key = key_in(body, rules) if rules.unique_name and not (birth and birth.chosen) else {}
        wanted = range_of(body, rules)
        if not key and wanted is None:
            return None
        target = await self._asker.at_site(concern.collection, site)
        items = await self._asker.items(site, as_read(request), target or concern.collection, rules)
        if items is None:
            return None  # what it can't say now, it says when it is asked to make it
        if any(has_key(item, key) for item in items):
            return f"{site} has one called {next(iter(key.values()))} already"
        return await self._overlap(site, request, items, rules, wanted) if wanted is not None else None

    async def _has(self, site: str, request: Request, item: str) -> bool:
        target = await self._asker.at_site(item, site)
        return (await self._asker.ask(site, as_read(request), target or item)).well

    async def _overlap(
        self, site: str, request: Request, items: Sequence[object], rules: Resource, wanted: object
    ) -> str | None:
        """Only what spans sites too counts: other ranges of a site are its own business, and its service's."""
        bare = rules.model_copy(update={"one": None})
        for item in items:
            body = json.dumps(item).encode()
            other = range_of(body, bare)
            if other is None or not overlapping(wanted, other):  # type: ignore[arg-type]
                continue
            local = made(200, (), body, bare).local_id
            held = await self._asker.held_at(site, request, [local])
            if any(each.prime for each in held.values()):
                return f"{site} has {other} already, which overlaps {wanted} and spans sites too ({local})"
        return None

    # What came of it

    async def _settled(self, begun: Begun, seconds: float) -> Book:
        """The book once all sites have answered, or one of them has refused, or time is up."""

        def settled(book: Book) -> bool:
            outcomes = [book.outcome(begun.op.dot, site) for site in book.holders]
            refused = any(outcome and _refuses(outcome) for outcome in outcomes)
            return refused or all(has_answered(outcome) for outcome in outcomes)

        book = await self._ledger.until(begun.op.rid, settled, seconds)
        assert book, "it was only just written"
        if begun.own and not begun.own.done():
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await asyncio.wait((begun.own,))
        return book

    async def whole(self, begun: Begun, book: Book) -> Reply:
        """The reply of a write: of what the sites have said, the whole."""
        outcomes = outcomes_of(book, begun.op)
        rules = self._rules(book.summary)
        done = {site: outcome for site, outcome in outcomes.items() if outcome.state is State.DONE}
        first = done.get(book.log.prime) or next(iter(done.values()))
        reply = done_reply(begun.own) or told_reply(first)
        said = {
            site: await self._asker.body_here(outcome.body, site, book.summary.service)
            for site, outcome in done.items()
            if outcome.body
        }
        if not said:
            return with_whole(reply, None, book.rid, outcomes_words(outcomes))
        content = whole_of(said, rules, book.log.prime, self._ledger.here)
        return with_whole(reply, content, book.rid, outcomes_words(outcomes))

    async def _undone(self, begun: Begun, book: Book, request: Request) -> Reply:
        """Nobody is to have a part of it: what was made is deleted again. Raises HolderUnreachable."""
        outcomes = outcomes_of(book, begun.op)
        undoing = await self._writer.append(
            begun.op.rid,
            lambda _, draft: self._deletion(book, begun.op, draft),
            request,
            book.holders,
        )
        try:
            after = await self._settled(undoing, WAIT_SECONDS)
        finally:
            self._exchange.answered(undoing.op.rid, undoing.op.dot)
        words = {site: _undone_word(o, after.outcome(undoing.op.dot, site)) for site, o in outcomes.items()}
        refusals = [outcome for outcome in outcomes.values() if _refuses(outcome)]
        if refusals:
            own = next((one for one in refusals if one.site == self._ledger.here), None)
            reply = (own and own_reply(begun.own)) or told_reply(refusals[0])
            return with_whole(reply, None, book.rid, words)
        left = [site for site, word in words.items() if word == "not-undone"]
        silent = [site for site, outcome in outcomes.items() if outcome.state is not State.DONE]
        raise HolderUnreachable(
            f"{' and '.join(silent)} didn't make its part, so nobody is to have one"
            + (f"; what {' and '.join(left)} may have made is deleted once it answers" if left else ""),
            hint="Send it again once all sites are up: `cheops sites`.",
            sites=silent,
            undone=[site for site, word in words.items() if word == "undone"],
            left=left,
        )

    def _deletion(self, book: Book, op: Operation, draft: Draft) -> Operation:
        """Its service's yes to the creation vouches for the deletion too."""
        secret = bool(op.request and op.request.secret)
        return Operation(
            rid=op.rid,
            author=draft.author,
            n=draft.n,
            stamp=draft.stamp,
            after=draft.after,
            kind=Kind.DELETE,
            request=Recorded(method="DELETE", target=item_of(book.summary, self._application()), secret=secret),
            again=op.dot,
        )

    # Changing one

    async def change(self, request: Request, concern: Concern, book: Book, shares: Mapping[str, str]) -> Reply:
        """A change of the whole, or its deletion. Raises CantDivide, ReliedOn, HolderUnreachable, as Writer.write."""
        rules = self._rules(book.summary)
        away = [site for site in book.holders if not self._is_up(site)]
        if away and span_of(rules).updates == "refuse" and not concern.facet:
            raise HolderUnreachable(
                f"{' and '.join(away)} can't be reached, and what is of this type changes on all of its sites at once",
                hint="Send it again once all are up: `cheops sites`.",
                sites=away,
            )
        if concern.kind is Kind.DELETE and not concern.facet and not request.values(b"cheops-force"):
            await self._family.check_childless(
                book, book.holders, request, holding=True, what="while it can't, the whole isn't deleted"
            )
        async with self._writer.kept(request) as body:
            if body and body.inline is not None and span_of(rules).divides(concern.facet):
                for site in book.holders:
                    self._part(body.inline, rules, parts_of(book), site)
            answered = await self._writer.write_kept(request, concern, body, book.holders, shares)
        after = await self._ledger.book(book.rid)
        if after is None or answered.reply.status >= 300 or answered.reply.status in (202, 204):
            return answered.reply
        return await self.whole(answered.begun, after)

    def _rules(self, summary: Summary) -> Resource | None:
        service = self._application().services.get(summary.service)
        return service.resources.get(summary.type) if service else None


def _refuse_long(body: Body | None) -> None:
    if body and body.inline is None:
        raise BadRequest(
            f"the body has {body.size:,} bytes, too many to be divided",
            hint="Send what spans sites in a small one.",
        )


def _sharing(request: Request) -> Request:
    """What a part needs and its site lacks is used where it is, unless the caller says otherwise."""
    if request.values(DEPENDENCIES):
        return request
    return replace(request, headers=(*request.headers, (DEPENDENCIES, b"share")))


def outcomes_words(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    return {
        site: str(outcome.status) if outcome.status and outcome.state is not State.PENDING else outcome.state.value
        for site, outcome in outcomes.items()
    }


def _refuses(outcome: Outcome) -> bool:
    return outcome.state is State.REFUSED or outcome.code == "unauthorized"


def _undone_word(made_: Outcome, deleted: Outcome | None) -> str:
    if _refuses(made_):
        return str(made_.status)
    through = deleted is not None and deleted.state in (State.DONE, State.SKIPPED)
    return "undone" if through else "not-undone"


def with_whole(reply: Reply, content: bytes | None, rid: str, words: Mapping[str, str]) -> Reply:
    """The reply with this body, if there is one, and what came of it where."""
    dropped = {RESOURCE, OUTCOME, b"cheops-executed"}
    if content is not None:
        dropped |= {b"content-length", b"content-encoding", b"etag", b"last-modified"}
    headers: Headers = tuple(pair for pair in reply.headers if pair[0] not in dropped)
    told = ", ".join(f"{site}={word}" for site, word in words.items())
    headers = (*headers, (RESOURCE, rid.encode()), (OUTCOME, told.encode()))
    if content is None:
        return replace(reply, headers=headers)
    return replace(reply, headers=(*headers, (b"content-length", str(len(content)).encode())), body=_once(content))


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content
