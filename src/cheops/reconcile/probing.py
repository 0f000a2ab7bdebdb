"""Whether something was executed that may have been: a creation is looked for, by its chosen id or its natural key."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

from cheops.applications import Resource
from cheops.applications.concern import item_of
from cheops.applications.lists import listed, next_page
from cheops.applications.replies import has_key, key_in, made
from cheops.errors import SiteUnreachable
from cheops.model import Headers
from cheops.reconcile.book import Book
from cheops.reconcile.judging import repeats
from cheops.reconcile.ledger import Ledger
from cheops.reconcile.outcomes import Applied, Notes, version_after
from cheops.reconcile.service import Service, Waits
from cheops.record.operation import Kind, Operation, Outcome, Recorded, State

MOST_PAGES = 100


class Prober:
    """Looks at this site's services. `own` gives the site's own credentials for an operation, or raises Waits."""

    def __init__(
        self,
        ledger: Ledger,
        service: Service,
        notes: Notes,
        own: Callable[[Book, Operation, Recorded], Awaitable[Headers]],
    ) -> None:
        self._ledger, self._service, self._notes, self._own = ledger, service, notes, own

    async def probe(self, book: Book, op: Operation, before: Outcome, callers: Headers | None) -> Applied:
        """Looks whether an operation that may have been executed was. Its outcome is then DONE, or PENDING with the
        code "absent": it is to be executed; else it waits, or asks an operator.
        """
        if op.kind is not Kind.CREATE:
            if repeats(op):
                return Applied(outcome=self._absent(before))
            why = "it may have been executed before a crash, and can't be looked for"
            return Applied(outcome=self._notes.now(before, state=State.ASKS, code="unclear", why=why))
        try:
            assert op.request
            credentials = callers if callers is not None else await self._own(book, op, op.request)
            found = await self._look_for(book, op, credentials)
        except Waits as waits:
            return Applied(outcome=self._notes.now(before, state=State.BEGUN, code=waits.code, why=waits.why))
        except (SiteUnreachable, TimeoutError) as error:
            why = f"it may have been executed; the service can't be asked: {error}"
            return Applied(outcome=self._notes.now(before, state=State.BEGUN, code="unclear", why=why))
        match found:
            case []:
                return Applied(outcome=self._absent(before))
            case [local_id]:
                return Applied(
                    outcome=self._notes.ended(
                        book,
                        before,
                        State.DONE,
                        status=200,
                        local_id=local_id,
                        code="found",
                        why="",
                    )
                )
        why = f"it may have been executed: {len(found)} are like what it makes: {', '.join(found[:5])}"
        return Applied(outcome=self._notes.now(before, state=State.ASKS, code="unclear", why=why))

    def _absent(self, before: Outcome) -> Outcome:
        version = version_after(before, self._ledger.now())
        return replace(before, state=State.PENDING, code="absent", version=version, why="")

    async def _look_for(self, book: Book, op: Operation, credentials: Headers) -> list[str]:
        """The local ids of what may be what the operation makes. Raises Waits, SiteUnreachable, TimeoutError."""
        assert op.request
        body = op.request.body.inline if op.request.body else None
        recast = await self._service.localise(op.request, body)
        if book.summary.chosen:
            item = await self._service.localise(
                replace(op.request, target=item_of(book.summary, self._service.settings.application)), None
            )
            status, _, _ = await self._service.get(book, item.target, credentials)
            if status in (404, 410):
                return []
            return [book.summary.chosen] if status < 300 else self._unclear(status)
        rules, target, found = self._service.rules(book), recast.target.partition("?")[0], []
        key = key_in(recast.body or b"", rules)
        if not key:
            raise Waits("unclear", "it may have been executed, and has no name by which it could be looked for")
        for _ in range(MOST_PAGES):
            status, headers, content = await self._service.get(book, target, credentials)
            if status >= 300:
                return self._unclear(status)
            alike = [item for item in listed(content, rules) or () if has_key(item, key)]
            found += [made(200, (), json.dumps(item).encode(), _bare(rules)).local_id for item in alike]
            next_target = next_page(target, headers, content, rules)
            if not next_target:
                known = await self._ledger.taken(found, book.rid, book.summary.service)
                return [local for local in found if local not in known]
            target = next_target
        raise Waits("unclear", f"the collection has more than {MOST_PAGES} pages, too many to look through")

    def _unclear(self, status: int) -> list[str]:
        raise Waits("unclear", f"it may have been executed; the service answers {status} when it is asked")


def _bare(rules: Resource | None) -> Resource | None:
    """The rules of an item that stands in a list, without its wrapper."""
    return rules.model_copy(update={"one": None}) if rules else None
