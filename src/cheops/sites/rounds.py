"""Whom a site probes, and when. Pure but for its own memory; the chance is passed in.

Up to FULL peers all are probed in every round of a second. Beyond, the load of a site must not grow with their number:
EACH_ROUND are taken in turn from a shuffled list, which bounds the time until any one is probed (SWIM, section 4.3;
the work on suspicion in 4.2), up to EXTRA more are probed out of turn because something was heard of them or they
don't answer, and one that is down.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

FULL = 16  # peers
EACH_ROUND = 8
EXTRA = 16  # a round
EXTRA_AT_START = 100  # a round, so that a site that starts soon knows all: of a thousand, after some 15 s
SHORTEST_ROUND, LONGEST_ROUND = 0.9, 1.0  # seconds; a beat is never later than a second after the last

Chance = Callable[[], float]
"""A random number from 0 up to 1."""


@dataclass
class Turn:
    """Peers in a shuffled order, each once before any comes twice."""

    chance: Chance
    waiting: list[str] = field(default_factory=list)

    def take(self, count: int, all_of_them: Iterable[str], fit: Callable[[str], bool]) -> list[str]:
        """The next that are fit, at most `count`; the list begins anew when it is used up, but once a call."""
        taken: list[str] = []
        for _ in range(2):
            while self.waiting and len(taken) < count:
                name = self.waiting.pop()
                if fit(name) and name not in taken:
                    taken.append(name)
            if len(taken) < count and not self.waiting:
                self.waiting = sorted(all_of_them, key=lambda _: self.chance())
        return taken


@dataclass
class Rounds:
    """When the next round is, and who is to be probed out of turn (by name, not before that time)."""

    chance: Chance
    next_round: float
    soon: dict[str, float] = field(default_factory=dict)
    extra_left: int = EXTRA
    started: float = field(init=False)
    up: Turn = field(init=False)
    down: Turn = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.next_round
        self.up, self.down = Turn(self.chance), Turn(self.chance)

    def probe_soon(self, name: str, now: float, within: float) -> None:
        """Has a peer probed out of turn, at a time drawn from now to `within` seconds."""
        at = now + within * self.chance()
        self.soon[name] = min(at, self.soon.get(name, at))

    def begins(self, now: float, count: int) -> bool:
        """Whether a round begins now, among so many peers; then the next is set."""
        if now < self.next_round:
            return False
        length = SHORTEST_ROUND + (LONGEST_ROUND - SHORTEST_ROUND) * self.chance()
        self.next_round = now + length if now > self.next_round + length else self.next_round + length
        starting = now - self.started < 1.5 * count / EXTRA_AT_START
        self.extra_left = EXTRA_AT_START if starting else EXTRA
        return True

    def in_turn(self, peers: Collection[str], down: Collection[str]) -> list[str]:
        """Whom this round probes of the peers, some of which are down."""
        if len(peers) <= FULL:
            return list(peers)
        up = self.up.take(EACH_ROUND, peers, lambda name: name in peers and name not in down)
        return [*up, *self.down.take(1, down, lambda name: name in peers and name in down)]

    def out_of_turn(self, unanswered: list[str], now: float, count: int, is_up: Callable[[str], bool]) -> list[str]:
        """Who is probed besides: who hasn't answered for a while, then who was to be probed soon, best first who may
        have come back.
        """
        if count > FULL and self.extra_left <= 0:
            return []
        ripe = [name for name, at in self.soon.items() if at <= now]
        if count > FULL and len(ripe) > self.extra_left:
            ripe.sort(key=is_up)
        wanted = list(dict.fromkeys([*unanswered, *ripe]))
        chosen = wanted if count <= FULL else wanted[: self.extra_left]
        self.extra_left -= len(chosen)
        for name in chosen:
            self.soon.pop(name, None)
        return chosen
