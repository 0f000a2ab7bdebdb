"""A log in a database and its twin in memory say the same, whatever is asked of them."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cheops.errors import Taken
from cheops.ports import Changes, Claim, Cursor, LogStore, Told
from cheops.record.operation import Body, Dot, Operation, Outcome, Recorded, State
from cheops.stores.memory import LogInMemory
from stored import NAME, op, opening, outcome, summary

RIDS, PEERS, AUTHORS = ("r1", "r2", "r3"), ("Site2", "Site3"), (f"Site1.{NAME}", "Site2.ffff")
NAMES = ("", "17", "a\0b", "r2")
rids, numbers, times = st.sampled_from(RIDS), st.integers(1, 4), st.integers(0, 40).map(float)
bodies = st.sampled_from([None, Recorded(method="PUT", target="/x", body=Body(sha256="ab" * 32, size=9))])
operations = st.builds(op, numbers, rids, st.sampled_from(AUTHORS), request=bodies, facet=st.sampled_from(["", "file"]))
outcomes = st.builds(
    outcome,
    numbers,
    st.sampled_from(("Site1", "Site2")),
    rids,
    version=numbers,
    state=st.sampled_from(State),
    local_id=st.sampled_from(NAMES),
    at=times,
)
summaries = st.builds(
    summary,
    rids,
    chosen=st.sampled_from(NAMES),
    parent=st.sampled_from(("", "r1")),
    refers=st.sampled_from(((), ("r2",))),
    gone=st.booleans(),
)
cursors = st.none() | st.builds(Cursor, peer=st.sampled_from(PEERS), store=st.just("s"), position=numbers)
Step = Callable[[LogStore], Awaitable[Any]]


@st.composite
def writes(draw: st.DrawFn) -> Step:
    items = draw(st.lists(operations | outcomes, max_size=4))
    own = [(item.rid, item.dot) for item in items if isinstance(item, Operation)]
    told = tuple(Told(item=item, peers=draw(st.sampled_from(((), PEERS[:1], PEERS)))) for item in items)
    changes = Changes(
        told=told,
        summaries=tuple({s.rid: s for s in draw(st.lists(summaries, max_size=2))}.values()),
        due=draw(st.dictionaries(rids, times | st.none(), max_size=2)),
        cursor=draw(cursors),
        fresh=frozenset(own if draw(st.integers(0, 3)) == 0 else ()),
    )
    return lambda log: log.write(changes)


@st.composite
def others(draw: st.DrawFn) -> Step:
    owner, now, rid, dot = draw(st.sampled_from("ab")), draw(times), draw(rids), Dot(draw(st.sampled_from(AUTHORS)), 1)
    claim = Claim(rid=rid, owner=owner, until=now + 9, revision=draw(st.integers(0, 3)))
    peer, number, due = draw(st.sampled_from(PEERS)), draw(st.integers(0, 5)), draw(times | st.none())
    steps: tuple[Step, ...] = (
        lambda log: log.claim_one(rid, owner, now, now + 9),
        lambda log: log.claim(owner, now, now + 9, 9),
        lambda log: log.renew(claim, now + 20),
        lambda log: log.release(claim, due),
        lambda log: log.heard(peer, number, "st"[number % 2]),
        lambda log: log.prune(rid, [dot]),
        lambda log: log.release_blob(rid, dot),
    )
    return draw(st.sampled_from(steps))


async def said(log: LogStore, step: Step) -> Any:
    """What comes of a step, and of all questions after it; only what has no order is put into one."""
    try:
        end = await step(log)
    except Taken:
        end = Taken
    dossiers = [await log.read(rid) for rid in RIDS]
    return [
        sorted(end, key=lambda claim: str(claim.rid)) if isinstance(end, list) else end,
        [(d.summary, d.operations, sorted(d.outcomes, key=_place), d.revision) for d in dossiers if d],
        sorted((n.value, n.site, n.summary.rid) for n in await log.find([*NAMES[1:], "r1"])),
        [sorted(s.rid for s in await log.referring(rid)) for rid in RIDS],
        [await log.feed(peer, after, 3) for peer in PEERS for after in (0, 2)],
        [await log.heads(PEERS), [await log.cursor(peer) for peer in PEERS]],
        await log.summaries(service="notes"),
        await log.outcomes(list(State), limit=5),
        [await log.counts(), await log.newest_stamp(), await log.blob_users("ab" * 32), await log.services()],
    ]


def _place(one: Outcome) -> tuple[Dot, str]:
    return one.dot, one.site


def _made(folder: str) -> bytes:
    """The file of an empty store; making one takes longer than all that is asked of it."""
    path = Path(folder) / "empty.db"

    async def make() -> None:
        async with opening(f"sqlite:///{path}")():
            pass

    asyncio.run(make())
    return path.read_bytes()


with tempfile.TemporaryDirectory() as made_in:
    EMPTY = _made(made_in)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(writes() | others(), min_size=1, max_size=12))
def test_they_agree(steps: list[Step]) -> None:
    async def work(folder: str) -> None:
        twin = LogInMemory(NAME)
        async with opening(f"sqlite:///{Path(folder) / 'log.db'}")() as log:
            for step in steps:
                assert await said(log, step) == await said(twin, step)

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "log.db").write_bytes(EMPTY)
        asyncio.run(work(folder))
