"""P10 of the field reports: an agent that is killed again and again while it carries out what waits for it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

import pytest

import virtual
from cheops.model import Reply, Request
from cheops.ports import Changes
from replicated import SiteInMemory, World

NOTES = 100


class Doom:
    """Kills a site's agent at a step of its work, before it or after it; a step is a write of its store or a request of
    its service. Whoever was at it never goes on; it lives longer each time.
    """

    def __init__(self, site: SiteInMemory, seed: int) -> None:
        self._site, self._drawn = site, Random(seed)
        self.kills, self._left, self._next = 0, 0, self._drawn.randint(1, 6)
        self._due = asyncio.Event()
        write, execute = site.store.write, site.box._execute

        async def writing(changes: Changes) -> None:
            await self._step()
            await write(changes)
            await self._step()

        async def serving(request: Request) -> Reply:
            await self._step()
            content = b"".join([chunk async for chunk in request.body]) if request.body else b""
            answered = execute(request, content)
            site.box.executed += [request.method] if request.method != "GET" else []
            await self._step()
            return answered

        site.store.write = writing  # type: ignore[method-assign]
        site.world.network.services[site.name, "notes"] = serving

    async def _step(self) -> None:
        await asyncio.sleep(0.001 + 0.05 * self._drawn.random())  # so that no two are at the same
        self._next -= 1
        if self._next == 0:
            self._due.set()
            await asyncio.Event().wait()

    async def strike(self) -> None:
        """Until it is cancelled: kills the agent whenever it is due, and starts it again."""
        while True:
            await self._due.wait()
            self._due.clear()
            await self._site.kill()
            self.kills += 1
            self._next = self._drawn.randint(1, 8 + 8 * self.kills)
            await self._site.start()


@asynccontextmanager
async def struck(doom: Doom) -> AsyncGenerator[None]:
    striking = asyncio.create_task(doom.strike())
    try:
        yield
    finally:
        striking.cancel()
        await asyncio.gather(striking, return_exceptions=True)


async def names(site: SiteInMemory) -> list[str]:
    return sorted(str(document["name"]) for document in site.box.documents.values())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_p10_all_of_a_hundred_arrive_once_though_the_agent_is_killed_at_any_step(seed: int) -> None:
    """Notes whose ids the service makes itself: executing a creation twice would show."""

    async def story() -> None:
        async with World("Site1", "Site2", seed=seed) as world:
            world.cut("Site1", "Site2")
            for number in range(NOTES):
                made = await world["Site1"].ask(
                    "POST", "/notes", {"name": f"note {number}"}, X_Scope="{notes: Site1 & Site2}"
                )
                assert made.outcome == "Site1=201, Site2=pending"
            doom = Doom(world["Site2"], seed)
            async with struck(doom):
                world.heal()
                async with asyncio.timeout(3600):
                    while len(world["Site2"].box.documents) < NOTES or not world["Site2"].parts:
                        await asyncio.sleep(1)
            await world.settled()
            assert doom.kills > 20
            assert await names(world["Site2"]) == await names(world["Site1"])
            assert world["Site2"].box.executed == ["POST"] * NOTES

    virtual.run(story())
