"""Large bodies: kept until every holder is through, then forgotten; a site that comes later gets it from a service."""

import asyncio
import hashlib

import virtual
from replicated import World

CONTENT = bytes(range(256)) * 1000


def test_a_body_is_kept_once_released_and_had_by_who_comes_later() -> None:
    async def work() -> None:
        async with World("Site1", "Site2", "Site3") as world:
            await asyncio.sleep(1)
            made = await world["Site1"].ask("PUT", "/notes/a", {"n": 1}, X_Scope="{notes: Site1 & Site2}")
            world.cut("Site1", "Site2")
            answer = await world["Site1"].ask("PUT", "/notes/a/file", CONTENT)
            assert answer.outcome == "Site1=204, Site2=pending"
            sha256 = hashlib.sha256(CONTENT).hexdigest()
            assert world["Site1"].blobs.has(sha256)
            world.heal()
            await world.settled()
            await asyncio.sleep(5)
            assert not world["Site1"].blobs.has(sha256)
            assert not world["Site2"].blobs.has(sha256)
            parts = world["Site2"].parts
            assert parts
            await parts.operator.place(made.rid, ["Site1", "Site2", "Site3"])
            await world.settled()
            for site in world.sites.values():
                assert site.box.files["/notes/a/file"] == sha256
            await asyncio.sleep(5)
            assert not world["Site3"].blobs.has(sha256)

    virtual.run(work())
