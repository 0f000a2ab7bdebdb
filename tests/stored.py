"""Words for tests of the operation log: items, how they are written, and how a store is opened."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from cheops.ports import Changes, LogStore, Told
from cheops.record.operation import Birth, Body, Dot, Item, Kind, Operation, Outcome, Recorded
from cheops.record.resource import Summary
from cheops.record.stamp import Stamp
from cheops.stores.sql import open_log

NAME, BORN = "0badcafe", 1000.0
Opens = Callable[[], Any]


def opening(url: str) -> Opens:
    return lambda: open_log(url, name=lambda: NAME, now=lambda: BORN)


def op(n: int = 1, rid: str = "r1", author: str = f"Site1.{NAME}", **fields: Any) -> Operation:
    fields = {"kind": Kind.MERGE, "stamp": Stamp(n, 0), "request": Recorded(method="PATCH", target="/x")} | fields
    return Operation(rid=rid, author=author, n=n, **fields)


def outcome(n: int = 1, site: str = "Site1", rid: str = "r1", **fields: Any) -> Outcome:
    return Outcome(rid=rid, dot=Dot(f"Site1.{NAME}", n), site=site, **fields)


def summary(rid: str = "r1", **fields: Any) -> Summary:
    fields = {"service": "notes", "type": "note", "collection": "/notes"} | fields
    return Summary(rid=rid, **fields)


async def put(log: LogStore, *items: Item, peers: tuple[str, ...] = (), **changes: Any) -> Mapping[str, int]:
    rids = dict.fromkeys(item.rid for item in items)
    known = {"summaries": tuple(summary(rid) for rid in rids)} | changes
    return await log.write(Changes(told=tuple(Told(item=item, peers=peers) for item in items), **known))


def run(opens: Opens, work: Callable[[LogStore], Any]) -> Any:
    async def inside() -> Any:
        async with opens() as log:
            return await work(log)

    return asyncio.run(inside())


FULL = op(
    1,
    kind=Kind.CREATE,
    after={"Site2.x": 3},
    touches=frozenset({"a.b", "c"}),
    request=Recorded(
        method="POST",
        target="/notes?a=%2f",
        headers=(("content-type", "application/json"), ("x", "1"), ("x", "2")),
        body=Body(inline=b"\x00\xff", size=2),
        secret=True,
    ),
    birth=Birth(service="notes", type="note", collection="/notes", chosen="a", name="n", parent="p"),
    placement=("Site1", "Site2"),
    refers=("r9",),
    shares={"image": "Site1 & Site2"},
)
