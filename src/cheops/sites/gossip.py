"""What a site passes on, and for how often: each piece of news in a bounded number of its messages. Pure.

With N sites, some 3 * log2(N) messages of each that heard it bring a rumour to all of them, but for a chance that
falls with a power of N (SWIM: Das, Gupta, Motivala, "SWIM: scalable weakly-consistent infection-style process group
membership protocol", DSN 2002, section 4.1). What is missed all the same is found by the digests of the rolls.
"""

from dataclasses import dataclass, field
from heapq import nsmallest
from math import ceil, log2

from cheops.sites.message import Rumour
from cheops.sites.roll import Member

MOST_NEWS = 8  # records in a message
MOST_RUMOURS = 8  # in a message
MOST_KEPT = 64  # pieces of news being spread at a time; more of them is a case for whole rolls
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
    """Who was found dead or alive lately: by (name, dead), when that was, and how often it was told."""

    heard: dict[tuple[str, bool], tuple[float, int]] = field(default_factory=dict)

    def add(self, rumour: Rumour, now: float) -> bool:
        """Takes up a rumour; False if it is too old, or one like it has been heard already."""
        self._forget_old(now)
        key = (rumour.site, rumour.dead)
        if rumour.age >= RUMOUR_SECONDS or rumour.age < 0 or key in self.heard or len(self.heard) >= 4 * MOST_KEPT:
            return False
        self.heard.pop((rumour.site, not rumour.dead), None)
        self.heard[key] = (now - rumour.age, 0)
        return True

    def says_dead(self, name: str, now: float) -> bool:
        """Whether others found this peer dead lately."""
        since, _ = self.heard.get((name, True), (now - RUMOUR_SECONDS, 0))
        return now - since < RUMOUR_SECONDS

    def take(self, sites: int, now: float) -> tuple[Rumour, ...]:
        """What goes into the next message: the least told first."""
        self._forget_old(now)
        fresh = [(key, entry) for key, entry in self.heard.items() if entry[1] < times_told(sites)]
        chosen = nsmallest(MOST_RUMOURS, fresh, key=lambda item: item[1][1])
        for key, (since, times) in chosen:
            self.heard[key] = (since, times + 1)
        return tuple(Rumour(site=name, dead=dead, age=now - since) for (name, dead), (since, _) in chosen)

    def _forget_old(self, now: float) -> None:
        for key in [key for key, (since, _) in self.heard.items() if now - since >= RUMOUR_SECONDS]:
            del self.heard[key]
