"""Carries out one operation at this site's own service, and says what came of it.

It is executed with the caller's credentials while those are in memory; later with the site's own, and then only if some
site has accepted it with the caller's: nobody gets more done by a broken link than he may. Not promised: that a service
executes it once if it has done so and its answer is lost; whoever calls this has written its intent down, and probes.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

from cheops.applications.concern import item_of
from cheops.applications.divide import divided
from cheops.applications.replies import (
    failed_inside,
    from_caller,
    made,
    with_missing,
)
from cheops.applications.translate import along, in_rids, values_in
from cheops.errors import CantDivide, CredentialsFailed, SiteUnreachable, StoreFailed
from cheops.model import Headers, Reply, Request
from cheops.ports import Blobs, Credentials, Transport
from cheops.reconcile.book import Book, parts_of
from cheops.reconcile.children import span_of
from cheops.reconcile.following import Follower
from cheops.reconcile.judging import Answer, Verdict, judge
from cheops.reconcile.ledger import Ledger
from cheops.reconcile.outcomes import AGAIN, UNHEARD, WAITS_FOR_TURN, Applied, Notes
from cheops.reconcile.probing import Prober
from cheops.reconcile.service import Service, Settings, Waits, kept, once
from cheops.reconcile.steps import Step
from cheops.record.operation import FINAL, Body, Kind, Operation, Outcome, Recorded, State

EXCERPT = 64 << 10  # bytes of a reply that are kept with its outcome
_EXECUTED = b"cheops-executed"


class Applier:
    """Executes operations on the site `here`."""

    def __init__(
        self, ledger: Ledger, transport: Transport, blobs: Blobs, credentials: Credentials, settings: Settings
    ) -> None:
        self._ledger, self._transport, self._credentials = ledger, transport, credentials
        self._service = Service(ledger, transport, blobs, credentials, settings)
        self._notes = Notes(ledger)
        self._follower = Follower(ledger, self._service, credentials, self._notes)
        self.look_after, self.taken_once = self._follower.look_after, self._follower.taken_once
        self.probe = Prober(ledger, self._service, self._notes, self._own).probe
        self.content = self._service.content

    @property
    def settings(self) -> Settings:
        """May change between two operations."""
        return self._service.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._service.settings = settings

    @property
    def _here(self) -> str:
        return self._ledger.here

    async def apply(self, book: Book, step: Step, before: Outcome, callers: Headers | None) -> Applied:
        """Executes a step; `before` is its outcome so far, `callers` are the caller's credentials, if known."""
        op = step.operation
        if op.kind is Kind.PLACE and not step.leaves:
            return Applied(outcome=self._notes.ended(book, before, State.DONE))
        if op.request is None and not step.leaves:  # it was pruned before this site was told: what follows says it anew
            return Applied(outcome=self._notes.ended(book, before, State.DONE, code="overridden", why=""))
        if op.in_turn and not step.again and (why := self._turn(book, op)):
            return Applied(outcome=self._notes.later(before, WAITS_FOR_TURN, why))
        recorded = self._recorded(book, step)
        if before.version and op.site != self._here and not self._vouched(book, op):
            callers = None  # its author has heard that it wasn't executed, and may have given it up meanwhile
        try:
            if before.code == UNHEARD and not recorded.secret:
                headers: Headers = ()  # it may have been executed here: doing it again makes that certain
            else:
                headers = callers if callers is not None else await self._own(book, op, recorded)
            if callers is None:
                recorded = await self._for_caller(book, op, recorded)
            if step.leaves and book.log.prime:
                await self._check_left(book)
            request = await self._request(book, op, recorded, headers or ())
        except CantDivide as error:
            refused = self._notes.ended(book, before, State.REFUSED, code=error.code, why=error.detail)
            return Applied(outcome=refused)
        except Waits as waits:
            if op.kind is Kind.DELETE and not book.local_id(self._here):  # it was never made here, and never will be
                return Applied(outcome=self._notes.ended(book, before, State.DONE, code="", why=""))
            return Applied(outcome=self._notes.later(before, waits.code, waits.why))
        return await self._send(book, step, before, request, callers=callers is not None)

    async def _check_left(self, book: Book) -> None:
        """What belongs to a whole leaves before it does, as it is deleted before it. Raises _Waits."""
        for child in await self._ledger.store.referring(book.rid):
            own = await self._ledger.book(child.rid) if child.prime else None
            if own and not own.log.gone and self._here in own.concerned():
                raise Waits("waits-for-children", f"{child.type} {child.rid} belongs to it, and is still here")

    def _turn(self, book: Book, op: Operation) -> str:
        """What has to happen before it is this site's turn; "" if it is."""
        for site in book.holders[: book.holders.index(self._here)] if self._here in book.holders else ():
            outcome = book.outcome(op.dot, site)
            if outcome and outcome.state is State.REFUSED:
                return f"{site} has refused it ({outcome.status}): retry or drop it there, then it goes on"
            if outcome is None or outcome.state not in FINAL:
                return f"{site} is to do it first"
        return ""

    def _recorded(self, book: Book, step: Step) -> Recorded:
        """The request of a step; what stands in the description makes another one of a creation that comes second."""
        op = step.operation
        item = item_of(book.summary, self._service.settings.application)
        if step.leaves:
            secret = any(other.request.secret for other in book.log.operations.values() if other.request)
            return Recorded(method="DELETE", target=item, secret=secret)
        assert op.request, "whatever is executed has a request"
        if step.as_replacement:
            return replace(op.request, method="PUT", target=item)
        return op.request

    async def _own(self, book: Book, op: Operation, recorded: Recorded) -> Headers:
        """The site's own credentials. Raises Waits if they are needed and can't be had, or mustn't be used."""
        if op.kind is not Kind.PLACE and not self._vouched(book, op) and (recorded.secret or op.site != self._here):
            raise Waits("waits-for-acceptance", "no site has accepted it yet, and who asked for it is gone")
        if not recorded.secret:
            return ()
        try:
            headers = await self._credentials.headers(book.summary.service)
        except CredentialsFailed as error:
            raise Waits("needs-credentials", error.detail) from error
        if headers is None:
            service = book.summary.service
            raise Waits("needs-credentials", f"the caller's are gone, and site.yaml has none for '{service}'")
        return headers

    def _vouched(self, book: Book, op: Operation) -> bool:
        """Whether a service has accepted this operation, or once accepted what is now executed again here. Where it was
        requested there may have been nothing to do; that counts if nobody's credentials are asked for.
        """
        own = book.outcome(op.dot, op.site)
        needless = own is not None and own.state is State.SKIPPED and not (op.request and op.request.secret)
        return needless or bool(self._done(book, op))

    def _done(self, book: Book, op: Operation) -> list[Outcome]:
        outcomes = [o for dot in (op.dot, op.again) if dot for o in book.outcomes.get(dot, {}).values()]
        return [outcome for outcome in outcomes if outcome.state is State.DONE]

    async def _for_caller(self, book: Book, op: Operation, recorded: Recorded) -> Recorded:
        """A creation as the site itself has to ask for it: with what the service would have taken from its caller."""
        rules, body = self._service.rules(book), recorded.body
        told = next((outcome for outcome in self._done(book, op) if outcome.body), None)
        if not (rules and rules.from_caller and told and body and body.inline) or op.facet or op.birth is None:
            return recorded
        said, kind = from_caller(told.body, rules), (("content-type", "application/json"),)
        named = await self._ledger.store.find(values_in(recorded.target, "application/json", said))
        service, application = book.summary.service, self._service.settings.application
        cast = in_rids(recorded.target, kind, said, named, told.site, service, application)
        inline = with_missing(body.inline, cast.body or said, rules)
        return replace(recorded, body=Body(inline=inline, size=len(inline)))

    async def _request(self, book: Book, op: Operation, recorded: Recorded, credentials: Headers) -> Request:
        body = recorded.body
        inline = body.inline if body else None
        recast = await self._service.localise(recorded, inline, self._shares(book, op))
        if book.log.prime and recast.body is not None:
            recast = replace(recast, body=self._part(book, op, recast.body))
        headers = tuple((name.encode("latin1"), value.encode("latin1")) for name, value in recast.headers)
        names = {name for name, _ in credentials}
        if b"host" not in names:
            credentials = (*credentials, (b"host", self._service.settings.host(book.summary.service).encode()))
        headers = (*(pair for pair in headers if pair[0] not in names), *credentials)
        content: AsyncGenerator[bytes, None] | None = None
        if body is not None:
            size = len(recast.body) if recast.body is not None else body.size
            headers = (*headers, (b"content-length", str(size).encode()))
            content = once(recast.body) if recast.body is not None else self._service.blob(body)
        service = book.summary.service or (op.birth.service if op.birth else "")
        request = Request(
            service=service,
            method=recorded.method,
            target=self._address(book, op, recast.target).encode("latin1"),
            headers=headers,
            body=content,
        )
        shares = self._shares(book, op)
        return self._service.settings.carry(request, shares) if shares else request

    def _part(self, book: Book, op: Operation, body: bytes) -> bytes:
        """What is this site's part of what the whole is to be. Raises CantDivide."""
        rules = self._service.rules(book)
        if rules is None or not span_of(rules).divides(op.facet):
            return body
        return divided(body, rules, parts_of(book), self._here)

    def _shares(self, book: Book, op: Operation) -> dict[str, str]:
        """Where this site calls other services meanwhile: some sites may use another's, since they lack something; of
        one that joined later, the placement says so.
        """
        said = {**(book.log.placed.shares if book.log.placed else {}), **op.shares}
        all_sites = {service: place for service, place in said.items() if "/" not in service}
        own = {key.partition("/")[2]: place for key, place in said.items() if key.startswith(f"{self._here}/")}
        return {**all_sites, **own}

    def _address(self, book: Book, op: Operation, target: str) -> str:
        """Where a request goes; a resource that moves is at the last Location that the service here gave."""
        rules = self._service.rules(book)
        if not (rules and rules.moves) or op.kind is Kind.CREATE:
            return target
        given = [outcome for outcome in book.own(self._here).values() if outcome.location and outcome.run]
        last = max(given, key=lambda outcome: outcome.run, default=None)
        return along(target, last.location) if last else target

    async def _send(self, book: Book, step: Step, before: Outcome, request: Request, *, callers: bool) -> Applied:
        op = step.operation
        try:
            async with asyncio.timeout(self._patience(op)):
                reply = await self._transport.send(request, site=self._here)
        except TimeoutError:
            answer = Answer(status=504, executed="unknown")
            return Applied(
                outcome=self._judged(book, step, before, answer, f"no answer in {self._service.settings.seconds:g} s")
            )
        except StoreFailed as error:  # in the middle of the body
            return Applied(outcome=self._notes.later(before, error.code, error.detail))
        except SiteUnreachable as error:
            answer = Answer(status=503, executed=error.members.get("executed", "unknown"))
            return Applied(outcome=self._judged(book, step, before, answer, error.detail))
        try:
            whole, content = await kept(reply)
        except SiteUnreachable as error:
            answer = Answer(status=reply.status, executed="unknown")
            return Applied(outcome=self._judged(book, step, before, answer, error.detail))
        return await self._read(book, step, before, whole, content, callers=callers, request=request)

    def _patience(self, op: Operation) -> float | None:
        """A large body takes what time it takes; the service that has all of it may take no longer than others."""
        body = op.request.body if op.request else None
        return self._service.settings.seconds + (body.size / (1 << 20) if body else 0)

    async def _read(
        self, book: Book, step: Step, before: Outcome, reply: Reply, content: bytes, *, callers: bool, request: Request
    ) -> Applied:
        op, rules = step.operation, self._service.rules(book)
        executed = dict(reply.headers).get(_EXECUTED, b"").decode()
        inside = failed_inside(reply.status, content, rules)
        answer = Answer(status=reply.status, executed=executed, inside=inside)
        why = inside or (f"the service answered {reply.status}" if reply.status >= 300 else "")
        outcome = self._judged(book, step, before, answer, why)
        outcome = replace(
            outcome,
            status=reply.status,
            body=content[:EXCERPT],
            media_type=_header(reply, b"content-type"),
            location=_header(reply, b"location"),
        )
        if reply.status == 409 and (before.attempts or before.code == AGAIN):
            outcome = await self._follower.taken(book, op, before, outcome, request)
        if outcome.code == "unauthorized" and not callers:
            self._credentials.refused(book.summary.service)
        if outcome.state is State.DONE and not step.leaves:
            found = made(reply.status, reply.headers, content, rules, _collection(op, request))
            if found.local_id and (op.kind in (Kind.CREATE, Kind.REPLACE) or (rules and rules.moves)):
                outcome = replace(outcome, local_id=found.local_id if not op.facet or (rules and rules.moves) else "")
            if op.kind is Kind.CREATE:
                outcome = self._follower.follows(outcome, reply, content, rules, request.target.decode("latin1"))
        return Applied(outcome=outcome, reply=reply)

    # Outcomes

    def _judged(self, book: Book, step: Step, before: Outcome, answer: Answer, why: str) -> Outcome:
        verdict = judge(step.operation, answer)
        match verdict:
            case Verdict.DONE:
                return self._notes.ended(book, before, State.DONE, status=answer.status, code="", why="")
            case Verdict.REFUSED:
                return self._notes.ended(
                    book,
                    before,
                    State.REFUSED,
                    status=answer.status,
                    code="refused",
                    why=why,
                )
            case Verdict.CREDENTIALS:
                return self._notes.now(before, state=State.PENDING, status=answer.status, code="unauthorized", why=why)
            case Verdict.UNCLEAR:
                return self._notes.now(before, state=State.BEGUN, code="unclear", why=why)
            case _:
                return self._notes.later(before, UNHEARD if answer.executed == "unknown" else "unable", why)


def _collection(op: Operation, request: Request) -> str:
    """Where what was made is: a POST goes to its collection, a PUT to the item."""
    path = request.target.decode("latin1").partition("?")[0]
    return path if op.kind is Kind.CREATE and request.method == "POST" else path.rpartition("/")[0]


def _header(reply: Reply, name: bytes) -> str:
    return next((value.decode("latin1") for key, value in reply.headers if key == name), "")
