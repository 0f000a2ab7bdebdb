"""What of a log may be forgotten, once every site that holds the resource has reported what came of it. Pure.

A holder's items come in order, so once its outcome of an operation is here, all of its operations that don't know of
that one are here too. Whoever prunes keeps, for each author, the highest number that was pruned (Log.forgotten).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from cheops.record.log import Log
from cheops.record.operation import FINAL, Dot, Kind, Operation, Outcome, Vector
from cheops.record.paths import ancestors
from cheops.record.superseding import makes


@dataclass(frozen=True, kw_only=True, slots=True)
class Prunable:
    """`whole`: of a deleted resource, all but its tombstone."""

    dots: frozenset[Dot] = frozenset()
    whole: bool = False


def holders(log: Log, outcomes: Iterable[Outcome]) -> frozenset[str]:
    """The sites it is placed on, and those it was placed on that haven't reported that they left."""
    ever = {site for op in log.order for site in op.placement}
    ends = [op.dot for op in log.effective if op.kind in (Kind.PLACE, Kind.DELETE)]
    left = {site for site in ever if ends and all(site in sites for sites in _reports(ends, outcomes))}
    return frozenset(log.placement) | (ever - left)


def prunable(log: Log, outcomes: Iterable[Outcome], holders: Collection[str]) -> Prunable:
    """What this site may forget, given the outcomes of all sites."""
    final = _final(log, outcomes, holders)
    if log.gone and not log.incomplete and all(op.dot in final for op in log.effective):
        return Prunable(dots=frozenset(log.operations), whole=True)
    unneeded = {*log.superseded, *_covered(log.effective)} & final
    witness = _witness(log, final - unneeded)
    dots = frozenset(dot for dot in unneeded if _vouched(log, dot, witness))
    return Prunable(dots=dots) if dots and _same_order(log, dots) else Prunable()


def releasable(log: Log, outcomes: Iterable[Outcome], holders: Collection[str]) -> frozenset[Dot]:
    """The operations whose body no holder needs any more."""
    return frozenset(_final(log, outcomes, holders))


def forgotten(log: Log, dots: Collection[Dot]) -> dict[str, int]:
    """The log's `forgotten` once these are pruned."""
    up_to = dict(log.forgotten)
    for author, n in dots:
        up_to[author] = max(up_to.get(author, 0), n)
    return up_to


def _reports(dots: Iterable[Dot], outcomes: Iterable[Outcome]) -> list[set[str]]:
    """For each of `dots`, the sites that have reported a final outcome."""
    reported: dict[Dot, set[str]] = defaultdict(set)
    for outcome in outcomes:
        if outcome.state in FINAL:
            reported[outcome.dot].add(outcome.site)
    return [reported[dot] for dot in dots]


def _final(log: Log, outcomes: Iterable[Outcome], holders: Collection[str]) -> set[Dot]:
    dots = [op.dot for op in log.order]
    return {dot for dot, sites in zip(dots, _reports(dots, outcomes), strict=True) if holders and sites >= {*holders}}


def _covered(effective: Iterable[Operation]) -> Iterable[Dot]:
    """Merges all of whose fields are touched again by later merges."""
    later: set[tuple[str, str]] = set()
    for op in reversed(list(effective)):
        if op.kind is not Kind.MERGE or op.touches is None:
            continue
        paths = {(op.facet, path) for path in op.touches}
        if all(any((facet, above) in later for above in ancestors(path)) for facet, path in paths):
            yield op.dot
        later |= paths


def _vouched(log: Log, dot: Dot, witness: Vector) -> bool:
    """Whether something that stays knows of it, and every holder of that: all that is still to come is after both, and
    so has the same place in the order whether `dot` is kept or not. Births stay, since they say what it is.
    """
    op = log.operations[dot]
    stays = dot not in log.dead and (op.birth or makes(op))
    return not stays and witness.get(op.author, 0) >= op.n


def _witness(log: Log, stays: Iterable[Dot]) -> dict[str, int]:
    """What is known to those that stay, and that all holders have."""
    known: dict[str, int] = {}
    for dot in stays:
        for author, n in {**log.operations[dot].after, dot.author: dot.n - 1}.items():
            known[author] = max(known.get(author, 0), n)
    return known


def _same_order(log: Log, dots: Collection[Dot]) -> bool:
    """Clocks that go wrong can make an order that only those to be pruned hold together, and a delete may be all that
    keeps another operation dead: then they are kept.
    """
    rest = [op for op in log.order if op.dot not in dots]
    pruned = Log.of((*rest, *log.held), forgotten(log, dots))
    return list(pruned.order) == rest and set(pruned.superseded) == set(log.superseded) - set(dots)
