"""What a site notes of an operation while it is at it: the next version of its outcome, and why it waits."""

from dataclasses import dataclass, replace
from typing import Any

from cheops.model import Reply
from cheops.reconcile.book import Book
from cheops.reconcile.ledger import Ledger
from cheops.record.operation import Outcome, State

UNHEARD = "unheard"
"""The code of what may have been executed, and is the same if it is done again."""
UNDER_WAY = "under-way"
"""The code of what a service has accepted and is still at; `why` is where that is asked."""
WAITS_FOR_TURN = "waits-for-turn"
"""The code of what another site is to do first."""
AGAIN = "again"
"""The code of an outcome before something is sent that was sent before, and of which nobody knows whether it came."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """What came of an operation here, and the service's reply, if there was one."""

    outcome: Outcome
    reply: Reply | None = None


class Notes:
    """The next outcomes of operations at the site of a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def later(self, before: Outcome, code: str, why: str) -> Outcome:
        """What may have been executed once isn't known not to have been by a later failure."""
        code = UNHEARD if before.code == UNHEARD and code in ("unable", "waits-for-acceptance") else code
        return self.now(before, state=State.PENDING, code=code, why=why)

    def now(self, before: Outcome, **changed: Any) -> Outcome:
        now = self._ledger.now()
        return replace(before, attempts=before.attempts + 1, version=version_after(before, now), at=now, **changed)

    def ended(self, book: Book, before: Outcome, state: State, **changed: Any) -> Outcome:
        """Of what was executed, or won't be: it has its place among the executions of its resource here."""
        return self.now(before, state=state, run=self.run(book), **changed)

    def run(self, book: Book) -> int:
        return 1 + max((outcome.run for outcome in book.own(self._ledger.here).values()), default=0)


def version_after(before: Outcome, now: float) -> int:
    """The version of what is reported next: beyond the last, also if that is only known to others."""
    return max(before.version + 1, round(now * 1000))
