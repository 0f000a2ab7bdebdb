"""What a log in a database promises besides: it outlives its process, several agents share it, and fails in words."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, text

import postgres
from cheops.errors import BadSettings, StoreFailed, StoreTooNew, Taken
from cheops.ports import Changes, LogStore, Told
from cheops.record.operation import Body, Operation, Recorded
from cheops.stores.sql import open_log
from cheops.stores.sql.writing import apply
from stored import BORN, FULL, NAME, op, opening, outcome, put, run


def test_a_restart_finds_it_all(url: str) -> None:
    run(opening(url), lambda log: put(log, FULL, peers=("Site2",), due={"r1": 1.0}))

    async def work(log: LogStore) -> None:
        dossier = await log.read("r1")
        assert dossier
        assert dossier.operations == (FULL,)
        assert (await log.heads(["Site2"]))["Site2"] == 1
        assert [claim.rid for claim in await log.claim("a", 2.0, 3.0, 10)] == ["r1"]

    run(opening(url), work)


def test_work_is_claimed_by_one_of_several_agents(url: str) -> None:
    async def work() -> None:
        async with opening(url)() as one, opening(url)() as other:
            rids = [f"r{n:03}" for n in range(60)]
            await put(one, *(op(1, rid) for rid in rids), due=dict.fromkeys(rids, 1.0))
            claims = await asyncio.gather(*(log.claim(f"a{n}", 2.0, 9.0, 15) for n, log in enumerate([one, other] * 2)))
            claimed = [claim.rid for some in claims for claim in some]
            assert sorted(claimed) == rids
            again = await asyncio.gather(*(log.claim(f"b{n}", 9.0, 20.0, 40) for n, log in enumerate([one, other])))
            assert sorted(claim.rid for some in again for claim in some) == rids, "the leases have ended"

    asyncio.run(work())


def test_a_feed_that_is_followed_has_no_gaps(url: str) -> None:
    """Eight writers at two agents, each of which tells several peers, in an order of its own."""
    orders = (("Site2", "Site3"), ("Site3", "Site2"))

    async def write(log: LogStore, author: str, order: tuple[str, ...]) -> None:
        for n in range(1, 26):
            await put(log, op(n, f"shared{n % 3}", author=author), op(n, f"w{author}", author=author), peers=order)

    async def follow(log: LogStore, peer: str) -> list[int]:
        seen: list[int] = []
        while len(seen) < 400:
            fed = await log.feed(peer, seen[-1] if seen else 0, 50)
            seen += [position for position, _ in fed.items]
        return seen

    async def work() -> None:
        async with opening(url)() as one, opening(url)() as other:
            writers = [write([one, other][n % 2], f"W{n}", orders[n // 2 % 2]) for n in range(8)]
            seen = await asyncio.gather(follow(one, "Site2"), follow(other, "Site3"), *writers)
            assert seen[:2] == [list(range(1, 401))] * 2
            dossier = await one.read("shared1")
            assert dossier
            assert len(dossier.operations) == 8 * 9

    before = _deadlocks(url)
    asyncio.run(work())
    assert _deadlocks(url) == before


def _deadlocks(url: str) -> int:
    """How often PostgreSQL had to end one; a second is lost each time."""
    if url.startswith("sqlite"):
        return 0
    engine = create_engine(url)
    with engine.begin() as connection:
        found = connection.execute(text("select deadlocks from pg_stat_database where datname = current_database()"))
        count = int(found.scalar_one())
    engine.dispose()
    return count


def test_who_reads_sees_nothing_half_written(url: str) -> None:
    async def work() -> None:
        async with opening(url)() as one, opening(url)() as other:
            await put(one, op(1), outcome(1))

            async def write() -> None:
                for n in range(2, 60):
                    await put(one, op(n), outcome(n), due={"r1": float(n)})

            async def look() -> None:
                while (dossier := await other.read("r1")) and dossier.revision < 59:
                    assert len(dossier.operations) == len(dossier.outcomes) == dossier.revision

            await asyncio.gather(write(), look(), look(), look())

    asyncio.run(work())


def test_an_agent_that_stands_still_lets_the_others_go_on(database: str) -> None:
    """It stops in the middle of a write; once it goes on, that write is done too."""
    goes_on = threading.Event()
    tries: list[bool] = []

    def stop(connection: Connection, _: Sequence[Any], again: bool) -> Sequence[Any]:
        tries.append(again)
        if not again:
            assert goes_on.wait(60)
        return apply(connection, [Changes(told=(Told(item=op(1)),))], again)

    async def work() -> None:
        soon = f"{database}%20-cidle_in_transaction_session_timeout%3D300"
        async with opening(soon)() as stands, opening(database)() as other:
            stopped = asyncio.create_task(stands._database.written(stop))
            while not tries:
                await asyncio.sleep(0.01)
            await asyncio.wait_for(put(other, op(2)), 30)
            goes_on.set()
            await stopped
            dossier = await other.read("r1")
            assert dossier
            assert [o.n for o in dossier.operations] == [2, 1]

    asyncio.run(work())
    assert tries == [False, True]


@pytest.mark.parametrize(("there", "ends"), [(op(1), None), (op(1, facet="other"), Taken)])
def test_a_commit_whose_answer_was_lost(database: str, there: Operation, ends: type[Exception] | None) -> None:
    """If what is there is what was written, it was our own commit; else another agent was faster."""
    engine = create_engine(database)
    changes = Changes(told=(Told(item=op(1)),), fresh=frozenset({("r1", op(1).dot)}))

    def write(connection: Connection, _: Sequence[Any], again: bool) -> Sequence[Any]:
        if not again:
            with engine.begin() as committed:
                apply(committed, [Changes(told=(Told(item=there),))], False)
            connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))
        return apply(connection, [changes], again)

    async def work(log: Any) -> None:
        (end,) = await asyncio.gather(log._database.written(write), return_exceptions=True)
        assert type(end) is (ends or dict)
        dossier = await log.read("r1")
        assert dossier
        assert dossier.operations == (there,)

    run(opening(database), work)
    engine.dispose()


def test_many_open_a_store_at_once_and_it_has_one_name(url: str) -> None:
    names = itertools.count(1)

    async def name() -> str:
        async with open_log(url, name=lambda: f"{next(names):08x}", now=lambda: BORN) as log:
            return log.store

    async def work() -> list[str]:
        return await asyncio.gather(*(name() for _ in range(6)))

    assert len(set(asyncio.run(work()))) == 1


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
    assert run(opening(url), lambda log: put(log, op(1))) == {}


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


def test_several_stores_are_opened_at_once(tmp_path: Path) -> None:
    """In one process, as several sites in one test are."""

    async def name(n: int) -> str:
        async with open_log(f"sqlite:///{tmp_path / str(n)}", name=lambda: f"{n:08x}", now=lambda: BORN) as log:
            return log.store

    async def work() -> list[str]:
        return await asyncio.gather(*(name(n) for n in range(8)))

    assert asyncio.run(work()) == [f"{n:08x}" for n in range(8)]


def test_postgresql_lets_nobody_stand_still_for_long(database: str) -> None:
    async def work(log: Any) -> None:
        asked = text("select current_setting('idle_in_transaction_session_timeout'), current_setting('fsync')")
        assert tuple(await log._written(lambda connection: connection.execute(asked).one())) == ("10s", "on")

    run(opening(database), work)


def test_sqlite_flushes_each_commit(tmp_path: Path) -> None:
    async def work(log: Any) -> None:
        for name, value in (("synchronous", 2), ("journal_mode", "wal")):
            said = await log._written(lambda c, name=name: c.exec_driver_sql(f"PRAGMA {name}").scalar())
            assert said == value

    run(opening(f"sqlite:///{tmp_path / 'log.db'}"), work)


def test_another_process_that_holds_the_database_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"

    async def work(log: Any) -> None:
        await log._written(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=10").scalar())
        engine = create_engine(url)
        with engine.connect() as other:
            other.exec_driver_sql("BEGIN IMMEDIATE")
            with pytest.raises(StoreFailed, match="locked") as caught:
                await put(log, op(1))
            assert caught.value.hint.startswith("Another process holds the database")
            assert caught.value.retry
        engine.dispose()
        await put(log, op(1))

    run(opening(url), work)


def test_a_url_that_cannot_be_used_is_told() -> None:
    for url, said in (("nonsense", "parse"), ("postgresql+nothing://x/y", "nothing"), ("mssql+pyodbc://x/y", "pyodbc")):
        with pytest.raises(BadSettings, match=said):
            run(opening(url), lambda log: log.read("r1"))


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="unable to open") as caught:
        run(opening(f"sqlite:///{tmp_path / 'missing' / 'log.db'}"), lambda log: log.read("r1"))
    assert "folder" in caught.value.hint
    with pytest.raises(StoreFailed, match="can't be opened"):
        run(opening(f"postgresql+psycopg://nobody@/x?host={tmp_path}"), lambda log: log.read("r1"))


def test_an_error_tells_nobody_s_values(url: str) -> None:
    async def work(log: Any) -> None:
        wrong = text("select no_such_column, :value from operations").bindparams(value="a password")
        with pytest.raises(StoreFailed) as caught:
            await log._written(lambda connection: connection.execute(wrong))
        assert "a password" not in str(caught.value)
        assert "no_such_column" in str(caught.value)

    run(opening(url), work)


def test_what_comes_after_the_end_is_refused(url: str) -> None:
    async def work() -> None:
        async with opening(url)() as log:
            waits = [asyncio.create_task(put(log, op(n))) for n in range(1, 5)]
            await asyncio.sleep(0)
        await asyncio.gather(*waits)
        with pytest.raises(StoreFailed, match="closed"):
            await put(log, op(9))
        with pytest.raises(StoreFailed, match="closed"):
            await log.read("r1")

    asyncio.run(work())


def test_many_items_take_no_more_statements_than_few(tmp_path: Path) -> None:
    async def work(log: Any) -> None:
        counts = []
        for author, many in (("A.1", 5), ("B.1", 500)):
            seen: list[str] = []

            def count(*given: Any, into: list[str] = seen) -> None:
                into.append(given[2])

            event.listen(log._database._engine, "before_cursor_execute", count)
            items = [op(n, f"r{n}", author=author) for n in range(1, many + 1)]
            await put(log, *items, *(outcome(n, rid=f"r{n}") for n in range(1, many + 1)), peers=("Site2", "Site3"))
            counts.append(len(seen))
        assert counts[1] <= counts[0] + 2

    run(opening(f"sqlite:///{tmp_path / 'log.db'}"), work)


WRITER = """
import asyncio, sys
sys.path[:0] = {path!r}
from stored import op, opening, put
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


def test_a_database_that_was_killed_is_found_again(server: postgres.Server, database: str) -> None:
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

    run(opening(database), work)
