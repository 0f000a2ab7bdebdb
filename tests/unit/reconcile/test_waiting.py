"""How long the caller of a write waits for the service here, and for the others."""

import asyncio
from typing import Any

import virtual
from blackbox import reply
from cheops.model import Reply, Request
from replicated import Answer, World

BOTH = "{notes: Site1 & Site2}"


async def seconds_until_answered(found_down_after: float) -> tuple[float, str]:
    """A link is cut, which the sites find some seconds after a write has begun: its answer comes then."""
    async with World("Site1", "Site2") as world:
        await world["Site1"].ask("PUT", "/notes/a", {"n": 0}, X_Scope=BOTH)
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


class Slow:
    """A service that takes its time for a body, as for a large image."""

    def __init__(self, service: Any, seconds: float) -> None:
        self._service, self._seconds = service, seconds

    async def __call__(self, request: Request) -> Reply:
        if request.method == "PUT" and request.target.endswith(b"/file"):
            await asyncio.sleep(self._seconds)
        reply: Reply = await self._service(request)
        return reply


async def uploaded(**headers: str) -> tuple[Answer, list[str]]:
    """A large body: the service may take 5 s and one for each of its megabytes, and takes 20 s."""
    async with World("Site1", "Site2") as world:
        await world["Site1"].ask("PUT", "/notes/a", {"n": 0}, X_Scope=BOTH)
        for name in world.sites:
            world.network.services[name, "notes"] = Slow(world[name].box, 20.0)
        answer = await world["Site1"].ask("PUT", "/notes/a/file", bytes(30 << 20), **headers)
        await world.settled()
        return answer, [hash_ for name in world.sites for hash_ in world[name].box.files.values()]


def test_what_the_service_here_is_at_is_waited_for() -> None:
    answer, files = virtual.run(uploaded())
    assert (answer.status, answer.outcome.split(", ")[0]) == (204, "Site1=204")
    assert len(files) == 2


def test_who_says_how_long_hears_that_it_is_accepted() -> None:
    answer, files = virtual.run(uploaded(Prefer="wait=3"))
    assert answer.status == 202
    assert len(files) == 2


async def tried_again_meanwhile() -> Answer:
    """The service here can't at first, and can the next time, while the other site is still waited for."""
    async with World("Site1", "Site2") as world:
        await world["Site1"].ask("PUT", "/notes/a", {"n": 0}, X_Scope=BOTH)
        failures = iter([reply(503, {"error": "not now"})])
        world["Site1"].box.before = lambda _: next(failures, None)
        world["Site2"].box.mute = True
        return await world["Site1"].ask("PATCH", "/notes/a", {"n": 1}, Prefer="wait=3")


def test_what_the_service_answered_before_it_was_done_is_not_the_answer() -> None:
    answer = virtual.run(tried_again_meanwhile())
    assert (answer.status, answer.outcome) == (200, "Site1=200, Site2=pending")
