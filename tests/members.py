"""Sites that beat for each other inside one process, in a time that leaps from one thing that is due to the next."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from cheops.config import Site
from cheops.errors import BadHeartbeat, NotAMember, Refused
from cheops.model import PeerState
from cheops.ports import DISTANCES, HEARTBEAT
from cheops.sites.beating import Clocks
from cheops.sites.membership import Membership, Rolls
from cheops.stores.rolls import RollInMemory
from cheops.transports.memory import MemoryTransport, Network
from values import SHOP, site_of

T = TypeVar("T")
NAMES = ("Site1", "Site2", "Site3")
ISSUED = 1_000  # when the first certificates were


class Clock:
    """A monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.now = 5_000.0

    def __call__(self) -> float:
        return self.now


class _Leaping(selectors.DefaultSelector):
    """Doesn't wait: the time is over at once."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("nothing is due any more, and somebody waits")
        self._clock.now += max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: Clock) -> None:
        self._leaping = clock
        super().__init__(_Leaping(clock))

    def time(self) -> float:
        return self._leaping()


class Mesh:
    """Sites over one network. `issued` is when the certificate of each was."""

    def __init__(self) -> None:
        self.clock, self.network = Clock(), Network()
        self.issued: dict[str, int] = {}
        self.members: dict[str, Membership] = {}
        self._beating: dict[str, asyncio.Task[None]] = {}

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        """The result of a story, which may wait for as long as it likes."""
        with asyncio.Runner(loop_factory=lambda: _Loop(self.clock)) as runner:
            return runner.run(story)

    def start(self, site: Site, rolls: Rolls | None = None, issued: int = ISSUED) -> Membership:
        """Starts the agent of a site, in place of the one before."""
        clocks = Clocks(now=self.clock, wall=lambda: self.clock() + 1_800_000_000)
        member = Membership(site, MemoryTransport(site.name, self.network), rolls or memory(site.name), clocks)
        member.certified(issued)
        self.issued[site.name], self.members[site.name] = issued, member
        self.network.agents[site.name] = self._agent(member)
        self.stop(site.name)
        self._beating[site.name] = asyncio.create_task(member.beating.run())
        return member

    def start_all(self, *names: str) -> list[Membership]:
        return [self.start(listed(name)) for name in names or NAMES]

    def stop(self, name: str) -> None:
        """Its agent beats no more; what asks it still gets an answer."""
        if name in self._beating:
            self._beating.pop(name).cancel()

    def _agent(self, member: Membership) -> Callable[[str, str, bytes | None], Coroutine[Any, Any, bytes]]:
        async def answer(origin: str, path: str, body: bytes | None) -> bytes:
            if path == DISTANCES:
                return member.beating.distances_told()
            assert path == HEARTBEAT
            assert body is not None
            try:
                return member.beating.receive(body, origin, self.issued.get(origin, ISSUED))
            except (NotAMember, BadHeartbeat) as error:
                raise Refused(error.detail, answer=error.status) from error

        return answer

    async def until(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        """Waits until something holds; fails if it doesn't in that time."""
        end = self.clock() + seconds
        while not holds():
            assert self.clock() < end, f"it doesn't hold after {seconds} s"
            await asyncio.sleep(0.05)

    async def all_up(self) -> None:
        others = len(self.members) - 1
        await self.until(lambda: all(up(member) == others for member in self.members.values()))


def up(member: Membership) -> int:
    """How many peers are up."""
    return sum(view.state is PeerState.UP for view in member.peers().values())


def listed(name: str, *peers: str) -> Site:
    """A site whose site.yaml lists these peers; all others if none is named."""
    others = peers or tuple(other for other in NAMES if other != name)
    return site_of(SHOP, name, {each: int(each.removeprefix("Site")) for each in (name, *others)})


def memory(name: str) -> RollInMemory:
    return RollInMemory(lambda: f"data of {name}")
