"""For each thing that can be broken on purpose, what shows it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from faults.history import Asked
from faults.run import Run

SETTLED_SECONDS = 30.0
WAIT_SECONDS = 30.0
TIMES = 3


async def acknowledge_early(run: Run) -> None:
    """A change that the other holder can't be told of, and then the agent that accepted it is killed."""
    for _ in range(TIMES):
        made = await _made(run)
        await asyncio.to_thread(run.setting.lab.cut, "Site1", "Site2")
        await run.clients.ask("PATCH", "Site1", made.path, prefer="wait=1")
        await _killed(run, "Site1")
        await asyncio.to_thread(run.setting.lab.heal)


async def skip_items(run: Run) -> None:
    """A change of which the other holder loses what it is told."""
    made = await _made(run)
    (run.setting.folder / "skip-Site2").touch()
    await run.clients.ask("PATCH", "Site1", made.path, prefer="wait=2")


async def skip_probe(run: Run) -> None:
    """The agent is killed after its service has executed a creation, and before that has answered."""
    for _ in range(TIMES):
        await run.troubles.mood("Site1", {"slow": 3})
        making = asyncio.create_task(run.clients.ask("POST", "Site1", holders=("Site1", "Site2"), prefer="wait=10"))
        await _done(run, "Site1", f"m{run.clients.marks + 1}")
        await _killed(run, "Site1")
        await run.troubles.mood("Site1", {})
        await making


AIMED: dict[str, Callable[[Run], Awaitable[None]]] = {
    "acknowledge-early": acknowledge_early,
    "skip-items": skip_items,
    "skip-probe": skip_probe,
}


async def _made(run: Run) -> Asked:
    """A note at both sites."""
    made = await run.clients.ask("POST", "Site1", holders=("Site1", "Site2"), prefer="wait=10")
    await _done(run, "Site2", made.mark)
    return made


async def _killed(run: Run, site: str) -> None:
    run.say(f"agent killed: {site}")
    await asyncio.to_thread(run.setting.site(site).kill, "agent")
    await asyncio.to_thread(run.setting.agent_again, site)


async def _done(run: Run, site: str, mark: str) -> None:
    """Waits until a service has executed it. Raises TimeoutError."""
    end = time.monotonic() + WAIT_SECONDS
    while not any(done.mark == mark for done in await run.look.record(site)):
        if time.monotonic() > end:
            raise TimeoutError(f"{site} hasn't executed {mark} within {WAIT_SECONDS:g} s")
        await asyncio.sleep(0.1)
