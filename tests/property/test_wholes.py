"""Whatever is cut, killed and asked meanwhile: once all is well again, the parts are what the log says of the whole.

Shares sum to the number that was said last, pools are disjoint and inside of their range, and every site that belongs
to the whole has its part, and no other.
"""

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest

import virtual
from cheops.errors import CheopsError
from cheops.reconcile.book import Book
from replicated import World
from values import application

DESCRIBED = application("""
    services:
      notes:
        resources:
          farm: {collection: /farms, client_id: accepted, span: {divide: {wanted: {by: share}}}}
          subnet:
            collection: /subnets
            client_id: accepted
            span: {divide: {pools: {by: pools, range: cidr}}}
""")
NAMES = ("A", "B", "C", "D")
STEPS = 25


class Run:
    """What happens to one farm and one subnet."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random = world, Random(seed)
        self.rids: dict[str, str] = {}
        self.dead: set[str] = set()

    async def begin(self) -> None:
        sites = " % ".join(self.random.sample(NAMES, self.random.choice((2, 3))))
        at = sites.split(" % ")[0]
        farm = await self.world[at].ask("POST", "/farms", {"id": "f", "wanted": 10}, X_Scope=f"{{notes: {sites}}}")
        net = {"id": "s", "cidr": "10.0.0.0/24"}
        subnet = await self.world[at].ask("POST", "/subnets", net, X_Scope=f"{{notes: {sites}}}")
        assert (farm.status, subnet.status) == (201, 201)
        self.rids = {"farm": farm.rid, "subnet": subnet.rid}

    async def step(self) -> None:
        doing: list[Callable[[], Awaitable[Any]]] = (
            [self.change] * 4 + [self.place] * 2 + [self.cut, self.heal, self.kill]
        )
        with suppress(CheopsError):
            await asyncio.wait_for(self.random.choice(doing)(), 120)
        await asyncio.sleep(self.random.choice((0.0, 1.0, 20.0)))

    def alive(self) -> str:
        return self.random.choice([name for name in NAMES if name not in self.dead])

    async def change(self) -> None:
        document = {"wanted": self.random.randrange(60)}
        await self.world[self.alive()].ask("PATCH", "/farms/f", document, Prefer="wait=1")

    async def place(self) -> None:
        parts = self.world[self.alive()].parts
        assert parts
        sites = self.random.sample(NAMES, self.random.choice((2, 3, 4)))
        rid = self.random.choice(list(self.rids.values()))
        await parts.operator.place(rid, sites, leave="delete")

    async def cut(self) -> None:
        one, other = self.random.sample(NAMES, 2)
        self.world.cut(one, other)

    async def heal(self) -> None:
        self.world.heal()

    async def kill(self) -> None:
        name = self.alive()
        if len(self.dead) < 2:
            self.dead.add(name)
            await self.world[name].kill()
        else:
            await self.revive()

    async def revive(self) -> None:
        for name in sorted(self.dead):
            await self.world[name].start()
        self.dead.clear()

    async def end(self) -> dict[str, Book]:
        """All is well again: what the prime's log says."""
        await self.revive()
        self.world.heal()
        await asyncio.sleep(120)
        await self.world.settled()
        return {kind: await self.book(rid) for kind, rid in self.rids.items()}

    async def book(self, rid: str) -> Book:
        known = [await site.parts.ledger.book(rid) for site in self.world.sites.values() if site.parts]
        books = [book for book in known if book]
        return max(books, key=lambda book: len(book.log.operations))


def wanted(book: Book) -> int:
    """The number that was said last."""
    bodies = [op.request.body.inline for op in book.log.effective if op.request and op.request.body]
    said = [json.loads(body or b"{}").get("wanted") for body in bodies]
    return int([one for one in said if one is not None][-1])


async def parts_of(world: World, seed: int) -> None:
    run = Run(world, seed)
    await run.begin()
    for _ in range(STEPS):
        await run.step()
    books = await run.end()
    documents = {name: site.box.documents for name, site in world.sites.items()}
    for kind, path in (("farm", "/farms/f"), ("subnet", "/subnets/s")):
        assert {name for name, there in documents.items() if path in there} == set(books[kind].holders)
    shares = [documents[name]["/farms/f"]["wanted"] for name in books["farm"].holders]
    assert sum(shares) == wanted(books["farm"]), shares
    given: set[int] = set()
    network = ipaddress.ip_network("10.0.0.0/24")
    for name in books["subnet"].holders:
        for pool in documents[name]["/subnets/s"]["pools"]:
            first, last = (ipaddress.ip_address(pool[end]) for end in ("start", "end"))
            assert first in network
            assert last in network
            addresses = set(range(int(first), int(last) + 1))
            assert not addresses & given
            given |= addresses


@pytest.mark.parametrize("seed", range(60))
def test_the_parts_are_what_the_log_says_of_the_whole(seed: int) -> None:
    async def inside() -> None:
        async with World(*NAMES, described=DESCRIBED, seed=seed) as world:
            await asyncio.sleep(1)
            await parts_of(world, seed)

    virtual.run(inside())
