"""Clients of all fronts: they make notes on several sites, and change them from any."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp

from faults.history import Asked, answered
from faults.setting import Setting

KINDS = ("POST", "chosen", "PATCH", "PUT", "large", "action", "DELETE", "GET")
WEIGHTS = (6, 2, 8, 3, 2, 3, 2, 3)
RECENT = 40  # resources that are still changed: concurrent changes of one are worth more than many resources
PAUSE_SECONDS = 0.8
LARGE = 100_000  # characters: beyond what is kept in a log


@dataclass(kw_only=True)
class Clients:
    """What they have asked so far; `paths` are those of resources; `began` is of the machine's monotonic clock."""

    setting: Setting
    random: Random
    session: aiohttp.ClientSession
    began: float = field(default_factory=time.monotonic)
    history: list[Asked] = field(default_factory=list)
    paths: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT))
    marks: int = 0

    async def work(self, end: float) -> None:
        """One client, until the machine's monotonic clock says so."""
        while time.monotonic() < end:
            (kind,) = self.random.choices(KINDS, WEIGHTS)
            if self.paths or kind in ("POST", "chosen"):
                await self.ask(kind, self.random.choice(self.setting.names))
            await asyncio.sleep(self.random.random() * PAUSE_SECONDS)

    async def ask(self, kind: str, site: str, path: str = "", holders: Iterable[str] = (), prefer: str = "") -> Asked:
        """One request; whatever isn't given is chosen."""
        asked = self._drawn(kind, site, path, tuple(holders))
        headers = {"X-Scope": f"{{things: {' & '.join(asked.holders)}}}"} if asked.holders else {}
        if not prefer and self.random.random() < 0.15:
            prefer = self.random.choice(("respond-async", "wait=2"))
        headers |= {"Prefer": prefer} if prefer else {}
        asked = await answered(self.session, asked, self.setting.site(site).front("things"), headers)
        if kind == "GET":
            return asked
        self.history.append(asked)
        if asked.holders and asked.is_acknowledged and asked.rid:
            self.paths.append(asked.path)
        if kind == "DELETE" and asked.is_acknowledged and asked.path in self.paths:
            self.paths.remove(asked.path)
        return asked

    def _drawn(self, kind: str, site: str, path: str, holders: tuple[str, ...]) -> Asked:
        self.marks += 1
        mark, makes = f"m{self.marks}", kind in ("POST", "chosen")
        if makes and not holders:
            holders = tuple(self.random.sample(self.setting.names, self.random.choice((2, 2, 3))))
        path = path or (self.random.choice(self.paths) if self.paths else "")
        made: dict[str, tuple[str, str, dict[str, Any] | None]] = {
            "POST": ("POST", "/notes", {"name": mark}),
            "chosen": ("PUT", f"/pages/own-{mark}", {"name": mark}),
            "PATCH": ("PATCH", path, {f"f{self.random.randrange(6)}": mark}),
            "PUT": ("PUT", path, {"name": "put", "by": mark}),
            "large": ("PUT", path, {"name": "put", "by": mark, "fill": mark * (LARGE // len(mark))}),
            "action": ("POST", path, {"act": mark}),
            "DELETE": ("DELETE", path, None),
            "GET": ("GET", path, None),
        }
        method, target, send = made[kind]
        return Asked(
            mark=mark,
            kind=kind,
            site=site,
            method=method,
            target=f"{target}?mark={mark}",
            send=send,
            at=time.monotonic() - self.began,
            holders=holders,
        )
