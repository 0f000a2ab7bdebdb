"""Several agents of a site on one PostgreSQL: each operation is executed by one, and one that dies hands over."""

import asyncio
import itertools
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

import postgres
from blackbox import BlackBox, reply
from cheops.model import Reply, Request
from cheops.reconcile import claims
from cheops.reconcile.assembly import Ground, Reconciling
from cheops.reconcile.book import Book
from cheops.reconcile.ledger import Draft
from cheops.reconcile.service import Settings
from cheops.record.operation import Birth, Body, Kind, Operation, Recorded, State
from cheops.sites.memory import PeersInMemory
from cheops.stores.blobs import BlobsInMemory
from cheops.stores.sql import open_log
from cheops.transports.memory import MemoryTransport, Network
from replicated import NOTES, OwnCredentials

RESOURCES = 40
ACTIONS = 5


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


class Counting(BlackBox):
    """Remembers how often each operation was executed, by a header that it came with."""

    def __init__(self) -> None:
        numbers = itertools.count(1)
        super().__init__("Site1", lambda: f"{next(numbers):032x}")
        self.times: dict[str, int] = {}

    def _execute(self, request: Request, content: bytes) -> Reply:
        for name in request.values(b"x-operation"):
            self.times[name.decode()] = self.times.get(name.decode(), 0) + 1
        return super()._execute(request, content)


async def agent(stack: AsyncExitStack, url: str, network: Network, owner: str) -> Reconciling:
    store = await stack.enter_async_context(open_log(url, name=lambda: "0badcafe", now=lambda: 0.0))
    ground = Ground(
        here="Site1",
        store=store,
        blobs=BlobsInMemory(),
        transport=MemoryTransport("Site1", network),
        credentials=OwnCredentials(),
        peers=PeersInMemory(),
        now=asyncio.get_running_loop().time,
        drawn=random.random,
        digits=lambda count: f"{random.getrandbits(4 * count):0{count}x}",
        owner=owner,
        shared=True,
    )
    parts = Reconciling(ground, Settings(application=NOTES))
    await parts.open()
    return parts


def operation(rid: str, number: int, book: Book | None, draft: Draft) -> Operation:
    made: dict[str, Any] = {"author": draft.author, "n": draft.n, "stamp": draft.stamp, "after": draft.after}
    mark = (("content-type", "application/json"), ("x-operation", f"{rid}/{number}"))
    if number == 0:
        body = Body(inline=f'{{"name": "note {rid[:8]}"}}'.encode(), size=0)
        birth = Birth(service="notes", type="", collection="/notes", name=f"note {rid[:8]}")
        request = Recorded(method="POST", target="/notes", headers=mark, body=body)
        return Operation(rid=rid, kind=Kind.CREATE, request=request, birth=birth, placement=("Site1",), **made)
    request = Recorded(method="POST", target=f"/notes/{rid}", headers=mark, body=Body(inline=b"{}", size=2))
    return Operation(rid=rid, kind=Kind.ACTION, repeats=False, commutes=True, request=request, **made)


def test_each_operation_is_executed_by_one_and_who_dies_hands_over(
    server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LEASE_SECONDS", 4.0)
    url = server.create("shared")
    box, network = Counting(), Network()
    network.services["Site1", "notes"] = box
    rids = [f"c4e1{number:04x}-0000-8000-8000-000000000000" for number in range(RESOURCES)]

    async def work() -> None:
        async with AsyncExitStack() as stack:
            agents = [await agent(stack, url, network, f"a{n}") for n in range(3)]
            running = [asyncio.create_task(parts.work()) for parts in agents]
            for number in range(ACTIONS + 1):
                await asyncio.gather(
                    *(
                        agents[at % 2].ledger.append(rid, lambda b, d, rid=rid: operation(rid, number, b, d))  # type: ignore[misc]  # noqa: B023
                        for at, rid in enumerate(rids)
                    )
                )
            await asyncio.sleep(0.1)
            running[0].cancel()  # it dies with whatever it has claimed; what it had begun, nobody knows
            with suppress(asyncio.CancelledError):
                await running[0]
            async with asyncio.timeout(60):
                while not await through(agents[1], rids):
                    await asyncio.sleep(0.1)
            for task in running[1:]:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    asyncio.run(work())
    assert len(box.documents) == RESOURCES
    assert set(box.times.values()) == {1}


async def through(parts: Reconciling, rids: list[str]) -> bool:
    """Whether all is done; what an agent that died had begun asks an operator, unless it can be looked for."""
    ended = {State.DONE, State.ASKS}
    for rid in rids:
        book = await parts.ledger.book(rid)
        assert book
        outcomes = list(book.own("Site1").values())
        asks = [outcome for outcome in outcomes if outcome.state is State.ASKS]
        if not asks and not all(outcome.state in ended for outcome in outcomes):
            return False
    return True


def test_a_service_that_refuses_is_not_asked_by_another_agent_too(server: postgres.Server) -> None:
    url = server.create("refusing")
    box, network = Counting(), Network()
    asked: list[Request] = []

    def refuse(request: Request) -> Reply | None:
        asked.append(request)
        return reply(403, {}) if request.method == "POST" else None

    box.before = refuse
    network.services["Site1", "notes"] = box
    rid = "c4e10000-0000-8000-8000-000000000001"

    async def work() -> None:
        async with AsyncExitStack() as stack:
            agents = [await agent(stack, url, network, f"a{n}") for n in range(2)]
            running = [asyncio.create_task(parts.work()) for parts in agents]
            await agents[0].ledger.append(rid, lambda book, draft: operation(rid, 0, book, draft))
            async with asyncio.timeout(20):
                book = await agents[1].ledger.until(
                    rid, lambda book: any(o.state is State.REFUSED for o in book.own("Site1").values()), 20
                )
            assert book
            await asyncio.sleep(1.5)  # in which the other agent looks for what is due
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    asyncio.run(work())
    assert len(asked) == 1
