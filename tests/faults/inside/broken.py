"""What is changed in an agent: messages to other agents that are sent twice, and what is broken on purpose, which the
judge has to find. A file of the run's folder says what; the run writes it before it starts the agent.
"""

import asyncio
import json
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cheops.config import Site
from cheops.errors import CheopsError
from cheops.ports import LOG
from cheops.reconcile.exchange import Exchange
from cheops.reconcile.outcomes import Applied, version_after
from cheops.reconcile.probing import Prober
from cheops.reconcile.wire import packed_push, read_push
from cheops.record.operation import Operation, State
from cheops.transports.http import HttpTransport

FLUSH_SECONDS = 4.0
_later: set[asyncio.Task[None]] = set()


def begin(folder: Path, site: str) -> None:
    told = json.loads((folder / "inside.json").read_text())
    if told["twice"]:
        send_twice(told["twice"])
    if told["broken"]:
        BROKEN[told["broken"]](folder, site)


def send_twice(probability: float) -> None:
    """Some pushes are sent again, up to 5 s later."""
    ask = HttpTransport.ask

    async def again(self: HttpTransport, path: str, **given: Any) -> None:
        await asyncio.sleep(random.random() * 5.0)
        with suppress(CheopsError, RuntimeError):
            await ask(self, path, **given)

    async def asked(self: HttpTransport, path: str, **given: Any) -> bytes:
        if path == LOG and random.random() < probability:
            task = asyncio.create_task(again(self, path, **given))
            _later.add(task)
            task.add_done_callback(_later.discard)
        return await ask(self, path, **given)

    HttpTransport.ask = asked  # type: ignore[method-assign,assignment]


def acknowledge_early(folder: Path, site: str) -> None:
    """The store is where a crash loses it; every few seconds it is copied to where it should be."""
    volatile = folder / "volatile" / f"{site}.db"
    volatile.parent.mkdir(exist_ok=True)
    for old in volatile.parent.glob(f"{site}.db*"):
        old.unlink()

    def url(self: Site) -> str:
        kept = self.data / "log.db"
        if kept.exists() and not volatile.exists():
            _copy(kept, volatile)
        threading.Thread(target=_flush, args=(volatile, kept), daemon=True).start()
        return f"sqlite:///{volatile}"

    Site.store_url = property(url)  # type: ignore[assignment,method-assign]


def _flush(volatile: Path, kept: Path) -> None:
    while True:
        time.sleep(FLUSH_SECONDS)
        with suppress(sqlite3.Error):
            _copy(volatile, kept)


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


def skip_items(folder: Path, site: str) -> None:
    """Once a file says so, one push that has an operation is counted as taken in, and isn't."""
    receive, told = Exchange.receive, folder / f"skip-{site}"

    async def received(self: Exchange, wire: bytes, sender: str) -> bytes:
        push = read_push(wire)
        if told.exists() and any(isinstance(item, Operation) for item in push.items):
            told.unlink()
            wire = packed_push(replace(push, items=(), previous=0))
        return await receive(self, wire, sender)

    Exchange.receive = received  # type: ignore[method-assign]


def skip_probe(folder: Path, site: str) -> None:
    """What was begun before a crash counts as not executed."""

    async def not_looked_for(self: Prober, book: Any, op: Any, before: Any, callers: Any) -> Applied:
        version = version_after(before, time.time())
        return Applied(outcome=replace(before, state=State.PENDING, code="absent", version=version))

    Prober.probe = not_looked_for  # type: ignore[method-assign]


BROKEN: dict[str, Callable[[Path, str], None]] = {
    "acknowledge-early": acknowledge_early,
    "skip-items": skip_items,
    "skip-probe": skip_probe,
}
