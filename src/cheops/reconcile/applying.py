"""Carries out one operation at this site's own service, and says what came of it.

It is executed with the caller's credentials while those are in memory; later with the site's own, and then only if some
site has accepted it with the caller's: nobody gets more done by a broken link than he may. Not promised: that a service
executes it once if it has done so and its answer is lost; whoever calls this has written its intent down, and probes.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import IO, Any

from cheops.applications import Application, Resource
from cheops.applications.concern import item_of
from cheops.applications.credentials import secret_headers
from cheops.applications.divide import divided
from cheops.applications.lists import listed, next_page
from cheops.applications.replies import (
    Follow,
    Progress,
    failed_inside,
    follow,
    from_caller,
    has_key,
    key_in,
    made,
    with_missing,
)
from cheops.applications.translate import Translated, along, at_site, in_rids, rids_in, values_in
from cheops.errors import CantDivide, CheopsError, CredentialsFailed, NoIdThere, Refused, SiteUnreachable, StoreFailed
from cheops.model import Headers, Reply, Request
from cheops.ports import Blobs, Credentials, Transport
from cheops.reconcile.book import Book, parts_of
from cheops.reconcile.children import span_of
from cheops.reconcile.judging import Answer, Verdict, judge, repeats
from cheops.reconcile.ledger import Ledger
from cheops.reconcile.steps import Step
from cheops.record.operation import Body, Dot, Kind, Operation, Outcome, Recorded, State

IN_MEMORY = 1 << 20  # bytes of a reply; a longer one goes through a file
EXCERPT = 64 << 10  # bytes of a reply that are kept with its outcome
FOLLOW_SECONDS = 3600.0
UNDER_WAY_SECONDS = 1.0
UNHEARD = "unheard"
"""The code of what may have been executed, and is the same if it is done again."""
UNDER_WAY = "under-way"
"""The code of what a service has accepted and is still at; `why` is where that is asked."""
MOST_PAGES = 100
AGAIN = "again"
"""The code of an outcome before something is sent that was sent before, and of which nobody knows whether it came."""
_EXECUTED = b"cheops-executed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """What came of an operation here, and the service's reply, if there was one."""

    outcome: Outcome
    reply: Reply | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """`seconds`: how long a service may take until its reply begins; `host` is that of the front of a service here."""

    application: Application
    seconds: float = 60.0
    host: Callable[[str], str] = lambda service: "localhost"
    carry: Callable[[Request, Mapping[str, str]], Request] = field(default=lambda request, _: request)


class Applier:
    """Executes operations on the site `here`. `settings` may change between two of them."""

    def __init__(
        self, ledger: Ledger, transport: Transport, blobs: Blobs, credentials: Credentials, settings: Settings
    ) -> None:
        self._ledger, self._transport, self._blobs, self._credentials = ledger, transport, blobs, credentials
        self.settings = settings

    @property
    def _here(self) -> str:
        return self._ledger.here

    async def apply(self, book: Book, step: Step, before: Outcome, callers: Headers | None) -> Applied:
        """Executes a step; `before` is its outcome so far, `callers` are the caller's credentials, if known."""
        op = step.operation
        if op.kind is Kind.PLACE and not step.leaves:
            return Applied(outcome=self._now(before, state=State.DONE, run=self._run(book)))
        if op.request is None and not step.leaves:  # it was pruned before this site was told: what follows says it anew
            return Applied(outcome=self._now(before, state=State.DONE, run=self._run(book), code="overridden", why=""))
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
            request = await self._request(book, op, recorded, headers or ())
        except CantDivide as error:
            refused = self._now(before, state=State.REFUSED, run=self._run(book), code=error.code, why=error.detail)
            return Applied(outcome=refused)
        except _Waits as waits:
            if op.kind is Kind.DELETE and not book.local_id(self._here):  # it was never made here, and never will be
                return Applied(outcome=self._now(before, state=State.DONE, run=self._run(book), code="", why=""))
            return Applied(outcome=self._later(before, waits.code, waits.why))
        return await self._send(book, step, before, request, callers=callers is not None)

    def _recorded(self, book: Book, step: Step) -> Recorded:
        """The request of a step; what stands in the description makes another one of a creation that comes second."""
        op = step.operation
        item = item_of(book.summary, self.settings.application)
        if step.leaves:
            secret = any(other.request.secret for other in book.log.operations.values() if other.request)
            return Recorded(method="DELETE", target=item, secret=secret)
        assert op.request, "whatever is executed has a request"
        if step.as_replacement:
            return replace(op.request, method="PUT", target=item)
        return op.request

    async def _own(self, book: Book, op: Operation, recorded: Recorded) -> Headers:
        """The site's own credentials. Raises _Waits if they are needed and can't be had, or mustn't be used."""
        if op.kind is not Kind.PLACE and not self._vouched(book, op) and (recorded.secret or op.site != self._here):
            raise _Waits("waits-for-acceptance", "no site has accepted it yet, and who asked for it is gone")
        if not recorded.secret:
            return ()
        try:
            headers = await self._credentials.headers(book.summary.service)
        except CredentialsFailed as error:
            raise _Waits("needs-credentials", error.detail) from error
        if headers is None:
            service = book.summary.service
            raise _Waits("needs-credentials", f"the caller's are gone, and site.yaml has none for '{service}'")
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
        rules, body = self._rules(book), recorded.body
        told = next((outcome for outcome in self._done(book, op) if outcome.body), None)
        if not (rules and rules.from_caller and told and body and body.inline) or op.facet or op.birth is None:
            return recorded
        said, kind = from_caller(told.body, rules), (("content-type", "application/json"),)
        named = await self._ledger.store.find(values_in(recorded.target, "application/json", said))
        service, application = book.summary.service, self.settings.application
        cast = in_rids(recorded.target, kind, said, named, told.site, service, application)
        inline = with_missing(body.inline, cast.body or said, rules)
        return replace(recorded, body=Body(inline=inline, size=len(inline)))

    async def _request(self, book: Book, op: Operation, recorded: Recorded, credentials: Headers) -> Request:
        body = recorded.body
        inline = body.inline if body else None
        recast = await self.localise(recorded, inline, self._shares(op))
        if book.log.prime and recast.body is not None:
            recast = replace(recast, body=self._part(book, op, recast.body))
        headers = tuple((name.encode("latin1"), value.encode("latin1")) for name, value in recast.headers)
        names = {name for name, _ in credentials}
        if b"host" not in names:
            credentials = (*credentials, (b"host", self.settings.host(book.summary.service).encode()))
        headers = (*(pair for pair in headers if pair[0] not in names), *credentials)
        content: AsyncGenerator[bytes, None] | None = None
        if body is not None:
            size = len(recast.body) if recast.body is not None else body.size
            headers = (*headers, (b"content-length", str(size).encode()))
            content = _once(recast.body) if recast.body is not None else self._blob(body)
        service = book.summary.service or (op.birth.service if op.birth else "")
        request = Request(
            service=service,
            method=recorded.method,
            target=self._address(book, op, recast.target).encode("latin1"),
            headers=headers,
            body=content,
        )
        shares = self._shares(op)
        return self.settings.carry(request, shares) if shares else request

    def _part(self, book: Book, op: Operation, body: bytes) -> bytes:
        """What is this site's part of what the whole is to be. Raises CantDivide."""
        rules = self._rules(book)
        if rules is None or not span_of(rules).divides(op.facet):
            return body
        return divided(body, rules, parts_of(book), self._here)

    def _shares(self, op: Operation) -> dict[str, str]:
        """Where this site calls other services meanwhile: some sites may use another's, since they lack something."""
        all_sites = {service: place for service, place in op.shares.items() if "/" not in service}
        own = {key.partition("/")[2]: place for key, place in op.shares.items() if key.startswith(f"{self._here}/")}
        return {**all_sites, **own}

    def _address(self, book: Book, op: Operation, target: str) -> str:
        """Where a request goes; a resource that moves is at the last Location that the service here gave."""
        rules = self._rules(book)
        if not (rules and rules.moves) or op.kind is Kind.CREATE:
            return target
        given = [outcome for outcome in book.own(self._here).values() if outcome.location and outcome.run]
        last = max(given, key=lambda outcome: outcome.run, default=None)
        return along(target, last.location) if last else target

    async def localise(
        self, recorded: Recorded, body: bytes | None, shares: Mapping[str, str] | None = None
    ) -> Translated:
        """The request with this site's own ids, and those of other sites where their services are used. Raises _Waits
        if one isn't known here yet.
        """
        rids = rids_in(recorded.target, recorded.headers, body)
        if not rids:
            return Translated(target=recorded.target, headers=recorded.headers, body=body)
        ids = await self._ledger.local_ids(rids, self._here)
        for rid in rids - ids.keys() if shares else ():
            book = await self._ledger.book(rid)
            site = shares.get(book.summary.service) if book and shares else None
            if book and site and (local := book.local_id(site)):
                ids[rid] = local
        try:
            return at_site(recorded.target, recorded.headers, body, ids, self._here)
        except NoIdThere as unknown:
            raise _Waits("waits-for-reference", unknown.detail) from unknown

    def _blob(self, body: Body) -> AsyncGenerator[bytes, None]:
        if not self._blobs.has(body.sha256):
            raise _Waits("waits-for-body", f"its body ({body.size:,} bytes) hasn't been fetched yet")
        return self._blobs.read(body.sha256)

    async def _send(self, book: Book, step: Step, before: Outcome, request: Request, *, callers: bool) -> Applied:
        op = step.operation
        try:
            async with asyncio.timeout(self._patience(op)):
                reply = await self._transport.send(request, site=self._here)
        except TimeoutError:
            answer = Answer(status=504, executed="unknown")
            return Applied(
                outcome=self._judged(book, step, before, answer, f"no answer in {self.settings.seconds:g} s")
            )
        except StoreFailed as error:  # in the middle of the body
            return Applied(outcome=self._later(before, error.code, error.detail))
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
        return self.settings.seconds + (body.size / (1 << 20) if body else 0)

    async def _read(
        self, book: Book, step: Step, before: Outcome, reply: Reply, content: bytes, *, callers: bool, request: Request
    ) -> Applied:
        op, rules = step.operation, self._rules(book)
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
            outcome = await self._taken(book, op, before, outcome, request)
        if outcome.code == "unauthorized" and not callers:
            self._credentials.refused(book.summary.service)
        if outcome.state is State.DONE and not step.leaves:
            found = made(reply.status, reply.headers, content, rules, _collection(op, request))
            if found.local_id and (op.kind in (Kind.CREATE, Kind.REPLACE) or (rules and rules.moves)):
                outcome = replace(outcome, local_id=found.local_id if not op.facet or (rules and rules.moves) else "")
            if op.kind is Kind.CREATE:
                outcome = self._follows(outcome, reply, content, rules, request.target.decode("latin1"))
        return Applied(outcome=outcome, reply=reply)

    # What a service takes once

    def taken_once(self, book: Book, op: Operation) -> Follow | None:
        """How to find out whether the service has the content that this operation sends, if it takes it only once."""
        rules = self._rules(book)
        content = rules.content if rules else None
        if not (rules and content and content.once and op.request and op.request.method == content.method):
            return None
        if not op.facet or not content.path.endswith(f"{{id}}/{op.facet}"):
            return None
        target = item_of(book.summary, self.settings.application)
        return Follow(target=target, rules=rules.model_copy(update={"follows": content.once}))

    async def _taken(self, book: Book, op: Operation, before: Outcome, outcome: Outcome, request: Request) -> Outcome:
        """What a 409 means for content that was sent before: the service may have it since then."""
        following = self.taken_once(book, op)
        others = [o for dot, o in book.own(self._here).items() if dot != op.dot and o.state is State.DONE]
        facets = {other.dot: other.facet for other in book.log.operations.values()}
        if following is None or any(facets.get(other.dot) == op.facet for other in others):
            return outcome
        credentials = secret_headers(request.headers, book.summary.service, self.settings.application)
        try:
            item = await self.localise(Recorded(method="GET", target=following.target), None)
            status, _, content = await self._get(book, item.target, credentials)
        except (_Waits, SiteUnreachable, TimeoutError) as error:
            return self._later(before, "unable", f"the service may have it, and can't be asked: {error}")
        progress, said = following.progress(status, content)
        if progress is Progress.UNDER_WAY:
            return self._later(before, "unable", "the service is still at what was sent before")
        if progress is Progress.FAILED:
            return replace(outcome, why=f"{outcome.why}; {said}")
        return self._now(before, state=State.DONE, run=self._run(book), status=outcome.status, code="found", why="")

    # What a service is still at

    def _follows(self, outcome: Outcome, reply: Reply, content: bytes, rules: Resource | None, target: str) -> Outcome:
        """A request that was accepted, and that is not at its end yet, is looked after."""
        path = target.partition("?")[0].rstrip("/")
        item = f"{path}/{outcome.local_id}" if outcome.local_id else path
        following = follow(reply.status, reply.headers, content, rules, item)
        if following is None or (rules and rules.moves):
            return outcome
        return replace(outcome, code=UNDER_WAY, why=following.target)

    async def look_after(self, book: Book, lent: Callable[[Dot], Headers | None]) -> float | None:
        """Looks what became of all that the service was still at; when to look again, None if all is at its end."""
        own = [o for o in book.own(self._here).values() if o.code == UNDER_WAY]
        for outcome in own:
            await self._look_at(book, outcome, lent(outcome.dot))
        return self._ledger.now() + UNDER_WAY_SECONDS if own else None

    async def _look_at(self, book: Book, outcome: Outcome, callers: Headers | None) -> None:
        now = self._ledger.now()
        credentials = callers if callers is not None else await self._credentials.headers(book.summary.service)
        try:
            status, _, content = await self._get(book, outcome.why, credentials or ())
        except (CheopsError, TimeoutError):
            return
        rules = self._rules(book)
        progress, said = Follow(target=outcome.why, rules=rules).progress(status, content)
        if progress is Progress.UNDER_WAY and now - outcome.at < FOLLOW_SECONDS:
            return
        version = version_after(outcome, now)
        if progress is Progress.FAILED:
            why = f"the service accepted it, and then failed: {said}"
            changed = replace(outcome, state=State.REFUSED, code="failed", why=why, version=version, at=now)
        else:
            changed = replace(outcome, code="", why="", version=version, at=now)
        await self._ledger.report(changed)

    async def _get(self, book: Book, target: str, credentials: Headers) -> tuple[int, Headers, bytes]:
        """A read of this site's service. Raises SiteUnreachable, TimeoutError."""
        request = Request(
            service=book.summary.service,
            method="GET",
            target=target.encode("latin1"),
            headers=(
                (b"host", self.settings.host(book.summary.service).encode()),
                (b"accept", b"application/json"),
                *credentials,
            ),
        )
        async with asyncio.timeout(self.settings.seconds):
            reply = await self._transport.send(request, site=self._here)
            _, content = await kept(reply)
        return reply.status, reply.headers, content

    async def content(self, book: Book, op: Operation) -> AsyncGenerator[bytes, None]:
        """What this site's service has where an operation has put a body: for who is to have it too, once the body
        itself isn't kept any more. Raises Refused, SiteUnreachable, CredentialsFailed.
        """
        assert op.request
        try:
            place = await self.localise(replace(op.request, body=None), None)
        except _Waits as waits:
            raise Refused(waits.why, site=self._here, answer=404) from waits
        credentials = await self._credentials.headers(book.summary.service) or ()
        headers = ((b"host", self.settings.host(book.summary.service).encode()), *credentials)
        request = Request(
            service=book.summary.service, method="GET", target=place.target.encode("latin1"), headers=headers
        )
        reply = await self._transport.send(request, site=self._here)
        async with aclosing(reply.body) as body:
            if reply.status != 200:
                raise Refused(f"the service answered {reply.status}", site=self._here, answer=reply.status)
            async for chunk in body:
                yield chunk

    # Whether something was executed

    async def probe(self, book: Book, op: Operation, before: Outcome, callers: Headers | None) -> Applied:
        """Looks whether an operation that may have been executed was. Its outcome is then DONE, or PENDING with the
        code "absent": it is to be executed; else it waits, or asks an operator.
        """
        if op.kind is not Kind.CREATE:
            if repeats(op):
                return Applied(outcome=self._absent(before))
            why = "it may have been executed before a crash, and can't be looked for"
            return Applied(outcome=self._now(before, state=State.ASKS, code="unclear", why=why))
        try:
            assert op.request
            credentials = callers if callers is not None else await self._own(book, op, op.request)
            found = await self._look_for(book, op, credentials)
        except _Waits as waits:
            return Applied(outcome=self._now(before, state=State.BEGUN, code=waits.code, why=waits.why))
        except (SiteUnreachable, TimeoutError) as error:
            why = f"it may have been executed; the service can't be asked: {error}"
            return Applied(outcome=self._now(before, state=State.BEGUN, code="unclear", why=why))
        match found:
            case []:
                return Applied(outcome=self._absent(before))
            case [local_id]:
                return Applied(
                    outcome=self._now(
                        before,
                        state=State.DONE,
                        run=self._run(book),
                        status=200,
                        local_id=local_id,
                        code="found",
                        why="",
                    )
                )
        why = f"it may have been executed: {len(found)} are like what it makes: {', '.join(found[:5])}"
        return Applied(outcome=self._now(before, state=State.ASKS, code="unclear", why=why))

    def _absent(self, before: Outcome) -> Outcome:
        version = version_after(before, self._ledger.now())
        return replace(before, state=State.PENDING, code="absent", version=version, why="")

    async def _look_for(self, book: Book, op: Operation, credentials: Headers) -> list[str]:
        """The local ids of what may be what the operation makes. Raises _Waits, SiteUnreachable, TimeoutError."""
        assert op.request
        body = op.request.body.inline if op.request.body else None
        recast = await self.localise(op.request, body)
        if book.summary.chosen:
            item = await self.localise(
                replace(op.request, target=item_of(book.summary, self.settings.application)), None
            )
            status, _, _ = await self._get(book, item.target, credentials)
            if status in (404, 410):
                return []
            return [book.summary.chosen] if status < 300 else self._unclear(status)
        rules, target, found = self._rules(book), recast.target.partition("?")[0], []
        key = key_in(recast.body or b"", rules)
        if not key:
            raise _Waits("unclear", "it may have been executed, and has no name by which it could be looked for")
        for _ in range(MOST_PAGES):
            status, headers, content = await self._get(book, target, credentials)
            if status >= 300:
                return self._unclear(status)
            alike = [item for item in listed(content, rules) or () if has_key(item, key)]
            found += [made(200, (), json.dumps(item).encode(), _bare(rules)).local_id for item in alike]
            next_target = next_page(target, headers, content, rules)
            if not next_target:
                known = await self._ledger.taken(found, book.rid, book.summary.service)
                return [local for local in found if local not in known]
            target = next_target
        raise _Waits("unclear", f"the collection has more than {MOST_PAGES} pages, too many to look through")

    def _unclear(self, status: int) -> list[str]:
        raise _Waits("unclear", f"it may have been executed; the service answers {status} when it is asked")

    def _rules(self, book: Book) -> Resource | None:
        service = self.settings.application.services.get(book.summary.service)
        return service.resources.get(book.summary.type) if service else None

    # Outcomes

    def _judged(self, book: Book, step: Step, before: Outcome, answer: Answer, why: str) -> Outcome:
        verdict = judge(step.operation, answer)
        match verdict:
            case Verdict.DONE:
                return self._now(before, state=State.DONE, run=self._run(book), status=answer.status, code="", why="")
            case Verdict.REFUSED:
                return self._now(
                    before, state=State.REFUSED, run=self._run(book), status=answer.status, code="refused", why=why
                )
            case Verdict.CREDENTIALS:
                return self._now(before, state=State.PENDING, status=answer.status, code="unauthorized", why=why)
            case Verdict.UNCLEAR:
                return self._now(before, state=State.BEGUN, code="unclear", why=why)
            case _:
                return self._later(before, UNHEARD if answer.executed == "unknown" else "unable", why)

    def _later(self, before: Outcome, code: str, why: str) -> Outcome:
        """What may have been executed once isn't known not to have been by a later failure."""
        code = UNHEARD if before.code == UNHEARD and code in ("unable", "waits-for-acceptance") else code
        return self._now(before, state=State.PENDING, code=code, why=why)

    def _now(self, before: Outcome, **changed: Any) -> Outcome:
        now = self._ledger.now()
        return replace(before, attempts=before.attempts + 1, version=version_after(before, now), at=now, **changed)

    def _run(self, book: Book) -> int:
        return 1 + max((outcome.run for outcome in book.own(self._here).values()), default=0)


def version_after(before: Outcome, now: float) -> int:
    """The version of what is reported next: beyond the last, also if that is only known to others."""
    return max(before.version + 1, round(now * 1000))


class _Waits(Exception):
    """Something is missing that will come."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code, self.why = code, why


async def kept(reply: Reply) -> tuple[Reply, bytes]:
    """The reply with its body in memory, or in a file if it is long; and the body, or its beginning."""
    beginning = bytearray()
    async with aclosing(reply.body) as body:
        async for chunk in body:
            beginning += chunk
            if len(beginning) > IN_MEMORY:
                spooled = await _spool(bytes(beginning), body)
                return replace(reply, body=_read_file(spooled)), bytes(beginning[:IN_MEMORY])
    content = bytes(beginning)
    return replace(reply, body=_once(content)), content


async def _spool(beginning: bytes, rest: AsyncGenerator[bytes, None]) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(beginning)
    async for chunk in rest:
        await asyncio.to_thread(file.write, chunk)
    return file


async def _read_file(file: IO[bytes]) -> AsyncGenerator[bytes, None]:
    with file:
        file.seek(0)
        while chunk := await asyncio.to_thread(file.read, 1 << 18):
            yield chunk


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content


def _collection(op: Operation, request: Request) -> str:
    """Where what was made is: a POST goes to its collection, a PUT to the item."""
    path = request.target.decode("latin1").partition("?")[0]
    return path if op.kind is Kind.CREATE and request.method == "POST" else path.rpartition("/")[0]


def _bare(rules: Resource | None) -> Resource | None:
    """The rules of an item that stands in a list, without its wrapper."""
    return rules.model_copy(update={"one": None}) if rules else None


def _header(reply: Reply, name: bytes) -> str:
    return next((value.decode("latin1") for key, value in reply.headers if key == name), "")
