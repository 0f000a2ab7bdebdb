"""`python -m bench.scale`: what membership costs at 10, 100 and 1000 sites, on a virtual clock; writes docs/scale.md.

Each figure comes from one run with a fixed seed, so the page is the same wherever it is made.
"""

import argparse
import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from bench.simulated import EPOCH, VERSION, Counts, Deployment, member, seed
from cheops.sites.events import Event, Happening
from cheops.sites.gossip import RUMOUR_SECONDS
from cheops.sites.message import Message
from cheops.sites.peer import Probe
from cheops.sites.roll import Member, Roll

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
LOSS = 0.01
LONGEST = 300.0  # virtual seconds that anything is waited for
JOINERS = 3
LOOK = 0.1  # seconds
CUT_SECONDS = 10.0
SETTLING = 3.0  # seconds left alone before anything is measured
MOST_READ_BACK = 100  # sites up to which every message is read from its text


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many sites, and for how many virtual seconds they are watched at rest."""

    sites: int
    quiet: float


THOROUGH = (Size(sites=10, quiet=1200), Size(sites=100, quiet=60), Size(sites=1000, quiet=10))
QUICK = (Size(sites=10, quiet=20), Size(sites=50, quiet=10))


@dataclass
class Watch:
    """Who finds whom not to be up, and when sites found `watched` to be what."""

    not_up: set[tuple[str, str]] = field(default_factory=set)
    found: dict[tuple[Happening, str], dict[str, float]] = field(default_factory=dict)
    suspicions: int = 0
    downs: int = 0

    def hear(self, site: str, event: Event) -> None:
        if event.what in (Happening.SUSPECT, Happening.DOWN):
            self.not_up.add((site, event.site))
        elif event.what in (Happening.UP, Happening.REMOVED, Happening.LEFT):
            self.not_up.discard((site, event.site))
        elif event.what is Happening.JOINED:
            self.not_up.add((site, event.site))
        self.suspicions += event.what is Happening.SUSPECT
        self.downs += event.what is Happening.DOWN
        self.found.setdefault((event.what, event.site), {}).setdefault(site, event.at)

    def times(self, what: Happening, site: str, since: float) -> list[float]:
        """After how many seconds each site found so, the first first."""
        return sorted(at - since for at in self.found.get((what, site), {}).values())


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was found at one size. Rates are per site and second; times are in seconds."""

    size: Size
    sent: float
    answered: float
    most_got: float
    bytes: float
    suspicions: int
    downs: int
    join_known: float
    join_up: float
    joiner_up: float
    first_suspect: float
    first_down: float
    half_down: float
    all_down: float
    healed_rolls: float
    healed_up: float


class Sites:
    """A deployment of so many sites, all of which find each other up."""

    def __init__(self, sites: int, seed_number: int = 1) -> None:
        self.watch = Watch()
        self.places = {f"Site{number}": _place(number) for number in range(1, sites + JOINERS + 1)}
        self.deployment = Deployment(
            seed=seed_number,
            delay=self._delay,
            on_event=self.watch.hear,
            through_text=sites <= MOST_READ_BACK,
        )
        self.members = [member(number) for number in range(1, sites + 1)]
        _acquaint(self.deployment, self.members)
        self.deployment.run(SETTLING)

    def _delay(self, origin: str, to: str) -> float:
        """One way, in seconds: 0.5 ms and up to 28 ms for the distance, as between cities of a continent."""
        (x, y), (u, v) = self.places[origin], self.places[to]
        return 0.0005 + 0.02 * float(((x - u) ** 2 + (y - v) ** 2) ** 0.5)

    def wait(self, until: Callable[[], bool]) -> None:
        """Lets time pass until it holds; looks every LOOK seconds. Raises TimeoutError."""
        end = self.deployment.now + LONGEST
        while not until():
            if self.deployment.now >= end:
                raise TimeoutError(f"{len(self.members)} sites: not after {LONGEST:.0f} s")
            self.deployment.run(LOOK)

    def next_member(self, after: int = 0) -> Member:
        """The site that joins next, or so many after it."""
        return member(len(self.members) + 1 + after)

    def join(self, via: Member) -> Member:
        """Starts a new site, which knows of one other."""
        joiner = self.next_member()
        self.members.append(joiner)
        self.deployment.start(joiner, Roll.of(seed(via)))
        return joiner


def _place(number: int) -> tuple[float, float]:
    random = Random(number)
    return random.random(), random.random()


def _acquaint(deployment: Deployment, members: Sequence[Member]) -> None:
    """Starts the sites and has each believe that it has just heard from each other one."""
    roll = Roll.of(*members)
    replies = {one.name: Message(sender=one, incarnation="1", version=VERSION, digest=roll.digest) for one in members}
    for one in members:
        heart = deployment.start(one, roll)
        for other in members:
            if other is not one:
                probe = Probe(peer=other.name, mesh=other.mesh, message=replies[one.name], at=0.0)
                heart.answered(probe, replies[other.name], 0.02, EPOCH)
        heart.take_events()


def measure(size: Size) -> Row:
    """Everything at one size, one thing after the other among the same sites."""
    sites = Sites(size.sites)
    found: dict[str, float] = {**_quiet(sites, size.quiet), **_join(sites), **_healing(sites), **_death(sites)}
    return Row(size=size, **found)  # type: ignore[arg-type]


def _quiet(sites: Sites, seconds: float) -> Mapping[str, float]:
    deployment, watch, before = sites.deployment, sites.watch, (sites.watch.suspicions, sites.watch.downs)
    deployment.links.loss, deployment.counts = LOSS, Counts()
    deployment.run(seconds)
    counts, site_seconds = deployment.counts, len(sites.members) * seconds
    deployment.links.loss, deployment.counts, deployment.weighs = 0.0, Counts(), False
    deployment.run(SETTLING)
    return {
        "sent": counts.sent / site_seconds,
        "answered": counts.answered / site_seconds,
        "bytes": counts.bytes / site_seconds,
        "most_got": max(counts.got.values()) / seconds,
        "suspicions": watch.suspicions - before[0],
        "downs": watch.downs - before[1],
    }


def _join(sites: Sites) -> Mapping[str, float]:
    started, others, found = sites.deployment.now, len(sites.deployment.nodes), sites.watch.found
    joiner = sites.join(via=sites.members[0]).name
    sites.wait(lambda: len(found.get((Happening.UP, joiner), ())) == others)
    sites.wait(lambda: not sites.watch.not_up)
    return {
        "joiner_up": sites.deployment.now - started,
        "join_known": sites.watch.times(Happening.JOINED, joiner, started)[-1],
        "join_up": sites.watch.times(Happening.UP, joiner, started)[-1],
    }


def _healing(sites: Sites) -> Mapping[str, float]:
    """Two halves that hear nothing of each other, while a site joins each of them, are joined again."""
    deployment, half = sites.deployment, len(sites.members) // 2
    west, east = sites.members[:half], sites.members[half:]
    joiners = sites.next_member(), sites.next_member(1)
    sides = [one.name for one in (*west, joiners[0])], [one.name for one in (*east, joiners[1])]
    cut = {pair for one in sides[0] for other in sides[1] for pair in ((one, other), (other, one))}
    deployment.links.silent |= cut
    sites.join(via=west[0])
    sites.join(via=east[0])
    deployment.run(CUT_SECONDS)
    deployment.links.silent -= cut
    healed, hearts = deployment.now, [node.heart for node in deployment.nodes.values()]
    sites.wait(lambda: len({heart.roll.digest for heart in hearts}) == 1)
    equal = deployment.now - healed
    sites.wait(lambda: not sites.watch.not_up)
    return {"healed_rolls": equal, "healed_up": deployment.now - healed}


def _death(sites: Sites) -> Mapping[str, float]:
    sites.deployment.run(RUMOUR_SECONDS)
    sites.watch.found.clear()
    died, others, victim = sites.deployment.now, len(sites.members) - 1, sites.members[len(sites.members) // 2].name
    sites.deployment.links.dark.add(victim)
    sites.wait(lambda: len(sites.watch.found.get((Happening.DOWN, victim), ())) == others)
    down = sites.watch.times(Happening.DOWN, victim, died)
    return {
        "first_suspect": sites.watch.times(Happening.SUSPECT, victim, died)[0],
        "first_down": down[0],
        "half_down": down[len(down) // 2],
        "all_down": down[-1],
    }


LINES: Sequence[tuple[str, Callable[[Row], str]]] = (
    ("heartbeats sent, per site and second", lambda row: f"{row.sent:.1f}"),
    ("of these answered", lambda row: f"{row.answered:.1f}"),
    ("heartbeats got by the site that got most, per second", lambda row: f"{row.most_got:.1f}"),
    ("bytes sent, per site and second", lambda row: f"{row.bytes:,.0f}"),
    ("watched for, s", lambda row: f"{row.size.quiet:,.0f}"),
    ("wrongly found suspect, times", lambda row: f"{row.suspicions}"),
    ("wrongly found down, times", lambda row: f"{row.downs}"),
    ("a join: all have heard of it, s", lambda row: f"{row.join_known:.1f}"),
    ("a join: all find the new site up, s", lambda row: f"{row.join_up:.1f}"),
    ("a join: the new site finds all up, s", lambda row: f"{row.joiner_up:.1f}"),
    ("two halves joined again: all rolls are equal, s", lambda row: f"{row.healed_rolls:.1f}"),
    ("two halves joined again: all find all up, s", lambda row: f"{row.healed_up:.1f}"),
    ("a death: the first finds it suspect, s", lambda row: f"{row.first_suspect:.1f}"),
    ("a death: the first finds it down, s", lambda row: f"{row.first_down:.1f}"),
    ("a death: half find it down, s", lambda row: f"{row.half_down:.1f}"),
    ("a death: all find it down, s", lambda row: f"{row.all_down:.1f}"),
)

HEAD = """\
# What membership costs

Written by `make scale` (`python -m bench.scale`). It is a simulation on a virtual clock: every site runs the code that
an agent runs (`cheops.sites.heart`), the links between them are simulated (`bench/simulated.py`). Seeds are fixed, so
the same code gives the same page.
"""

TAIL = f"""\
**At rest** every message is lost with a chance of {LOSS:.0%}, the reply as well as the heartbeat; in the other
runs none is. Bytes are those of the JSON texts, heartbeats and replies together; HTTP's headers and TLS come on
top. Up to {MOST_READ_BACK} sites each message is also read back from its text; beyond, the receiver gets the
same value. Links take 0.5 to 28 ms each way. The time that a site needs to compute is not simulated.

In the order of the rows, one thing is done after the other among the same sites. **A join** begins when the new
site starts; it knows of one other site. **A death** is a site that falls silent, so that nothing tells of it
but time. In the last run the sites are cut into two halves for {CUT_SECONDS:.0f} s, and a site joins each half
meanwhile; the clock starts when the cut ends. A site that has been down once is up again at its first answer.

Up to 16 peers a site asks each of them every second, so its load grows with their number. Beyond, it asks 8 of
them in turn, up to 16 more that don't answer or that something was heard of, and one that is down: whatever
their number, at most 25 a second, and as many come in. What one site finds, the others hear in the heartbeats,
and ask for themselves. This is SWIM (Das, Gupta, Motivala, "SWIM: scalable weakly-consistent infection-style
process group membership protocol", DSN 2002), but for two things: nobody is believed dead because others say
so, so there is nothing to refute; and a new or suspected site is asked by every other one itself. That one site
is then asked by all for some seconds; a new one by 100 a second. A site that starts asks up to 100 more
a second, until it knows all. A peer of which nothing is heard is asked every (sites / 8) s.
"""


def page(rows: Sequence[Row]) -> str:
    """The page of these rows."""
    head = ["|  | " + " | ".join(f"{row.size.sites} sites" for row in rows) + " |", "| --- |" + " ---: |" * len(rows)]
    lines = [f"| {what} | " + " | ".join(of(row) for row in rows) + " |" for what, of in LINES]
    return "\n".join([HEAD, *head, *lines, "", TAIL])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10 and 50 sites, for a moment")
    parser.add_argument("--output", type=Path, default=PAGE, help="where the page is written")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else THOROUGH
    with ProcessPoolExecutor(max_workers=2, initializer=gc.disable) as processes:  # none of a million peers is garbage
        rows = list(processes.map(measure, reversed(sizes)))[::-1]  # the longest begins first
    arguments.output.write_text(page(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
