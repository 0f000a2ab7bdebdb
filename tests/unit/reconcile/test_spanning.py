"""What spans sites, where an agent is killed or two do the same at once; tests/stories/cross tells the rest."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import virtual
from blackbox import reply
from cheops.model import Reply, Request
from replicated import World
from values import application

FARMS = application("""
    services:
      notes:
        resources:
          farm: {collection: /farms, client_id: accepted, span: {divide: {wanted: {by: share}}}}
          barn: {collection: /barns, client_id: accepted, span: {updates: refuse}}
""")
SPREAD = "{notes: Site1 % Site2 % Site3}"


def told(work: Callable[[World], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with World("Site1", "Site2", "Site3", described=FARMS) as world:
            await asyncio.sleep(1)
            await work(world)

    virtual.run(inside())


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_half_is_undone_once_the_agent_is_back_that_was_killed_as_a_site_refused(method: str) -> None:
    async def work(world: World) -> None:
        def refuse(request: Request) -> Reply | None:
            if request.method != method:
                return None
            world["Site2"].box.before = lambda request: None
            killing.append(asyncio.create_task(world["Site1"].kill()))
            return reply(409, {"error": "there is one of this name"})

        killing: list[asyncio.Task[None]] = []
        world["Site2"].box.before = refuse
        target = "/farms/web" if method == "PUT" else "/farms"
        asked = asyncio.create_task(world["Site1"].ask(method, target, {"id": "web", "wanted": 10}, X_Scope=SPREAD))
        while not killing:
            await asyncio.sleep(0.001)
        await killing[0]
        asked.cancel()
        await asyncio.sleep(5)
        world["Site2"].box.documents["/farms/web"] = {"id": "web", "of": "somebody else"}
        await world["Site1"].start()
        await world.settled()
        await asyncio.sleep(5)
        assert [world[name].box.documents for name in ("Site1", "Site3")] == [{}, {}]
        assert world["Site2"].box.documents == {"/farms/web": {"id": "web", "of": "somebody else"}}

    told(work)


def test_two_that_make_the_same_at_once_make_one() -> None:
    async def work(world: World) -> None:
        first, second = await asyncio.gather(
            *(
                world[site].ask("POST", "/farms", {"id": "web", "wanted": 10}, X_Scope=SPREAD)
                for site in ("Site1", "Site2")
            )
        )
        await world.settled()
        assert {first.status, second.status} <= {201, 200, 409}
        wanted = [world[site].box.documents["/farms/web"]["wanted"] for site in ("Site1", "Site2", "Site3")]
        assert sorted(wanted) == [3, 3, 4]

    told(work)


def test_a_type_may_refuse_to_change_while_a_site_is_away() -> None:
    async def work(world: World) -> None:
        made = await world["Site1"].ask("POST", "/barns", {"id": "red"}, X_Scope=SPREAD)
        assert made.status == 201
        world.cut("Site1", "Site3")
        await asyncio.sleep(30)
        before = len(world["Site2"].box.executed)
        refused = await world["Site1"].ask("PATCH", "/barns/red", {"doors": 2})
        assert (refused.status, refused.body["code"]) == (503, "holder-unreachable")
        assert "changes on all of its sites at once" in refused.body["detail"]
        assert len(world["Site2"].box.executed) == before
        world.heal()
        await asyncio.sleep(60)
        assert (await world["Site1"].ask("PATCH", "/barns/red", {"doors": 2})).status == 200

    told(work)
