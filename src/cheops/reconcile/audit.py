"""Replicas are compared, and mended by executing the log again.

Each site's agent reads its replica itself, and the one that is asked compares what they found. Comparing writes
nothing, anywhere. A site is mended by its own agent, which has the resource for itself meanwhile. Before it makes
anything anew it looks once more: a read that fails changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cheops.errors import Busy, CheopsError, NothingToDo, NotThere, Refused, SiteUnreachable
from cheops.reconcile.applying import Applier
from cheops.reconcile.bodies import Bodies
from cheops.reconcile.book import Book
from cheops.reconcile.commanding import Command
from cheops.reconcile.drift import (
    ABSENT,
    DRIFTED,
    READ,
    UNREADABLE,
    Reading,
    Verified,
    compared,
    name_of_field,
    plays_again,
    repeated,
    to_repeat,
)
from cheops.reconcile.engine import Engine
from cheops.reconcile.ledger import Ledger
from cheops.reconcile.outcomes import version_after
from cheops.reconcile.reading import Reader
from cheops.reconcile.showing import BY_COMMAND, name_of
from cheops.reconcile.steps import Step
from cheops.record.operation import Kind, Operation, Outcome, Recorded, State
from cheops.record.superseding import makes

At = Callable[[str, Command, type[Any]], Awaitable[Any]]
"""What a command gives at a site, and of which type that is."""
BUSY_SECONDS = 10.0
ANSWER_SECONDS = 5.0  # more than the reading itself takes


@dataclass(frozen=True, kw_only=True)
class Mended:
    """What came of mending a site; `done` is false if it couldn't be, or nothing is known by which it could."""

    site: str
    done: bool
    what: str


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """`verified` is how the replicas are afterwards."""

    told: list[Mended]
    verified: Verified


class Audit:
    """At one site: it compares for all holders, reads and mends for its own."""

    def __init__(self, ledger: Ledger, engine: Engine, applier: Applier, reader: Reader, bodies: Bodies) -> None:
        self._ledger, self._engine, self._applier = ledger, engine, applier
        self._reader, self._bodies = reader, bodies

    @property
    def _here(self) -> str:
        return self._ledger.here

    # For all holders

    async def verify(self, command: Command, at: At) -> Verified:
        """Compares the replicas at all holders; `seconds` of the command is how long each may read. Raises NotThere."""
        book = await self._book(command.resource)
        asked = Command(what="read", resource=book.rid, seconds=command.seconds)
        readings = await asyncio.gather(*(self._read_at(site, asked, at) for site in book.holders))
        return compared(await self._book(book.rid), self._here, readings, self._reader.rules(book))

    async def _read_at(self, site: str, command: Command, at: At) -> Reading:
        try:
            async with asyncio.timeout(command.seconds + ANSWER_SECONDS):
                found: Reading = await at(site, command, Reading)
                return found
        except TimeoutError:
            return Reading(site=site, state=UNREADABLE, why=f"its agent took longer than {command.seconds:g} s")
        except CheopsError as error:
            return Reading(site=site, state=UNREADABLE, why=error.detail)

    async def repair(self, command: Command, at: At) -> Repaired:
        """Executes the log again where a replica isn't as it says, site by site. Raises NotThere."""
        verified = await self.verify(command, at)
        told = [
            await self._mend_at(site.site, verified, command, at)
            for site in verified.sites
            if site.state in (ABSENT, DRIFTED)
        ]
        if any(each.done for each in told):
            verified = await self.verify(command, at)
        return Repaired(told=told, verified=verified)

    async def _mend_at(self, site: str, verified: Verified, command: Command, at: At) -> Mended:
        names = to_repeat(verified, site)
        absent = any(each.site == site and each.state == ABSENT for each in verified.sites)
        if not names and not absent and not verified.resource.gone:
            fields = ", ".join(name_of_field(each) for each in verified.fields if site in each.drifted)
            return Mended(site=site, done=False, what=f"the log says nothing of {fields}; change it by a request")
        asked = Command(
            what="mend", resource=command.resource, operations=tuple(names), seconds=max(command.seconds, BUSY_SECONDS)
        )
        try:
            return Mended(site=site, done=True, what=await at(site, asked, str))
        except CheopsError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return Mended(site=site, done=False, what=error.detail.removeprefix(f"{site}: ") + hint)

    # At this site

    async def read(self, command: Command) -> Reading:
        """This site's own replica. Raises NotThere."""
        return await self._reader.read(await self._book(command.resource), command.seconds)

    async def mend(self, command: Command) -> str:
        """Executes these operations again here, and what comes after them; all of them, if nothing is there. What was
        done, in a sentence. Raises Busy, NothingToDo, Refused, SiteUnreachable, and what a read fails with.
        """
        async with self._engine.in_its_place(command.resource, BUSY_SECONDS):
            book = await self._book(command.resource)
            reading = await self._reader.read(book, command.seconds)
            if reading.state == UNREADABLE:
                raise SiteUnreachable(f"nothing was changed: {reading.why}", site=self._here, why=reading.why)
            if reading.state == ABSENT and not book.log.gone:
                return await self._make_anew(book)
            if reading.state != READ:
                raise Busy(f"nothing was changed: {reading.why or 'it is gone already'}", hint="Verify it again.")
            return await self._repeat(book, command.operations)

    async def _repeat(self, book: Book, names: Sequence[str]) -> str:
        ops = await self._deletes(book) if book.log.gone else repeated(book, self._here, names)
        stuck = [name_of(op.dot) for op in ops if not plays_again(book, op)]
        ops = tuple(op for op in ops if plays_again(book, op))
        hint = f"Send the service a request that says it: cheops resource show {book.rid}"
        if not ops:
            what = f"what says it ({', '.join(stuck or names)}) can't be executed again where the resource is"
            raise NothingToDo(what, hint=hint)
        for op in ops:
            await self._execute(book, op, again=True)
        rest = f"; {', '.join(stuck)} can't be, where the resource is" if stuck else ""
        return f"{', '.join(name_of(op.dot) for op in ops)} executed again{rest}"

    async def _deletes(self, book: Book) -> tuple[Operation, ...]:
        """The delete, as it was before its request was forgotten."""
        secret = bool(await self._reader.own(book))
        request = Recorded(method="DELETE", target=self._reader.item(book), secret=secret)
        return tuple(replace(op, request=request) for op in book.log.effective if op.kind is Kind.DELETE)

    async def _make_anew(self, book: Book) -> str:
        """All that is in force counts as not executed here any more, and is executed. What can't be now, the engine
        does later.
        """
        await self._needed(book)
        own = book.own(self._here)
        ops = [op for op in book.log.effective if op.request and self._counts(own.get(op.dot))]
        if not any(makes(op) for op in ops):
            raise NothingToDo(
                "what makes the resource was dropped or refused here, so it isn't made anew",
                hint=f"Look at it: cheops resource show {book.rid}",
            )
        now, anew = self._ledger.now(), {op.dot for op in ops}
        twins = [op for op in book.log.living if makes(op) and op.dot not in anew and op.dot in own]
        forgets = [self._forgotten(own[op.dot], now, State.PENDING) for op in ops]
        forgets += [self._forgotten(own[op.dot], now, State.SKIPPED) for op in twins]
        await self._ledger.report(*forgets, due=True)
        for op in ops:
            await self._execute(book, op, again=False)
        return f"made anew: {', '.join(name_of(op.dot) for op in ops)} executed"

    async def _needed(self, book: Book) -> None:
        """Raises NothingToDo if what it is inside of, or refers to, isn't here either."""
        for rid in filter(None, (book.summary.parent, *book.log.refers)):
            other = await self._ledger.book(rid)
            if other and not other.log.gone and self._here in other.holders:
                reading = await self._reader.read(other, BUSY_SECONDS)
                if reading.state == ABSENT:
                    raise NothingToDo(
                        f"nothing was changed: it needs {rid}, which is absent here, too",
                        hint=f"First: cheops repair {rid}",
                    )

    def _counts(self, outcome: Outcome | None) -> bool:
        return outcome is not None and outcome.state in (State.DONE, State.SKIPPED)

    def _forgotten(self, outcome: Outcome, now: float, state: State) -> Outcome:
        return replace(
            outcome,
            state=state,
            run=0,
            attempts=0,
            local_id="",
            location="",
            version=version_after(outcome, now),
            code=BY_COMMAND,
            why="",
            at=now,
            since=now,
        )

    async def _execute(self, book: Book, op: Operation, *, again: bool) -> None:
        """Executes one, with the book's say on who accepted it. Raises Refused if the service didn't do it."""
        await self._bodies.fetch(op, book.holders)
        fresh = await self._book(book.rid)
        before = fresh.outcome(op.dot, self._here)
        assert before, "it is in force here"
        if not again and self._engine.needs_intent(op):
            version = version_after(before, self._ledger.now())
            before = replace(before, state=State.BEGUN, version=version)
            await self._ledger.report(before, quiet=True)
        vouched = replace(fresh, outcomes={**fresh.outcomes, op.dot: book.outcomes[op.dot]})
        replaces = book.log.as_replacement(op) or (again and op.kind is Kind.CREATE)
        step = Step(operation=op, again=again, as_replacement=replaces)
        if not self._engine.holds(book.rid):
            raise Busy(
                f"{self._here} stood still for so long that another of its agents may be at it", hint="Try again."
            )
        applied = await self._applier.apply(vouched, step, before, None)
        if applied.reply:
            await applied.reply.body.aclose()
        after = applied.outcome
        if after.state is State.DONE or not again:
            await self._ledger.report(after, due=True)
        if after.state is not State.DONE:
            what = "it stays as it was" if again else "it is tried again, as any other"
            raise Refused(f"{name_of(op.dot)} couldn't be executed: {after.why or after.code}; {what}")

    async def _book(self, rid: str) -> Book:
        book = await self._ledger.book(rid)
        if book is None:
            raise NotThere(f"{self._here} knows nothing of {rid}", hint="`cheops resources` lists what it knows.")
        return book
