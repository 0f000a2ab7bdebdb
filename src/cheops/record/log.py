"""The log of one resource: which order its operations have, which of them are in force, and who is in whose way. Pure.

Order: causal first, by version vectors; of those that are ready the one with the lowest stamp, then author (Kahn,
1962, with a heap). So it is the same everywhere for the same operations, whatever any clock says. What concurrent
operations mean follows from HTTP: see `_Fold`.
"""

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cheops.record.operation import Birth, Dot, Kind, Operation

ALL = "all"
_STATES = frozenset({Kind.CREATE, Kind.REPLACE, Kind.MERGE})


@dataclass(frozen=True, kw_only=True, slots=True)
class Conflict:
    """Two concurrent operations that touched the same: what the loser said of these `fields` isn't in force."""

    winner: Dot
    loser: Dot
    fields: tuple[str, ...] = (ALL,)


@dataclass(frozen=True)
class Log:
    """The operations of one resource that a site knows, but for those that were withdrawn."""

    operations: tuple[Operation, ...]
    withdrawn: frozenset[Dot] = field(default=frozenset())

    @classmethod
    def of(cls, operations: Iterable[Operation], withdrawn: Collection[Dot] = frozenset()) -> "Log":
        """The log of these, each of which is there once."""
        once = {op.dot: op for op in operations}
        return cls(tuple(once.values()), frozenset(withdrawn))

    @cached_property
    def vector(self) -> dict[str, int]:
        """How many operations of each author are there, up to the first gap."""
        numbers: dict[str, set[int]] = {}
        for op in self.operations:
            numbers.setdefault(op.author, set()).add(op.n)
        return {author: _up_to_gap(ns) for author, ns in numbers.items()}

    @cached_property
    def order(self) -> tuple[Operation, ...]:
        """Those whose past is whole, in the order that is the same everywhere."""
        placed: dict[str, int] = {}
        by_author: dict[str, list[Operation]] = {}
        for op in sorted(self.operations, key=lambda op: op.n, reverse=True):
            by_author.setdefault(op.author, []).append(op)
        blocked: dict[str, list[Operation]] = {}
        ready: list[tuple[tuple[int, int], str, int, Operation]] = []

        def consider(op: Operation) -> None:
            missing = _missing(op, placed)
            if missing is None:
                heapq.heappush(ready, ((op.stamp.ms, op.stamp.counter), op.author, op.n, op))
            else:
                blocked.setdefault(missing, []).append(op)

        for ops in by_author.values():
            consider(ops.pop())
        ordered: list[Operation] = []
        while ready:
            op = heapq.heappop(ready)[3]
            placed[op.author] = op.n
            ordered.append(op)
            if by_author[op.author]:
                consider(by_author[op.author].pop())
            for other in blocked.pop(op.author, ()):
                consider(other)
        return tuple(ordered)

    @cached_property
    def held(self) -> tuple[Operation, ...]:
        """Those whose past isn't whole yet."""
        placed = {op.dot for op in self.order}
        return tuple(op for op in self.operations if op.dot not in placed)

    @cached_property
    def _fold(self) -> "_Fold":
        return _Fold.of([op for op in self.order if op.dot not in self.withdrawn])

    @property
    def effective(self) -> tuple[Operation, ...]:
        """Those in force, in order: executed one after the other they make what the resource is."""
        return self._fold.effective

    @property
    def superseded(self) -> Mapping[Dot, Dot]:
        """Those that aren't, and by which other."""
        return self._fold.superseded

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        return self._fold.conflicts

    @cached_property
    def birth(self) -> Birth | None:
        """What the resource is; None if that isn't known."""
        known = [op.birth for op in self.order if op.birth]
        living = [op.birth for op in self.effective if op.birth]
        both = living or known
        return both[0] if both else None

    @property
    def gone(self) -> bool:
        """Whether it was deleted, or never made."""
        return not any(op.birth for op in self.effective)

    @cached_property
    def placement(self) -> tuple[str, ...]:
        """The sites that are to hold it: as was said last, else as those said who made it; also of what is gone."""
        moves = [op for op in self.order if op.kind is Kind.PLACE and op.dot not in self.withdrawn]
        births = [op for op in self.effective if op.birth] or [op for op in self.order if op.birth]
        after = [op for op in births if moves and op.knew(moves[-1])]
        if moves and not after:
            return moves[-1].placement
        return tuple(dict.fromkeys(site for op in (after or births) for site in op.placement))

    def next_of(self, author: str) -> int:
        return self.vector.get(author, 0) + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fold:
    """What is in force of operations that stand in order.

    | | |
    |---|---|
    | DELETE | all that doesn't come causally after it is dead |
    | REPLACE | what was said before of the same facet isn't in force any more |
    | MERGE | both, in order |
    | CREATE | the first makes it; a later one of the same says nothing new, else it replaces or is refused |
    | ACTION | both |
    """

    effective: tuple[Operation, ...]
    superseded: Mapping[Dot, Dot]
    conflicts: tuple[Conflict, ...]

    @classmethod
    def of(cls, ordered: list[Operation]) -> "_Fold":
        superseded: dict[Dot, Dot] = {}
        deletes = [op for op in ordered if op.kind is Kind.DELETE]
        last: dict[str, Operation] = {}
        for op in reversed(ordered):
            if killer := next((d for d in deletes if d.dot != op.dot and not op.knew(d)), None):
                superseded[op.dot] = killer.dot
            elif (later := last.get(op.facet)) and op.kind in (Kind.REPLACE, Kind.MERGE):
                superseded[op.dot] = later.dot
            elif op.kind is Kind.REPLACE:
                last[op.facet] = op
        effective = [op for op in ordered if op.dot not in superseded]
        _say_once(effective, superseded)
        effective = [op for op in effective if op.dot not in superseded]
        return cls(effective=tuple(effective), superseded=superseded, conflicts=_conflicts(ordered, superseded))


def _say_once(effective: list[Operation], superseded: dict[Dot, Dot]) -> None:
    """Of concurrent creations that say the same, the first is enough."""
    first: Operation | None = None
    for op in effective:
        if op.kind is Kind.DELETE:
            first = None
        elif op.kind is Kind.CREATE:
            if first and first.request == op.request:
                superseded[op.dot] = first.dot
            first = first or op


def _conflicts(ordered: list[Operation], superseded: Mapping[Dot, Dot]) -> tuple[Conflict, ...]:
    """Pairs of concurrent operations that overlap, of which one was overridden."""
    changing = [op for op in ordered if op.kind in _STATES or op.kind is Kind.DELETE]
    if len({op.author for op in changing}) < 2:
        return ()
    found = []
    for at, later in enumerate(changing):
        for earlier in changing[:at]:
            if not later.concurrent(earlier):
                continue
            winner, loser = (earlier, later) if earlier.kind is Kind.DELETE else (later, earlier)
            if loser.kind is Kind.DELETE or (winner.kind is Kind.DELETE and loser.knew(winner)):
                continue
            if winner.kind is Kind.CREATE and loser.kind is Kind.CREATE and winner.request == loser.request:
                continue
            if fields := overlap(winner, loser):
                found.append(Conflict(winner=winner.dot, loser=loser.dot, fields=fields))
    return tuple(found)


def overlap(one: Operation, other: Operation) -> tuple[str, ...]:
    """The fields that both write: ("all",) if that is everything, () if nothing."""
    if Kind.DELETE in (one.kind, other.kind):
        return (ALL,)
    if one.kind not in _STATES or other.kind not in _STATES or one.facet != other.facet:
        return ()
    if one.touches is None or other.touches is None:
        named = one.touches if one.touches is not None else other.touches
        return (ALL,) if named is None else tuple(sorted(named))
    return tuple(sorted(a for a in one.touches if any(_touch(a, b) for b in other.touches)))


def _touch(one: str, other: str) -> bool:
    """Whether two fields are the same, or one is inside of the other."""
    return one == other or one.startswith(other + ".") or other.startswith(one + ".")


def _missing(op: Operation, placed: Mapping[str, int]) -> str | None:
    """An author some of whose operations must come first; None if nothing is missing."""
    if placed.get(op.author, 0) != op.n - 1:
        return op.author
    return next((author for author, n in op.after.items() if placed.get(author, 0) < n), None)


def _up_to_gap(numbers: set[int]) -> int:
    n = 0
    while n + 1 in numbers:
        n += 1
    return n
