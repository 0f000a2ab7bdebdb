"""Measures in turn, and what can be said of numbers that were measured in turn. Pure but for the measuring it is given.

A shared machine is slower in one minute than in the next. So each round measures every variant once, ratios are made
inside a round, and the median of the rounds is told.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from typing import Protocol, TypeVar


class Keyed(Protocol):
    @property
    def key(self) -> str: ...


K = TypeVar("K", bound=Keyed)
T = TypeVar("T")
Samples = Mapping[str, Sequence[T]]
"""By the variant's key, one a round."""


def in_turn(variants: Sequence[K], rounds: int, measure: Callable[[K], T]) -> dict[str, list[T]]:
    """Every variant once a round; every other round backwards, so that no variant always follows the same one."""
    samples: dict[str, list[T]] = {variant.key: [] for variant in variants}
    for number in range(rounds):
        for variant in variants if number % 2 == 0 else reversed(variants):
            samples[variant.key].append(measure(variant))
    return samples


def middle(samples: Sequence[object], field: str) -> float:
    """The median of a field."""
    values: list[float] = [getattr(sample, field) for sample in samples]
    return median(values)


def paired(
    samples: Sequence[object], baseline: Sequence[object], field: str, compare: Callable[[float, float], float]
) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the comparison of a field, round by round."""
    each = [compare(getattr(one, field), getattr(other, field)) for one, other in zip(samples, baseline, strict=True)]
    if len(each) == 1:
        return each[0], each[0], each[0]
    low, mid, high = quantiles(each, n=4, method="inclusive")
    return low, mid, high
