"""A write of a replicated resource, from the request to the reply. It is done at a holder, which writes it down, does
its own part while the others do theirs, and tells the caller what came of it where.

If nobody has accepted it, nobody will later: who asked was told that it failed.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from cheops.applications import Application
from cheops.applications.concern import Concern
from cheops.applications.credentials import secret_headers
from cheops.applications.translate import at_site, rids_in
from cheops.errors import Busy, CantAdopt, HolderUnreachable, ReliedOn, StoreFailed
from cheops.model import PeerState, Reply, Request
from cheops.plan import Sent
from cheops.ports import Blobs, Peers, Transport
from cheops.reconcile.adopting import Adopter
from cheops.reconcile.answering import (
    LONGEST_WAIT,
    WAIT_SECONDS,
    Wish,
    accepted,
    done_reply,
    has_answered,
    is_paused,
    may_still,
    nothing_left,
    outcomes_of,
    own_reply,
    told_reply,
    wish_of,
    with_outcomes,
)
from cheops.reconcile.book import Book
from cheops.reconcile.dependencies import Dependencies, Lack
from cheops.reconcile.drafting import Drafter, Written, placed
from cheops.reconcile.engine import Engine
from cheops.reconcile.exchange import Exchange
from cheops.reconcile.ledger import Draft, Ledger, Make
from cheops.reconcile.outcomes import Applied, version_after
from cheops.record.operation import WITHDRAWN, Body, Kind, Operation, Outcome, State

FORCE = b"cheops-force"
FILL_SECONDS = 60.0  # that something takes which is replicated first
AFTERWARDS_SECONDS = 1.0  # for the others, once a service here that took longer has answered
WITHDRAW_SECONDS = 5.0
_CONDITIONS = frozenset({b"if-match", b"if-none-match", b"if-unmodified-since", b"if-modified-since"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A write that is in the log; `own` is what comes of it here, if this site holds the resource."""

    book: Book
    op: Operation
    own: "asyncio.Future[Applied] | None"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A write, and the reply to it."""

    reply: Reply
    begun: Begun


class Writer:
    """Writes of the site's ledger. `digits` gives random hexadecimal digits."""

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        exchange: Exchange,
        blobs: Blobs,
        transport: Transport,
        peers: Peers,
        application: Callable[[], Application],
        digits: Callable[[int], str],
    ) -> None:
        self._ledger, self._engine, self._exchange, self._blobs = ledger, engine, exchange, blobs
        self._peers, self._application = peers, application
        self.drafter = Drafter(ledger, application, digits)
        self._adopter = Adopter(ledger, engine, exchange, blobs, transport, application, digits)
        self.dependencies = Dependencies(ledger, transport, application, self._replicate)

    @property
    def _here(self) -> str:
        return self._ledger.here

    async def write(
        self, request: Request, concern: Concern, placement: Sequence[str], shares: Mapping[str, str]
    ) -> Reply:
        """The reply to a write. `placement` is where a new resource is to be; one that is there stays where it is.

        Raises BadRequest, NotThere, ReliedOn, HolderUnreachable, StoreFailed.
        """
        async with self.kept(request) as body:
            return (await self.write_kept(request, concern, body, placement, shares)).reply

    async def write_kept(
        self,
        request: Request,
        concern: Concern,
        body: Body | None,
        placement: Sequence[str],
        shares: Mapping[str, str],
    ) -> Answered:
        """The same, once the body is kept."""
        wish = wish_of(request)
        shares = {**shares, **await self.lacking(request, concern, body, placement)}
        written = await self.drafter.written(request, concern, body, tuple(placement), shares)
        await self._check(written, request)
        conditions = any(name in _CONDITIONS for name, _ in request.headers)
        begun = await self.begin(written, request, tell=not conditions)
        if wish.asynchronous:
            self._exchange.answered(begun.op.rid, begun.op.dot)
            return Answered(reply=accepted(written.rid), begun=begun)
        try:
            if conditions and begun.own and not await self._here_first(begun.op, begun.own, wish):
                return Answered(reply=await self._failed(begun.book, begun.op, begun.own), begun=begun)
            return Answered(reply=await self._answer(begun.op, begun.own, wish), begun=begun)
        finally:
            self._exchange.answered(begun.op.rid, begun.op.dot)

    @asynccontextmanager
    async def kept(self, request: Request) -> AsyncIterator[Body | None]:
        """The body of a request; meanwhile nobody tidies it away."""
        body = await self._blobs.keep(request.body) if request.body else None
        sha256 = body.sha256 if body else ""
        self._ledger.keeping[sha256] += 1
        try:
            yield body
        finally:
            self._ledger.keeping[sha256] -= 1
            self._ledger.keeping += Counter()  # drops what is at 0

    async def begin(self, written: Written, request: Request, *, tell: bool = True) -> Begun:
        """Writes it into the log, and lends it the caller's credentials. Raises NotThere, StoreFailed."""

        def make(book: Book | None, draft: Draft) -> Operation:
            return self.drafter.operation(written, book, draft)

        return await self.append(written.rid, make, request, written.placement, tell=tell)

    async def append(
        self, rid: str, make: Make, request: Request, placement: Sequence[str] = (), *, tell: bool = True
    ) -> Begun:
        """Adds an operation that is executed with the credentials of who has sent the request."""
        callers = secret_headers(request.headers, request.service, self._application())
        callers = (*callers, *(pair for pair in request.headers if pair[0] == b"host"))  # links name what he asked
        conditions = tuple(pair for pair in request.headers if pair[0] in _CONDITIONS)
        applied: list[asyncio.Future[Applied]] = []

        def made(book: Book | None, draft: Draft) -> Operation:
            op = make(book, draft)
            holders = book.holders if book and book.holders and not book.log.gone else placement
            if self._here in holders:
                applied.append(self._engine.lend(op.rid, op.dot, (*callers, *conditions)))
            others = [site for site in holders if site != self._here]
            self._exchange.lend(op.rid, op.dot, callers, others, waiting=True)
            return op

        book, op = await self._ledger.append(rid, made, tell=tell)
        return Begun(book=book, op=op, own=applied[-1] if applied else None)

    async def lacking(
        self, request: Request, concern: Concern, body: Body | None, placement: Sequence[str]
    ) -> dict[str, str]:
        """What is done about what some sites lack of that which a creation refers to. Raises LacksReference."""
        if concern.kind is not Kind.CREATE or body is None:
            return {}
        secrets = secret_headers(request.headers, request.service, self._application())
        lacks = await self.dependencies.lacks(request, body.inline, concern.rules, placement, secrets)
        return await self.dependencies.settle(lacks, request)

    async def _replicate(self, lack: Lack, request: Request) -> None:
        """Makes what sites lack there. Raises CantAdopt, HolderUnreachable."""
        if lack.summary:
            rid = lack.summary.rid
            sites = (*lack.there, *lack.missing)
            await self._ledger.append(rid, lambda _, draft: placed(rid, sites, draft))
        elif self._here in lack.there:
            wanted, sites = lack.reference, (self._here, *lack.missing)
            rid = await self._adopter.adopt(wanted.service, wanted.type, wanted.value, sites, request)
        else:
            raise CantAdopt(
                f"{lack.sentence()}; only an agent that has it beside it can replicate it",
                hint=f"Send the request at the front of {lack.there[0]}.",
            )

        def there(book: Book) -> bool:
            return all(book.has(site) and book.filled(site) for site in lack.missing)

        book = await self._ledger.until(rid, there, FILL_SECONDS)
        if not (book and there(book)):
            raise HolderUnreachable(
                f"{lack.sentence()}; it is being replicated, and that takes longer than {FILL_SECONDS:g} s",
                hint=f"Send the request again once it is there: cheops wait {rid} --converged",
                sites=list(lack.missing),
            )

    async def preview(
        self,
        request: Request,
        concern: Concern,
        placement: Sequence[str],
        shares: Mapping[str, str],
        body: Body | None = None,
    ) -> list[Sent]:
        """What each site would be asked; an id that a site doesn't have yet is left as it is. Nothing is kept."""
        written = await self.drafter.written(request, concern, body, tuple(placement), shares)
        inline = written.recorded.body.inline if written.recorded.body else None
        book = await self._ledger.book(written.rid)
        sites = book.holders if book and book.holders and not book.log.gone else written.placement
        asked = []
        for site in sites:
            recorded = written.recorded
            rids = rids_in(recorded.target, recorded.headers, inline)
            ids = {rid: rid for rid in rids} | await self._ledger.local_ids(rids, site)
            cast = at_site(recorded.target, recorded.headers, inline, ids, site)
            secret = secret_headers(request.headers, request.service, self._application())
            headers = tuple((name.encode("latin1"), value.encode("latin1")) for name, value in cast.headers)
            own = replace(request, target=cast.target.encode("latin1"), headers=(*headers, *secret))
            asked.append(Sent(site, own, cast.body))
        return asked

    async def _check(self, written: Written, request: Request) -> None:
        """Raises what forbids the write, before anything is written down."""
        book = await self._ledger.book(written.rid)
        if written.kind is Kind.DELETE and not request.values(FORCE):
            relying = [s for s in await self._ledger.store.referring(written.rid) if not s.gone]
            if relying:
                listed = ", ".join(f"{s.service}/{s.type} {s.name or s.rid}" for s in relying[:10])
                raise ReliedOn(
                    f"other resources rely on it: {listed}",
                    hint="Delete them first, or send the request with the header Cheops-Force: delete.",
                    relying=[s.rid for s in relying],
                )
        concern = written.concern
        if book and written.kind is Kind.ACTION and not (concern.repeats or concern.commutes or concern.alone):
            away = [site for site in book.holders if site != self._here and not self._is_up(site)]
            if away:
                raise HolderUnreachable(
                    f"the action can't be undone or done twice, and {', '.join(away)}, which holds the resource too, "
                    "can't be reached; nothing was executed",
                    hint="Send it again once all holders are up: `cheops sites`.",
                    sites=away,
                )

    def _is_up(self, site: str) -> bool:
        view = self._peers.peers().get(site)
        return view is not None and view.state is PeerState.UP

    def _is_down(self, site: str) -> bool:
        view = self._peers.peers().get(site)
        return view is None or view.state is PeerState.DOWN

    # What the caller hears

    async def _here_first(self, op: Operation, own: "asyncio.Future[Applied]", wish: Wish) -> bool:
        """A write with a condition is for the service here to accept or refuse; then the others are told."""
        await asyncio.wait((own,), timeout=max(wish.wait, WAIT_SECONDS))
        accepted = own.done() and not own.cancelled() and own.result().outcome.state is State.DONE
        if accepted:
            await self._ledger.tell(op)
        return accepted

    async def _answer(self, op: Operation, own: "asyncio.Future[Applied] | None", wish: Wish) -> Reply:
        loop = asyncio.get_running_loop()
        end = loop.time() + wish.wait
        if own:
            await asyncio.wait((own,), timeout=wish.wait)

        def answered(book: Book) -> bool:
            return is_paused(book, op) or all(
                has_answered(book.outcome(op.dot, site)) or (site != self._here and self._is_down(site))
                for site in book.holders
                if site != self._here or op.in_turn
            )

        book = await self._ledger.until(op.rid, answered, max(end - loop.time(), 0))
        assert book, "it was only just written"
        done = any(outcome.state is State.DONE for outcome in outcomes_of(book, op).values())
        if own and not done and not wish.said and self._engine.is_sent(op.rid, op.dot):
            await asyncio.wait((own,), timeout=LONGEST_WAIT)  # the service has a limit of its own
            return await self._answer(op, own, Wish(wait=AFTERWARDS_SECONDS, said=True))
        return self._come_of(book, op, own) or await self._withdrawn(op, own)

    def _come_of(self, book: Book, op: Operation, own: "asyncio.Future[Applied] | None") -> Reply | None:
        """The reply, if somebody has accepted it or may have; else None."""
        outcomes = outcomes_of(book, op)
        done = [outcome for outcome in outcomes.values() if outcome.state is State.DONE]
        if done:
            told = min(
                done, key=lambda outcome: (not _went_well(outcome), not outcome.body, outcome.site != self._here)
            )
            mine = done_reply(own)
            best = mine if mine and (mine.status < 300 or not _went_well(told)) else told_reply(told)
            return with_outcomes(best if best.status < 300 else nothing_left(), op.rid, outcomes)
        if self._engine.is_sent(op.rid, op.dot) or any(may_still(outcome) for outcome in outcomes.values()):
            return with_outcomes(accepted(op.rid), op.rid, outcomes)
        return None

    async def _withdrawn(self, op: Operation, own: "asyncio.Future[Applied] | None") -> Reply:
        """Only what isn't being executed just now can be withdrawn; what can't be will be done."""
        try:
            async with self._engine.in_its_place(op.rid, WITHDRAW_SECONDS):
                told = self._exchange.take_back(op.rid, op.dot)
                book = await self._ledger.book(op.rid)
                assert book, "it was written"
                outcomes = outcomes_of(book, op)
                if any(outcomes[site].version == 0 for site in told & outcomes.keys()):
                    return with_outcomes(accepted(op.rid), op.rid, outcomes)  # who wasn't heard may have executed it
                return self._come_of(book, op, own) or await self._failed(book, op, own)
        except (Busy, StoreFailed):
            return with_outcomes(accepted(op.rid), op.rid, {})

    async def _failed(self, book: Book, op: Operation, own: "asyncio.Future[Applied] | None") -> Reply:
        """Nobody has accepted it: it is withdrawn, so that nobody does later, and the caller gets the failure."""
        before = book.outcome(op.dot, self._here) or Outcome(rid=op.rid, dot=op.dot, site=self._here)
        now = self._ledger.now()
        why = "nobody has accepted it, and the caller was told so"
        version = version_after(before, now)
        await self._ledger.report(
            replace(before, state=State.DROPPED, code=WITHDRAWN, why=why, version=version, at=now)
        )
        outcomes = outcomes_of(book, op)
        refusals = [o for o in outcomes.values() if o.status is not None]
        reply = own_reply(own) or (told_reply(refusals[0]) if refusals else None)
        if reply is None:
            said = ", ".join(f"{o.site}: {o.why or 'unreachable'}" for o in outcomes.values())
            raise HolderUnreachable(
                f"none of the sites that hold the resource could take it: {said}; nothing was executed",
                hint="Send it again once one of them is up: `cheops sites`.",
                sites=list(outcomes),
            )
        return with_outcomes(reply, op.rid, {site: _withdrawn(outcome) for site, outcome in outcomes.items()})


def _went_well(outcome: Outcome) -> bool:
    """A deletion is done too where there was nothing to delete."""
    return outcome.status is None or outcome.status < 300


def _withdrawn(outcome: Outcome) -> Outcome:
    """What waited for it waits no longer."""
    waited = outcome.state in (State.PENDING, State.BEGUN)
    return replace(outcome, state=State.DROPPED, code=WITHDRAWN) if waited else outcome
