"""A write of a replicated resource, from the request to the reply. It is done at a holder, which writes it down, does
its own part while the others do theirs, and tells the caller what came of it where.

If nobody has accepted it, nobody will later: who asked was told that it failed.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from cheops.applications import Application
from cheops.applications.concern import Concern
from cheops.applications.credentials import recordable, refuse_secrets, secret_headers
from cheops.applications.fields import touched
from cheops.applications.replies import chosen_in, identity_in, key_in, with_id, without_revisions
from cheops.applications.rids import new_rid, rid_of
from cheops.applications.translate import at_site, in_rids, rids_in, values_in
from cheops.errors import BadRequest, Busy, CantAdopt, HolderUnreachable, NotThere, ReliedOn, StoreFailed
from cheops.execute import OUTCOME
from cheops.model import Headers, PeerState, Reply, Request
from cheops.plan import Sent
from cheops.ports import Blobs, Peers, Transport
from cheops.reconcile.adopting import Adopter
from cheops.reconcile.applying import UNHEARD, Applied, version_after
from cheops.reconcile.book import Book
from cheops.reconcile.dependencies import Dependencies, Lack
from cheops.reconcile.engine import Engine
from cheops.reconcile.exchange import Exchange
from cheops.reconcile.ledger import Draft, Ledger, Make
from cheops.record.operation import WITHDRAWN, Birth, Body, Kind, Operation, Outcome, Recorded, State

RESOURCE = b"cheops-resource"
EXECUTED = b"cheops-executed"  # what it says of one holder isn't said of all
PREFER = b"prefer"
FORCE = b"cheops-force"
WAIT_SECONDS = 10.0
FILL_SECONDS = 60.0  # that something takes which is replicated first
AFTERWARDS_SECONDS = 1.0  # for the others, once a service here that took longer has answered
LONGEST_WAIT = 3600.0
WITHDRAW_SECONDS = 5.0
_CONDITIONS = frozenset({b"if-match", b"if-none-match", b"if-unmodified-since", b"if-modified-since"})
_STILL_AT_IT = frozenset({"waits-for-body"})
_MAY_STILL = _STILL_AT_IT | {UNHEARD}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What the caller prefers (RFC 7240): how long to wait, in seconds, or not at all. `said`: he has said so; else
    the service here is waited for as long as it takes, if no other site has done it.
    """

    wait: float = WAIT_SECONDS
    said: bool = False
    asynchronous: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A request as it goes into the log: what it makes (or the resource it is for), and its parts."""

    rid: str
    kind: Kind
    concern: Concern
    recorded: Recorded
    birth: Birth | None
    touches: frozenset[str] | None
    refers: tuple[str, ...]
    shares: Mapping[str, str]
    placement: tuple[str, ...]
    prime: str = ""


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
        self._peers, self._application, self._digits = peers, application, digits
        self._adopter = Adopter(ledger, engine, exchange, blobs, transport, application, digits)
        self._dependencies = Dependencies(ledger, transport, application, self._replicate)

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
        written = await self.written(request, concern, body, tuple(placement), shares)
        await self._check(written, request)
        conditions = any(name in _CONDITIONS for name, _ in request.headers)
        begun = await self.begin(written, request, tell=not conditions)
        if wish.asynchronous:
            self._exchange.answered(begun.op.rid, begun.op.dot)
            return Answered(reply=_accepted(written.rid), begun=begun)
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
            return self._operation(written, book, draft)

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
        lacks = await self._dependencies.lacks(request, body.inline, concern.rules, placement, secrets)
        return await self._dependencies.settle(lacks, request)

    async def _replicate(self, lack: Lack, request: Request) -> None:
        """Makes what sites lack there. Raises CantAdopt, HolderUnreachable."""
        if lack.summary:
            rid = lack.summary.rid
            sites = (*lack.there, *lack.missing)
            await self._ledger.append(rid, partial(_placed, rid, sites))
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
        written = await self.written(request, concern, body, tuple(placement), shares)
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

    # What is written

    async def written(
        self,
        request: Request,
        concern: Concern,
        body: Body | None,
        placement: tuple[str, ...],
        shares: Mapping[str, str],
        prime: str = "",
    ) -> Written:
        """The request as it goes into the log: of a resource that spans its sites if it has a `prime`."""
        application, rules = self._application(), concern.rules
        media_type = _header(request, b"content-type")
        inline = body.inline if body else None
        chosen = concern.id
        if inline is not None:
            inline = without_revisions(inline, rules)
            if concern.kind is Kind.CREATE and rules and rules.client_id == "accepted":
                chosen = chosen_in(inline, rules) or self._uuid()
                inline = with_id(inline, rules, chosen)
        target = request.target.decode("latin1")
        refuse_secrets(target)
        headers = recordable(request.headers, request.service, application)
        named = await self._ledger.find(values_in(target, media_type, inline, headers))
        cast = in_rids(target, headers, inline, named, self._here, request.service, application)
        if cast.unknown:
            raise BadRequest(
                f"the request names {', '.join(cast.unknown)}, and {self._here} knows no resource of this name",
                hint="Name a resource that is held here, or send the request to a site that holds it.",
            )
        recorded = Recorded(
            method=request.method,
            target=cast.target,
            headers=cast.headers,
            body=_body(body, cast.body),
            secret=bool(secret_headers(request.headers, request.service, application)),
        )
        assert concern.kind, "only writes are written"
        identity, name = chosen, ""
        if inline is not None and concern.kind is Kind.CREATE:
            identity = chosen or identity_in(inline, rules)
            name = next(iter(key_in(inline, rules).values()), "")
        rid, birth = self._birth(request.service, concern, chosen, identity, name)
        return Written(
            rid=rid,
            kind=concern.kind,
            concern=concern,
            recorded=recorded,
            birth=birth,
            touches=touched(inline, rules) if concern.kind is Kind.MERGE and inline is not None else None,
            refers=tuple(other for other in cast.refers if other != rid),
            shares=shares,
            placement=placement,
            prime=prime,
        )

    def _birth(self, service: str, concern: Concern, chosen: str, identity: str, name: str) -> tuple[str, Birth | None]:
        if concern.summary and concern.kind is not Kind.CREATE:
            known = concern.summary
            birth = Birth(
                service=known.service,
                type=known.type,
                collection=known.collection,
                chosen=known.chosen,
                name=known.name,
                parent=known.parent,
            )
            return known.rid, birth if concern.kind is Kind.REPLACE and known.chosen and not concern.facet else None
        rid = rid_of(service, concern.type, concern.collection, identity) if identity else new_rid(self._digits)
        birth = Birth(
            service=service,
            type=concern.type,
            collection=concern.collection,
            chosen=chosen,
            name=name or chosen,
            parent=concern.parent.rid if concern.parent else "",
        )
        return rid, birth

    def _operation(self, written: Written, book: Book | None, draft: Draft) -> Operation:
        there = book is not None and book.log.birth is not None and not book.log.gone
        births = written.kind is Kind.CREATE or (written.kind is Kind.REPLACE and not there)
        if not there and (not births or written.birth is None):
            raise NotThere(
                "the resource isn't there any more", hint="It was deleted; `cheops resources` lists what is."
            )
        concern = written.concern
        return Operation(
            rid=written.rid,
            author=draft.author,
            n=draft.n,
            stamp=draft.stamp,
            after=draft.after,
            kind=written.kind,
            facet=concern.facet,
            touches=written.touches,
            repeats=concern.repeats,
            commutes=concern.commutes,
            alone=concern.alone,
            request=written.recorded,
            birth=written.birth if births else None,
            placement=written.placement if births else (),
            prime=written.prime if births else "",
            refers=written.refers,
            shares=written.shares,
        )

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

    def _uuid(self) -> str:
        digits = self._digits(32)
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"

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
            return all(
                has_answered(book.outcome(op.dot, site)) or self._is_down(site)
                for site in book.holders
                if site != self._here
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
            told = min(done, key=lambda outcome: (not outcome.body, outcome.site != self._here))
            return with_outcomes(done_reply(own) or told_reply(told), op.rid, outcomes)
        if self._engine.is_sent(op.rid, op.dot) or any(_may_still(outcome) for outcome in outcomes.values()):
            return with_outcomes(_accepted(op.rid), op.rid, outcomes)
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
                    return with_outcomes(_accepted(op.rid), op.rid, outcomes)  # who wasn't heard may have executed it
                return self._come_of(book, op, own) or await self._failed(book, op, own)
        except (Busy, StoreFailed):
            return with_outcomes(_accepted(op.rid), op.rid, {})

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
        return with_outcomes(reply, op.rid, outcomes)


def outcomes_of(book: Book, op: Operation) -> dict[str, Outcome]:
    """What has come of it, by holder."""
    return {site: outcome for site in book.holders if (outcome := book.outcome(op.dot, site))}


def _placed(rid: str, sites: tuple[str, ...], book: Book | None, draft: Draft) -> Operation:
    return Operation(
        rid=rid,
        author=draft.author,
        n=draft.n,
        stamp=draft.stamp,
        after=draft.after,
        kind=Kind.PLACE,
        placement=tuple(dict.fromkeys(sites)),
    )


def wish_of(request: Request) -> Wish:
    """What the Prefer headers say. Raises BadRequest for a wait that isn't a number of seconds."""
    said = b",".join(request.values(PREFER)).decode("latin1").lower()
    wait = re.search(r'(?:^|[,;\s])wait\s*=\s*"?([^",;\s]*)', said)
    if wait and not re.fullmatch(r"\d{1,6}", wait[1]):
        raise BadRequest(f"Prefer: wait={wait[1]} isn't a number of seconds", hint="Write Prefer: wait=30.")
    seconds = min(float(wait[1]), LONGEST_WAIT) if wait else WAIT_SECONDS
    asynchronous = re.search(r"(?:^|[,;\s])respond-async(?:$|[,;\s])", said)
    return Wish(wait=seconds, said=bool(wait), asynchronous=bool(asynchronous))


def has_answered(outcome: Outcome | None) -> bool:
    if outcome is None or outcome.version == 0:
        return False
    return outcome.state is not State.PENDING or outcome.code not in _STILL_AT_IT


def _may_still(outcome: Outcome) -> bool:
    """Whether it may have been executed, or may be by somebody who has it now."""
    if outcome.state in (State.BEGUN, State.ASKS):
        return outcome.version > 0 or outcome.code != ""
    return outcome.state is State.PENDING and outcome.code in _MAY_STILL


def own_reply(own: "asyncio.Future[Applied] | None") -> Reply | None:
    if own is None or not own.done() or own.cancelled():
        return None
    return own.result().reply


def done_reply(own: "asyncio.Future[Applied] | None") -> Reply | None:
    """The reply of the service here, if it was done with it; what it answered before it was tried again isn't."""
    reply = own_reply(own)
    return reply if own and reply and own.result().outcome.state is State.DONE else None


def told_reply(outcome: Outcome) -> Reply:
    """Another site's reply, as far as it was told."""
    headers: Headers = ((b"content-length", str(len(outcome.body)).encode()),)
    for name, value in ((b"content-type", outcome.media_type), (b"location", outcome.location)):
        headers = (*headers, (name, value.encode("latin1"))) if value else headers
    return Reply(status=outcome.status or 200, headers=headers, body=_once(outcome.body))


def _accepted(rid: str) -> Reply:
    """It is written down, and will be done."""
    document = {"resource": rid, "status": "accepted", "ask": f"cheops resource show {rid}"}
    body = json.dumps(document).encode() + b"\n"
    headers = (
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"preference-applied", b"respond-async"),
    )
    return with_outcomes(Reply(status=202, headers=headers, body=_once(body)), rid, {})


def with_outcomes(reply: Reply, rid: str, outcomes: Mapping[str, Outcome]) -> Reply:
    """The reply, and what came of it where: a list of RFC 9651."""
    added: Headers = ((RESOURCE, rid.encode()),)
    if outcomes:
        words = ", ".join(f"{site}={_word(outcome)}" for site, outcome in outcomes.items())
        added = (*added, (OUTCOME, words.encode()))
    kept = tuple(pair for pair in reply.headers if pair[0] not in (RESOURCE, OUTCOME, EXECUTED))
    return replace(reply, headers=(*kept, *added))


def _word(outcome: Outcome) -> str:
    match outcome.state:
        case State.DONE | State.REFUSED:
            return str(outcome.status) if outcome.status else str(outcome.state.value)
        case State.PENDING if outcome.code == "needs-credentials":
            return str(outcome.code)
        case State.PENDING if outcome.code == "unauthorized":
            return str(outcome.status)
        case State.PENDING | State.BEGUN:
            return "pending"
        case _:
            return str(outcome.state.value)


def _header(request: Request, name: bytes) -> str:
    return next((value.decode("latin1") for value in request.values(name)), "")


def _body(body: Body | None, inline: bytes | None) -> Body | None:
    if body is None or body.inline is None or inline is None:
        return body
    return Body(inline=inline, size=len(inline))


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
