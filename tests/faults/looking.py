"""What the sites and their services say at the end."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from faults.setting import Setting

AT_ONCE = 8
PAGE = 1000
Shown = Mapping[str, Any]  # a resource as the admin API shows it


@dataclass(frozen=True, kw_only=True)
class Done:
    """A line of a service's own record."""

    mark: str
    method: str
    local_id: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Looked:
    """`shown` by rid and holder, `notes` by site and local id, `record` by site."""

    shown: Mapping[str, Mapping[str, Shown]]
    notes: Mapping[str, Mapping[str, Mapping[str, Any]]]
    record: Mapping[str, tuple[Done, ...]]


class Look:
    """Asks admin APIs and backends. Raises aiohttp.ClientError and TimeoutError."""

    def __init__(self, setting: Setting, session: aiohttp.ClientSession) -> None:
        self._setting, self._session = setting, session
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def admin(self, site: str, path: str, method: str = "GET") -> Any:
        """None for what isn't there."""
        return await self._json(method, self._setting.site(site).admin + path)

    async def backend(self, site: str, path: str) -> Any:
        return await self._json("GET", self._setting.site(site).backend("things") + path)

    async def _json(self, method: str, url: str) -> Any:
        timeout = aiohttp.ClientTimeout(total=60)
        async with self._at_once, self._session.request(method, url, timeout=timeout) as reply:
            if reply.status == 404:
                return None
            reply.raise_for_status()
            return await reply.json()

    async def pages(self, site: str, path: str, what: str) -> list[Any]:
        found: list[Any] = []
        after = ""
        while True:
            page = await self.admin(site, f"{path}{'&' if '?' in path else '?'}limit={PAGE}&after={after}")
            found += page[what]
            after = page["next"]
            if not after:
                return found

    async def record(self, site: str) -> tuple[Done, ...]:
        rows = await self.backend(site, "/executed")
        return tuple(Done(mark=mark, method=method, local_id=local, at=at) for mark, method, local, at in rows)

    async def all(self, rids: Iterable[str]) -> Looked:
        """Everything; `rids` are those that clients know, which sites may list no more."""
        names = self._setting.names
        listed: dict[str, set[str]] = {rid: set() for rid in rids}
        for name in names:
            for one in await self.pages(name, "/resources", "resources"):
                listed.setdefault(one["rid"], set()).add(name)
        shown = await asyncio.gather(*(self._shown(rid, at) for rid, at in listed.items()))
        found = dict(zip(listed, shown, strict=True))
        notes = {name: {note["id"]: note for note in await self.backend(name, "/state")} for name in names}
        record = {name: await self.record(name) for name in names}
        return Looked(shown=found, notes=notes, record=record)

    async def _shown(self, rid: str, listed: set[str]) -> dict[str, Shown]:
        """How those sites show it that list it or hold it; a site that has nothing to do with it would ask them."""
        first = await self.admin(min(listed), f"/resources/{rid}") if listed else None
        names = sorted(listed | set(first["resource"]["placement"])) if first else self._setting.names
        shown = await asyncio.gather(*(self.admin(name, f"/resources/{rid}") for name in names))
        return {name: one for name, one in zip(names, shown, strict=True) if one and one["seen_from"] == name}
