"""How long the caller of a write waits for the others."""

import asyncio

import virtual
from replicated import World


async def seconds_until_answered(found_down_after: float) -> tuple[float, str]:
    """A link is cut, which the sites find some seconds after a write has begun: its answer comes then."""
    async with World("Site1", "Site2") as world:
        await world["Site1"].ask("PUT", "/notes/a", {"n": 0}, X_Scope="{notes: Site1 & Site2}")
        loop = asyncio.get_running_loop()
        began = loop.time()
        world.network.cut("Site1", "Site2")
        loop.call_later(found_down_after, lambda: world.cut("Site1", "Site2"))
        answer = await world["Site1"].ask("PATCH", "/notes/a", {"n": 1})
        return loop.time() - began, answer.outcome


def test_an_answer_waits_for_no_site_that_is_found_down_meanwhile() -> None:
    seconds, outcome = virtual.run(seconds_until_answered(found_down_after=3))
    assert outcome == "Site1=200, Site2=pending"
    assert 3 <= seconds < 5
