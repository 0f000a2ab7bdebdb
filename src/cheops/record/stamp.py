"""Stamps: when an operation was requested, on a hybrid logical clock (Kulkarni et al., 2014). Pure.

The clock follows the stamps of others, but not beyond a bound: a site whose clock is an hour ahead drags nobody with
it. Order doesn't depend on that, since what causally comes later is known by version vectors.
"""

from dataclasses import dataclass
from typing import NamedTuple

MOST_AHEAD_MS = 60_000
"""How far another site's clock is followed; beyond it, it is followed no longer, and somebody is told."""


class Stamp(NamedTuple):
    """Milliseconds since 1970, and a counter of what happened within one."""

    ms: int
    counter: int


NEVER = Stamp(0, 0)


@dataclass(frozen=True, slots=True)
class Clock:
    """The newest stamp that was given or seen."""

    last: Stamp = NEVER

    def tick(self, now_ms: int) -> "Clock":
        """The clock whose `last` is the stamp of something that happens now."""
        if now_ms > self.last.ms:
            return Clock(Stamp(now_ms, 0))
        return Clock(Stamp(self.last.ms, self.last.counter + 1))

    def seen(self, stamp: Stamp, now_ms: int) -> "Clock":
        """The clock once a stamp of another site is known."""
        return self if too_far_ahead(stamp, now_ms) else Clock(max(self.last, stamp))


def too_far_ahead(stamp: Stamp, now_ms: int) -> bool:
    return stamp.ms - now_ms > MOST_AHEAD_MS
