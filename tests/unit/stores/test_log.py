"""What every store of operation logs does: in memory, on SQLite, on PostgreSQL."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

import postgres
from cheops.errors import StoreFailed, StoreTooNew, Taken
from cheops.ports import Changes, Cursor, LogStore, Told
from cheops.record.operation import Birth, Body, Dot, Item, Kind, Operation, Outcome, Recorded, State
from cheops.record.resource import Summary
from cheops.record.stamp import NEVER, Stamp
from cheops.stores.memory import LogInMemory
from cheops.stores.sql import open_log

NAME, BORN = "0badcafe", 1000.0
Opens = Callable[[], Any]
_databases = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


@asynccontextmanager
async def in_memory() -> AsyncIterator[LogStore]:
    yield LogInMemory(NAME, born=BORN)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Opens:
    """Opens the store, which is empty the first time."""
    if request.param == "memory":
        return in_memory
    return opening(url_of(request, request.param, tmp_path))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of(request, request.param, tmp_path)


def url_of(request: pytest.FixtureRequest, engine: str, folder: Path) -> str:
    if engine == "sqlite":
        return f"sqlite:///{folder / 'log.db'}"
    server: postgres.Server = request.getfixturevalue("server")
    return server.create(f"log{next(_databases)}")


def opening(url: str) -> Opens:
    return lambda: open_log(url, name=lambda: NAME, now=lambda: BORN)


def op(n: int = 1, rid: str = "r1", author: str = f"Site1.{NAME}", **fields: Any) -> Operation:
    fields = {"kind": Kind.MERGE, "stamp": Stamp(n, 0), "request": Recorded(method="PATCH", target="/x")} | fields
    return Operation(rid=rid, author=author, n=n, **fields)


def outcome(n: int = 1, site: str = "Site1", rid: str = "r1", **fields: Any) -> Outcome:
    return Outcome(rid=rid, dot=Dot(f"Site1.{NAME}", n), site=site, **fields)


def summary(rid: str = "r1", **fields: Any) -> Summary:
    fields = {"service": "notes", "type": "note", "collection": "/notes"} | fields
    return Summary(rid=rid, **fields)


async def put(log: LogStore, *items: Item, peers: tuple[str, ...] = (), **changes: Any) -> None:
    rids = dict.fromkeys(item.rid for item in items)
    known = {"summaries": tuple(summary(rid) for rid in rids)} | changes
    await log.write(Changes(told=tuple(Told(item=item, peers=peers) for item in items), **known))


def run(opens: Opens, work: Callable[[LogStore], Any]) -> Any:
    async def inside() -> Any:
        async with opens() as log:
            return await work(log)

    return asyncio.run(inside())


FULL = op(
    1,
    kind=Kind.CREATE,
    after={"Site2.x": 3},
    touches=frozenset({"a.b", "c"}),
    request=Recorded(
        method="POST",
        target="/notes?a=%2f",
        headers=(("content-type", "application/json"), ("x", "1"), ("x", "2")),
        body=Body(inline=b"\x00\xff", size=2),
        secret=True,
    ),
    birth=Birth(service="notes", type="note", collection="/notes", chosen="a", name="n", parent="p"),
    placement=("Site1", "Site2"),
    refers=("r9",),
    shares={"image": "Site1 & Site2"},
)


def test_what_is_written_is_read_as_it_was(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        done = outcome(state=State.DONE, version=2, run=1, status=201, body=b"\xfe", local_id="l1", at=5.5)
        full = summary(chosen="a", name="n", parent="p", placement=("Site1", "Site2"), refers=("r9",))
        await put(log, FULL, done, summaries=(full,))
        dossier = await log.read("r1")
        assert dossier
        assert dossier.operations == (FULL,)
        assert dossier.outcomes == (done,)
        assert dossier.summary == full
        assert await log.read("r2") is None
        assert (log.store, log.born) == (NAME, BORN)

    run(opens, work)


def test_many_are_read_at_once_as_each_is_alone(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        for rid in ("r1", "r2", "r3"):
            await put(log, op(1, rid), op(2, rid), outcome(1, rid=rid), outcome(2, "Site2", rid))
        found = await log.read_all(["r3", "r1", *(f"none{number}" for number in range(2000))])
        assert found == {rid: await log.read(rid) for rid in ("r1", "r3")}

    run(opens, work)


def test_writes_that_come_at_once_do_what_they_do_one_by_one(opens: Opens) -> None:
    """Also if one of them is refused."""

    async def work(log: LogStore) -> None:
        await put(log, op(1, "taken", facet="first"))
        writes = [
            put(
                log, op(n, f"r{rid}"), outcome(n, rid=f"r{rid}", version=n), peers=("Site2",), due={f"r{rid}": float(n)}
            )
            for n in range(1, 6)
            for rid in range(40)
        ]
        fresh = frozenset({("taken", Dot(f"Site1.{NAME}", 1))})
        refused = put(log, op(1, "taken", facet="second"), peers=("Site2",), fresh=fresh)
        results = await asyncio.gather(*writes[:100], refused, *writes[100:], return_exceptions=True)
        assert [type(result) for result in results if result is not None] == [Taken]
        found = await log.read_all([f"r{rid}" for rid in range(40)])
        assert len(found) == 40
        for rid, dossier in found.items():
            assert dossier.operations == tuple(op(n, rid) for n in range(1, 6))
        assert [dossier.revision for dossier in found.values()] == [5] * 40
        fed = await log.feed("Site2", 0, 1000)
        assert [position for position, _ in fed.items] == list(range(1, 401))
        claims = await log.claim("me", 5.0, 9.0, 1000)
        assert {claim.rid for claim in claims} == set(found)
        assert not await log.claim("other", 4.0, 9.0, 1000)

    run(opens, work)


def test_an_operation_stays_and_the_newest_outcome_holds(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        await put(log, op(1), outcome(version=2, status=201))
        await put(log, op(1, facet="other"), outcome(version=1, status=500), outcome(version=2, status=400))
        dossier = await log.read("r1")
        assert dossier
        assert dossier.operations == (op(1),)
        assert [o.status for o in dossier.outcomes] == [201]
        await put(log, outcome(version=3, status=204))
        dossier = await log.read("r1")
        assert dossier
        assert [o.status for o in dossier.outcomes] == [204]

    run(opens, work)


def test_a_name_of_an_operation_is_given_once(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        fresh = frozenset({("r1", op(1).dot)})
        await put(log, op(1), fresh=fresh)
        with pytest.raises(Taken):
            await put(log, op(1, facet="other"), op(2), peers=("Site2",), fresh=fresh)
        dossier = await log.read("r1")
        assert dossier
        assert dossier.operations == (op(1),)  # all or nothing
        assert (await log.heads(["Site2"]))["Site2"] == 0

    run(opens, work)


def test_what_names_a_resource_finds_it(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        await put(log, op(1), outcome(version=1, local_id="17"), outcome(version=1, site="Site2", local_id="18"))
        await put(log, op(1, rid="r2"), summaries=(summary("r2", service="other", chosen="17"),))
        found = {(n.value, n.site, n.summary.rid) for n in await log.find(["17", "18", "r1", "nothing"])}
        assert found == {("17", "Site1", "r1"), ("18", "Site2", "r1"), ("r1", "", "r1"), ("17", "", "r2")}
        assert {n.summary.rid for n in await log.find(["17"], "other")} == {"r2"}
        assert await log.names(5) == {"17", "18", "r1", "r2"}
        assert await log.names(3) is None
        assert list(await log.find([])) == []
        assert len(await log.find([str(n) for n in range(3000)])) == 3

    run(opens, work)


def test_who_refers_to_a_resource_is_known(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        await put(log, op(1), summaries=(summary("r1", refers=("r9",)), summary("r2", parent="r9"), summary("r3")))
        assert {s.rid for s in await log.referring("r9")} == {"r1", "r2"}
        await put(log, op(2), summaries=(summary("r1", refers=("r9",), gone=True), summary("r2", parent="r8")))
        assert list(await log.referring("r9")) == []

    run(opens, work)


def test_a_feed_has_no_gaps_and_is_read_from_anywhere(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        await put(log, op(1), outcome(version=1), peers=("Site2", "Site3"))
        await put(log, op(2), peers=("Site2",))
        await put(log, outcome(version=5, status=200), peers=("Site2",))
        fed = await log.feed("Site2", 0, 10)
        assert [position for position, _ in fed.items] == [1, 2, 3, 4]
        newest = outcome(version=5, status=200)
        assert [item for _, item in fed.items] == [op(1), newest, op(2), newest]  # as it is now
        assert not fed.more
        part = await log.feed("Site2", 1, 2)
        assert [position for position, _ in part.items] == [2, 3]
        assert part.more
        assert await log.heads(["Site2", "Site3", "Site4"]) == {"Site2": 4, "Site3": 2, "Site4": 0}

    run(opens, work)


def test_what_a_peer_has_need_not_be_kept_for_it(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        await put(log, op(1), op(2), peers=("Site2",))
        assert await log.heard("Site2", 1, "aaaa")
        assert [position for position, _ in (await log.feed("Site2", 0, 10)).items] == [2]
        await put(log, op(3), peers=("Site2",))
        assert [position for position, _ in (await log.feed("Site2", 0, 10)).items] == [2, 3]
        assert not await log.heard("Site2", 3, "bbbb"), "it has lost what it had"
        assert await log.heard("Site2", 3, "bbbb")

    run(opens, work)


def test_a_cursor_moves_with_what_it_stands_for(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        assert await log.cursor("Site2") is None
        await put(log, op(1), cursor=Cursor(peer="Site2", store="s", position=7))
        assert await log.cursor("Site2") == Cursor(peer="Site2", store="s", position=7)
        with pytest.raises(Taken):
            await put(
                log,
                op(1, facet="x"),
                fresh=frozenset({("r1", op(1).dot)}),
                cursor=Cursor(peer="Site2", store="s", position=9),
            )
        cursor = await log.cursor("Site2")
        assert cursor
        assert cursor.position == 7

    run(opens, work)


def test_work_is_claimed_by_one(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        await put(log, op(1, "r1"), op(1, "r2"), op(1, "r3"), due={"r1": 5.0, "r2": 3.0, "r3": 99.0})
        claims = await log.claim("a", 10.0, 20.0, 10)
        assert [claim.rid for claim in claims] == ["r2", "r1"]
        assert list(await log.claim("b", 10.0, 20.0, 10)) == []
        assert await log.claim_one("r1", "b", 10.0, 20.0) is None
        assert await log.claim_one("r3", "b", 10.0, 20.0)
        assert [claim.rid for claim in await log.claim("b", 21.0, 30.0, 10)] == ["r2", "r1"]  # the lease has ended
        assert not await log.renew(claims[0], 40.0)

    run(opens, work)


def test_a_claim_is_given_back(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        await put(log, op(1), due={"r1": 1.0})
        (claim,) = await log.claim("a", 10.0, 20.0, 10)
        assert await log.renew(claim, 30.0)
        assert list(await log.claim("b", 25.0, 30.0, 10)) == []
        await log.release(claim, 50.0)
        assert list(await log.claim("b", 25.0, 30.0, 10)) == []
        (claim,) = await log.claim("b", 50.0, 60.0, 10)
        await put(log, op(2), due={"r1": 51.0})  # something came meanwhile
        await log.release(claim, None)
        assert [claim.rid for claim in await log.claim("a", 52.0, 60.0, 10)] == ["r1"]

    run(opens, work)


def test_lists_and_counts(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        await put(log, op(1, "r1"), op(1, "r2"), op(1, "r3"))
        await put(log, summaries=(summary("r3", service="other"), summary("r2", gone=True)))
        assert [s.rid for s in await log.summaries(limit=2)] == ["r1", "r2"]
        assert [s.rid for s in await log.summaries(after="r2")] == ["r3"]
        assert [s.rid for s in await log.summaries(service="other")] == ["r3"]
        assert await log.services() == {"notes", "other"}
        await put(
            log,
            outcome(1, version=1, state=State.REFUSED, at=7.0),
            outcome(2, version=1, state=State.REFUSED, at=6.0),
            outcome(1, site="Site2", version=1, state=State.DONE, at=8.0),
        )
        refused = await log.outcomes([State.REFUSED])
        assert [(o.dot.n, o.site) for o in refused] == [(1, "Site1"), (2, "Site1")]
        rest = await log.outcomes([State.REFUSED, State.DONE], after=("r1", refused[0].dot, "Site1"), limit=1)
        assert [(o.dot.n, o.site) for o in rest] == [(1, "Site2")]
        counts = await log.counts()
        assert counts["Site1", State.REFUSED] == (2, 6.0)
        assert counts["Site2", State.DONE] == (1, 8.0)
        await put(log, outcome(1, version=2, at=9.0, since=3.0), outcome(2, version=2, at=9.0, since=4.0))
        assert (await log.counts())["Site1", State.PENDING] == (2, 3.0)

    run(opens, work)


def test_the_newest_stamp_is_that_of_its_own(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        assert await log.newest_stamp() == NEVER
        await put(
            log, op(1, stamp=Stamp(5, 2)), op(2, stamp=Stamp(5, 9)), op(1, author="Site2.ffff", stamp=Stamp(99, 0))
        )
        assert await log.newest_stamp() == Stamp(5, 9)

    run(opens, work)


def test_bodies_are_counted_and_released_and_requests_forgotten(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        body = Recorded(method="PUT", target="/x", body=Body(sha256="ab" * 32, size=9))
        await put(log, op(1, request=body), op(2, request=body))
        assert await log.blob_users("ab" * 32) == 2
        await log.release_blob("r1", op(1).dot)
        assert await log.blob_users("ab" * 32) == 1
        await log.prune("r1", [op(2).dot])
        assert await log.blob_users("ab" * 32) == 0
        dossier = await log.read("r1")
        assert dossier
        assert [o.request for o in dossier.operations] == [body, None]

    run(opens, work)


def test_a_restart_finds_it_all(url: str) -> None:
    run(opening(url), lambda log: put(log, FULL, peers=("Site2",), due={"r1": 1.0}))

    async def work(log: LogStore) -> None:
        dossier = await log.read("r1")
        assert dossier
        assert dossier.operations == (FULL,)
        assert (await log.heads(["Site2"]))["Site2"] == 1
        assert [claim.rid for claim in await log.claim("a", 2.0, 3.0, 10)] == ["r1"]

    run(opening(url), work)


def test_several_agents_share_a_store(url: str) -> None:
    """Claims are never shared, and a reader that follows misses nothing of what eight writers tell."""

    async def work() -> None:
        async with opening(url)() as one, opening(url)() as other:
            rids = [f"r{n:03}" for n in range(60)]
            await put(one, *(op(1, rid) for rid in rids), due=dict.fromkeys(rids, 1.0))
            claims = await asyncio.gather(*(log.claim(f"a{n}", 2.0, 9.0, 15) for n, log in enumerate([one, other] * 2)))
            claimed = [claim.rid for some in claims for claim in some]
            assert len(claimed) == len(set(claimed))

            async def write(log: LogStore, author: str) -> None:
                for n in range(1, 26):
                    await put(log, op(n, rid=f"w{author}", author=author), peers=("Site2",))

            async def follow() -> list[int]:
                seen: list[int] = []
                while len(seen) < 200:
                    fed = await one.feed("Site2", seen[-1] if seen else 0, 50)
                    seen += [position for position, _ in fed.items]
                return seen

            writers = [write([one, other][n % 2], f"W{n}") for n in range(8)]
            seen, *_ = await asyncio.gather(follow(), *writers)
            assert seen == list(range(1, 201))

    asyncio.run(work())


def test_a_newer_schema_is_refused(url: str) -> None:
    run(opening(url), lambda log: put(log, op(1)))
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StoreTooNew, match="9999"):
        run(opening(url), lambda log: log.read("r1"))


def test_an_older_schema_is_brought_up(url: str) -> None:
    from cheops.stores.sql.schema import migrate

    engine = create_engine(url)
    with engine.begin() as connection:
        migrate(connection, "0001")
        connection.execute(text(f"insert into store (name, born) values ('{NAME}', {BORN})"))
    engine.dispose()
    assert run(opening(url), lambda log: log.read("r1")) is None
    assert run(opening(url), lambda log: put(log, op(1))) is None


def test_a_full_disk_is_told_and_then_it_goes_on(tmp_path: Path) -> None:
    """SQLite's own bound stands in for the disk's."""

    async def work(log: Any) -> None:
        await put(log, op(1))

        def bound(pages: int) -> Callable[[Any], Any]:
            return lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar()

        await log._written(bound(1))
        big = Recorded(method="PUT", target="/x", body=Body(inline=b"x" * 300_000, size=300_000))
        with pytest.raises(StoreFailed, match="full") as caught:
            await put(log, op(2, request=big))
        assert caught.value.hint == "Make room on the disk."
        await log._written(bound(1_000_000))
        await put(log, op(2, request=big))
        dossier = await log.read("r1")
        assert dossier
        assert len(dossier.operations) == 2

    run(opening(f"sqlite:///{tmp_path / 'log.db'}"), work)


WRITER = """
import asyncio, sys
sys.path[:0] = {path!r}
from unit.stores.test_log import op, opening, put
async def main():
    async with opening({url!r})() as log:
        async def write(rid):
            for n in range(1, 10_000):
                await put(log, op(n, rid), op(n, rid + "x"), peers=("Site2",))
                print(rid, n, flush=True)
        await asyncio.gather(*(write(f"r{{k}}") for k in range(4)))
asyncio.run(main())
"""


@pytest.mark.parametrize("after", [3, 40])
def test_a_killed_writer_loses_nothing_that_was_acknowledged(url: str, after: int) -> None:
    code = WRITER.format(path=sys.path, url=url)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        said = [writer.stdout.readline().split() for _ in range(after)]
        os.kill(writer.pid, signal.SIGKILL)
        said += [line.split() for line in writer.stdout.read().splitlines()]

    async def work(log: LogStore) -> None:
        acknowledged: dict[str, int] = {}
        for words in said:
            if len(words) == 2:
                acknowledged[words[0]] = int(words[1])
        total = 0
        for rid, n in acknowledged.items():
            both = [await log.read(rid), await log.read(rid + "x")]
            counts = [len(dossier.operations) if dossier else 0 for dossier in both]
            assert counts[0] == counts[1] >= n  # both of a write or none
            total += sum(counts)
        assert (await log.heads(["Site2"]))["Site2"] >= total

    run(opening(url), work)


def test_a_database_that_was_killed_is_found_again(server: postgres.Server) -> None:
    url = server.create(f"log{next(_databases)}")

    async def work(log: LogStore) -> None:
        await put(log, op(1))
        server.kill()
        with pytest.raises(StoreFailed):
            await put(log, op(2))
        server.start()
        with suppress(StoreFailed):
            await log.read("r1")
        await put(log, op(3))
        dossier = await log.read("r1")
        assert dossier
        assert op(1) in dossier.operations
        assert op(3) in dossier.operations

    run(opening(url), work)
