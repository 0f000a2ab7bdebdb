"""Keeps a heart beating: sends its heartbeats by the transport, tells it what became of them, and logs what it finds.

The decisions are heart.py's. Not promised: that a heartbeat is ever late by less than the event loop is; the heart
notices that, and blames nobody.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from cheops.errors import AgentAway, BadHeartbeat, Refused, SiteUnreachable
from cheops.model import Distances, PeerState, PeerView, RoundTrip
from cheops.ports import DISTANCES, HEARTBEAT, Transport
from cheops.sites.events import Event, Happening
from cheops.sites.heart import Heart
from cheops.sites.liveness import PATIENCE
from cheops.sites.message import decoded
from cheops.sites.peer import Probe
from cheops.sites.roll import Roll

_LONGEST = 365 * 86_400e6  # a year in microseconds
ASKED_ANEW = 1.0  # seconds for which a peer's answer about its distances is good
_BAD = {Happening.SUSPECT, Happening.DOWN, Happening.CLASH, Happening.OUTDATED, Happening.STOOD_STILL, Happening.WIPED}
log = structlog.get_logger("sites")


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """A monotonic clock and the wall's, in seconds."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class Beating:
    """What a site knows of the others, kept true. `on_roll` is called with a roll that has changed."""

    def __init__(self, heart: Heart, transport: Transport, on_roll: Callable[[Roll], None], clocks: Clocks) -> None:
        self.heart, self._transport, self._on_roll, self._clocks = heart, transport, on_roll, clocks
        self._told = heart.roll
        self._sending: set[asyncio.Task[None]] = set()
        self._asked: dict[str, tuple[float, Distances]] = {}
        self.refused = ""

    async def run(self) -> None:
        """Beats until it is cancelled."""
        self.heart.next_at = self._clocks.now()
        try:
            while True:
                await asyncio.sleep(max(0.0, self.heart.next_at - self._clocks.now()))
                for probe in self.heart.beat(self._clocks.now(), self._clocks.wall()):
                    sending = asyncio.create_task(self._send(probe))
                    self._sending.add(sending)
                    sending.add_done_callback(self._sending.discard)
                self.look()
        finally:
            for sending in self._sending:
                sending.cancel()

    async def _send(self, probe: Probe) -> None:
        wire = probe.message.encoded()
        try:
            answer = await self._transport.ask(HEARTBEAT, site=probe.peer, body=wire, seconds=PATIENCE)
            reply = decoded(answer)
        except AgentAway:
            self.heart.agent_away(probe, self._clocks.now())
        except Refused as error:
            self.refused = error.detail if error.members["answer"] == 403 else self.refused
            self.heart.unanswered(probe, self._clocks.now(), error.detail)
        except SiteUnreachable as error:
            self.heart.unanswered(probe, self._clocks.now(), error.members.get("why") or error.detail)
        except BadHeartbeat as error:
            self.heart.unanswered(probe, self._clocks.now(), error.detail)
        else:
            self.refused = ""
            self.heart.answered(probe, reply, self._clocks.now(), self._clocks.wall())
        self.look()

    def receive(self, wire: bytes, sender: str, generation: int) -> bytes:
        """The reply to the heartbeat of the site whose certificate says so. Raises BadHeartbeat, NotAMember."""
        now, wall = self._clocks.now(), self._clocks.wall()
        reply = self.heart.receive(decoded(wire), sender=sender, generation=generation, now=now, wall=wall)
        self.look()
        return replace(reply, held=self._clocks.now() - now).encoded()

    def look(self) -> None:
        """Logs what has happened, and tells of a changed roll."""
        for event in self.heart.take_events():
            _log(event)
        if self.heart.roll is not self._told:
            self._told = self.heart.roll
            self._on_roll(self._told)

    # What the core asks.

    def peers(self) -> Mapping[str, PeerView]:
        return self.heart.peers(self._clocks.now())

    async def distances(self, centre: str) -> Distances | None:
        """How far the sites are from `centre`: its own answer, else what it said last, with its age."""
        now = self._clocks.now()
        if centre == self.heart.me.name:
            return self.heart.distances(now)
        asked_at, known = self._asked.get(centre, (0.0, None))
        if known and now - asked_at < ASKED_ANEW:
            return replace(known, age=now - asked_at)
        if self.heart.state_of(centre) is not PeerState.DOWN and (told := await self._ask(centre)):
            self._asked[centre] = (self._clocks.now(), told)
            return told
        return self._said_last(centre, now)

    async def _ask(self, centre: str) -> Distances | None:
        try:
            return distances_of(await self._transport.ask(DISTANCES, site=centre, seconds=PATIENCE))
        except (SiteUnreachable, Refused, ValueError):
            return None

    def _said_last(self, centre: str, now: float) -> Distances | None:
        asked_at, asked = self._asked.get(centre, (0.0, None))
        asked = replace(asked, age=now - asked_at) if asked else None
        both = [known for known in (asked, self.heart.distances_of(centre, now)) if known]
        return min(both, key=lambda known: known.age, default=None)

    # What the mesh is told.

    def distances_told(self) -> bytes:
        """This site's own distances, for those who ask: {site: [us, spread_us, age]}."""
        found = self.heart.distances(self._clocks.now()).of
        return json.dumps({site: [trip.us, trip.spread_us, trip.age] for site, trip in found.items()}).encode()


def distances_of(told: bytes) -> Distances:
    """The distances that a site tells. Raises ValueError."""
    try:
        found = {
            str(site): RoundTrip(us=_measure(us), spread_us=_measure(spread), age=_measure(age))
            for site, (us, spread, age, *_) in json.loads(told).items()
        }
    except (AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"these are no distances: {told[:80]!r}") from error
    return Distances(of=found)


def _measure(told: Any) -> float:
    """A time of a year at most in any of the units: what a peer tells is never trusted to have the right form."""
    if not isinstance(told, int | float) or isinstance(told, bool) or not 0 <= told < _LONGEST:
        raise ValueError(f"{repr(told)[:80]} isn't a time")
    return float(told)


def _log(event: Event) -> None:
    tell = log.warning if event.what in _BAD else log.info
    tell(event.what.value, of=event.site, **({"detail": event.detail} if event.detail else {}))
