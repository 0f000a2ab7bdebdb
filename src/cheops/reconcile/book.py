"""All that a site knows of one resource, read together: its log, and what has come of each operation where. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cheops.applications.divide import Parts
from cheops.ports import Dossier
from cheops.record.log import Log
from cheops.record.operation import FINAL, WITHDRAWN, Dot, Item, Kind, Operation, Outcome, State
from cheops.record.resource import Summary


@dataclass(frozen=True, kw_only=True)
class Book:
    """A resource at one moment. `outcomes` are those of each site, by operation."""

    summary: Summary
    log: Log
    outcomes: Mapping[Dot, Mapping[str, Outcome]] = field(default_factory=dict)
    revision: int = 0

    @property
    def rid(self) -> str:
        return self.summary.rid

    @property
    def holders(self) -> tuple[str, ...]:
        """The sites that are to have it."""
        return self.log.placement

    def own(self, site: str) -> dict[Dot, Outcome]:
        """What has come of each operation on a site."""
        return {dot: sites[site] for dot, sites in self.outcomes.items() if site in sites}

    def outcome(self, dot: Dot, site: str) -> Outcome | None:
        return self.outcomes.get(dot, {}).get(site)

    def concerned(self) -> tuple[str, ...]:
        """The sites that are told of it: the holders, and those that are to leave but haven't reported."""
        leaving = {
            site: None
            for op in self.log.operations.values()
            for site in op.placement
            if site not in self.holders and not self._has_left(site)
        }
        return (*self.holders, *leaving)

    def _has_left(self, site: str) -> bool:
        """Since it was last to hold it: it may have come back in between."""
        every = (*self.log.order, *self.log.held)
        held = max((at for at, op in enumerate(every) if site in op.placement), default=-1)
        places = [op for op in every[held + 1 :] if op.kind is Kind.PLACE]
        reported = [self.outcome(op.dot, site) for op in places]
        return any(outcome and outcome.state in FINAL for outcome in reported)

    def local_id(self, site: str) -> str:
        """The id by which a site's service knows it; "" if it doesn't."""
        if self.summary.chosen:
            return self.summary.chosen
        named = [outcome for outcome in self.own(site).values() if outcome.local_id]
        return max(named, key=lambda outcome: (outcome.run, outcome.version)).local_id if named else ""

    def has(self, site: str) -> bool:
        """Whether the resource is there on a site, as far as is known."""
        births = [op for op in self.log.effective if op.kind in (Kind.CREATE, Kind.REPLACE) and not op.facet]
        states = [outcome.state for op in births if (outcome := self.outcome(op.dot, site))]
        return site in self.holders and not self.log.gone and State.DONE in states

    def filled(self, site: str) -> bool:
        """Whether the site has executed all that it knows to be in force."""
        outcomes = [self.outcome(op.dot, site) for op in self.log.effective]
        return all(outcome and outcome.state in FINAL for outcome in outcomes)


def parts_of(book: Book) -> Parts:
    """The sites of a whole, as its log has them."""
    log = book.log
    return Parts(prime=log.prime, sites=log.placement, slots=log.slots, born=log.born)


def withdrawn(outcomes: Mapping[Dot, Mapping[str, Outcome]]) -> frozenset[Dot]:
    """The operations that nobody has accepted, and whose author has said so to who asked."""
    return frozenset(
        dot for dot, sites in outcomes.items() if any(outcome.code == WITHDRAWN for outcome in sites.values())
    )


def book_of(dossier: Dossier, before: Log | None = None) -> Book:
    """The book of what the store knows; `before` is the log of an earlier dossier, which may be the same still."""
    outcomes: dict[Dot, dict[str, Outcome]] = {}
    for outcome in dossier.outcomes:
        outcomes.setdefault(outcome.dot, {})[outcome.site] = outcome
    gone = withdrawn(outcomes)
    same = before is not None and len(before.operations) == len(dossier.operations) and before.withdrawn == gone
    log = before if before is not None and same else Log.of(dossier.operations, withdrawn=gone)
    return Book(summary=dossier.summary, log=log, outcomes=outcomes, revision=dossier.revision)


def summary_of(rid: str, log: Log, before: Summary | None) -> Summary:
    """How the resource is listed once its log is this one; if its creation was withdrawn, it isn't any more."""
    if before is None or log.birth is not None:
        return log.summary(rid)
    return replace(before, gone=before.gone or bool(log.withdrawn))


def unreported(op: Operation, sites: Collection[str]) -> tuple[Outcome, ...]:
    """What is known of an operation before anybody has said anything."""
    since = op.stamp.ms / 1000
    return tuple(Outcome(rid=op.rid, dot=op.dot, site=site, since=since) for site in sites)


def given_up(book: Book, here: str) -> tuple[Outcome, ...]:
    """What a site that has left notes of the others, of which it hears no more: that nobody here waits for them."""
    return tuple(
        replace(outcome, state=State.SKIPPED, version=outcome.version + 1, code="left", why=f"{here} has left")
        for sites in book.outcomes.values()
        for outcome in sites.values()
        if outcome.site != here and outcome.state not in FINAL
    )


def news(dossier: Dossier | None, items: Sequence[Item]) -> list[Item]:
    """Those that say something new, each once."""
    known = {op.dot for op in dossier.operations} if dossier else set()
    outcomes = {(o.dot, o.site): o for o in (dossier.outcomes if dossier else ())}
    new: list[Item] = []
    for item in items:
        if isinstance(item, Operation):
            if item.dot not in known:
                known.add(item.dot)
                new.append(item)
        elif newer(item, outcomes.get((item.dot, item.site))):
            outcomes[item.dot, item.site] = item
            new.append(item)
    return new


def newer(outcome: Outcome, than: Outcome | None) -> bool:
    return than is None or outcome.version > than.version
