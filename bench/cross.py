"""`python -m bench.cross`: how long it takes to list a collection that spans three sites, against a site's own part.

The collection is Kinto's, its records are spread evenly. All sites share this machine, and so does the client; so the
services of three sites, which work at the same time, have the cores of one. What they take for their parts at the same
time, without Cheops between them, is told too.
"""

import argparse
import asyncio
import base64
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any

import aiohttp

from bench.errors import BenchFailed
from bench.machine import cpu_seconds, say
from bench.setting import net
from cheops.errors import CheopsError
from cheops.lab.lab import Lab

SITES = ("Site1", "Site2", "Site3")
COLLECTION = "/v1/buckets/shop/collections/sales"
RECORDS = f"{COLLECTION}/records"
SHOP = {"Authorization": "Basic " + base64.b64encode(b"shop:shop").decode()}
BATCH = 25  # requests in one of Kinto's batches
RATIO = 1.5
LISTS = {
    "the whole list": "",
    "the whole list, sorted by a field": "?_sort=sku",
    "a page of 100": "?_limit=100",
    "a page of 100, sorted by two fields": "?_sort=price,-sku&_limit=100",
}


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How many records there are on all sites, and how often each list is asked for."""

    records: int
    times: int


THOROUGH = Effort(records=10_000, times=15)
QUICK = Effort(records=600, times=3)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Medians in milliseconds: of all sites together; of the slowest site's part, and of that when all are asked at
    once. `agent_ms`: CPU of the agent that puts one list together.
    """

    what: str
    records: int
    whole_ms: float
    alone_ms: float
    at_once_ms: float
    agent_ms: float


@dataclass(frozen=True, kw_only=True)
class Results:
    """What was measured; a round trip is a request from one site's front to another site's service."""

    round_trip_ms: float
    listings: Sequence[Listing]


def measure(folder: Path, effort: Effort) -> Results:
    """Raises BenchFailed, and CheopsError as the lab does."""
    say(f"cross: {effort.records:,} records on {len(SITES)} sites")
    with Lab.up(folder, app="shop", sites=len(SITES), net=net(250)) as lab:
        return asyncio.run(_measured(lab, effort))


async def _measured(lab: Lab, effort: Effort) -> Results:
    async with _client(lab) as client:
        await client.make()
        counts = [effort.records // len(SITES) + (n < effort.records % len(SITES)) for n in range(len(SITES))]
        await asyncio.gather(*(client.fill(site, count) for site, count in zip(SITES, counts, strict=True)))
        trips = [await client.get("Site1", "/v1/", "Site2") for _ in range(effort.times + 2)]
        listings = [await _listing(client, what, query, effort) for what, query in LISTS.items()]
    return Results(round_trip_ms=median(trip for trip, _ in trips[2:]) * 1e3, listings=listings)


async def _listing(client: "_Client", what: str, query: str, effort: Effort) -> Listing:
    """The first times open connections; then each way in turn."""
    whole: list[float] = []
    alone: dict[str, list[float]] = {site: [] for site in SITES}
    at_once: list[float] = []
    used = 0.0
    for _ in range(effort.times + 2):
        before = client.agent_seconds("Site1")
        took, found = await client.get("Site1", RECORDS + query)
        used += client.agent_seconds("Site1") - before
        whole.append(took)
        if len(found["data"]) != (100 if "_limit" in query else effort.records):
            raise BenchFailed(f"{what} has {len(found['data']):,} records")
        for site in SITES:
            alone[site].append((await client.get(site, RECORDS + query, site))[0])
        together = await asyncio.gather(*(client.get(site, RECORDS + query, site) for site in SITES))
        at_once.append(max(took for took, _ in together))
    slowest = max(median(times[2:]) for times in alone.values())
    return Listing(
        what=what,
        records=effort.records,
        whole_ms=median(whole[2:]) * 1e3,
        alone_ms=slowest * 1e3,
        at_once_ms=median(at_once[2:]) * 1e3,
        agent_ms=used / len(whole) * 1e3,
    )


class _Client:
    """Asks the fronts and the backends of a lab."""

    def __init__(self, lab: Lab, session: aiohttp.ClientSession) -> None:
        self._lab, self._session = lab, session

    async def make(self) -> None:
        scope = {"X-Scope": f"{{catalog: {' % '.join(SITES)}}}"}
        url = self._lab.site("Site1").front("catalog") + COLLECTION
        async with self._session.put(url, json={"data": {}}, headers=scope) as reply:
            if reply.status != 201:
                raise BenchFailed(f"the collection wasn't made: {reply.status} {await reply.text()}")

    async def fill(self, site: str, count: int) -> None:
        """At the service itself, as it isn't this that is measured."""
        url = self._lab.site(site).backend("catalog") + "/v1/batch"
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            body = {"defaults": {"method": "POST", "path": RECORDS}, "requests": [_record(site, n) for n in numbers]}
            async with self._session.post(url, json=body) as reply:
                said = await reply.json()
                if reply.status != 200 or any(one["status"] != 201 for one in said["responses"]):
                    raise BenchFailed(f"{site} wasn't filled: {reply.status} {str(said)[:300]}")

    def agent_seconds(self, site: str) -> float:
        """CPU that a site's agent has had, in seconds."""
        return cpu_seconds([int(self._lab.site(site).status()["pids"]["agent"])])

    async def get(self, site: str, path: str, of: str = "") -> tuple[float, Any]:
        """How long it took, in seconds, until the last byte was there; and what was said. `of`: a site's own."""
        headers = {"X-Scope": f"{{catalog: {of}}}"} if of else {}
        began = time.perf_counter()
        async with self._session.get(self._lab.site(site).front("catalog") + path, headers=headers) as reply:
            content = await reply.read()
            took = time.perf_counter() - began
            if reply.status != 200:
                raise BenchFailed(f"GET {path} at {site}: {reply.status} {content[:300]!r}")
            return took, await reply.json()


def _record(site: str, n: int) -> dict[str, Any]:
    return {"body": {"data": {"sku": f"{n:05}-{site}", "price": n % 100, "title": f"What is sold at {site}, {n}"}}}


@asynccontextmanager
async def _client(lab: Lab) -> AsyncIterator[_Client]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), headers=SHOP) as session:
        yield _Client(lab, session)


# The report


def section(of: Results) -> str:
    """The section, without an end of line."""
    lines = [["what", "measured", "a site's own part", "ratio", "target", "all own parts at once", "CPU of the agent"]]
    lines += [["---", *["---:"] * 6], *(_row(one, of.round_trip_ms) for one in of.listings)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(["## Lists of what spans sites", fill(" ".join(_HOW.split()), width=120), table])


_HOW = """
    Measured by `python -m bench.cross`: a collection of Kinto on three sites, each of which has a third of the records,
    listed as one at one site's front; against the slowest site's own list, of its part, at its own front. Medians.
    Sites and client share this machine's cores, so that three services which work at the same time have less
    each than in real life: of them all asked at once
    for their own parts, the slowest is told too. On machines of their own it would be one's own part, a round trip and
    the CPU of the agent.
    """


def _row(one: Listing, round_trip_ms: float) -> list[str]:
    limit = RATIO * one.alone_ms + round_trip_ms
    return [
        f"{one.what}, of {one.records:,} records",
        f"{one.whole_ms:.0f} ms",
        f"{one.alone_ms:.0f} ms",
        f"{one.whole_ms / one.alone_ms:.2f}",
        f"≤ {RATIO} × + {round_trip_ms:.0f} ms: {'reached' if one.whole_ms <= limit else '**missed**'}",
        f"{one.at_once_ms:.0f} ms",
        f"{one.agent_ms:.0f} ms",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cross", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few records, to see that the bench works")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            found = measure(Path(folder).resolve() / "cross", QUICK if args.quick else THOROUGH)
    except (BenchFailed, CheopsError) as error:
        say(f"bench: {error}")
        return 1
    print(section(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
