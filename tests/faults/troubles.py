"""What goes wrong, when, and for how long: drawn from a seed; a machine that is busy has other things meet."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp

from faults.setting import FAKETIME, IN_POSTGRESQL, OWN_CLOCKS, SMALL_DISK, Setting

PAUSE_SECONDS = 4.0
LOOK_SECONDS = 1.0
CLOCKS = (-7200, -40, -2, 0, 2, 40, 7200)
Trouble = Callable[[], Awaitable[None]]


@dataclass(kw_only=True)
class Troubles:
    """`say` writes a line of the run down; `wrong` is what shouldn't have happened meanwhile."""

    setting: Setting
    random: Random
    session: aiohttp.ClientSession
    say: Callable[[str], None]
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    away: set[str] = field(default_factory=set)  # what was killed, as Site1/agent

    async def happen(self, end: float) -> None:
        """Until the machine's monotonic clock says so, and each is over."""
        kinds = self._kinds()
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < end:
                group.create_task(_done(self.random.choice(kinds)))
                await asyncio.sleep(0.3 + self.random.random() * PAUSE_SECONDS)

    def _kinds(self) -> tuple[Trouble, ...]:
        kinds: tuple[Trouble, ...] = (
            *(self.kill_agent, self.kill_agent, self.kill_agent, self.kill_envoy, self.kill_service),
            *(self.cut, self.alone, self.blackhole, self.delay, self.refuse, self.lose, self.mute, self.slow),
        )
        kinds += (self.kill_database,) if self.setting.database else ()
        kinds += (self.fill_disk,) if self.setting.disk else ()
        return kinds + ((self.jump,) if FAKETIME else ())

    async def watch(self) -> None:
        """An agent ends by itself only where it has nothing to stand on; until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for name in self.setting.names:
                key = f"{name}/agent"
                if key not in self.away and not await self._runs(name) and key not in self.away:
                    self.wrong.append(f"the agent of {name} has ended by itself; its log says why")
                    self.away.add(key)
                    await asyncio.to_thread(self.setting.agent_again, name)
                    self.away.discard(key)

    async def _runs(self, name: str) -> bool:
        return (await asyncio.to_thread(self.setting.lab._processes.get, f"{name}/agent")) is not None

    def _began(self, what: str, where: str, seconds: float | None = None) -> None:
        self.counts[what] += 1
        self.say(f"{what}: {where}{f', for {seconds:.1f} s' if seconds is not None else ''}")

    @asynccontextmanager
    async def _while_away(self, key: str) -> AsyncIterator[bool]:
        """Whether it was there: one thing isn't killed twice."""
        if key in self.away:
            yield False
            return
        self.away.add(key)
        try:
            yield True
        finally:
            self.away.discard(key)

    def _site(self) -> str:
        return self.random.choice(self.setting.names)

    # Processes

    async def kill_agent(self) -> None:
        site, seconds = self._site(), self.random.random() * 4.0
        async with self._while_away(f"{site}/agent") as there:
            if there:
                self._began("agent killed", site, seconds)
                await asyncio.to_thread(self.setting.site(site).kill, "agent")
                await asyncio.sleep(seconds)
                await asyncio.to_thread(self.setting.agent_again, site)

    async def kill_envoy(self) -> None:
        site = self._site()
        self._began("Envoy killed", site)
        await asyncio.to_thread(self.setting.site(site).kill, "envoy")

    async def kill_service(self) -> None:
        site, seconds = self._site(), self.random.random() * 4.0
        async with self._while_away(f"{site}/things") as there:
            if there:
                self._began("service killed", site, seconds)
                await asyncio.to_thread(self.setting.site(site).kill, "app")
                await asyncio.sleep(seconds)
                await asyncio.to_thread(self.setting.site(site).restart, "app")

    async def kill_database(self) -> None:
        database, seconds = self.setting.database, self.random.random() * 4.0
        assert database
        async with self._while_away("database") as there:
            if there:
                self._began("database killed", " and ".join(IN_POSTGRESQL), seconds)
                await asyncio.to_thread(database.kill)
                await asyncio.sleep(seconds)
                await asyncio.to_thread(database.start)

    # Links

    async def cut(self) -> None:
        await self._break(self.setting.lab.cut, "link cut")

    async def blackhole(self) -> None:
        await self._break(self.setting.lab.blackhole, "link mute")

    async def _break(self, how: Callable[..., None], what: str) -> None:
        one, other = self.random.sample(self.setting.names, 2)
        seconds, oneway = self.random.random() * 10.0, self.random.random() < 0.3
        self._began(what, f"{one} {'→' if oneway else '↔'} {other}", seconds)
        await asyncio.to_thread(how, one, other, oneway=oneway)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.setting.lab.heal, one, other)
        await asyncio.to_thread(self.setting.lab.heal, other, one)

    async def alone(self) -> None:
        site, seconds = self._site(), self.random.random() * 10.0
        others = [name for name in self.setting.names if name != site]
        self._began("site cut off", site, seconds)
        for other in others:
            await asyncio.to_thread(self.setting.lab.cut, site, other)
        await asyncio.sleep(seconds)
        for other in others:
            await asyncio.to_thread(self.setting.lab.heal, site, other)
            await asyncio.to_thread(self.setting.lab.heal, other, site)

    async def delay(self) -> None:
        one, other = self.random.sample(self.setting.names, 2)
        milliseconds = self.random.choice((0, 20, 200, 1000))
        self._began("link delayed", f"{one} ↔ {other} by {milliseconds} ms")
        await asyncio.to_thread(self.setting.lab.delay, one, other, f"{milliseconds}ms")

    # Services

    async def refuse(self) -> None:
        await self._in_mood("service refuses", {"fails": "before"}, 3.0)

    async def lose(self) -> None:
        await self._in_mood("service answers nobody", {"fails": "after"}, 2.0)

    async def mute(self) -> None:
        await self._in_mood("service mute", {"mute": True}, 12.0)

    async def slow(self) -> None:
        how = self.random.choice(("late", "slow"))
        await self._in_mood(f"service {how}", {how: self.random.random() * 5.0}, 6.0)

    async def _in_mood(self, what: str, mood: dict[str, Any], most: float) -> None:
        site, seconds = self._site(), self.random.random() * most
        self._began(what, site, seconds)
        await self.mood(site, mood)
        await asyncio.sleep(seconds)
        await self.mood(site, {})

    async def mood(self, site: str, mood: dict[str, Any]) -> None:
        """A service that doesn't run has none."""
        url = self.setting.site(site).backend("things") + "/mood"
        try:
            async with self.session.put(url, json=mood, timeout=aiohttp.ClientTimeout(total=20)):
                pass
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.say(f"the service of {site} doesn't run, so its mood stays")

    # The machine

    async def fill_disk(self) -> None:
        async with self._while_away("disk") as there:
            if there:
                seconds = self.random.random() * 4.0
                self._began("disk full", SMALL_DISK, seconds)
                await asyncio.to_thread(self.setting.fill)
                await asyncio.sleep(seconds)
                await asyncio.to_thread(self.setting.empty)

    async def jump(self) -> None:
        site, ahead = self.random.choice(OWN_CLOCKS), self.random.choice(CLOCKS)
        self._began("clock jumps", f"{site} to {ahead:+} s")
        await asyncio.to_thread(self.setting.clock, site, ahead)


async def _done(trouble: Trouble) -> None:
    await trouble()
