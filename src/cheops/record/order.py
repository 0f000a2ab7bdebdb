"""The total order of the operations of a log: causal first, then by stamp. Pure.

Kahn's algorithm with a heap (Kahn, 1962): of those whose past is placed, the lowest (stamp, author) comes next. So it
holds with any clock, and the relative order of two operations never changes when others become known.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush

from cheops.record.operation import Dot, Operation, Vector
from cheops.record.stamp import Stamp

Known = Mapping[Dot, Operation]


def ordered(known: Known, forgotten: Vector) -> tuple[Operation, ...]:
    """Those of `known` whose causal past is whole, in order. What is missing up to `forgotten` was here once."""
    numbers = _numbers(known)
    whole = {author: _whole(numbers.get(author, []), forgotten.get(author, 0)) for author in {*numbers, *forgotten}}
    waiting: dict[Dot, int] = {}
    followers: dict[Dot, list[Operation]] = defaultdict(list)
    for op in known.values():
        past = _past(op)
        if any(n > whole.get(author, 0) for author, n in past.items()):
            continue
        direct = _direct(past, numbers)
        waiting[op.dot] = len(direct)
        for dot in direct:
            followers[dot].append(op)
    return tuple(_placed([known[dot] for dot, count in waiting.items() if not count], waiting, followers))


def _placed(
    first: Iterable[Operation], waiting: dict[Dot, int], followers: Mapping[Dot, list[Operation]]
) -> Iterable[Operation]:
    ready = [(_key(op), op) for op in first]
    heapify(ready)
    while ready:
        op = heappop(ready)[1]
        yield op
        for follower in followers.get(op.dot, ()):
            waiting[follower.dot] -= 1
            if not waiting[follower.dot]:
                heappush(ready, (_key(follower), follower))


def _key(op: Operation) -> tuple[Stamp, str, int]:
    return op.stamp, op.author, op.n


def _numbers(known: Known) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for author, n in sorted(known):
        numbers[author].append(n)
    return numbers


def _whole(numbers: list[int], forgotten: int) -> int:
    """Up to which operation nothing of an author is missing."""
    whole = forgotten
    for n in numbers[bisect_right(numbers, forgotten) :]:
        if n != whole + 1:
            break
        whole = n
    return whole


def _past(op: Operation) -> Vector:
    return {**op.after, op.author: op.n - 1}


def _direct(past: Vector, numbers: Mapping[str, list[int]]) -> list[Dot]:
    """The newest operation of each author that comes before, of those that are still kept."""
    direct = []
    for author, n in past.items():
        kept = numbers.get(author, [])
        place = bisect_right(kept, n)
        if place:
            direct.append(Dot(author, kept[place - 1]))
    return direct
