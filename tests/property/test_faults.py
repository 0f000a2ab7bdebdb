"""Whatever fails, in whatever order, what was acknowledged is done once on every site that holds the resource.

Clients of five sites in memory write what is replicated, and note what they asked and what they heard; meanwhile agents
are killed where they wait, links are cut, messages are lost, late and repeated, services fail before or after they
execute, disks are full and clocks jump. At the end all is well again: everything settles, every holder has what the log
says, and the log explains what each client heard.

A seed gives the run; to repeat one exactly, set PYTHONHASHSEED too.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

import virtual
from blackbox import reply
from cheops.model import Reply, Request
from cheops.reconcile.book import Book
from cheops.record.operation import Dot, Kind, Operation, State
from faulty import Disk, FaultySite, FaultyWorld, LyingDisk, mark_of
from replicated import Answer

NAMES = ("A", "B", "C", "D", "E")
CLIENTS = 4
SECONDS = 30.0  # of faults, in the time of the run
SETTLED_SECONDS = 300.0
OWN = ("id", "made_by", "count")  # what a site sets itself


@dataclass(kw_only=True)
class Asked:
    """What a client has asked for, and what it has heard."""

    mark: str
    method: str
    site: str
    name: str
    answer: Answer

    @property
    def acknowledged(self) -> bool:
        return 200 <= self.answer.status < 300

    @property
    def denied(self) -> bool:
        """Whether it was told that nothing was done, and nothing will be. A failure that names a resource says that no
        holder has accepted it.
        """
        body = self.answer.body
        failed = self.answer.status >= 400 and "cheops-resource" in self.answer.headers
        return failed or (isinstance(body, dict) and body.get("code") == "holder-unreachable")


@dataclass
class Run:
    """One run: the world, what goes wrong in it, and what the clients have met."""

    world: FaultyWorld
    random: Random
    history: list[Asked] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    rids: list[str] = field(default_factory=list)
    killing: list[FaultySite] = field(default_factory=list)
    marks: int = 0

    # Clients

    async def client(self, end: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < end:
            kind = self.random.choices(
                ("POST", "chosen", "PATCH", "PUT", "action", "DELETE", "GET"), (6, 2, 8, 3, 3, 2, 3)
            )[0]
            await self.ask(kind)
            await asyncio.sleep(self.random.random() * 0.8)

    async def ask(self, kind: str) -> None:
        if kind not in ("POST", "chosen") and not self.rids:
            return
        self.marks += 1
        mark, site = f"mark-{self.marks}", self.random.choice(NAMES)
        name = mark if kind in ("POST", "chosen") else ""
        scope = f"{{notes: {' & '.join(self.random.sample(NAMES, self.random.choice((2, 3))))}}}"
        path = "/notes" if kind == "POST" else f"/notes/{self.random.choice(self.rids or ['none'])}"
        made: dict[str, tuple[str, str, Any, dict[str, str]]] = {
            "POST": ("POST", path, {"name": name}, {"X_Scope": scope}),
            "chosen": ("PUT", f"/notes/own-{mark}", {"name": name}, {"X_Scope": scope}),
            "PATCH": ("PATCH", path, {f"f{self.random.randrange(6)}": mark}, {}),
            "PUT": ("PUT", path, {"name": "put", "by": mark}, {}),
            "action": ("POST", path, {"act": mark}, {}),
            "DELETE": ("DELETE", f"{path}?{mark}", None, {}),
            "GET": ("GET", path, None, {}),
        }
        method, target, document, headers = made[kind]
        if self.random.random() < 0.1:
            headers = {**headers, "Prefer": self.random.choice(("respond-async", "wait=2"))}
        answer = await self.world[site].ask(method, target, document, **headers)
        if method == "GET":
            return
        asked = Asked(mark=mark, method=kind, site=site, name=name, answer=answer)
        self.history.append(asked)
        if kind in ("POST", "chosen") and asked.acknowledged:
            self.rids.append(answer.rid)

    # What goes wrong

    async def faults(self, end: float) -> None:
        loop = asyncio.get_running_loop()
        kinds: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = (
            *(self.kill, self.kill, self.kill),
            *(self.cut, self.alone, self.refuse, self.lose, self.mute, self.fill, self.jump),
        )
        async with asyncio.TaskGroup() as group:
            while loop.time() < end:
                await asyncio.sleep(self.random.random() * 1.5)
                group.create_task(self.random.choice(kinds)())

    def _site(self) -> FaultySite:
        return self.world[self.random.choice(NAMES)]

    async def kill(self) -> None:
        """At one of its next waits."""
        site = self._site()
        if site in self.killing:
            return
        self.killing.append(site)
        site.life.waits = self.random.randrange(40)
        await asyncio.sleep(self.random.random() * 1.5)
        await site.die()
        await asyncio.sleep(0.5 + self.random.random() * 4.0)
        await site.start()
        self.killing.remove(site)

    async def cut(self) -> None:
        one, other = self.random.sample(NAMES, 2)
        self.world.cut(one, other)
        await asyncio.sleep(self.random.random() * 8.0)
        self.world.network.heal(one, other)

    async def alone(self) -> None:
        one = self.random.choice(NAMES)
        for other in NAMES:
            if other != one:
                self.world.cut(one, other)
        await asyncio.sleep(self.random.random() * 8.0)
        for other in NAMES:
            self.world.network.heal(one, other)

    async def refuse(self) -> None:
        """The service can't be reached, or fails before it has done anything."""
        box, said = self._site().box, self.random.choice(("no", "unknown", ""))
        box.before = lambda _: reply(503, {}, *([(b"cheops-executed", said.encode())] if said else []))
        await asyncio.sleep(self.random.random() * 3.0)
        box.before = _nothing

    async def lose(self) -> None:
        """The service executes, and its answers are lost."""
        box = self._site().box
        box.after = lambda _: reply(503, {}, (b"cheops-executed", b"unknown"))
        await asyncio.sleep(self.random.random() * 2.0)
        box.after = _nothing

    async def mute(self) -> None:
        box = self._site().box
        box.mute = True
        await asyncio.sleep(self.random.random() * 4.0)
        box.mute = False

    async def fill(self) -> None:
        site = self._site()
        site.store.full = True
        await asyncio.sleep(self.random.random() * 2.0)
        site.store.full = False

    async def jump(self) -> None:
        self._site().clock_ahead = self.random.choice((-7200.0, -40.0, -2.0, 0.0, 2.0, 40.0, 7200.0))

    # The end

    async def well_again(self) -> None:
        self.world.faults = 0.0
        await self.world.quiet()
        self.world.heal()
        async with asyncio.timeout(SETTLED_SECONDS):
            while await self._look():
                await asyncio.sleep(0.5)

    async def _look(self) -> bool:
        """Whether something is left. An operator says what was executed, where that can't be known."""
        left = [text async for text in self.world._left()]
        for site in self.world.sites.values():
            for outcome in await site.store.outcomes([State.ASKS]):
                if outcome.site != site.name:
                    continue
                left.append(f"{site.name}: {outcome}")
                assert site.parts
                book = await site.parts.ledger.book(outcome.rid)
                assert book
                op = book.log.operations[outcome.dot]
                body = op.request.body.inline if op.request and op.request.body else b""
                word = "done" if body and site.box.acted[body.decode()] else "retry"
                author, n = outcome.dot
                await site.parts.operator.settle(word, outcome.rid, f"{author}/{n}", site.name)
        self.world.left = left
        return bool(left)


def _nothing(_: Request) -> Reply | None:
    return None


# What must be true at the end


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is there at the end: by rid and site the books, and all operations that were ever written."""

    run: Run
    books: dict[str, dict[str, Book]]
    written: dict[tuple[str, Dot], Operation]

    def held(self) -> Iterator[tuple[str, str, Book | None]]:
        """Each resource at each of its holders."""
        for rid, known in self.books.items():
            for site in holders(known):
                yield rid, site, known.get(site)

    def effective(self, book: Book) -> list[Operation]:
        """With their requests."""
        return [self.written[op.rid, op.dot] if op.request is None else op for op in book.log.effective]


def holders(known: dict[str, Book]) -> tuple[str, ...]:
    return max(known.values(), key=lambda book: len(book.log.operations)).holders


async def wrongs(run: Run) -> list[str]:
    """Everything that is wrong, in sentences."""
    books: dict[str, dict[str, Book]] = {}
    written: dict[tuple[str, Dot], Operation] = {}
    for name, site in run.world.sites.items():
        assert site.parts
        assert isinstance(site.store, Disk)
        written.update(site.store.seen)
        for summary in await site.store.summaries(limit=100_000):
            book = await site.parts.ledger.book(summary.rid)
            assert book
            books.setdefault(summary.rid, {})[name] = book
    found = Found(run=run, books=books, written=written)
    return [wrong for each in (alike, as_the_log_says, nothing_else, explained) for wrong in each(found)]


def alike(found: Found) -> Iterator[str]:
    """Every holder knows the same log."""
    for rid, known in found.books.items():
        logs = {site: tuple(op.dot for op in known[site].log.effective) for site in holders(known) if site in known}
        if set(logs) != set(holders(known)) or len(set(logs.values())) > 1:
            yield f"{rid} isn't the same everywhere: {logs}"


def as_the_log_says(found: Found) -> Iterator[str]:
    """Every holder's service has what the effective log makes, and has done each action once."""
    for rid, site, book in found.held():
        if book is None:
            continue
        box, local = found.run.world[site].box, book.local_id(site)
        there = box.documents.get(f"/notes/{local}") if local else None
        own = {key: value for key, value in there.items() if key not in OWN} if there is not None else None
        operations = found.effective(book)
        if own != (meant := document(operations)):
            yield f"{rid} at {site} is {own}, and the log says {meant}"
        for op in operations:
            if op.kind is Kind.ACTION and (times := box.acted[content(op).decode()]) != 1:
                yield f"{rid} at {site}: {op.dot} was done {times} times"


def document(operations: Sequence[Operation]) -> dict[str, Any] | None:
    """The naive twin: what these make, one after the other."""
    made: dict[str, Any] | None = None
    for op in operations:
        made = TWIN.get(op.kind, lambda before, _: before)(made, op)
    return made


def content(op: Operation) -> bytes:
    inline = op.request.body.inline if op.request and op.request.body else None
    return inline or b"{}"


TWIN: dict[Kind, Callable[[dict[str, Any] | None, Operation], dict[str, Any] | None]] = {
    Kind.CREATE: lambda _, op: dict(json.loads(content(op))),
    Kind.REPLACE: lambda _, op: dict(json.loads(content(op))),
    Kind.MERGE: lambda before, op: {**(before or {}), **json.loads(content(op))},
    Kind.DELETE: lambda before, op: None,
}


def nothing_else(found: Found) -> Iterator[str]:
    """No service has anything that no resource stands for, and none has made or done anything twice."""
    for name, site in found.run.world.sites.items():
        local = {known[name].local_id(name) for known in found.books.values() if name in known}
        for path, there in site.box.documents.items():
            if path.removeprefix("/notes/") not in local:
                yield f"{name} has {path}, of which nothing is known: {there}"
        made = Counter(d.get("name") for d in site.box.documents.values() if d.get("name") != "put")
        for what, times in (*made.items(), *site.box.acted.items()):
            if times > 1:
                yield f"{name} has done {what} {times} times"


def explained(found: Found) -> Iterator[str]:
    """What a client heard is true: what was acknowledged is in every holder's log, what was denied isn't in force."""
    marked: dict[str, set[tuple[str, Dot]]] = {}
    for key, op in found.written.items():
        marked.setdefault(mark_of(op), set()).add(key)
    for asked in found.run.history:
        written = marked.get(asked.mark, set())
        standing = {(rid, dot) for rid, dot in written if _stands(found, rid, dot)}
        if len(standing) > 1 and asked.method in ("POST", "action"):
            yield f"{asked} is in the log as {standing}"
        if asked.acknowledged and not written and "cheops-resource" in asked.answer.headers:
            yield f"{asked} was acknowledged, and nobody has written it down"
        for rid, dot in written:
            known = found.books.get(rid, {})
            if asked.acknowledged and not known:
                yield f"{asked} was acknowledged, and nobody has it any more"
            for site in holders(known) if known else ():
                yield from _explained_at(asked, dot, site, known.get(site))


def _stands(found: Found, rid: str, dot: Dot) -> bool:
    """Whether it is there, and its author hasn't told who asked that nobody has accepted it."""
    known = found.books.get(rid, {}).values()
    return any(dot in book.log.position for book in known) and not any(dot in book.log.withdrawn for book in known)


def _explained_at(asked: Asked, dot: Dot, site: str, book: Book | None) -> Iterator[str]:
    if asked.acknowledged and (book is None or dot not in book.log.position or dot in book.log.withdrawn):
        yield f"{asked} was acknowledged, and {dot} is lost at {site}"
    if asked.denied and book and dot in {op.dot for op in book.log.effective}:
        yield f"{asked} was denied, and {dot} is in force at {site}"


async def happened(seed: int, **broken: Any) -> tuple[Run, list[str]]:
    """A run of this seed, and what is wrong at its end."""
    async with FaultyWorld(NAMES, seed, **broken) as world:
        run = Run(world, Random(seed))
        watching = asyncio.create_task(world.watch())
        end = asyncio.get_running_loop().time() + SECONDS
        async with asyncio.TaskGroup() as group:
            group.create_task(run.faults(end))
            for _ in range(CLIENTS):
                group.create_task(run.client(end))
        try:
            await run.well_again()
        except TimeoutError:
            return run, [f"it doesn't settle: {text}" for text in world.left]
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        return run, await wrongs(run)


@pytest.mark.parametrize("seed", range(24))
def test_what_was_acknowledged_is_done_once_everywhere_whatever_fails(seed: int) -> None:
    run, wrong = virtual.run(happened(seed))
    assert not wrong, "\n".join(wrong[:20])
    assert sum(asked.acknowledged for asked in run.history) > 20, "too little came through to say anything"
    assert sum(not asked.acknowledged for asked in run.history) > 5, "too little failed to say anything"


@pytest.mark.parametrize(
    "broken",
    [{"disk_type": LyingDisk}, {"skips_probes": True}, {"skipped_items": 0.1}],
    ids=["acknowledges before it is durable", "skips the probe", "moves a cursor past what it hasn't taken in"],
)
def test_what_is_broken_on_purpose_is_found(broken: dict[str, Any]) -> None:
    assert any(virtual.run(happened(seed, **broken))[1] for seed in range(20))
