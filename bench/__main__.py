"""`python -m bench`: measures everything, prints the page and writes it. It needs nginx, haproxy and wrk."""

import argparse
import datetime
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench import footprint, open_loop, replication, throughput, uploads
from bench.errors import BenchFailed
from bench.machine import Cores, busy_seconds, cpu_seconds, description, missing, say, versions
from bench.report import Results, page
from bench.rounds import in_turn
from bench.setting import Setting, setting
from bench.variants import Variant
from cheops.errors import CheopsError

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How often and how long; `rest` and the other times are in seconds, `rate` is requests a second."""

    rounds: int
    seconds: int
    uploads: int
    latency_rounds: int
    latency_seconds: float
    rest: float
    starts: int
    replication: replication.Effort
    rate: int = 1000


THOROUGH = Effort(
    rounds=13,
    seconds=1,
    uploads=15,
    latency_rounds=7,
    latency_seconds=4,
    rest=5,
    starts=5,
    replication=replication.THOROUGH,
)
QUICK = Effort(
    rounds=1, seconds=1, uploads=1, latency_rounds=1, latency_seconds=1, rest=1, starts=1, replication=replication.QUICK
)


def main() -> int:
    args = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # all that was started ends with this
    if lacking := missing():
        say(f"bench: {', '.join(lacking)} must be installed; as root, `make bench` does that")
        return 2
    try:
        text = page(_measure(QUICK if args.quick else THOROUGH))
    except (BenchFailed, CheopsError) as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    print(text, end="")
    if output := args.output or (None if args.quick else PAGE):
        output.write_text(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes or so, to see that the bench works")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"[default: docs/{PAGE.name}; with --quick: none]")
    return parser.parse_args()


def _measure(effort: Effort) -> Results:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name).resolve()
        say("setting up two sites, and what they are compared with")
        with setting(folder) as found:
            load = _Load(found.proxies | found.services)
            samples = _samples(found, effort)
            others = load.of_others()
        say("one site at rest")
        at_rest = footprint.measure(folder, rest=effort.rest, times=effort.starts)
        replicated = replication.measure(folder, effort.replication)
    return Results(
        variants=found.variants,
        throughput=samples[0],
        uploads=samples[1],
        latency=samples[2],
        footprint=at_rest,
        replication=replicated,
        machine=description(),
        versions=versions(),
        date=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        pinned=len(os.sched_getaffinity(0)) > 1,
        seconds=effort.seconds,
        rate=effort.rate,
        others=others,
    )


Measured = tuple[dict[str, list[throughput.Sample]], dict[str, list[uploads.Sample]], dict[str, list[open_loop.Sample]]]


def _samples(found: Setting, effort: Effort) -> Measured:
    """Throughput is of one core for the proxies; latency is of a machine as it is."""
    with_sink = [variant for variant in found.variants if variant.sink]
    at_rate = [variant for variant in found.variants if variant.at_rate]
    anywhere = Cores.any()
    found.pin(anywhere.apart())
    requests = _in_turn("throughput", found.variants, effort.rounds, lambda v: throughput.measure(v, effort.seconds))
    bodies = _in_turn("uploads", with_sink, effort.uploads, uploads.measure)
    found.pin(anywhere)
    latency = partial(open_loop.measure, rate=effort.rate, seconds=effort.latency_seconds)
    return requests, bodies, _in_turn("latency", at_rate, effort.latency_rounds, latency)


def _in_turn(what: str, found: Sequence[Variant], rounds: int, measure: Callable[[Variant], T]) -> dict[str, list[T]]:
    say(f"{what}: {len(found)} variants, {rounds} times each")
    return in_turn(found, rounds, measure)


class _Load:
    """What others use of the machine, from now on."""

    def __init__(self, ours: frozenset[int]) -> None:
        self._pids = ours
        self._began, self._before = time.monotonic(), self._foreign()

    def _foreign(self) -> float:
        ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return busy_seconds() - cpu_seconds(self._pids) - sum(usage.ru_utime + usage.ru_stime for usage in ours)

    def of_others(self) -> float:
        """As a share of one core."""
        return max(0.0, (self._foreign() - self._before) / (time.monotonic() - self._began))


if __name__ == "__main__":
    sys.exit(main())
