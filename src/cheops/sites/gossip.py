"""What a site passes on, and for how often: each piece of news in a bounded number of its messages. Pure.

With N sites, some 3 * log2(N) messages of each that heard it bring a rumour to all of them, but for a chance that
falls with a power of N (SWIM: Das, Gupta, Motivala, "SWIM: scalable weakly-consistent infection-style process group
membership protocol", DSN 2002, section 4.1). What is missed all the same is found by the digests of the rolls.
"""

from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import islice
from math import ceil, inf, log2

from cheops.sites.message import Rumour
from cheops.sites.roll import Member

MOST_NEWS = 8  # records in a message
MOST_RUMOURS = 8  # in a message
MOST_KEPT = 64  # pieces of news being spread at a time; more of them is a case for whole rolls
MOST_HEARD = 256  # rumours kept at a time
RUMOUR_SECONDS = 10.0  # for so long a rumour is of interest, and a second one like it isn't


def times_told(sites: int) -> int:
    """In how many messages a site passes on a piece of news."""
    return ceil(3 * log2(sites + 1))


@dataclass
class News:
    """Records that changed lately, and how often each has been told."""

    told: dict[str, tuple[Member, int]] = field(default_factory=dict)

    def add(self, member: Member) -> None:
        self.told[member.name] = (member, 0)
        if len(self.told) > MOST_KEPT:
            del self.told[max(self.told, key=lambda name: self.told[name][1])]

    def take(self, sites: int) -> tuple[Member, ...]:
        """What goes into the next message: the least told first."""
        if not self.told:
            return ()
        chosen = nsmallest(MOST_NEWS, self.told.values(), key=lambda entry: entry[1])
        for member, times in chosen:
            self.told[member.name] = (member, times + 1)
            if times + 1 >= times_told(sites):
                del self.told[member.name]
        return tuple(member for member, _ in chosen)


@dataclass
class Rumours:
    """Who was found dead or alive lately, by (name, dead). `heard`: when that was; `spreading`: how often it was told,
    in the order in which it is told next.
    """

    heard: dict[tuple[str, bool], float] = field(default_factory=dict)
    spreading: dict[tuple[str, bool], int] = field(default_factory=dict)
    swept_at: float = -inf

    def add(self, rumour: Rumour, now: float) -> bool:
        """Takes up a rumour; False if it is too old, one like it has been heard already, or there are too many."""
        if len(self.heard) >= MOST_HEARD and now - self.swept_at >= 1:
            self._forget_old(now)
        key, fresh = (rumour.site, rumour.dead), 0 <= rumour.age < RUMOUR_SECONDS
        if not fresh or self._is_known(key, now) or len(self.heard) >= MOST_HEARD:
            return False
        for old in (key, (rumour.site, not rumour.dead)):
            self.heard.pop(old, None)
            self.spreading.pop(old, None)
        self.heard[key], self.spreading[key] = now - rumour.age, 0
        return True

    def says_dead(self, name: str, now: float) -> bool:
        """Whether others found this peer dead lately."""
        return self._is_known((name, True), now)

    def take(self, sites: int, now: float) -> tuple[Rumour, ...]:
        """What goes into the next message: each in turn."""
        if not self.spreading:
            return ()
        taken = []
        for key in list(islice(self.spreading, MOST_RUMOURS)):
            times = self.spreading.pop(key) + 1
            if self._is_known(key, now):
                taken.append(Rumour(site=key[0], dead=key[1], age=now - self.heard[key]))
                if times < times_told(sites):
                    self.spreading[key] = times
        return tuple(taken)

    def _is_known(self, key: tuple[str, bool], now: float) -> bool:
        return now - self.heard.get(key, -inf) < RUMOUR_SECONDS

    def _forget_old(self, now: float) -> None:
        self.swept_at = now
        self.heard = {key: since for key, since in self.heard.items() if now - since < RUMOUR_SECONDS}
