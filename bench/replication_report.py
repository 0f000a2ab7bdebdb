"""What was measured of replication, as a section of Markdown. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

RATIO = 1.3
SPREAD_SECONDS = 1.0
FIRST_SECONDS, PER_SECOND = 2.0, 1000
FLAT_MB = 64
UNMANAGED_MS = 1.0


@dataclass(frozen=True, kw_only=True)
class Creation:
    """`alone_ms`: the median of the slowest of these sites by itself."""

    service_ms: float
    sites: int
    alone_ms: float
    p50_ms: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Seconds from a reply until the last site's service had it."""

    operations: int
    sites: int
    round_trip_ms: float
    p50: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class CatchUp:
    """`first`: seconds after healing. What is lost or came twice is counted by the services of both sites.
    `agent_ms`: CPU of the agent that catches up, an operation.
    """

    operations: int
    cut_seconds: float
    written_per_second: float
    first: float
    per_second: float
    agent_ms: float
    lost: int
    twice: int


@dataclass(frozen=True, kw_only=True)
class Upload:
    """Memory before, and the most of it meanwhile; of the site that had most."""

    gigabytes: float
    sites: int
    seconds: float
    agent_mb: tuple[float, float]
    envoy_mb: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Unmanaged:
    """Medians."""

    requests: int
    managed_ms: float
    plain_ms: float


@dataclass(frozen=True, kw_only=True)
class Results:
    """What was measured; a part that wasn't is None."""

    creation: Sequence[Creation] = ()
    spread: Spread | None = None
    catch_up: CatchUp | None = None
    upload: Upload | None = None
    unmanaged: Unmanaged | None = None


def section(of: Results) -> str:
    """The section, without an end of line."""
    rows = [row for part in (_creation(of), _spread(of), _catch_up(of), _upload(of), _unmanaged(of)) for row in part]
    lines = [["what", "measured", "against", "ratio", "target"], ["---", *["---:"] * 4], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(["## Replication", fill(" ".join(_HOW.split()), width=120), table])


_HOW = """
    Measured by `python -m bench.replication`: a service that answers at once, or after 100 ms, and counts what it is
    asked for. Sites, services and client share this machine's cores, so that five sites have the agents of five
    machines to do with one. A creation alone goes to one site by the same front; the ratio is to the slowest site.
    Links are the lab's, which is a Python process.
    """


def _reached(target: str, reached: bool) -> str:
    return f"{target}: {'reached' if reached else '**missed**'}"


def _creation(of: Results) -> list[list[str]]:
    return [
        [
            f"creation on {one.sites} sites, the service takes {one.service_ms:g} ms: p50",
            f"{one.p50_ms:.1f} ms",
            f"{one.alone_ms:.1f} ms",
            f"{one.p50_ms / one.alone_ms:.2f}",
            _reached(f"≤ {RATIO} ×", one.p50_ms <= RATIO * one.alone_ms),
        ]
        for one in of.creation
    ]


def _spread(of: Results) -> list[list[str]]:
    if not (one := of.spread):
        return []
    limit = SPREAD_SECONDS + one.round_trip_ms / 1e3
    what = f"from the reply until applied on {one.sites} sites, round trip {one.round_trip_ms:g} ms"
    return [
        [f"{what}: p50", f"{one.p50 * 1e3:.0f} ms", "", "", ""],
        [f"{what}: p99", f"{one.p99 * 1e3:.0f} ms", "", "", _reached(f"≤ {limit:g} s", one.p99 <= limit)],
    ]


def _catch_up(of: Results) -> list[list[str]]:
    if not (one := of.catch_up):
        return []
    after = f"after a cut of {one.cut_seconds:.0f} s, {one.operations:,} creations waiting"
    return [
        ["creations written down during the cut", f"{one.written_per_second:,.0f}/s", "", "", ""],
        [
            f"{after}: the first is applied",
            f"{one.first:.1f} s",
            "",
            "",
            _reached(f"≤ {FIRST_SECONDS:g} s", one.first <= FIRST_SECONDS),
        ],
        [
            f"{after}: applied",
            f"{one.per_second:,.0f}/s",
            "",
            "",
            _reached(f"≥ {PER_SECOND:,}/s", one.per_second >= PER_SECOND),
        ],
        [f"{after}: CPU of the agent that applies them, an operation", f"{one.agent_ms:.2f} ms", "", "", ""],
        [f"{after}: lost, twice", f"{one.lost}, {one.twice}", "", "", _reached("0, 0", not one.lost and not one.twice)],
    ]


def _upload(of: Results) -> list[list[str]]:
    if not (one := of.upload):
        return []
    what = f"upload of {one.gigabytes:.2g} GB to {one.sites} sites, {one.gigabytes * 1e3 / one.seconds:,.0f} MB/s"
    return [
        [
            f"{what}: memory of {name}",
            f"{most:.0f} MB",
            f"{before:.0f} MB",
            f"{most / before:.2f}",
            _reached(f"≤ {FLAT_MB} MB more", most - before <= FLAT_MB),
        ]
        for name, (before, most) in (("an agent", one.agent_mb), ("an Envoy", one.envoy_mb))
    ]


def _unmanaged(of: Results) -> list[list[str]]:
    if not (one := of.unmanaged):
        return []
    return [
        [
            "write of what isn't replicated, in a service where something is: p50",
            f"{one.managed_ms:.2f} ms",
            f"{one.plain_ms:.2f} ms",
            f"{one.managed_ms / one.plain_ms:.2f}",
            _reached(f"≤ {UNMANAGED_MS:g} ms more", one.managed_ms - one.plain_ms <= UNMANAGED_MS),
        ]
    ]
