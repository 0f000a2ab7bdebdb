"""`python -m bench.replication`: what replication costs, and how soon sites are equal. It needs nothing installed.

The service answers at once, or after 100 ms, and keeps only when it was asked for what (bench/replicated/counter.py).
All sites share this machine, and so does the client; the links between them are the lab's.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import aiohttp

from bench.errors import BenchFailed
from bench.machine import cpu_seconds, resident_mb, say
from bench.replication_report import CatchUp, Creation, Results, Spread, Unmanaged, Upload, section
from bench.setting import net
from cheops.errors import CheopsError
from cheops.lab.lab import Lab

APP = Path(__file__).parent / "replicated"
ROUND_TRIP_MS = 20
BODY = b'{"color": "blue"}'
ASYNCHRONOUS = {"Prefer": "respond-async"}
AT_ONCE = 32  # requests of the client under way
CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How many requests are timed, how long the cut is in seconds with how many operations, and how large the upload
    in bytes.
    """

    creations: int
    spread: int
    cut_seconds: float
    operations: int
    upload: int
    unmanaged: int


THOROUGH = Effort(creations=100, spread=500, cut_seconds=60, operations=10_000, upload=4 << 30, unmanaged=1000)
QUICK = Effort(creations=10, spread=30, cut_seconds=8, operations=1000, upload=128 << 20, unmanaged=100)


def measure(folder: Path, effort: Effort, only: Sequence[str] = ()) -> Results:
    """All parts, or those that are named. Raises BenchFailed, and CheopsError as the lab does."""
    found: dict[str, object] = {}
    for name, sites, part in _PARTS:
        if not only or name in only:
            say(f"replication: {name}")
            with _lab(folder / name, sites) as lab:
                found[name] = asyncio.run(part(lab, effort))
    return Results(**found)  # type: ignore[arg-type]


_numbers = iter(range(10, 250))


@contextmanager
def _lab(folder: Path, sites: int) -> Iterator[Lab]:
    with Lab.up(folder, app=str(APP), sites=sites, net=net(next(_numbers))) as lab:
        yield lab


# The client


class _Client:
    """Asks the fronts and the backends of a lab."""

    def __init__(self, lab: Lab, session: aiohttp.ClientSession) -> None:
        self._lab, self._session = lab, session

    async def put(self, site: str, path: str, scope: str = "", service: str = "things", **headers: str) -> float:
        """How long it took, in seconds. Raises BenchFailed unless it was done or accepted."""
        headers |= {"Content-Type": "application/json"} | ({"X-Scope": scope} if scope else {})
        began = time.perf_counter()
        url = self._lab.site(site).front(service) + path
        async with self._session.put(url, data=BODY, headers=headers) as reply:
            said = await reply.read()
            if reply.status not in (201, 202):
                raise BenchFailed(f"PUT {path} at {site}: {reply.status} {said[:300]!r}")
        return time.perf_counter() - began

    async def seen(self, site: str) -> dict[str, list[float]]:
        """When a site's service was written to, in seconds of the machine's monotonic clock."""
        async with self._session.get(self._lab.site(site).backend("things") + "/seen") as reply:
            found: dict[str, list[float]] = await reply.json()
            return found

    async def all_seen(self, site: str, count: int, seconds: float) -> dict[str, list[float]]:
        """The same, once it was asked for so many things."""
        end = time.monotonic() + seconds
        while len(found := await self.seen(site)) < count:
            if time.monotonic() > end:
                raise BenchFailed(f"{site} has got {len(found):,} of {count:,} operations after {seconds:g} s")
            await asyncio.sleep(0.5)
        return found

    async def state(self, at: str, peer: str) -> str:
        """What a site says of a peer."""
        async with self._session.get(self._lab.site(at).admin + "/sites") as reply:
            told = await reply.json()
            return next(str(one["state"]) for one in told["peers"] if one["name"] == peer)

    async def many(self, work: Sequence[Callable[[], object]]) -> None:
        """All of this, some at a time."""
        left = iter(work)

        async def worker() -> None:
            for one in left:
                await one()  # type: ignore[misc]

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(worker())


@asynccontextmanager
async def _client(lab: Lab) -> AsyncIterator[_Client]:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield _Client(lab, session)


def _both(*sites: str) -> str:
    return f"{{things: {' & '.join(sites)}}}"


# Creation


async def _creation(lab: Lab, effort: Effort) -> list[Creation]:
    """On so many sites, against each of these alone through the same front: a ratio to the slowest of them."""
    names = [site.name for site in lab.sites]
    async with _client(lab) as client:
        return [
            await _created(client, names[:count], collection, effort.creations)
            for collection in ("things", "slow")
            for count in (2, 3, 5)
        ]


async def _created(client: _Client, sites: list[str], collection: str, times: int) -> Creation:
    alone: dict[str, list[float]] = {site: [] for site in sites}
    together = []
    for number in range(times + 2):  # the first ones open connections
        for site in sites:
            path = f"/{collection}/alone-{len(sites)}-{site}-{number}"
            alone[site].append(await client.put(sites[0], path, f"{{things: {site}}}"))
        path = f"/{collection}/{len(sites)}-{number}"
        together.append(await client.put(sites[0], path, _both(*sites)))
    slowest = max(median(times_[2:]) for times_ in alone.values())
    return Creation(
        service_ms=100 if collection == "slow" else 0,
        sites=len(sites),
        alone_ms=slowest * 1e3,
        p50_ms=median(together[2:]) * 1e3,
    )


# From the reply until it is applied everywhere


async def _spread(lab: Lab, effort: Effort) -> Spread:
    """Creations that are answered once they are written down, a new one every 20 ms."""
    names = [site.name for site in lab.sites]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        await asyncio.to_thread(lab.delay, names[one], names[other], f"{ROUND_TRIP_MS}ms")
    replied: dict[str, float] = {}
    async with _client(lab) as client:
        await client.put(names[0], "/things/first", _both(*names))

        async def one(path: str) -> None:
            await client.put(names[0], path, _both(*names), **ASYNCHRONOUS)
            replied[f"PUT {path}"] = time.monotonic()

        async with asyncio.TaskGroup() as group:
            for number in range(effort.spread):
                group.create_task(one(f"/things/spread-{number}"))
                await asyncio.sleep(0.02)
        seen = [await client.all_seen(name, effort.spread + 1, 60) for name in names]
    lags = [max(times[asked][0] for times in seen) - at for asked, at in replied.items()]
    cuts = quantiles([max(lag, 0.0) for lag in lags], n=100, method="inclusive")
    return Spread(operations=effort.spread, sites=len(names), round_trip_ms=ROUND_TRIP_MS, p50=cuts[49], p99=cuts[98])


# After a cut


async def _catch_up(lab: Lab, effort: Effort) -> CatchUp:
    """Many creations while the other site can't be reached; then the link is healed."""
    async with _client(lab) as client:
        await client.put("Site1", "/things/first", _both("Site1", "Site2"))
        await asyncio.to_thread(lab.cut, "Site1", "Site2")
        began = time.monotonic()
        work = [_put_async(client, f"/things/{number}") for number in range(effort.operations)]
        await client.many(work)
        took = time.monotonic() - began
        say(f"replication: {effort.operations / took:,.0f} operations/s were written down while the link was cut")
        await asyncio.sleep(max(effort.cut_seconds - took, 0))
        if len(await client.seen("Site2")) != 1:
            raise BenchFailed("what was cut off has come through")
        agent = [int(lab.site("Site2").status()["pids"]["agent"])]
        before = cpu_seconds(agent)
        await asyncio.to_thread(lab.heal, "Site1", "Site2")
        healed = time.monotonic()
        await client.all_seen("Site2", effort.operations + 1, 600)
        used = cpu_seconds(agent) - before
        await asyncio.sleep(5)  # what comes twice would come now
        found = [await client.seen(site) for site in ("Site1", "Site2")]
    wanted = [f"PUT /things/{number}" for number in range(effort.operations)]
    times = [found[1][asked][0] for asked in wanted if asked in found[1]]
    return CatchUp(
        operations=effort.operations,
        cut_seconds=max(effort.cut_seconds, took),
        written_per_second=effort.operations / took,
        first=min(times) - healed,
        per_second=(len(times) - 1) / (max(times) - min(times)),
        agent_ms=used / effort.operations * 1e3,
        lost=sum(asked not in seen for seen in found for asked in wanted),
        twice=sum(len(each) > 1 for seen in found for each in seen.values()),
    )


def _put_async(client: _Client, path: str) -> Callable[[], object]:
    return lambda: client.put("Site1", path, _both("Site1", "Site2"), **ASYNCHRONOUS)


# A large upload


async def _upload(lab: Lab, effort: Effort) -> Upload:
    """PUT of one large body to three sites; the most memory that an agent and an Envoy had meanwhile."""
    names = [site.name for site in lab.sites]
    pids = {what: [int(site.status()["pids"][what]) for site in lab.sites] for what in ("agent", "envoy")}
    before = {what: max(map(resident_mb, of)) for what, of in pids.items()}
    most = dict(before)

    async def watch() -> None:
        while True:
            for what, of in pids.items():
                most[what] = max(most[what], *map(resident_mb, of))
            await asyncio.sleep(0.1)

    async def content() -> AsyncIterator[bytes]:
        block = bytes(CHUNK)
        for _ in range(effort.upload // CHUNK):
            yield block

    async with _client(lab) as client:
        watching = asyncio.create_task(watch())
        began = time.monotonic()
        url = lab.sites[0].front("things") + "/files/large"
        headers = {"X-Scope": _both(*names), "Content-Length": str(effort.upload), "Prefer": "wait=3000"}
        async with client._session.put(url, data=content(), headers=headers) as reply:
            said, status = await reply.read(), reply.status
        seconds = time.monotonic() - began
        if status != 201:
            raise BenchFailed(f"the upload was answered with {status} {said[:300]!r}")
        for name in names:
            await client.all_seen(name, 1, 600)
        watching.cancel()
    return Upload(
        gigabytes=effort.upload / 1e9,
        sites=len(names),
        seconds=seconds,
        agent_mb=(before["agent"], most["agent"]),
        envoy_mb=(before["envoy"], most["envoy"]),
    )


# Writes of what isn't replicated


async def _unmanaged(lab: Lab, effort: Effort) -> Unmanaged:
    """PUT without a scope: to a service that has replicated resources, and in turn to one that has none."""
    took: dict[str, list[float]] = {"things": [], "plain": []}
    async with _client(lab) as client:
        await client.put("Site1", "/things/first", _both("Site1", "Site2"))
        for number in range(effort.unmanaged + 10):
            for service, times in took.items():
                times.append(await client.put("Site1", f"/things/own-{number}", service=service))
    managed, plain = (median(took[service][10:]) * 1e3 for service in ("things", "plain"))
    return Unmanaged(requests=effort.unmanaged, managed_ms=managed, plain_ms=plain)


_PARTS = (
    ("creation", 5, _creation),
    ("spread", 3, _spread),
    ("catch_up", 2, _catch_up),
    ("upload", 3, _upload),
    ("unmanaged", 2, _unmanaged),
)


def main() -> int:
    names = [name for name, _, _ in _PARTS]
    parser = argparse.ArgumentParser(prog="python -m bench.replication", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute, to see that the bench works")
    parser.add_argument("--only", action="append", choices=names, default=[], help="a part; may be repeated")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            found = measure(Path(folder).resolve(), QUICK if args.quick else THOROUGH, args.only)
    except (BenchFailed, CheopsError) as error:
        say(f"bench: {error}")
        return 1
    print(section(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
