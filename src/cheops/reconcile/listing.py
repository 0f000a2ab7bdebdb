"""Lists of replicated resources, operations and conflicts in pages: what this site knows itself."""

from dataclasses import dataclass

from cheops.errors import BadRequest
from cheops.ports import Peers
from cheops.reconcile.ledger import Ledger
from cheops.reconcile.showing import (
    FAILED,
    WAITING,
    ConflictShown,
    OperationShown,
    OutcomeShown,
    ResourceListed,
    conflicts_shown,
    listed,
    operation_shown,
    outcome_shown,
)
from cheops.record.operation import Dot, Outcome, State

PAGE = 200  # rows that the store is asked for at a time
MOST_SCANNED = 2_000  # resources whose conflicts are looked for, for one page
STATES = {
    "pending": WAITING,
    "failed": FAILED,
    "dropped": frozenset({State.DROPPED}),
    "done": frozenset({State.DONE, State.SKIPPED}),
    "all": frozenset(State),
}


@dataclass(frozen=True, kw_only=True)
class AtSite:
    """An operation at one site, as it stands in a list. The operation's own outcomes are left out."""

    resource: ResourceListed
    operation: OperationShown
    outcome: OutcomeShown


@dataclass(frozen=True, kw_only=True)
class OperationsPage:
    """`next` is where the next page begins, "" if there is none."""

    operations: list[AtSite]
    next: str = ""


@dataclass(frozen=True, kw_only=True)
class ResourcesPage:
    resources: list[ResourceListed]
    next: str = ""


@dataclass(frozen=True, kw_only=True)
class ConflictsPage:
    conflicts: list[ConflictShown]
    next: str = ""


class Lists:
    """The lists of a site's ledger."""

    def __init__(self, ledger: Ledger, peers: Peers) -> None:
        self._ledger, self._peers = ledger, peers

    async def resources(self, *, after: str = "", limit: int = 100, service: str | None = None) -> ResourcesPage:
        """The resources that are here and aren't gone, by rid."""
        found: list[ResourceListed] = []
        while len(found) < limit:
            page = await self._ledger.store.summaries(after=after, limit=PAGE, service=service)
            if not page:
                return ResourcesPage(resources=found)
            for summary in page:
                after = summary.rid
                if not summary.gone and summary.service:
                    found.append(listed(summary))
                if len(found) == limit:
                    break
        return ResourcesPage(resources=found, next=after)

    async def operations(
        self, state: str = "pending", *, site: str | None = None, after: str = "", limit: int = 100
    ) -> OperationsPage:
        """Operations whose outcome at a site is in such a state. Raises BadRequest."""
        if state not in STATES:
            raise BadRequest(f"there is no state '{state}'", hint=f"There are {', '.join(STATES)}.")
        at = _position(after)
        found: list[AtSite] = []
        while True:
            page = await self._ledger.store.outcomes(STATES[state], after=at, limit=PAGE)
            for outcome in page:
                at = (outcome.rid, outcome.dot, outcome.site)
                if site in (None, outcome.site) and (shown := await self._at_site(outcome)):
                    found.append(shown)
                if len(found) == limit:
                    return OperationsPage(operations=found, next=_position_text(at))
            if len(page) < PAGE:
                return OperationsPage(operations=found)

    async def _at_site(self, outcome: Outcome) -> AtSite | None:
        """What is told of an outcome; nothing of what isn't in force any more and has nobody waiting for it."""
        book = await self._ledger.book(outcome.rid)
        op = book.log.operations.get(outcome.dot) if book else None
        if book is None or op is None or self._ledger.here not in book.concerned():
            return None
        if op.dot in book.log.superseded and outcome.state in FAILED:
            return None
        shown = operation_shown(book, op, {})
        bare = OperationShown(**{**vars(shown), "outcomes": []})
        peers = self._peers.peers()
        return AtSite(resource=listed(book.summary), operation=bare, outcome=outcome_shown(outcome, peers))

    async def conflicts(self, *, after: str = "", limit: int = 100, settled: bool = False) -> ConflictsPage:
        """The conflicts of the resources that are here, by rid; `settled`: also those that are over."""
        found: list[ConflictShown] = []
        for _ in range(MOST_SCANNED // PAGE):
            page = await self._ledger.store.summaries(after=after, limit=PAGE)
            for summary in page:
                after = summary.rid
                book = await self._ledger.book(summary.rid)
                found += [c for c in conflicts_shown(book) if settled or not c.settled] if book else []
                if len(found) >= limit:
                    return ConflictsPage(conflicts=found, next=after)
            if len(page) < PAGE:
                return ConflictsPage(conflicts=found)
        return ConflictsPage(conflicts=found, next=after)


def _position(text: str) -> tuple[str, Dot, str] | None:
    """The position that a page's `next` names. Raises BadRequest."""
    if not text:
        return None
    try:
        rid, author, n, site = text.split("/")
        return rid, Dot(author, int(n)), site
    except ValueError as error:
        raise BadRequest(f"after={text} is no place in the list", hint="It is what `next` of a page says.") from error


def _position_text(at: tuple[str, Dot, str]) -> str:
    return f"{at[0]}/{at[1].author}/{at[1].n}/{at[2]}"
