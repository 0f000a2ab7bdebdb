"""What a service accepts and does later is followed to its end; an error inside of a 200 is one."""

import asyncio
from collections.abc import Awaitable, Callable

import virtual
from blackbox import reply
from cheops.record.operation import Outcome, State
from replicated import Answer, World
from values import application

JOBS = application("""
    services:
      jobs:
        resources:
          job:
            collection: /jobs
            follows: {field: status, done: [ready], failed: [error]}
            errors_in: error
            set_by_site: [made_by]
            revision: [version]
""")
BOTH = "{jobs: Site1 & Site2}"


def told(work: Callable[[World], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with World("Site1", "Site2", described=JOBS) as world:
            await asyncio.sleep(1)
            await work(world)

    virtual.run(inside())


async def made(world: World, **fields: object) -> Answer:
    return await world["Site1"].ask("POST", "/jobs", {"name": "a", **fields}, service="jobs", X_Scope=BOTH)


async def outcome(world: World, rid: str, site: str) -> Outcome:
    parts = world["Site1"].parts
    assert parts
    book = await parts.ledger.book(rid)
    assert book
    (only,) = [found for op in book.log.order if (found := book.outcome(op.dot, site))]
    return only


def test_a_failure_that_comes_later_is_a_failure() -> None:
    async def work(world: World) -> None:
        answer = await made(world, status="building")
        assert answer.outcome == "Site1=201, Site2=201"
        await asyncio.sleep(5)
        assert (await outcome(world, answer.rid, "Site2")).code == "under-way"
        for name, status in (("Site1", "ready"), ("Site2", "error")):
            for document in world[name].box.documents.values():
                document["status"] = status
        await asyncio.sleep(10)
        assert (await outcome(world, answer.rid, "Site1")).state is State.DONE
        assert (await outcome(world, answer.rid, "Site1")).code == ""
        failed = await outcome(world, answer.rid, "Site2")
        assert (failed.state, failed.code) == (State.REFUSED, "failed")
        assert "its status is error" in failed.why

    told(work)


def test_it_is_followed_also_by_the_next_agent() -> None:
    async def work(world: World) -> None:
        answer = await made(world, status="building")
        await world["Site2"].kill()
        for document in world["Site2"].box.documents.values():
            document["status"] = "error"
        await world["Site2"].start()
        await asyncio.sleep(30)
        assert (await outcome(world, answer.rid, "Site2")).code == "failed"

    told(work)


def test_an_error_inside_of_a_200() -> None:
    async def work(world: World) -> None:
        world["Site2"].box.before = lambda request: (
            reply(200, {"error": "no room"}) if request.method == "POST" else None
        )
        answer = await made(world, status="ready")
        assert answer.outcome == "Site1=201, Site2=200"
        refused = await outcome(world, answer.rid, "Site2")
        assert (refused.state, refused.why) == (State.REFUSED, "no room")

    told(work)


def test_i1_what_a_site_sets_itself_is_never_copied() -> None:
    async def work(world: World) -> None:
        await made(world, status="ready", version=7, made_by="the client")
        for name, site in world.sites.items():
            (document,) = site.box.documents.values()
            assert document["made_by"] == name
            assert "version" not in document

    told(work)
