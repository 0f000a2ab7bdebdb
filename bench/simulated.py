"""A deployment on a virtual clock: the real Heart of every site, over links that delay, lose, and can be cut.

Every message crosses a link as the text that would go on the wire; its bytes are counted. What isn't simulated: TLS,
HTTP's headers, and the time that a site needs to compute.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

from cheops.errors import CheopsError
from cheops.model import PeerState
from cheops.sites.events import Event
from cheops.sites.heart import Heart
from cheops.sites.liveness import PATIENCE
from cheops.sites.message import Message, decoded
from cheops.sites.peer import Probe
from cheops.sites.roll import Member, Roll

EPOCH = 1_790_000_000.0  # the wall clock when a simulation begins
VERSION = "0.1.0"


def member(number: int, *, generation: int = 100) -> Member:
    """The site of this number."""
    mesh = f"10.0.{number >> 8}.{number & 255}:7443"
    return Member(name=f"Site{number}", number=number, mesh=mesh, generation=generation)


def seed(of: Member) -> Member:
    """What a site.yaml says of a member."""
    return replace(of, generation=0)


@dataclass
class Node:
    """A site: its heart, its certificate, and what is wrong with it. `ahead` is by how much its wall clock is."""

    heart: Heart
    generation: int
    life: int = 0
    running: bool = True
    agent_runs: bool = True
    ahead: float = 0.0
    still_until: float = 0.0
    claims: str = ""


@dataclass
class Links:
    """`silent`: (from, to) that lose every message; `closed`: (from, to) that can't connect; `losing`: how many more
    messages are lost; `dark`: sites that neither get nor send anything. The other links lose a share `loss`.
    """

    delay: Callable[[str, str], float]
    loss: float = 0.0
    silent: set[tuple[str, str]] = field(default_factory=set)
    closed: set[tuple[str, str]] = field(default_factory=set)
    dark: set[str] = field(default_factory=set)
    losing: Counter[tuple[str, str]] = field(default_factory=Counter)

    def carries(self, origin: str, to: str, random: Random) -> bool:
        if (origin, to) in self.silent or origin in self.dark or to in self.dark:
            return False
        if self.losing and self.losing[origin, to] > 0:
            self.losing[origin, to] -= 1
            return False
        return not self.loss or random.random() >= self.loss


@dataclass
class Counts:
    """What the sites did: heartbeats sent and answered, bytes sent (requests and replies), and those got by site."""

    sent: int = 0
    answered: int = 0
    bytes: int = 0
    got: Counter[str] = field(default_factory=Counter)


class Deployment:
    """Sites on a virtual clock. `on_event(site, event)` hears what each site finds.

    With `through_text`, a peer gets what it reads from the wire's text; without, the same value, which takes less time
    (that the two are equal is a property test's business).
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        delay: Callable[[str, str], float] = lambda _origin, _to: 0.01,
        on_event: Callable[[str, Event], None] = lambda _site, _event: None,
        through_text: bool = True,
    ) -> None:
        self.now, self.random = 0.0, Random(seed)
        self.links, self.counts = Links(delay=delay), Counts()
        self.nodes: dict[str, Node] = {}
        self._on_event, self._through_text = on_event, through_text
        self.weighs = True  # whether bytes are counted: that takes time
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._site_at: dict[str, str] = {}

    # Time.

    def run(self, seconds: float) -> None:
        """Lets so much time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, what, arguments = heappop(self._queue)
            what(*arguments)
        self.now = end

    def at(self, when: float, what: Callable[..., None], *arguments: Any) -> None:
        heappush(self._queue, (when, next(self._order), what, arguments))

    # Sites.

    def start(self, me: Member, roll: Roll, *, incarnation: str = "1", ahead: float = 0.0) -> Heart:
        """Starts a site, or starts it again."""
        chance = Random(self.random.random()).random
        heart = Heart(me, roll=roll, incarnation=incarnation, version=VERSION, chance=chance, now=self.now)
        old = self.nodes.get(me.name)
        life = old.life + 1 if old else 0
        self.nodes[me.name] = Node(heart=heart, generation=me.generation, life=life, ahead=ahead)
        self._site_at[me.mesh] = me.name
        heart.next_at = self.now + self.random.random()  # sites don't start in step
        self.at(heart.next_at, self._beat, me.name, life)
        return heart

    def kill(self, name: str) -> None:
        """Ends a site's agent and Envoy; its machine refuses connections."""
        self.nodes[name].running = False

    def stand_still(self, name: str, seconds: float) -> None:
        """Suspends a site's agent; nobody answers in its place."""
        self.nodes[name].still_until = self.now + seconds

    def state(self, of: str, at: str) -> PeerState:
        return self.nodes[at].heart.state_of(of)

    # What happens.

    def _awake(self, name: str, life: int, what: Callable[..., None], *arguments: Any) -> Node | None:
        """The site, if it still lives that life and doesn't stand still; in the latter case it does this later."""
        node = self.nodes[name]
        if not node.running or node.life != life:
            return None
        if node.still_until > self.now:
            self.at(node.still_until, what, *arguments)
            return None
        return node

    def _wall(self, node: Node) -> float:
        return EPOCH + self.now + node.ahead

    def _beat(self, name: str, life: int) -> None:
        node = self._awake(name, life, self._beat, name, life)
        if node is None:
            return
        for probe in node.heart.beat(self.now, self._wall(node)) if node.agent_runs else ():
            self._send(name, life, probe)
        self._listen(name, node)
        self.at(max(node.heart.next_at, self.now + 0.01), self._beat, name, life)

    def _send(self, name: str, life: int, probe: Probe) -> None:
        self.counts.sent += 1
        to = self._site_at[probe.mesh]
        message = self._carried(self._as_told(name, probe.message))
        there = self.links.delay(name, to)
        if (name, to) in self.links.closed or not self.links.carries(name, to, self.random):
            self._lose(name, life, probe)
        elif not self.nodes[to].running:
            self.at(self.now + 2 * there, self._unanswered, name, life, probe, "it refuses connections")
        elif not self.nodes[to].agent_runs:
            self.at(self.now + 2 * there, self._agent_away, name, life, probe)
        else:
            self.at(self.now + there, self._arrive, to, self.nodes[to].life, name, life, probe, message)

    def _as_told(self, name: str, message: Message) -> Message:
        claims = self.nodes[name].claims
        return replace(message, sender=replace(message.sender, name=claims)) if claims else message

    def _carried(self, message: Message) -> Message:
        if not (self.weighs or self._through_text):
            return message
        wire = message.encoded()
        self.counts.bytes += len(wire)
        return decoded(wire) if self._through_text else message

    def _lose(self, name: str, life: int, probe: Probe) -> None:
        why = f"no answer within {PATIENCE} s"
        self.at(max(self.now, probe.at + PATIENCE), self._unanswered, name, life, probe, why)

    def _arrive(self, to: str, to_life: int, name: str, life: int, probe: Probe, message: Message) -> None:
        node = self._awake(to, to_life, self._late, to, to_life, name, message)
        if node is None or self.now - probe.at >= PATIENCE:
            return self._lose(name, life, probe)
        back = self.now + self.links.delay(to, name)
        try:
            reply = self._carried(self._received(node, name, message))
        except CheopsError as error:
            self.at(back, self._unanswered, name, life, probe, f"it refuses: {error.detail}")
            return None
        finally:
            self._listen(to, node)
        if self.links.carries(to, name, self.random):
            self.at(back, self._answered, name, life, probe, reply)
        else:
            self._lose(name, life, probe)
        return None

    def _received(self, node: Node, name: str, message: Message) -> Message:
        self.counts.got[node.heart.me.name] += 1
        generation = self.nodes[name].generation
        return node.heart.receive(message, sender=name, generation=generation, now=self.now, wall=self._wall(node))

    def _late(self, to: str, to_life: int, name: str, message: Message) -> None:
        """What waited for a site that stood still; whoever sent it doesn't wait any more."""
        node = self._awake(to, to_life, self._late, to, to_life, name, message)
        if node:
            self._received(node, name, message)
            self._listen(to, node)

    def _answered(self, name: str, life: int, probe: Probe, reply: Message) -> None:
        if node := self._awake(name, life, self._answered, name, life, probe, reply):
            self.counts.answered += 1
            node.heart.answered(probe, reply, self.now, self._wall(node))
            self._listen(name, node)

    def _unanswered(self, name: str, life: int, probe: Probe, why: str) -> None:
        if node := self._awake(name, life, self._unanswered, name, life, probe, why):
            node.heart.unanswered(probe, self.now, why)
            self._listen(name, node)

    def _agent_away(self, name: str, life: int, probe: Probe) -> None:
        if node := self._awake(name, life, self._agent_away, name, life, probe):
            node.heart.agent_away(probe, self.now)
            self._listen(name, node)

    def _listen(self, name: str, node: Node) -> None:
        for event in node.heart.take_events():
            self._on_event(name, event)
