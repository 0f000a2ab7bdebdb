"""Conflicts: concurrent operations that overlap, so that one of them lost something. Pure.

Each loser is listed once, with the last one that it lost to: n operations have at most n conflicts, not n².
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cheops.record.operation import Dot, Kind, Operation
from cheops.record.paths import ancestors, common
from cheops.record.superseding import is_creation, same_request

WRITES = frozenset({Kind.REPLACE, Kind.MERGE})


@dataclass(frozen=True, kw_only=True, slots=True)
class Conflict:
    """`fields` of the loser aren't as it asked for, since `winner` came to another end; `kind` is the winner's."""

    winner: Dot
    loser: Dot
    fields: frozenset[str] | Literal["all"]
    kind: Kind


def conflicts(order: Sequence[Operation], dead: Mapping[Dot, Dot], living: Sequence[Operation]) -> tuple[Conflict, ...]:
    named = {op.dot: op for op in order}
    found = [*_with_deletes(named, dead), *_of_creations(living), *_of_writes(living)]
    place = {op.dot: at for at, op in enumerate(order)}
    return tuple(sorted(found, key=lambda conflict: (place[conflict.loser], place[conflict.winner])))


def _with_deletes(named: Mapping[Dot, Operation], dead: Mapping[Dot, Dot]) -> Iterator[Conflict]:
    for loser, by in dead.items():
        if named[loser].kind is not Kind.DELETE and named[loser].concurrent(named[by]):
            yield Conflict(winner=by, loser=loser, fields="all", kind=Kind.DELETE)


def _of_creations(living: Sequence[Operation]) -> Iterator[Conflict]:
    """The later one replaces what the first has made, if it can be said so; else it is the loser."""
    creations = [op for op in living if is_creation(op)]
    for op in creations[1:]:
        first = creations[0]
        if op.concurrent(first) and not same_request(op, first):
            winner, loser = (op, first) if op.repeats else (first, op)
            yield Conflict(winner=winner.dot, loser=loser.dot, fields="all", kind=winner.kind)


def _of_writes(living: Sequence[Operation]) -> Iterator[Conflict]:
    writes = [(at, op) for at, op in enumerate(living) if op.kind in WRITES]
    index = _Index(writes)
    for at, op in writes:
        later = index.last_concurrent(at, op)
        if later and not (later.kind is op.kind and same_request(op, later)):
            fields = common(_touched(op), _touched(later))
            told: frozenset[str] | Literal["all"] = "all" if fields is None else fields
            yield Conflict(winner=later.dot, loser=op.dot, fields=told, kind=later.kind)


def _touched(op: Operation) -> frozenset[str] | None:
    return None if op.kind is Kind.REPLACE else op.touches


Key = tuple[str, str, str]
"""(author, facet, path); the path "" stands for all fields."""


class _Index:
    """Which operations touch a field or what is above it (`exact`), and which touch it or what is below (`under`)."""

    def __init__(self, writes: Sequence[tuple[int, Operation]]) -> None:
        self._exact: dict[Key, list[tuple[int, Operation]]] = defaultdict(list)
        self._under: dict[Key, list[tuple[int, Operation]]] = defaultdict(list)
        self._authors = sorted({op.author for _, op in writes})
        for at, op in writes:
            self._add(at, op)

    def _add(self, at: int, op: Operation) -> None:
        touched = _touched(op)
        for path in [""] if touched is None else touched:
            self._exact[op.author, op.facet, path].append((at, op))
        for path in {"", *(above for leaf in touched or () for above in ancestors(leaf))}:
            self._under[op.author, op.facet, path].append((at, op))

    def last_concurrent(self, at: int, op: Operation) -> Operation | None:
        """The last operation after `at` that overlaps `op` and doesn't know of it."""
        ends = [_last_unknowing(some, op) for some in self._overlapping(op)]
        later = [end for end in ends if end and end[0] > at]
        return max(later, key=lambda end: end[0])[1] if later else None

    def _overlapping(self, op: Operation) -> Iterator[list[tuple[int, Operation]]]:
        touched = _touched(op)
        for author in self._authors:
            if author == op.author:
                continue
            for path in [""] if touched is None else touched:
                yield self._under.get((author, op.facet, path), [])
                for above in ("", *ancestors(path)):
                    yield self._exact.get((author, op.facet, above), [])


def _last_unknowing(chain: list[tuple[int, Operation]], op: Operation) -> tuple[int, Operation] | None:
    """An author never knows less than before, so those that don't know `op` are the first of its chain."""
    end = bisect_left(chain, op.n, key=lambda one: one[1].after.get(op.author, 0))
    return chain[end - 1] if end else None
