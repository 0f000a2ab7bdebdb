"""Leaf fields of documents, as dotted paths, and which of them overlap. Pure.

Touching `a` overlaps touching `a.b`. None stands for all fields.
"""

from collections.abc import Iterator

Fields = frozenset[str] | None


def ancestors(path: str) -> Iterator[str]:
    """The path and all above it: `a.b` and `a`."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def common(a: Fields, b: Fields) -> Fields:
    """The fields in which both overlap, the finer ones of them; empty if they don't."""
    if a is None or b is None:
        return b if a is None else a
    return _within(a, b) | _within(b, a)


def overlap(a: Fields, b: Fields) -> bool:
    shared = common(a, b)
    return shared is None or bool(shared)


def _within(fine: frozenset[str], coarse: frozenset[str]) -> frozenset[str]:
    return frozenset(path for path in fine if any(above in coarse for above in ancestors(path)))
