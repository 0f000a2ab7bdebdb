"""The loop that carries out at this site what isn't done yet: one step after the other for each resource, many at once.

Whoever has a resource's claim works on it alone. A step that can't be done now is tried again later, and holds back
only its own resource. Nothing here is lost by a crash but the credentials of callers, which are kept nowhere else.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import structlog

from cheops.errors import Busy, CheopsError
from cheops.model import Headers
from cheops.reconcile.applying import Applier
from cheops.reconcile.backoff import pause, soonest
from cheops.reconcile.book import Book
from cheops.reconcile.claims import Leases, Own
from cheops.reconcile.ledger import Ledger
from cheops.reconcile.outcomes import AGAIN, UNDER_WAY, Applied, version_after
from cheops.reconcile.steps import Step, Steps, steps
from cheops.record.operation import WAS_REFUSED, WITHDRAWN, Dot, Kind, Operation, Outcome, State

log = structlog.get_logger("engine")
AT_ONCE = 64  # resources
LEND_SECONDS = 60.0  # a caller's credentials stay in memory
LOOK_SECONDS = 0.5  # between two looks for what other agents of this site have left
STORE_AGAIN_SECONDS = 1.0
ANY_TIME_SECONDS = 1e9

Key = tuple[str, Dot]


@dataclass(kw_only=True, slots=True)
class _Lent:
    """What is held in memory of an operation that was just requested."""

    callers: Headers | None
    until: float
    applied: "asyncio.Future[Applied] | None" = None


class Engine:
    """Works on the site's ledger. `drawn` gives a number from 0 to 1; `fetch` sees to it that the body of an operation
    is here, `tidy` forgets what nobody needs any more.
    """

    def __init__(
        self,
        ledger: Ledger,
        applier: Applier,
        fetch: Callable[[Operation, Sequence[str]], Awaitable[None]],
        tidy: Callable[[Book], Awaitable[None]],
        drawn: Callable[[], float],
        *,
        owner: str,
        shared: bool = False,
    ) -> None:
        self._ledger, self._applier, self._drawn = ledger, applier, drawn
        self._fetch, self._tidy = fetch, tidy
        self._claims = Leases(ledger.store, owner, ledger.now) if shared else Own()
        self._shared = shared
        self._lent: dict[Key, _Lent] = {}
        self._sent: set[Key] = set()
        self._queue: list[tuple[float, str]] = []
        self._at: dict[str, float] = {}
        self._working: dict[str, asyncio.Task[None]] = {}
        self._plans: dict[str, tuple[Book, frozenset[Dot], Steps]] = {}
        self._again: set[str] = set()
        self._more = asyncio.Event()
        ledger.due = self.wake
        ledger.idle = self.is_idle

    # What others say

    def lend(self, rid: str, dot: Dot, callers: Headers | None) -> "asyncio.Future[Applied]":
        """Lends an operation the credentials of who requested it, and gives what comes of its first execution here."""
        applied: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        self._lent.pop((rid, dot), None)  # so that they stand in the order of their ends
        self._lent[rid, dot] = _Lent(callers=callers, until=self._ledger.now() + LEND_SECONDS, applied=applied)
        return applied

    def is_sent(self, rid: str, dot: Dot) -> bool:
        """Whether the service here is at an operation just now."""
        return (rid, dot) in self._sent

    def wake(self, rid: str, at: float | None = None) -> None:
        """There may be something to do for a resource, now or at a time of the site's clock (that may be set)."""
        now = asyncio.get_running_loop().time()
        when = now if at is None else now + at - self._ledger.now()
        if rid in self._working and when <= now:
            self._again.add(rid)
        elif rid not in self._at or when < self._at[rid]:
            self._at[rid] = when
            heapq.heappush(self._queue, (when, rid))
            self._more.set()

    @property
    def waiting(self) -> int:
        """How many resources something is to be done for."""
        return len(self._at) + len(self._working)

    @property
    def behind(self) -> int:
        """For how many of them something could be done now."""
        now = asyncio.get_running_loop().time()
        return sum(when <= now for when in self._at.values()) + len(self._working)

    # The loop

    async def run(self) -> None:
        """Until it is cancelled."""
        looked: float | None = None
        try:
            while True:
                now = asyncio.get_running_loop().time()
                if looked is None or (self._shared and now - looked >= LOOK_SECONDS):
                    looked = now if await self._look(first=looked is None) else None
                self._start(now)
                self._forget(self._ledger.now())
                self._more.clear()
                await self._rest(now)
        finally:
            for task in self._working.values():
                task.cancel()
            await asyncio.gather(*self._working.values(), return_exceptions=True)

    async def _look(self, *, first: bool) -> bool:
        """Takes up what the store says is due: all of it after a restart, what others left later on. False: it can't.

        An agent alone then takes up what isn't due yet, too: the clock may have been set back since that was noted.
        """
        now = self._ledger.now()
        until = now if self._shared or not first else now + ANY_TIME_SECONDS
        try:
            for claim in await self._ledger.store.claim("looks", until, now, 1_000_000):
                self.wake(claim.rid)
        except CheopsError as error:
            log.error("the store can't be read", detail=error.detail)
            await asyncio.sleep(STORE_AGAIN_SECONDS)
            return False
        return True

    def _start(self, now: float) -> None:
        while self._queue and self._queue[0][0] <= now and len(self._working) < AT_ONCE:
            when, rid = heapq.heappop(self._queue)
            if self._at.get(rid) != when:
                continue
            if rid in self._working:
                del self._at[rid]
                self._again.add(rid)
                continue
            del self._at[rid]
            task = asyncio.create_task(self._work(rid), name=f"work {rid}")
            self._working[rid] = task
            task.add_done_callback(lambda done, rid=rid: self._done(rid, done))  # type: ignore[misc]

    @asynccontextmanager
    async def in_its_place(self, rid: str, seconds: float) -> AsyncIterator[None]:
        """Meanwhile a command has the resource for itself. Raises Busy if this goes on working on it for so long."""
        try:
            async with asyncio.timeout(seconds):
                while rid in self._working or (claim := await self._claims.take(rid)) is None:
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise Busy(f"{self._ledger.here} is working on {rid} just now", hint="Try it again.") from error
        task = asyncio.current_task()
        assert task, "commands are tasks"
        self._working[rid] = task
        try:
            yield
        finally:
            del self._working[rid]
            self._plans.pop(rid, None)
            await self._claims.give_back(claim, self._ledger.now())
            self._again.discard(rid)
            self.wake(rid)

    def holds(self, rid: str) -> bool:
        """Whether a resource that is worked on here is surely claimed by this agent still."""
        return self._claims.holds(rid)

    def _done(self, rid: str, task: "asyncio.Task[None]") -> None:
        del self._working[rid]
        self._plans.pop(rid, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("working on a resource failed", rid=rid, exc_info=error)
            self.wake(rid, self._ledger.now() + pause(4, self._drawn()))
        if rid in self._again:
            self._again.discard(rid)
            self.wake(rid)
        self._more.set()

    async def _rest(self, now: float) -> None:
        full = len(self._working) >= AT_ONCE
        until = self._queue[0][0] - now if self._queue and not full else 1.0
        longest = LOOK_SECONDS if self._shared else 1.0
        with suppress(TimeoutError):
            async with asyncio.timeout(min(max(until, 0.0), longest)):  # wait_for may swallow a cancellation
                await self._more.wait()

    def _forget(self, now: float) -> None:
        while self._lent and (first := next(iter(self._lent.items())))[1].until <= now:
            del self._lent[first[0]]

    # One resource

    async def _work(self, rid: str) -> None:
        claim = await self._claims.take(rid)
        if claim is None:
            self.wake(rid, self._ledger.now() + 0.1)
            return
        due: float | None = self._ledger.now() + STORE_AGAIN_SECONDS
        try:
            due = await self._until_idle(rid)
        except CheopsError as error:
            log.error("working on a resource failed", rid=rid, code=error.code, detail=error.detail)
        finally:
            await self._claims.give_back(claim, due)
        if due is not None:
            self.wake(rid, due)

    async def _until_idle(self, rid: str) -> float | None:
        """Does what there is to do; when something will be to do again."""
        while True:
            self._again.discard(rid)
            book = await self._ledger.book(rid)
            if book is None:
                return None
            plan = self.plan(book)
            if plan.skip:
                await self._skip(book, plan.skip)
                continue
            if plan.probe:
                due = await self._probe(book, plan.probe)
            elif plan.todo:
                due = await self._step(book, plan.todo[0])
            else:
                await self._say_blocked(book, plan.blocked)
                due = await self._applier.look_after(book, self._callers_of(book.rid))
                await self._tidy(book)
                await self._give_up(book)
                if due is None and rid in self._again:
                    continue
                self._tell_all(book)
                return due
            if due is not None:
                self._tell_all(book)
                return due

    async def _give_up(self, book: Book) -> None:
        """What was requested here and every holder has refused, has nothing to do for, or leaves alone since nobody has
        accepted it, is withdrawn: else it would wait for ever. What is superseded is skipped by whoever waits, once it
        hears so.
        """
        now, given_up = self._ledger.now(), []
        for op in book.log.effective:
            outcomes = [book.outcome(op.dot, site) for site in book.holders]
            own = book.outcome(op.dot, self._ledger.here)
            waits = [o for o in outcomes if o and o.state is State.PENDING and o.code == "waits-for-acceptance"]
            refused = [o for o in outcomes if o and o.state in (State.REFUSED, State.SKIPPED)]
            if own and waits and op.site == self._ledger.here and len(waits) + len(refused) == len(outcomes):
                why, version = "nobody has accepted it", version_after(own, now)
                dropped = replace(own, state=State.DROPPED, code=WITHDRAWN, why=why, version=version, at=now)
                given_up.append(dropped)
        if given_up:
            await self._ledger.report(*given_up)

    async def _say_blocked(self, book: Book, why: str) -> None:
        """What can't be done until something else happens says so."""
        now, pending = self._ledger.now(), []
        for op in book.log.effective if why else ():
            outcome = self._outcome(book, op)
            if outcome.state is State.PENDING and outcome.why != why:
                version = version_after(outcome, now)
                pending.append(replace(outcome, version=version, at=now, code="blocked", why=why))
        if pending:
            await self._ledger.report(*pending)

    def plan(self, book: Book) -> Steps:
        """What is to be done; what was only just written down was surely not sent."""
        here = self._ledger.here
        unsent = frozenset(dot for dot in book.outcomes if (book.rid, dot) in self._ledger.unsent)
        last = self._plans.get(book.rid)
        if last and last[0] is book and last[1] == unsent:
            return last[2]
        own = {
            dot: replace(outcome, state=State.PENDING) if outcome.state is State.BEGUN and dot in unsent else outcome
            for dot, outcome in book.own(here).items()
        }
        found = steps(book.log, own, here)
        if book.rid in self._working:
            self._plans[book.rid] = (book, unsent, found)
        return found

    def _callers_of(self, rid: str) -> Callable[[Dot], Headers | None]:
        def callers(dot: Dot) -> Headers | None:
            lent = self._lent.get((rid, dot))
            return lent.callers if lent else None

        return callers

    def is_idle(self, book: Book) -> bool:
        """Whether nothing is left to be done here that isn't waited for."""
        plan = self.plan(book)
        own = book.own(self._ledger.here).values()
        return not (plan.skip or plan.probe or plan.todo or any(o.code == UNDER_WAY for o in own))

    async def _skip(self, book: Book, operations: Sequence[Operation]) -> None:
        now = self._ledger.now()
        outcomes = [self._outcome(book, op) for op in operations]
        skipped = [
            replace(o, state=State.SKIPPED, version=version_after(o, now), at=now, code=_skipped_as(o), why="")
            for o in outcomes
        ]
        await self._ledger.report(*skipped)
        for op in operations:
            self._tell(book.rid, op.dot, None)

    def _outcome(self, book: Book, op: Operation) -> Outcome:
        here = self._ledger.here
        return book.outcome(op.dot, here) or Outcome(rid=book.rid, dot=op.dot, site=here)

    async def _step(self, book: Book, step: Step) -> float | None:
        """Executes a step. None if the next may follow, else when it is tried again."""
        op, now = step.operation, self._ledger.now()
        before = self._outcome(book, op)
        lent = self._lent.get((book.rid, op.dot))
        first = lent is not None and lent.applied is not None and not lent.applied.done()
        soon = _soon(before, now)
        if before.state is State.PENDING and before.attempts and now < soon and not first:
            return soon
        body = op.request.body if op.request else None
        if body and body.sha256:
            await self._fetch(op, book.holders)
        once = self._applier.taken_once(book, op) is not None
        if once and before.state is State.BEGUN and (book.rid, op.dot) not in self._ledger.unsent:
            before = replace(before, code=AGAIN)
        elif (self.needs_intent(op) or once) and before.state is not State.BEGUN:
            before = replace(before, state=State.BEGUN, version=before.version, code="", why="")
            await self._ledger.report(replace(before, version=version_after(before, now)), quiet=True)
        if not self._claims.holds(book.rid):
            return now  # this agent stood still for so long that another one may be at it
        self._ledger.unsent.discard((book.rid, op.dot))
        self._sent.add((book.rid, op.dot))
        try:
            applied = await self._applier.apply(book, step, before, lent.callers if lent else None)
            return await self._note(book, op, before, applied)
        finally:
            self._sent.discard((book.rid, op.dot))

    def needs_intent(self, op: Operation) -> bool:
        """Whether it is written down before it is sent."""
        return op.kind is Kind.CREATE or (op.kind is Kind.ACTION and not op.repeats)

    async def _note(self, book: Book, op: Operation, before: Outcome, applied: Applied) -> float | None:
        outcome = applied.outcome
        same = (before.state, before.code, before.status) == (outcome.state, outcome.code, outcome.status)
        await self._ledger.report(outcome, quiet=same and before.version > 0 and outcome.state is State.PENDING)
        self._tell(book.rid, op.dot, applied)
        if outcome.code == "unauthorized" and (lent := self._lent.get((book.rid, op.dot))) and lent.callers is not None:
            lent.callers = None  # the site's own are next, if they may be used
            return self._ledger.now()
        if outcome.state in (State.PENDING, State.BEGUN):
            return self._ledger.now() + pause(outcome.attempts, self._drawn())
        return None

    async def _probe(self, book: Book, op: Operation) -> float | None:
        """Finds out whether something was executed that may have been."""
        before = self._outcome(book, op)
        lent = self._lent.get((book.rid, op.dot))
        now = self._ledger.now()
        soon = _soon(before, now)
        if before.attempts and now < soon:
            return soon
        applied = await self._applier.probe(book, op, before, lent.callers if lent else None)
        if applied.outcome.state is State.PENDING and applied.outcome.code == "absent":
            await self._ledger.report(applied.outcome, quiet=True)
            return None
        return await self._note(book, op, before, applied)

    def _tell(self, rid: str, dot: Dot, applied: Applied | None) -> None:
        lent = self._lent.get((rid, dot))
        if lent and lent.applied and not lent.applied.done():
            if applied is None:
                lent.applied.cancel()
            else:
                lent.applied.set_result(applied)

    def _tell_all(self, book: Book) -> None:
        """Whoever waits for something that isn't done now hears so."""
        for dot in book.outcomes:
            self._tell(book.rid, dot, None)


def _skipped_as(before: Outcome) -> str:
    """That a service has refused it stays known: then there is nothing of it that could be deleted."""
    return WAS_REFUSED if before.state is State.REFUSED or before.code == WAS_REFUSED else "superseded"


def _soon(before: Outcome, now: float) -> float:
    """When it may be tried again; at once if the clock was set back since it was tried."""
    return before.at + soonest(before.attempts) if before.at <= now else now
