"""Who works on a resource: this agent alone, or one of several that share the site's store."""

import asyncio
from collections.abc import Callable

from cheops.ports import Claim, LogStore

LEASE_SECONDS = 30.0


class Own:
    """The claims of an agent that has its store for itself."""

    async def take(self, rid: str) -> Claim | None:
        return Claim(rid=rid, owner="", until=0.0, revision=0)

    def holds(self, rid: str) -> bool:
        return True

    async def give_back(self, claim: Claim, due: float | None) -> None:
        return


class Leases:
    """Claims that other agents of the site see; renewed while the work goes on, they end with who holds them.

    Nothing is begun in the last third of a lease that wasn't renewed: then another agent may soon do it.
    """

    def __init__(self, store: LogStore, owner: str, now: Callable[[], float]) -> None:
        self._store, self._owner, self._now = store, owner, now
        self._renewing: dict[str, asyncio.Task[None]] = {}
        self._until: dict[str, float] = {}

    async def take(self, rid: str) -> Claim | None:
        now = self._now()
        claim = await self._store.claim_one(rid, self._owner, now, now + LEASE_SECONDS)
        if claim:
            self._until[rid] = claim.until
            self._renewing[rid] = asyncio.create_task(self._renew(claim))
        return claim

    def holds(self, rid: str) -> bool:
        """Whether nobody else can have claimed it, for a while."""
        return self._until.get(rid, 0.0) - self._now() > LEASE_SECONDS / 3

    async def _renew(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 4)
            until = self._now() + LEASE_SECONDS
            if not await self._store.renew(claim, until):
                self._until.pop(claim.rid, None)
                return
            self._until[claim.rid] = until

    async def give_back(self, claim: Claim, due: float | None) -> None:
        self._renewing.pop(claim.rid).cancel()
        self._until.pop(claim.rid, None)
        await self._store.release(claim, due)
