"""A run: clients and troubles for as long as it is to be, then all is well again, everything settles, and is judged."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp

from faults.clients import Clients
from faults.history import Asked
from faults.judging import Case, wrongs
from faults.looking import Look
from faults.setting import Setting, environment_of, keep_logs
from faults.settling import settled, well_again
from faults.troubles import Troubles

CLIENTS = 8
SETTLED_SECONDS = 240.0


@dataclass(kw_only=True)
class Verdict:
    """What a run has shown."""

    history: list[Asked]
    troubles: Counter[str]
    executed: int
    resources: int
    wrong: list[str] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        return sum(asked.is_acknowledged for asked in self.history)

    def sentences(self) -> list[str]:
        denied = sum(asked.is_denied for asked in self.history)
        unknown = len(self.history) - self.acknowledged - denied
        return [
            f"{len(self.history)} writes: {self.acknowledged} acknowledged, {denied} denied, {unknown} neither",
            f"{self.resources} resources; services have executed {self.executed} requests",
            f"{self.troubles.total()} troubles: {', '.join(f'{what} {n}' for what, n in self.troubles.most_common())}",
            *(f"WRONG: {wrong}" for wrong in self.wrong),
        ]


class Run:
    """One setting, its clients and its troubles; what happens is written to `log`."""

    def __init__(self, setting: Setting, seed: int, session: aiohttp.ClientSession, log: Path) -> None:
        self.setting, self._log = setting, log
        self.began = time.monotonic()
        self.clients = Clients(setting=setting, random=Random(f"clients {seed}"), session=session, began=self.began)
        self.troubles = Troubles(setting=setting, random=Random(f"troubles {seed}"), session=session, say=self.say)
        self.look = Look(setting, session)

    def say(self, text: str) -> None:
        """To who looks on, and to who will ask why."""
        line = f"{time.monotonic() - self.began:7.1f} s  {text}"
        print(line, flush=True)
        with (self._log / "run.log").open("a") as file:
            file.write(line + "\n")

    async def random(self, seconds: float) -> None:
        """Clients and troubles."""
        self.say(", ".join(f"{what}: {where}" for what, where in environment_of(self.setting).items()))
        watching = asyncio.create_task(self.troubles.watch())
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self.troubles.happen(end))
            for _ in range(CLIENTS):
                group.create_task(self.clients.work(end))
        self.say("all is to be well again")
        await well_again(self.setting, self.troubles)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    async def judged(self, seconds: float = SETTLED_SECONDS) -> Verdict:
        """Once everything has settled, or the time is up."""
        left = await settled(self.look, self.setting.names, seconds)
        self.say("everything has settled" if not left else f"{len(left)} operations are left after {seconds:g} s")
        history = self.clients.history
        self.say("looking")
        looked = await self.look.all({asked.rid for asked in history if asked.rid})
        wrong = [*self.troubles.wrong, *(f"it doesn't settle: {text}" for text in left)]
        wrong += wrongs(Case(history=history, looked=looked))
        with (self._log / "history.jsonl").open("w") as file:
            file.writelines(asked.line() + "\n" for asked in history)
        self.say("judged")
        if wrong:
            keep_logs(self.setting, self._log)
        return Verdict(
            history=history,
            troubles=self.troubles.counts,
            executed=sum(map(len, looked.record.values())),
            resources=len(looked.shown),
            wrong=wrong,
        )


@asynccontextmanager
async def running(setting: Setting, seed: int, log: Path) -> AsyncIterator[Run]:
    """A run in this setting. Clients open a connection for each request: one that breaks tells nothing of others."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        try:
            yield Run(setting, seed, session, log)
        except BaseException:
            keep_logs(setting, log)
            raise
