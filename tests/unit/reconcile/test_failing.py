"""What the simulation of faults has found, each alone: clocks set back, full disks, deletes of what was never made."""

import asyncio
from collections.abc import Collection

import virtual
from cheops.errors import StoreFailed
from cheops.stores.memory import LogInMemory
from replicated import World

BOTH = {"X_Scope": "{notes: A & B}"}


def test_a_clock_that_is_set_back_delays_nothing() -> None:
    async def story() -> None:
        async with World("A", "B") as world:
            world["B"].clock_ahead, world["B"].box.down = 7200.0, True
            await world["A"].ask("POST", "/notes", {"name": "n"}, **BOTH)
            await asyncio.sleep(3.0)
            world["B"].clock_ahead, world["B"].box.down = 0.0, False
            await world.settled(60.0)
            assert [one["name"] for one in world["B"].box.documents.values()] == ["n"]

    virtual.run(story())


def test_a_full_disk_does_not_end_an_agent_that_passes_on_what_others_have_written() -> None:
    async def story() -> None:
        async with World("A", "B", "C") as world:
            world.cut("B", "C")
            await world["B"].ask("POST", "/notes", {"name": "n"}, X_Scope="{notes: A & B & C}")
            world.cut("A", "B")
            world["A"].store.full = True
            await asyncio.sleep(12.0)
            world["A"].store.full = False
            task = world["A"].task
            assert task
            assert not task.done()
            await asyncio.sleep(90.0)
            assert [one["name"] for one in world["C"].box.documents.values()] == ["n"]

    virtual.run(story())


def test_deleting_what_was_never_made_at_a_site_is_done_at_once() -> None:
    async def story() -> None:
        async with World("A", "B") as world:
            world.cut("A", "B")
            made = await world["A"].ask("POST", "/notes", {"name": "n"}, **BOTH)
            await world["A"].ask("PUT", f"/notes/{made.rid}", {"name": "m"})
            assert (await world["A"].ask("DELETE", f"/notes/{made.rid}")).status == 204
            world.heal()
            await world.settled(60.0)
            assert not world["B"].box.documents

    virtual.run(story())


def test_what_nobody_has_made_is_not_listed_as_a_resource() -> None:
    async def story() -> None:
        async with World("A", "B") as world:
            for site in world.sites.values():
                site.box.down = True
            made = await world["A"].ask("POST", "/notes", {"name": "n"}, Prefer="wait=1", **BOTH)
            assert made.status == 503
            for site in world.sites.values():
                site.box.down = False
            await world.settled(60.0)
            for site in world.sites.values():
                assert site.parts
                assert (await site.parts.operator.lists.resources()).resources == []
                assert not site.box.documents

    virtual.run(story())


def test_a_database_that_goes_away_as_the_agent_starts_does_not_end_it() -> None:
    class Away(LogInMemory):
        failures = 2

        async def heads(self, peers: Collection[str]) -> dict[str, int]:
            if self.failures:
                self.failures -= 1
                raise StoreFailed("the operation log can't be read")
            return dict(await super().heads(peers))

    async def story() -> None:
        async with World("A", "B") as world:
            await world["A"].kill()
            away = world["A"].store
            away.__class__ = Away
            await world["A"].start()
            await asyncio.sleep(10.0)
            task = world["A"].task
            assert task
            assert not task.done()

    virtual.run(story())
