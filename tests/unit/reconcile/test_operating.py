"""What operators see of replicated resources and command, at any site: on whole sites in one process."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

import virtual
from blackbox import reply
from cheops.errors import (
    Ambiguous,
    BadMessage,
    BadRequest,
    Busy,
    CheopsError,
    HolderUnreachable,
    NothingToDo,
    NotThere,
    Refused,
)
from cheops.model import Reply, Request
from cheops.ports import Changes
from cheops.reconcile.operating import Operator
from cheops.reconcile.showing import OperationShown, ResourceShown
from cheops.record.operation import Dot, Kind, Operation, Outcome, from_json, to_json
from cheops.record.stamp import Stamp
from replicated import World

TWO = "{notes: Site1 & Site2}"


def operator(world: World, site: str) -> Operator:
    parts = world[site].parts
    assert parts
    return parts.operator


def refuse(world: World, site: str, status: int = 409) -> None:
    """The service there refuses every write from now on."""

    def refused(request: Request) -> Reply | None:
        return None if request.method == "GET" else reply(status, {"error": "full"})

    world[site].box.before = refused


def accept(world: World, site: str) -> None:
    world[site].box.before = lambda request: None


async def made(world: World, **document: Any) -> str:
    """A note at Site1 and Site2."""
    answer = await world["Site1"].ask("POST", "/notes", document, X_Scope=TWO)
    assert answer.status == 201
    return answer.rid


async def last(world: World, rid: str, site: str = "Site1") -> OperationShown:
    return (await operator(world, site).show(rid)).operations[-1]


def states(op: OperationShown) -> dict[str, str]:
    return {outcome.site: outcome.state for outcome in op.outcomes}


async def refused_change(world: World) -> tuple[str, str]:
    """A change that Site2's service refuses: the rid, and the operation."""
    rid = await made(world, name="a")
    refuse(world, "Site2")
    await world["Site1"].ask("PATCH", f"/notes/{rid}", {"name": "b"})
    op = await last(world, rid)
    assert states(op) == {"Site1": "done", "Site2": "refused"}
    return rid, op.operation


def run(story: Coroutine[Any, Any, None]) -> None:
    virtual.run(story)


async def fails(error: type[CheopsError], work: Coroutine[Any, Any, Any]) -> CheopsError:
    with pytest.raises(error) as raised:
        await work
    return raised.value


def test_a_resource_is_shown_with_its_sites_and_operations() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid = await made(world, name="a")
            shown = await operator(world, "Site1").show(rid)
            assert (shown.resource.rid, shown.resource.service, shown.seen_from) == (rid, "notes", "Site1")
            assert shown.resource.placement == ["Site1", "Site2"]
            assert {site.site: site.state for site in shown.sites} == {"Site1": "equal", "Site2": "equal"}
            locals_ = {site.site: site.local_id for site in shown.sites}
            assert {f"/notes/{locals_['Site1']}"} == set(world["Site1"].box.documents)
            assert {f"/notes/{locals_['Site2']}"} == set(world["Site2"].box.documents)
            (op,) = shown.operations
            assert (op.kind, op.method, op.target, op.site) == ("create", "POST", "/notes", "Site1")
            assert op.body.startswith("13 bytes, SHA-256 ")
            assert states(op) == {"Site1": "done", "Site2": "done"}

    run(story())


def test_nothing_secret_is_shown() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            answer = await world["Site1"].ask(
                "POST", "/notes", {"name": "sesame"}, X_Scope=TWO, Authorization="Bearer open"
            )
            shown = await operator(world, "Site1").show(answer.rid)
            page = await operator(world, "Site1").lists.operations("all")
            assert "open" not in repr(shown) + repr(page)
            assert "sesame" not in repr(shown.operations) + repr(page.operations[0].operation)

    run(story())


def test_a_site_that_holds_nothing_asks_a_holder() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", "Site3") as world:
            rid = await made(world, name="a")
            shown = await operator(world, "Site3").show(rid)
            assert (shown.resource.rid, shown.seen_from) == (rid, "Site1")
            assert (await operator(world, "Site3").lists.resources()).resources == []
            world.cut("Site1", "Site3")
            assert (await operator(world, "Site3").show(rid)).seen_from == "Site2"
            world.cut("Site2", "Site3")
            await fails(NotThere, operator(world, "Site3").show(rid))

    run(story())


def test_it_is_found_by_rid_local_id_and_name() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", "Site3") as world:
            rid = await made(world, name="a")
            local = {site.site: site.local_id for site in (await operator(world, "Site1").show(rid)).sites}
            for site in ("Site1", "Site2", "Site3"):
                for name in (rid, local["Site1"], local["Site2"], "a"):
                    assert (await operator(world, site).find(name)).rid == rid, (site, name)

    run(story())


def test_a_name_of_several_lists_them() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rids = {await made(world, name="a"), await made(world, name="a")}
            error = await fails(Ambiguous, operator(world, "Site1").find("a"))
            assert all(rid in error.detail for rid in rids)
            assert len(rids) == 2
            await fails(NotThere, operator(world, "Site1").find("b"))

    run(story())


@pytest.mark.parametrize("at", ["Site1", "Site2", "Site3"])
def test_what_was_refused_is_tried_again(at: str) -> None:
    async def story() -> None:
        async with World("Site1", "Site2", "Site3") as world:
            rid, op = await refused_change(world)
            accept(world, "Site2")
            told = await operator(world, at).settle("retry", rid, op)
            assert [(each.site, each.done) for each in told] == [("Site2", True)]
            assert (await operator(world, at).wait(rid, 5)).converged
            assert [doc["name"] for doc in world["Site2"].box.documents.values()] == ["b"]
            assert [doc["name"] for doc in world["Site1"].box.documents.values()] == ["b"]

    run(story())


def test_it_is_tried_again_also_if_the_agent_dies_meanwhile() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid, op = await refused_change(world)
            parts = world["Site2"].parts
            assert parts
            parts.engine.wake = lambda rid, at=None: None  # type: ignore[method-assign]
            parts.ledger.due = lambda rid, at: None  # it dies before it takes it up
            accept(world, "Site2")
            await world["Site2"].store.write(Changes(due={rid: None}))  # and nothing else makes it look
            await operator(world, "Site1").settle("retry", rid, op)
            await world["Site2"].kill()
            await world["Site2"].start()
            assert (await operator(world, "Site1").wait(rid, 20)).converged
            assert [doc["name"] for doc in world["Site2"].box.documents.values()] == ["b"]

    run(story())


def test_what_was_refused_is_dropped() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid, op = await refused_change(world)
            found = await operator(world, "Site1").wait(rid, 60)
            assert [(each.site, each.operation, each.ends) for each in found.left] == [("Site2", op, False)]
            assert f"cheops drop {rid} {op} --on Site2" in found.left[0].todo
            await operator(world, "Site1").settle("drop", rid, op, "Site2")
            sites = (await operator(world, "Site2").show(rid)).sites
            assert [(s.site, s.state, s.why) for s in sites][1] == ("Site2", "dropped", f"without {op}")
            assert (await operator(world, "Site1").wait(rid, 5)).converged
            accept(world, "Site2")
            await world["Site1"].ask("PATCH", f"/notes/{rid}", {"more": 1})
            await world.settled()
            (document,) = world["Site2"].box.documents.values()
            assert (document["name"], document["more"]) == ("a", 1)

    run(story())


def test_what_waits_is_dropped_and_never_executed() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid = await made(world, name="a")
            world["Site2"].box.down = True
            await world["Site1"].ask("PATCH", f"/notes/{rid}", {"name": "b"})
            op = await last(world, rid)
            assert states(op) == {"Site1": "done", "Site2": "pending"}
            (left,) = (await operator(world, "Site1").wait(rid, 0)).left
            assert (left.site, left.state, left.ends, left.todo != "") == ("Site2", "pending", True, True)
            assert abs(left.since - op.at) < 0.001
            await asyncio.sleep(100)
            (left,) = (await operator(world, "Site1").wait(rid, 0)).left
            assert abs(left.since - op.at) < 0.001, "it waits since it was requested, whatever was tried"
            await operator(world, "Site1").settle("drop", rid, op.operation)
            world["Site2"].box.down = False
            await asyncio.sleep(200)
            assert [doc["name"] for doc in world["Site2"].box.documents.values()] == ["a"]

    run(story())


def test_what_waits_is_tried_at_once() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid = await made(world, name="a")
            world["Site2"].box.down = True
            await world["Site1"].ask("PATCH", f"/notes/{rid}", {"name": "b"})
            await asyncio.sleep(300)  # the pauses have grown
            world["Site2"].box.down = False
            began = asyncio.get_running_loop().time()
            await operator(world, "Site1").settle("retry", rid, (await last(world, rid)).operation)
            assert (await operator(world, "Site1").wait(rid, 60)).converged
            assert asyncio.get_running_loop().time() - began < 1

    run(story())


def test_a_command_changes_nothing_that_is_done() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid = await made(world, name="a")
            op = (await last(world, rid)).operation
            for what in ("retry", "drop", "done"):
                await fails(NothingToDo, operator(world, "Site1").settle(what, rid, op, "Site1"))
                error = await fails(Refused, operator(world, "Site1").settle(what, rid, op, "Site2"))
                assert error.members["code_there"] == "nothing-to-do"
                await fails(NothingToDo, operator(world, "Site1").settle(what, rid, op))
            await fails(NotThere, operator(world, "Site1").settle("retry", rid, op, "Site9"))
            await fails(NotThere, operator(world, "Site1").settle("retry", rid, "Site9.0/1"))
            await fails(BadRequest, operator(world, "Site1").settle("retry", rid, "nothing"))
            assert len(world["Site1"].box.executed) == len(world["Site2"].box.executed) == 1

    run(story())


def test_a_site_that_can_t_be_reached_is_told_for_each() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", "Site3") as world:
            answer = await world["Site1"].ask("POST", "/notes", {}, X_Scope="{notes: Site1 & Site2 & Site3}")
            refuse(world, "Site2")
            refuse(world, "Site3")
            await world["Site1"].ask("PATCH", f"/notes/{answer.rid}", {"name": "b"})
            op = (await last(world, answer.rid)).operation
            accept(world, "Site2")
            world.cut("Site1", "Site3")
            told = await operator(world, "Site1").settle("retry", answer.rid, op)
            assert [(each.site, each.done) for each in told] == [("Site2", True), ("Site3", False)]

    run(story())


def test_a_command_waits_while_the_resource_is_worked_on() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid, op = await refused_change(world)
            parts = world["Site2"].parts
            assert parts
            async with parts.engine.in_its_place(rid, 1):
                error = await fails(Refused, operator(world, "Site1").settle("drop", rid, op))
                assert error.members["code_there"] == Busy.code
            await operator(world, "Site1").settle("drop", rid, op)

    run(story())


async def unclear_creation(world: World) -> tuple[str, str]:
    """A creation of which Site2 doesn't know whether it was executed."""
    box = world["Site2"].box
    box.after = lambda request: reply(503, {}, (b"cheops-executed", b"unknown")) if request.method == "POST" else None
    answer = await world["Site1"].ask("POST", "/notes", {"title": "x"}, X_Scope=TWO, Prefer="wait=2")
    await asyncio.sleep(30)
    op = await last(world, answer.rid)
    assert states(op)["Site2"] in ("asks", "begun")
    return answer.rid, op.operation


def test_what_was_executed_is_said_to_be_done() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid, op = await unclear_creation(world)
            (path,) = world["Site2"].box.documents
            await fails(Refused, operator(world, "Site1").settle("done", rid, op, "Site2"))
            await operator(world, "Site1").settle("done", rid, op, "Site2", path.rpartition("/")[2])
            world["Site2"].box.after = lambda request: None
            await world["Site1"].ask("PATCH", f"/notes/{rid}", {"more": 1})
            await world.settled()
            (document,) = world["Site2"].box.documents.values()
            assert (document["title"], document["more"]) == ("x", 1)

    run(story())


def test_another_site_holds_it() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", "Site3") as world:
            rid = await made(world, name="a")
            await world["Site1"].ask("PATCH", f"/notes/{rid}", {"name": "b"})
            await operator(world, "Site3").place(rid, ["Site1", "Site3"], "delete")
            assert (await operator(world, "Site1").wait(rid, 60)).converged
            assert [doc["name"] for doc in world["Site3"].box.documents.values()] == ["b"]
            assert world["Site2"].box.documents == {}
            assert (await operator(world, "Site1").show(rid)).resource.placement == ["Site1", "Site3"]

    run(story())


def test_a_copy_is_kept_unless_it_is_said_otherwise() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid = await made(world, name="a")
            await operator(world, "Site2").place(rid, ["Site1"])
            assert (await operator(world, "Site2").wait(rid, 60)).converged
            assert len(world["Site2"].box.documents) == 1
            await fails(NothingToDo, operator(world, "Site1").place(rid, ["Site1"]))
            await fails(BadRequest, operator(world, "Site1").place(rid, []))
            await fails(BadRequest, operator(world, "Site1").place(rid, ["Site2"], "burn"))
            await world["Site1"].ask("DELETE", f"/notes/{rid}")
            await fails(NotThere, operator(world, "Site1").place(rid, ["Site2"]))

    run(story())


async def conflict(world: World) -> tuple[str, ResourceShown]:
    """Two names that were given at once."""
    rid = await made(world, name="a")
    world.cut("Site1", "Site2")
    await world["Site1"].ask("PATCH", f"/notes/{rid}", {"name": "one"}, Prefer="wait=1")
    await asyncio.sleep(1)
    await world["Site2"].ask("PATCH", f"/notes/{rid}", {"name": "two"}, Prefer="wait=1")
    world.heal()
    await world.settled()
    return rid, await operator(world, "Site1").show(rid)


def test_what_lost_a_conflict_is_done_again() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", "Site3") as world:
            rid, _ = await conflict(world)
            for site in ("Site1", "Site2"):
                (found,) = (await operator(world, site).lists.conflicts()).conflicts
                assert (found.resource, found.loser_site, found.fields, found.settled) == (
                    rid,
                    "Site1",
                    ["name"],
                    False,
                )
                assert [doc["name"] for doc in world[site].box.documents.values()] == ["two"]
            await operator(world, "Site3").apply(rid, found.loser)
            await world.settled()
            for site in ("Site1", "Site2"):
                assert [doc["name"] for doc in world[site].box.documents.values()] == ["one"]
                assert (await operator(world, site).lists.conflicts()).conflicts == []
                assert [c.settled for c in (await operator(world, site).lists.conflicts(settled=True)).conflicts] == [
                    True
                ]
            assert (await last(world, rid)).again == found.loser
            await fails(NothingToDo, operator(world, "Site1").apply(rid, found.winner))

    run(story())


def test_it_is_done_with_the_site_s_own_credentials_since_it_was_accepted_once() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            for site in ("Site1", "Site2"):
                world[site].box.wants = b"me"
                world[site].credentials.of["notes"] = ((b"authorization", b"me"),)
            answer = await world["Site1"].ask("POST", "/notes", {}, X_Scope=TWO, Authorization="me")
            world.cut("Site1", "Site2")
            for site, name in (("Site1", "one"), ("Site2", "two")):
                await world[site].ask(
                    "PATCH", f"/notes/{answer.rid}", {"name": name}, Authorization="me", Prefer="wait=1"
                )
                await asyncio.sleep(1)
            world.heal()
            await world.settled()
            (found,) = (await operator(world, "Site1").lists.conflicts()).conflicts
            await operator(world, "Site1").apply(answer.rid, found.loser)
            await world.settled()
            for site in ("Site1", "Site2"):
                assert [doc["name"] for doc in world[site].box.documents.values()] == ["one"]

    run(story())


def test_a_change_that_lost_against_a_deletion_can_t_be_done_again() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid = await made(world, name="a")
            world.cut("Site1", "Site2")
            await world["Site1"].ask("PATCH", f"/notes/{rid}", {"name": "one"}, Prefer="wait=1")
            await world["Site2"].ask("DELETE", f"/notes/{rid}", Prefer="wait=1")
            world.heal()
            await world.settled()
            (found,) = (await operator(world, "Site1").lists.conflicts()).conflicts
            assert (found.winner_kind, found.loser_kind) == ("delete", "merge")
            await fails(NotThere, operator(world, "Site1").apply(rid, found.loser))

    run(story())


def test_waiting_ends_when_all_are_equal_or_when_time_is_up() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid = await made(world, name="a")
            world.cut("Site1", "Site2")
            await world["Site1"].ask("PATCH", f"/notes/{rid}", {"name": "b"}, Prefer="wait=1")
            loop = asyncio.get_running_loop()
            began = loop.time()
            found = await operator(world, "Site1").wait(rid, 25)
            assert (found.converged, round(loop.time() - began)) == (False, 25)
            assert ["hasn't reported" in each.why and "down" in each.why for each in found.left] == [True]
            loop.call_later(3, world.heal)
            assert (await operator(world, "Site1").wait(rid, 60)).converged
            assert loop.time() - began < 60

    run(story())


def test_operations_in_pages_by_state_and_site() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid, op = await refused_change(world)
            mine = operator(world, "Site1").lists
            (failed,) = (await mine.operations("failed")).operations
            assert (failed.resource.rid, failed.operation.operation, failed.outcome.site) == (rid, op, "Site2")
            assert failed.outcome.status == 409
            assert f"cheops retry {rid} {op} --on Site2" in failed.outcome.todo
            assert (await mine.operations("failed", site="Site1")).operations == []
            assert (await mine.operations("pending")).operations == []
            found, after = [], ""
            while True:
                page = await mine.operations("all", after=after, limit=1)
                found += page.operations
                if not (after := page.next):
                    break
            assert len(found) == 4
            assert len({(each.operation.operation, each.outcome.site) for each in found}) == 4
            await fails(BadRequest, mine.operations("lost"))
            await fails(BadRequest, mine.operations("all", after="here"))

    run(story())


def test_resources_in_pages() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rids = [await made(world, n=n) for n in range(5)]
            await world["Site1"].ask("DELETE", f"/notes/{rids[0]}")
            first = await operator(world, "Site2").lists.resources(limit=3)
            rest = await operator(world, "Site2").lists.resources(limit=3, after=first.next)
            assert sorted(rids[1:]) == [each.rid for each in (*first.resources, *rest.resources)]
            assert rest.next == ""
            assert (await operator(world, "Site2").lists.resources(service="other")).resources == []

    run(story())


def test_no_holder_can_be_asked() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", "Site3") as world:
            rid = await made(world, name="a")
            await operator(world, "Site1").place(rid, ["Site3"])
            assert (await operator(world, "Site1").wait(rid, 60)).converged
            await world.settled()
            for site in ("Site1", "Site2"):
                assert (await operator(world, site).lists.operations("pending")).operations == []
                counts = await world[site].store.counts()
                assert {state.value for _, state in counts} <= {"done", "skipped"}, "nobody waits for what isn't told"
            world.cut("Site1", "Site3")
            error = await fails(HolderUnreachable, operator(world, "Site1").wait(rid, 5))
            assert "Site3" in error.detail
            await fails(HolderUnreachable, operator(world, "Site1").place(rid, ["Site1"]))
            assert (await operator(world, "Site1").show(rid)).seen_from == "Site1"

    run(story())


@pytest.mark.parametrize("wire", [b"", b"{}", b'{"what": "burn"}', b"[]", b'{"what": "show", "sites": 3}'])
def test_a_command_that_can_t_be_understood(wire: bytes) -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            await fails(BadMessage, operator(world, "Site1").commanded(wire))

    run(story())


def test_what_agents_of_the_version_before_say_is_understood() -> None:
    """Neither `since` nor `again` is there."""
    dot = Dot("Site1.0a", 3)
    op = Operation(rid="r", author="Site1.0a", n=4, stamp=Stamp(1, 2), kind=Kind.MERGE, again=dot)
    outcome = Outcome(rid="r", dot=dot, site="Site2", at=2.0, since=1.0)
    for item in (op, outcome):
        assert from_json(to_json(item)) == item
    told = to_json(outcome)
    del told["outcome"]["since"]
    assert from_json(told) == replace(outcome, since=0.0)
    assert "again" not in to_json(replace(op, again=None))["operation"]
