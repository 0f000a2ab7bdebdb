"""Until everything that was accepted is done everywhere, once all is well again. Where only somebody who looks can know
whether something was executed, this looks at the service's own record, and says so.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from faults.looking import Look
from faults.setting import Setting
from faults.troubles import Troubles

LOOK_SECONDS = 1.0
_MARK = re.compile(r"mark=(m\d+)")


def mark_of(operation: Any) -> str:
    """Of an operation as it is shown; "" if its request is forgotten."""
    found = _MARK.search(operation["target"])
    return found[1] if found else ""


async def well_again(setting: Setting, troubles: Troubles) -> None:
    """Nothing is broken any more."""
    await asyncio.to_thread(setting.lab.heal)
    names = setting.names
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            await asyncio.to_thread(setting.lab.delay, one, other, "0ms")
    for name in names:
        setting.clock(name, 0)
        await troubles.mood(name, {})
        if setting.site(name).status()["pids"]["agent"] is None:
            await asyncio.to_thread(setting.agent_again, name)


async def settled(look: Look, names: tuple[str, ...], seconds: float) -> list[str]:
    """What is left when the time is up; nothing once all is done."""
    end = time.monotonic() + seconds
    while left := [text async for text in _left(look, names)]:
        if time.monotonic() > end:
            return left
        await asyncio.sleep(LOOK_SECONDS)
    return []


async def _left(look: Look, names: tuple[str, ...]) -> AsyncIterator[str]:
    for name in names:
        try:
            for state in ("pending", "failed"):
                for each in await look.pages(name, f"/operations?state={state}", "operations"):
                    yield _text(name, each)
                    if each["outcome"]["state"] == "asks" and each["outcome"]["site"] == name:
                        await _settle(look, name, each)
        except (aiohttp.ClientError, TimeoutError) as error:
            yield f"the admin API of {name} doesn't say: {error!r}"


def _text(seen_from: str, each: Any) -> str:
    operation, outcome = each["operation"], each["outcome"]
    what = f"{operation['operation']} ({operation['kind']} {operation['target']}) of {each['resource']['rid']}"
    why = f"{outcome['state']} {outcome['code']} {outcome['status'] or ''}: {outcome['why']}"
    return f"{what} at {outcome['site']}, as {seen_from} knows: {why} (attempt {outcome['attempts']})"


async def _settle(look: Look, name: str, each: Any) -> None:
    """As an operator does who looks."""
    mark = mark_of(each["operation"])
    done = [one for one in await look.record(name) if one.mark == mark]
    word = "done" if done else "retry"
    named = f"&id={done[0].local_id}" if done and each["operation"]["kind"] == "create" else ""
    path = f"/operations/{each['resource']['rid']}/{each['operation']['operation']}/{word}?site={name}{named}"
    await look.admin(name, path, "POST")
