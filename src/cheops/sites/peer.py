"""What a site keeps of one peer, and how it tells that to people. Pure."""

from dataclasses import dataclass
from math import inf

from cheops.model import PeerState, PeerView
from cheops.sites.liveness import Liveness, Timing, clock_offset, timed, travelled
from cheops.sites.message import Message, Near

LATELY = 3.0  # seconds: three heartbeats


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A heartbeat to send to a peer, whose mesh listens at `mesh`; `at` is monotonic, `message.sent_at` is wall."""

    peer: str
    mesh: str
    message: Message
    at: float


@dataclass(kw_only=True, slots=True)
class Peer:
    """A peer as this site knows it. Times are monotonic: `asked_at` when it was probed last, `heard_at` when a
    heartbeat of its own came, which said at `complained_at` that it gets no answers from us. `near` is what it told of
    its distances.
    """

    liveness: Liveness
    timing: Timing | None = None
    incarnation: str = ""
    version: str = ""
    offset: float | None = None
    agent_away: bool = False
    asked_at: float = -inf
    heard_at: float = -inf
    complained_at: float = -inf
    near: tuple[Near, ...] = ()
    near_at: float = -inf
    near_told_at: float = -inf
    why: str = ""

    @property
    def state(self) -> PeerState:
        return self.liveness.state

    def measure(self, probe: Probe, now: float, reply: Message | None, wall: float) -> None:
        """Takes the round trip of an answered probe, and from the agent's own reply the offset of the peer's clock."""
        held = reply.held if reply else 0.0
        self.timing = timed(self.timing, travelled(probe.at, now, held), now)
        if reply and reply.sent_at:
            self.offset = clock_offset(probe.message.sent_at, reply.sent_at - held, reply.sent_at, wall)

    def unanswered_for(self, now: float) -> float | None:
        """For how long it hasn't answered, in seconds; None: it does, or wasn't asked."""
        return now - self.liveness.unanswered_since if self.liveness.lost else None

    def view(self, now: float, clash: str = "") -> PeerView:
        """What people and the core are told; `clash` names the member that keeps this one's number."""
        return PeerView(
            state=self.state,
            since=now - self.liveness.since,
            round_trip=self.timing.round_trip(now) if self.timing else None,
            incarnation=self.incarnation,
            version=self.version,
            clock_offset=self.offset,
            agent_away=self.agent_away,
            note="; ".join(note for note in self._notes(now, clash) if note),
        )

    def _notes(self, now: float, clash: str) -> list[str]:
        up, heard = self.state is PeerState.UP, now - self.heard_at < LATELY
        settles = self.liveness.settles_in(now)
        trial = f"it answers again, and is up once it did so for {settles:.0f} s more without a break"
        return [
            f"its number is that of {clash}: give it another" if clash else "",
            "it is heard, but doesn't answer us" if heard and not up and self.liveness.lost else "",
            "it doesn't get answers from us" if up and now - self.complained_at < LATELY else "",
            trial if not up and self.liveness.trial_since is not None and settles > 0 else "",
            self.why if not up and self.liveness.lost else "",
        ]

    def forgive(self, now: float) -> None:
        self.liveness = self.liveness.forgiven(now)

    def note_message(self, message: Message, now: float) -> bool:
        """Takes what a message says of its sender; True if the sender's data has been made anew since the last."""
        self.version = message.version or self.version
        self.agent_away = False
        self.complained_at = -inf if message.unanswered is None else now
        if message.near is not None:
            self.near, self.near_at = message.near, now
        wiped = bool(self.incarnation and message.incarnation and self.incarnation != message.incarnation)
        self.incarnation = message.incarnation or self.incarnation
        return wiped


def fresh(now: float) -> Peer:
    """A peer of which nothing was heard yet."""
    return Peer(liveness=Liveness(since=now))
