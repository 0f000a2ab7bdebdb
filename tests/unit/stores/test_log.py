"""What every store of operation logs does: in memory, on SQLite, on PostgreSQL."""

import asyncio
import itertools
from collections.abc import Mapping

import pytest

from cheops.errors import Taken
from cheops.ports import Changes, Cursor, LogStore, Told
from cheops.record.operation import Body, Dot, Recorded, State
from cheops.record.stamp import NEVER, Stamp
from stored import BORN, FULL, NAME, Opens, op, outcome, put, run, summary


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
        assert [type(result) for result in results if not isinstance(result, Mapping)] == [Taken]
        ends = [result["Site2"] for result in results if isinstance(result, Mapping)]
        assert ends == list(range(2, 401, 2))
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


def test_a_name_that_is_taken_stays_so_for_the_same_operation(opens: Opens) -> None:
    """Two agents of a site may have asked for the same in the same millisecond."""

    async def work(log: LogStore) -> None:
        fresh = frozenset({("r1", op(1).dot)})
        await put(log, op(1), fresh=fresh)
        with pytest.raises(Taken):
            await put(log, op(1), fresh=fresh)

    run(opens, work)


def test_a_write_that_is_refused_takes_no_other_with_it(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        fresh = frozenset({("r0", op(1, "r0").dot)})
        writes = [put(log, op(1, "r0"), op(1, f"r{n}"), fresh=fresh if n else frozenset()) for n in range(20)]
        good = [put(log, op(1, f"g{n}")) for n in range(20)]
        ends = await asyncio.gather(*itertools.chain(*zip(writes, good, strict=True)), return_exceptions=True)
        assert [type(end) for end in ends[::2]] == [dict] + [Taken] * 19
        assert ends[1::2] == [{}] * 20
        assert [s.rid for s in await log.summaries(after="h")] == ["r0"]

    run(opens, work)


def test_operations_are_read_in_the_order_in_which_they_came(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        came = [op(2, author="Z.1"), op(1, author="M.1"), op(1, author="Z.1"), op(1, author="A.1")]
        await put(log, *came[:3])
        await put(log, came[3])
        await put(log, came[1])
        dossier = await log.read("r1")
        assert dossier
        assert [o.dot for o in dossier.operations] == [o.dot for o in came]

    run(opens, work)


def test_a_revision_counts_what_was_not_there(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        async def revision() -> int:
            dossier = await log.read("r1")
            assert dossier
            return dossier.revision

        await put(log, op(1), op(2))
        assert await revision() == 1
        await put(log, op(1), op(2), outcome(version=1), peers=("Site2",))
        assert await revision() == 1
        await put(log, op(2), op(3))
        assert await revision() == 2
        await put(log, due={"r1": 5.0})
        assert await revision() == 3
        await put(log, op(4), due={"r1": None})
        assert await revision() == 4

    run(opens, work)


def test_a_name_that_was_given_goes_on_naming(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        await put(log, op(1), outcome(version=1, local_id="17"), summaries=(summary(chosen="old"),))
        await put(log, outcome(version=2, local_id="18"), summaries=(summary(chosen="new"),))
        found = {(n.value, n.site) for n in await log.find(["17", "18", "old", "new"])}
        assert found == {("17", "Site1"), ("18", "Site1"), ("old", ""), ("new", "")}
        await log.write(Changes(told=(Told(item=op(1, "r2")),)))
        assert [n.summary.rid for n in await log.find(["r2"])] == ["r2"]

    run(opens, work)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 100_000, "sha256:" + "0" * 64, "é\n", " ", "%2F"])
def test_any_text_may_be_a_name(opens: Opens, name: str) -> None:
    async def work(log: LogStore) -> None:
        assert list(await log.find([name])) == []
        await put(log, op(1), outcome(version=1, local_id=name), summaries=(summary(chosen=name),))
        assert {(n.value, n.site) for n in await log.find([name, "x"])} == {(name, ""), (name, "Site1")}
        assert list(await log.find([name[:-1]])) == []
        dossier = await log.read("r1")
        assert dossier
        assert (dossier.summary.chosen, dossier.outcomes[0].local_id) == (name, name)
        names = await log.names(9)
        assert names is None or name in names

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


def test_who_has_lost_a_claim_does_not_end_that_of_another(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        await put(log, op(1), due={"r1": 1.0})
        (lost,) = await log.claim("a", 10.0, 20.0, 10)
        (held,) = await log.claim("b", 21.0, 30.0, 10)
        await log.release(lost, None)
        assert await log.claim_one("r1", "a", 22.0, 40.0) is None
        assert await log.renew(held, 50.0)
        assert await log.claim_one("r1", "a", 49.0, 60.0) is None
        assert await log.claim_one("r1", "b", 49.0, 60.0), "its own again"
        assert await log.claim_one("r9", "b", 49.0, 60.0) is None

    run(opens, work)


def test_what_came_while_it_was_worked_on_is_due_at_once(opens: Opens) -> None:
    async def work(log: LogStore) -> None:
        await put(log, op(1))
        claim = await log.claim_one("r1", "a", 10.0, 20.0)
        assert claim
        await put(log, op(2))
        await log.release(claim, 99.0)
        assert [claim.rid for claim in await log.claim("b", 10.0, 20.0, 10)] == ["r1"]

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
