"""What goes on after a service's reply: a job that it is still at, and content that it takes only once."""

from collections.abc import Callable
from dataclasses import replace

from cheops.applications import Resource
from cheops.applications.concern import item_of
from cheops.applications.credentials import secret_headers
from cheops.applications.replies import Follow, Progress, follow
from cheops.errors import CheopsError, SiteUnreachable
from cheops.model import Headers, Reply, Request
from cheops.ports import Credentials
from cheops.reconcile.book import Book
from cheops.reconcile.ledger import Ledger
from cheops.reconcile.outcomes import UNDER_WAY, Notes, version_after
from cheops.reconcile.service import Service, Waits
from cheops.record.operation import Dot, Operation, Outcome, Recorded, State

FOLLOW_SECONDS = 3600.0
UNDER_WAY_SECONDS = 1.0


class Follower:
    """Looks after what this site's services do later."""

    def __init__(self, ledger: Ledger, service: Service, credentials: Credentials, notes: Notes) -> None:
        self._ledger, self._service, self._credentials, self._notes = ledger, service, credentials, notes

    @property
    def _here(self) -> str:
        return self._ledger.here

    # What a service takes once

    def taken_once(self, book: Book, op: Operation) -> Follow | None:
        """How to find out whether the service has the content that this operation sends, if it takes it only once."""
        rules = self._service.rules(book)
        content = rules.content if rules else None
        if not (rules and content and content.once and op.request and op.request.method == content.method):
            return None
        if not op.facet or not content.path.endswith(f"{{id}}/{op.facet}"):
            return None
        target = item_of(book.summary, self._service.settings.application)
        return Follow(target=target, rules=rules.model_copy(update={"follows": content.once}))

    async def taken(self, book: Book, op: Operation, before: Outcome, outcome: Outcome, request: Request) -> Outcome:
        """What a 409 means for content that was sent before: the service may have it since then."""
        following = self.taken_once(book, op)
        others = [o for dot, o in book.own(self._here).items() if dot != op.dot and o.state is State.DONE]
        facets = {other.dot: other.facet for other in book.log.operations.values()}
        if following is None or any(facets.get(other.dot) == op.facet for other in others):
            return outcome
        credentials = secret_headers(request.headers, book.summary.service, self._service.settings.application)
        try:
            item = await self._service.localise(Recorded(method="GET", target=following.target), None)
            status, _, content = await self._service.get(book, item.target, credentials)
        except (Waits, SiteUnreachable, TimeoutError) as error:
            return self._notes.later(before, "unable", f"the service may have it, and can't be asked: {error}")
        progress, said = following.progress(status, content)
        if progress is Progress.UNDER_WAY:
            return self._notes.later(before, "unable", "the service is still at what was sent before")
        if progress is Progress.FAILED:
            return replace(outcome, why=f"{outcome.why}; {said}")
        return self._notes.ended(book, before, State.DONE, status=outcome.status, code="found", why="")

    # What a service is still at

    def follows(self, outcome: Outcome, reply: Reply, content: bytes, rules: Resource | None, target: str) -> Outcome:
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
            status, _, content = await self._service.get(book, outcome.why, credentials or ())
        except (CheopsError, TimeoutError):
            return
        rules = self._service.rules(book)
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
