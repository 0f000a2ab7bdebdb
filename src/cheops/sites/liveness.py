"""What one site knows of one peer from its own heartbeats: whether it lives, how far it is, what its clock says. Pure.

Times are seconds of a monotonic clock, unless they are called wall. Nothing here depends on a wall clock.

How soon. A heartbeat goes out every 0.9 to 1 s, and its reply is awaited for PATIENCE. While none has come, another
follows every HEDGE, so that a single loss is known for what it is: three in a row make a suspect, five a peer that is
down. With loops that look every 0.1 s, a peer that falls silent is suspect within 1.1 + 0.4 + 0.4 + 0.8 = 2.7 s, and
down within 1.1 + 2.6 + 0.4 = 4.1 s. One that refuses connections is found sooner.

Coming back is damped as routes are (RFC 2439): each time a peer stops being up it gets a penalty, which halves every
HALF_LIFE. After one outage the first answer suffices; after a second at once it must answer for 8 s, then 16 and 32,
and at most LONGEST_TRIAL, while losing no more than two heartbeats. So a link that is stable again is used again after
a minute at most, and one that isn't can change its state but a few times.
"""

from dataclasses import dataclass, replace
from math import inf

from cheops.model import PeerState, RoundTrip

RECENT = 4  # samples of a round trip, of which the quickest counts
PATIENCE = 0.8  # seconds that a reply is awaited: a satellite takes 0.6
HEDGE = 0.3  # seconds without an answer until the next probe of the same peer
HALF_LIFE = 30.0  # seconds
LONGEST_TRIAL = 60.0  # seconds
MOST_PENALTY = 5.0  # the first with the LONGEST_TRIAL
BREAK = 3  # losses that begin a trial anew: with 1 % of messages lost, 7 in 8 pass the longest at once

_WORSE = {PeerState.UP: 0, PeerState.SUSPECT: 1, PeerState.DOWN: 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Enough:
    """What it takes to think so of a peer: probes lost in a row, and seconds since the first of them was sent."""

    state: PeerState
    lost: int
    seconds: float


ALONE = (
    Enough(state=PeerState.DOWN, lost=5, seconds=2.6),
    Enough(state=PeerState.SUSPECT, lost=3, seconds=1.2),
)
WITH_RUMOUR = (  # others have lost theirs already
    Enough(state=PeerState.DOWN, lost=3, seconds=1.4),
    Enough(state=PeerState.SUSPECT, lost=2, seconds=1.0),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Liveness:
    """How a peer is, `since` when, and the evidence: `lost` probes in a row, the first of them sent at
    `unanswered_since`; the last answered one was sent at `answered`; `trial_since`: since when it has answered again,
    but for `trial_lost` probes.
    """

    since: float
    state: PeerState = PeerState.SUSPECT
    lost: int = 0
    unanswered_since: float = inf
    answered: float = -inf
    trial_since: float | None = None
    trial_lost: int = 0
    penalty: float = 0.0
    penalty_at: float = 0.0

    def on_answer(self, sent: float, now: float) -> "Liveness":
        """Once the probe sent at `sent` has been answered."""
        answered = max(sent, self.answered)
        if self.state is PeerState.UP:
            return replace(self, answered=answered, lost=0, unanswered_since=inf)
        tried = replace(self, answered=answered, lost=0, unanswered_since=inf)
        if tried.trial_since is None:
            tried = replace(tried, trial_since=now, trial_lost=0)
        return tried if tried.settles_in(now) > 0 else replace(tried, state=PeerState.UP, since=now, trial_since=None)

    def on_loss(self, sent: float, now: float, *, rumour: bool = False) -> "Liveness":
        """Once the probe sent at `sent` has been lost; if a later one was answered, that only lengthens a trial."""
        tried = self._lost_on_trial(sent, now)
        if sent <= self.answered:
            return tried
        lost, first = self.lost + 1, min(sent, self.unanswered_since)
        evidence = replace(tried, lost=lost, unanswered_since=first)
        return evidence._judged(now, WITH_RUMOUR if rumour else ALONE)

    def _lost_on_trial(self, sent: float, now: float) -> "Liveness":
        if self.trial_since is None or sent < self.trial_since:
            return self
        if self.trial_lost + 1 < BREAK:
            return replace(self, trial_lost=self.trial_lost + 1)
        return replace(self, trial_since=None, trial_lost=0, penalty_at=now)  # a penalty doesn't shrink meanwhile

    def _judged(self, now: float, table: tuple[Enough, ...]) -> "Liveness":
        for enough in table:
            shown = self.lost >= enough.lost and now - self.unanswered_since >= enough.seconds
            if shown and _WORSE[enough.state] > _WORSE[self.state]:
                return self._worse(enough.state, now)
        return self

    def _worse(self, state: PeerState, now: float) -> "Liveness":
        if self.state is not PeerState.UP:  # still the same outage
            return replace(self, state=state, since=now)
        penalty = min(MOST_PENALTY, self.penalty_now(now) + 1)
        return replace(self, state=state, since=now, penalty=penalty, penalty_at=now, trial_since=None)

    def forgiven(self, now: float) -> "Liveness":
        """Without the evidence gathered so far: this site itself stood still (Lifeguard: Dadgar, Phillips, Currey,
        "Lifeguard: local health awareness for more accurate failure detection", DSN-W 2018).
        """
        return replace(self, lost=0, unanswered_since=inf)

    def penalty_now(self, now: float) -> float:
        return float(self.penalty * 0.5 ** ((now - self.penalty_at) / HALF_LIFE))

    def trial(self, now: float) -> float:
        """For how many seconds the peer must answer until it is up again."""
        penalty = self.penalty_now(now)
        return 0.0 if penalty < 1.5 else min(LONGEST_TRIAL, 4 * 2 ** (penalty - 1))

    def settles_in(self, now: float) -> float:
        """For how many seconds it must go on answering; 0 or less: it is up."""
        since = now if self.trial_since is None else self.trial_since
        return self.trial(now) - (now - since)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """A smoothed round trip and its spread, in seconds, when it was measured last, and the last samples.

    What is smoothed is the quickest of the last samples, since a busy machine only adds to a round trip (the clock
    filter of RFC 5905, 10). So the weight can be 1/4, where RFC 6298 has 1/8: with a sample a second, two thirds of a
    change are seen after 8 s if the way has got longer, after 4 s if it has got shorter.
    """

    smoothed: float
    spread: float
    at: float
    recent: tuple[float, ...]

    def round_trip(self, now: float) -> RoundTrip:
        return RoundTrip(us=self.smoothed * 1e6, spread_us=self.spread * 1e6, age=now - self.at)


def timed(before: Timing | None, sample: float, now: float) -> Timing:
    """The timing after a further sample, in seconds."""
    if before is None:
        return Timing(smoothed=sample, spread=sample / 2, at=now, recent=(sample,))
    recent = (*before.recent, sample)[-RECENT:]
    spread = before.spread + (abs(before.smoothed - sample) - before.spread) / 4
    smoothed = before.smoothed + (min(recent) - before.smoothed) / 4
    return Timing(smoothed=smoothed, spread=spread, at=now, recent=recent)


def travelled(sent: float, returned: float, held: float) -> float:
    """How long a request and its reply were under way: RFC 5905's delta; `held` is what the peer says it took."""
    return max(0.0, returned - sent - max(0.0, held))


def clock_offset(sent: float, peer_got: float, peer_sent: float, returned: float) -> float:
    """How far the peer's wall clock is ahead, in seconds: RFC 5905's theta; wrong by half the round trip at most."""
    return ((peer_got - sent) + (peer_sent - returned)) / 2
