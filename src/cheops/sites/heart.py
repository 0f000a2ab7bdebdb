"""The protocol of a site among its peers: who is there, who lives, and how far they are. Does no I/O.

Call `beat` at `next_at`, send the probes it returns, and say of each what became of it: `answered`, `agent_away` or,
after PATIENCE, `unanswered`. Give the heartbeats of peers to `receive` and send back what it returns. `now` is a
monotonic clock, `wall` seconds since 1970; only the offset of a peer's clock depends on the latter.

What is heard of others by gossip settles who is a member. Whether a peer lives a site finds out for itself: a rumour
is only a reason to ask it soon, so nobody has to refute one, and a wrong one does no harm. The parts: roll.py (who is
a member), liveness.py (who lives), rounds.py (whom to ask), gossip.py (what to pass on), message.py (the wire).
"""

from collections.abc import Mapping
from dataclasses import replace
from heapq import nsmallest
from math import inf

from cheops.errors import BadRequest
from cheops.model import Distances, PeerState, PeerView, RoundTrip
from cheops.sites.admission import admit
from cheops.sites.events import OF_STANDING, OF_STATE, Event, Happening
from cheops.sites.gossip import MOST_NEWS, News, Rumours
from cheops.sites.liveness import HEDGE, Timing
from cheops.sites.message import MOST_RECORDS, Message, Near, Rumour
from cheops.sites.peer import Peer, Probe, fresh
from cheops.sites.roll import Member, Roll, Standing
from cheops.sites.rounds import FULL, Chance, Rounds

TICK = 0.1  # seconds between two beats
STOOD_STILL = 0.5  # a beat that comes so much later than planned: this site, not its peers, was away
SOON = 0.2  # seconds within which a peer is probed that is said to be dead
NEAREST = 16  # sites whose distance is told
NEAR_SECONDS = 5.0  # between two tellings of them to the same peer
ASK_SECONDS, ASK_SECONDS_LARGE = 0.5, 3.0  # between two requests for a whole roll; in a large mesh news come first
FAREWELLS = 2  # rounds in which a site says that it leaves
JOINER_PROBES = 100  # a second, that a new site gets from all others together


class Heart:
    """The heart of the site `me`, which knows the sites of `roll` (seeds, or what it knew before it restarted).

    `incarnation` is made anew with the site's data. With `learns` false, only the sites of `roll` and `know` count.
    """

    def __init__(
        self,
        me: Member,
        *,
        roll: Roll,
        incarnation: str,
        version: str,
        chance: Chance,
        now: float,
        learns: bool = True,
    ) -> None:
        self.me, self.roll, self.next_at = me, roll.merged(me), now
        self._incarnation, self._version, self._learns = incarnation, version, learns
        self._started, self._sequence = now, 0
        self._rounds = Rounds(chance, now)
        self._news, self._rumours = News(), Rumours()
        self._peers: dict[str, Peer] = {}
        self._waiting: dict[str, None] = {}  # asked, and not answered yet
        self._down: dict[str, None] = {}
        self._on_trial: dict[str, None] = {}
        self._want: set[str] = set()  # whose rolls to ask for
        self._owed: set[str] = set()  # who asked for ours
        self._want_again_at, self._changed_at = now, now
        self._stood_still_at = -inf
        self._near: tuple[Near, ...] = ()
        self._near_at = -inf
        self._farewells = FAREWELLS
        self._events: list[Event] = []
        self._others = self._other_members()
        if not me.is_seed:
            self._news.add(me)
        self._probe_all_soon(now)

    # What the agent's loop calls.

    def beat(self, now: float, wall: float) -> list[Probe]:
        """The heartbeats that are due, in the order of their sending; sets `next_at`."""
        self._notice_standstill(now)
        self.next_at = now + TICK
        if self._is_gone(now):
            return []
        chosen: dict[str, None] = {}
        if self._rounds.begins(now, len(self._others)):
            chosen |= dict.fromkeys(self._rounds.in_turn(self._others, self._down))
            for name in self._on_trial:
                self._rounds.probe_soon(name, now, 0.0)
        unanswered = [name for name in self._waiting if now - self._peers[name].asked_at >= HEDGE]
        chosen |= dict.fromkeys(self._rounds.out_of_turn(unanswered, now, len(self._others), self._is_up))
        return [self._probe(name, now, wall) for name in chosen if name in self._others]

    def receive(self, message: Message, *, sender: str, generation: int, now: float, wall: float) -> Message:
        """The reply to a heartbeat, for which `held` is to be set if it isn't sent at once.

        `sender` and `generation` are those of the certificate. Raises NotAMember, which changes nothing.
        """
        self._notice_standstill(now)
        admit(message, sender=sender, generation=generation, site=self.me.name, roll=self.roll, learns=self._learns)
        self._take(message, now, is_reply=False)
        if sender in self._others:
            peer = self._peer(sender, now)
            peer.heard_at = now
            if peer.state is not PeerState.UP and now - peer.asked_at >= HEDGE:
                self._rounds.probe_soon(sender, now, 0.0)
        return self._message(sender, now, wall)

    def answered(self, probe: Probe, reply: Message, now: float, wall: float) -> None:
        """The probe was answered by the peer's agent."""
        self._notice_standstill(now)
        if reply.sender.name != probe.peer:
            self.unanswered(probe, now, f"what answers at {probe.mesh} is {reply.sender.name}")
        elif probe.peer in self._others:
            self._rounds.soon.pop(probe.peer, None)
            self._take(reply, now, is_reply=True)
            if probe.peer in self._others:
                self._peer(probe.peer, now).measure(probe, now, reply, wall)
                self._alive(probe, now)

    def agent_away(self, probe: Probe, now: float) -> None:
        """The probe was answered by the peer's Envoy, which says that its agent doesn't run: the site itself is up."""
        self._notice_standstill(now)
        if probe.peer in self._others:
            peer = self._peer(probe.peer, now)
            peer.agent_away = True
            peer.measure(probe, now, None, 0.0)
            self._alive(probe, now)

    def unanswered(self, probe: Probe, now: float, why: str) -> None:
        """The probe was lost, refused, or not answered within PATIENCE; `why` is told to people while it matters."""
        self._notice_standstill(now)
        departed = self.roll[self.me.name].departed  # then it is refused, rightly
        if departed or probe.peer not in self._others or probe.at <= self._stood_still_at:
            return
        peer, large = self._peer(probe.peer, now), len(self._others) > FULL
        before, peer.why = peer.state, why
        rumour = large and self._rumours.says_dead(probe.peer, now)
        peer.liveness = peer.liveness.on_loss(probe.at, now, rumour=rumour)
        if peer.state is not before:
            if large and not rumour and before is PeerState.UP:
                self._rumours.add(Rumour(site=probe.peer, dead=True, age=0.0), now)
            self._became(probe.peer, peer, now, why)
        if peer.state is PeerState.DOWN:
            self._waiting.pop(probe.peer, None)
        if peer.liveness.trial_since is None:
            self._on_trial.pop(probe.peer, None)

    # What people and the core ask.

    def peers(self, now: float) -> Mapping[str, PeerView]:
        """Every other member, as this site finds it."""
        clashes, unheard = self.roll.clashes, fresh(self._started)
        return {name: self._peers.get(name, unheard).view(now, clashes.get(name, "")) for name in self._others}

    def state_of(self, name: str) -> PeerState:
        """How a peer is; one that was never asked is suspect."""
        peer = self._peers.get(name)
        return peer.state if peer else PeerState.SUSPECT

    def distances(self, now: float) -> Distances:
        """How far the sites are that are up and may be named; this one is at 0."""
        measured = {name: timing.round_trip(now) for name, timing in self._measured() if name in self.roll.usable}
        return Distances(of={self.me.name: RoundTrip(us=0.0, spread_us=0.0, age=0.0), **measured})

    def distances_of(self, peer: str, now: float) -> Distances | None:
        """What a peer told last of its distances to those nearest to it; None if it told nothing yet."""
        known = self._peers.get(peer)
        if known is None or known.near_at == -inf:
            return None
        age = now - known.near_at
        trips = {n.site: RoundTrip(us=n.us, spread_us=n.spread_us, age=n.age + age) for n in known.near}
        return Distances(of={peer: RoundTrip(us=0.0, spread_us=0.0, age=age), **trips}, age=age)

    def take_events(self) -> list[Event]:
        """What happened since the last time this was asked."""
        events, self._events = self._events, []
        return events

    # What people decide.

    def know(self, *members: Member, now: float) -> None:
        """Takes up seeds of a changed site.yaml, or this site's own record with a higher revision."""
        for member in members:
            if member.name == self.me.name and member.order() > self.me.order():
                self.me = member
        self._learn(members, now, listed=True)

    def leave(self, now: float) -> None:
        """Says in the next two rounds that this site leaves; then it beats no more."""
        self.me = self.me.become(Standing.LEFT)
        self._learn((self.me,), now)

    def remove(self, name: str, now: float) -> None:
        """Declares that a site is no member any more. Raises BadRequest if it can't be."""
        known = self.roll.get(name)
        if known is None or known.departed or name == self.me.name:
            what = "this is the site itself" if name == self.me.name else "it is no member"
            raise BadRequest(f"{name} can't be removed at {self.me.name}: {what}", hint="`cheops site leave` leaves.")
        if known.is_seed:
            what = f"{name} can't be removed at {self.me.name}: its certificate hasn't been seen by any site yet"
            raise BadRequest(what, hint="Take it out of the peers in site.yaml.")
        self._learn((known.become(Standing.REMOVED),), now)

    # Probing.

    def _probe(self, name: str, now: float, wall: float) -> Probe:
        self._peer(name, now).asked_at = now
        self._waiting[name] = None
        return Probe(peer=name, mesh=self.roll[name].mesh, message=self._message(name, now, wall), at=now)

    def _is_up(self, name: str) -> bool:
        return self.state_of(name) is PeerState.UP

    def _is_gone(self, now: float) -> bool:
        """Whether this site has departed, and has said so to others."""
        mine = self.roll[self.me.name]
        if not mine.departed or mine.generation < self.me.generation:
            return False
        if mine.standing is Standing.LEFT and now >= self._rounds.next_round:
            self._farewells -= 1
        return mine.standing is Standing.REMOVED or self._farewells < 0

    def _probe_all_soon(self, now: float) -> None:
        for name in self._others:
            self._rounds.probe_soon(name, now, 0.0)

    def _alive(self, probe: Probe, now: float) -> None:
        name, peer = probe.peer, self._peers[probe.peer]
        before = peer.state
        peer.liveness = peer.liveness.on_answer(probe.at, now)
        self._waiting.pop(name, None)
        if peer.liveness.trial_since is not None:
            self._on_trial[name] = None
        if peer.state is not before:
            if before is PeerState.DOWN and len(self._others) > FULL:
                self._rumours.add(Rumour(site=name, dead=False, age=0.0), now)
                for other in self._down:  # who comes back seldom comes alone
                    self._rounds.probe_soon(other, now, 0.0)
            self._became(name, peer, now, "its agent doesn't run" if peer.agent_away else "")

    def _became(self, name: str, peer: Peer, now: float, detail: str) -> None:
        if peer.state is PeerState.DOWN:
            self._down[name] = None
        else:
            self._down.pop(name, None)
        if peer.state is PeerState.UP:
            self._on_trial.pop(name, None)
        self._tell(now, OF_STATE[peer.state], name, detail)

    def _notice_standstill(self, now: float) -> None:
        """A loop that is late got no answers because it didn't look: no peer is to blame for that."""
        if now - self.next_at < STOOD_STILL:
            return
        self._tell(now, Happening.STOOD_STILL, self.me.name, f"for {now - self.next_at:.1f} s")
        self.next_at = self._stood_still_at = now
        self._waiting.clear()
        for peer in self._peers.values():
            peer.forgive(now)

    # Messages.

    def _message(self, to: str, now: float, wall: float) -> Message:
        peer = self._peers.get(to) or fresh(now)
        sites = len(self._others)
        self._sequence += 1
        wants, owes = to in self._want, to in self._owed
        self._want.discard(to)
        self._owed.discard(to)
        return Message(
            sender=self.me,
            incarnation=self._incarnation,
            version=self._version,
            sequence=self._sequence,
            digest=self.roll.digest,
            sent_at=wall,
            unanswered=peer.unanswered_for(now),
            want_roll=wants,
            news=self._news.take(sites),
            roll=self.roll.told if owes else None,
            rumours=self._rumours.take(sites, now),
            near=self._near_for(peer, now),
        )

    def _near_for(self, peer: Peer, now: float) -> tuple[Near, ...] | None:
        if now - peer.near_told_at < NEAR_SECONDS:
            return None
        if now - self._near_at >= NEAR_SECONDS / 2:
            nearest = nsmallest(NEAREST, self._measured(), key=lambda measured: measured[1].smoothed)
            self._near, self._near_at = tuple(_near(name, timing, now) for name, timing in nearest), now
        peer.near_told_at = now
        return self._near

    def _measured(self) -> list[tuple[str, Timing]]:
        up = PeerState.UP
        return [(name, peer.timing) for name, peer in self._peers.items() if peer.timing and peer.state is up]

    def _take(self, message: Message, now: float, *, is_reply: bool) -> None:
        """Takes what a message says, of its sender and of others."""
        name = message.sender.name
        self._learn((message.sender, *message.news), now)
        if message.roll:
            self._learn(message.roll, now, whole=True)
        if name not in self._others:  # it says that it leaves
            return
        if self._peer(name, now).note_message(message, now):
            self._tell(now, Happening.WIPED, name, "its data has been made anew")
        for rumour in message.rumours:
            self._hear(rumour, now)
        if message.want_roll:
            self._owed.add(name)
        differs = bool(message.digest) and self.roll.digest != message.digest and self._may_want(now)
        if differs:
            self._want.add(name)
        if is_reply and (differs or message.want_roll):
            self._rounds.probe_soon(name, now, 0.0)

    def _may_want(self, now: float) -> bool:
        """Whether to ask for a whole roll; not while news still are on their way through a large mesh."""
        large = len(self._others) > FULL
        pause = ASK_SECONDS_LARGE if large else ASK_SECONDS
        in_flux = large and now - self._changed_at < pause
        if not self._learns or now < self._want_again_at or in_flux:
            return False
        self._want_again_at = now + pause
        return True

    def _hear(self, rumour: Rumour, now: float) -> None:
        if rumour.site not in self._others or not self._rumours.add(rumour, now):
            return
        if rumour.dead == self._is_up(rumour.site):
            self._rounds.probe_soon(rumour.site, now, SOON if rumour.dead else 1.0)

    # Members.

    def _learn(self, records: tuple[Member, ...], now: float, *, whole: bool = False, listed: bool = False) -> None:
        news = [member for member in self.roll.news(*records) if listed or self._counts(member)]
        if not news:
            return
        before, self.roll = self.roll, self.roll.merged(*news)
        self._changed_at = now
        self._others = self._other_members()
        for member in news:
            self._changed(member, before.get(member.name), now)
            if not member.is_seed and not (whole and len(news) > MOST_NEWS):
                self._news.add(member)
        for name in self.roll.clashes.keys() - before.clashes.keys():
            self._tell(now, Happening.CLASH, name, f"its number is that of {self.roll.clashes[name]}")
        self._hold_own(now)

    def _counts(self, member: Member) -> bool:
        """Whether a record that was heard is taken up: not of more sites than a roll may have."""
        return member.name in self.roll or (self._learns and len(self.roll) < MOST_RECORDS)

    def _changed(self, member: Member, before: Member | None, now: float) -> None:
        name, was_present = member.name, before is not None and not before.departed
        if name != self.me.name and member.departed:
            self._forget(name)
        if member.departed == was_present:
            self._tell(now, OF_STANDING[member.standing], name)
        if name in self._others and not was_present:
            self._rounds.probe_soon(name, now, max(0, len(self._others) - FULL) / JOINER_PROBES)

    def _forget(self, name: str) -> None:
        self._peers.pop(name, None)
        self._rounds.soon.pop(name, None)
        for names in (self._waiting, self._down, self._on_trial):
            names.pop(name, None)
        self._want.discard(name)
        self._owed.discard(name)

    def _hold_own(self, now: float) -> None:
        """What others say of this site is answered with a higher revision, unless it has departed."""
        held = self.roll[self.me.name]
        if held.order() <= self.me.order() or held.departed:
            return
        if held.generation > self.me.generation:
            self._tell(now, Happening.OUTDATED, self.me.name, "there is a newer certificate under its name")
            return
        self.me = replace(self.me, revision=held.revision + 1)
        self._learn((self.me,), now)

    def _other_members(self) -> dict[str, None]:
        return {name: None for name in self.roll.members if name != self.me.name}

    def _peer(self, name: str, now: float) -> Peer:
        peer = self._peers.get(name)
        if peer is None:
            peer = self._peers[name] = fresh(now)
        return peer

    def _tell(self, now: float, what: Happening, site: str, detail: str = "") -> None:
        self._events.append(Event(at=now, what=what, site=site, detail=detail))


def _near(name: str, timing: Timing, now: float) -> Near:
    us, spread = round(timing.smoothed * 1e6), round(timing.spread * 1e6)
    return Near(site=name, us=us, spread_us=spread, age=round(now - timing.at))
