"""What operators see and command, at whatever site they are: what isn't known here is asked of a holder, and what is to
be done at another site is done by its agent.

Not promised: that the other sites know more than what this one says of them; a site that can't be reached is told as it
was last heard.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from cheops.applications import Application
from cheops.errors import (
    Ambiguous,
    BadMessage,
    BadRequest,
    CheopsError,
    HolderUnreachable,
    NothingToDo,
    NotThere,
    Refused,
    SiteUnreachable,
)
from cheops.model import PeerState
from cheops.ports import COMMAND, Peers, Transport
from cheops.reconcile.again import applied_again
from cheops.reconcile.audit import Audit, Repaired
from cheops.reconcile.book import Book
from cheops.reconcile.commanding import Command, commanded, dot_of, operation_of
from cheops.reconcile.drift import Verified
from cheops.reconcile.engine import Engine
from cheops.reconcile.ledger import Draft, Ledger
from cheops.reconcile.listing import PAGE, Lists
from cheops.reconcile.placing import Placer
from cheops.reconcile.showing import (
    FAILED,
    WAITING,
    Left,
    OperationShown,
    ResourceListed,
    ResourceShown,
    left,
    listed,
    name_of,
    resource_shown,
    unheard,
)
from cheops.record.operation import Operation, State

T = TypeVar("T")
ASK_SECONDS = 15.0
BUSY_SECONDS = 10.0  # that a command waits until the resource isn't being worked on
NEWS_SECONDS = 2.0  # in which other sites tell what has changed there
SLICE_SECONDS = 10.0  # that another site is asked to wait at a time


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of a command at a site; `done` is false if it couldn't be carried out there."""

    site: str
    done: bool
    what: str


@dataclass(frozen=True, kw_only=True)
class Converged:
    """Whether every site that is to hold a resource is through with all that is known, and what is left else."""

    converged: bool
    left: list[Left]


class Operator:
    """The commands of one site. `application` is the description that is in force."""

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        transport: Transport,
        peers: Peers,
        application: Callable[[], Application],
        audit: Audit,
        placer: Placer,
    ) -> None:
        self._ledger, self._engine, self._transport, self._peers = ledger, engine, transport, peers
        self._application, self._placer = application, placer
        self.lists = Lists(ledger, peers)
        self._local: dict[str, Callable[[Command], Awaitable[Any]]] = {
            "find": self._known,
            "show": self._show,
            "wait": self._wait,
            "place": self._place,
            "apply": self._apply,
            "retry": self._settle,
            "drop": self._settle,
            "done": self._settle,
            "verify": lambda command: audit.verify(command, self._at),
            "repair": lambda command: audit.repair(command, self._at),
            "read": audit.read,
            "mend": audit.mend,
            "children": placer.children,
        }

    @property
    def here(self) -> str:
        return self._ledger.here

    # One resource

    async def find(self, name: str) -> ResourceListed:
        """The resource that a rid, an id at this site or a name means. Raises NotThere, Ambiguous."""
        found = await self._known(Command(what="find", resource=name)) or await self._known_elsewhere(name)
        if not found:
            raise NotThere(
                f"no resource is called '{name}', here or at a site that can be reached",
                hint="`cheops resources` lists those that are here.",
            )
        if len(found) > 1:
            each = "; ".join(f"{r.rid} ({r.service}/{r.type} {r.name}, at {' & '.join(r.placement)})" for r in found)
            raise Ambiguous(f"'{name}' may be any of {len(found)} resources: {each}", hint="Name it by its rid.")
        return found[0]

    async def show(self, name: str) -> ResourceShown:
        """All of it, as this site knows it, else a holder. Raises NotThere, Ambiguous, HolderUnreachable."""
        return await self._at_holder(name, Command(what="show"), ResourceShown)

    async def wait(self, name: str, seconds: float) -> Converged:
        """Waits until all holders are equal, but not longer than this, and not for what only a command ends."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        rid = (await self.find(name)).rid
        book = await self._ledger.book(rid)
        known = book.log.vector if book else {}
        while True:
            turn = min(max(end - loop.time(), 0.0), SLICE_SECONDS)
            found = await self._at_holder(rid, Command(what="wait", seconds=turn, known=known), Converged)
            if found.converged or loop.time() >= end or not any(each.ends for each in found.left):
                return found

    async def settle(
        self, what: str, name: str, operation: str, site: str | None = None, local_id: str = ""
    ) -> list[Told]:
        """Has an operation tried again, dropped or counted as done at a site; without one, wherever it failed, else
        wherever it waits. Raises NotThere, NothingToDo, BadRequest, Ambiguous, HolderUnreachable.
        """
        dot_of(operation)
        shown = await self.show(name)
        op = next((op for op in shown.operations if op.operation == operation), None)
        rid = shown.resource.rid
        if op is None:
            hint = f"Its operations are listed by: cheops resource show {rid}"
            raise NotThere(f"{rid} has no operation {operation}", hint=hint)
        known = [outcome.site for outcome in op.outcomes]
        if site and site not in known:
            raise NotThere(f"{site} isn't concerned by {operation}", hint=f"These are: {', '.join(known)}.")
        sites = [site] if site else _sites_of(op)
        if not sites:
            raise NothingToDo(f"{operation} neither failed nor waits at any site", hint=f"cheops resource show {rid}")
        command = Command(what=what, resource=rid, operation=operation, local_id=local_id)
        if len(sites) == 1:
            return [Told(site=sites[0], done=True, what=await self._at(sites[0], command, str))]
        return [await self._told_at(each, command) for each in sites]

    async def _told_at(self, site: str, command: Command) -> Told:
        try:
            return Told(site=site, done=True, what=await self._at(site, command, str))
        except CheopsError as error:
            return Told(site=site, done=False, what=str(error))

    async def place(self, name: str, sites: Sequence[str], leave: str = "keep", prime: str = "") -> str:
        """Has a resource held by these sites from now on; `leave`: what others do with their copy, "keep" or "delete".
        What spans sites has its parts there; a `prime` that is named becomes it.

        The name of the operation. Raises NothingToDo, NotThere, BadRequest, Ambiguous, HolderUnreachable, StoreFailed.
        """
        if leave not in ("keep", "delete") or not sites:
            raise BadRequest(
                "it isn't said where the resource is to be, or what becomes of its copies elsewhere",
                hint="Name at least one site; --leave is keep or delete.",
            )
        command = Command(what="place", sites=tuple(dict.fromkeys(sites)), leave=leave, prime=prime)
        found = await self.find(name)
        if found.prime and found.prime != self.here and (not prime or self._is_up(found.prime)):
            return await self._at_prime(found, Command(**{**vars(command), "resource": found.rid}))
        return await self._at_holder(found.rid, command, str)

    async def verify(self, name: str, seconds: float) -> Verified:
        """Compares the replicas of a resource; each site may read for so long. Raises as `show` does."""
        return await self._at_holder(name, Command(what="verify", seconds=seconds), Verified)

    async def repair(self, name: str, seconds: float) -> Repaired:
        """Executes the log again where a replica isn't as it says. Raises as `show` does."""
        return await self._at_holder(name, Command(what="repair", seconds=seconds), Repaired)

    async def apply(self, name: str, loser: str) -> str:
        """Has done again what lost a conflict: the name of the new operation. Raises as `place` does."""
        dot_of(loser)
        return await self._at_holder(name, Command(what="apply", operation=loser), str)

    # At this site

    async def _known(self, command: Command) -> list[ResourceListed]:
        """What a name may mean, as far as this site knows; what it means here comes before what it means elsewhere."""
        name = command.resource
        named = await self._ledger.store.find([name])
        local = [n for n in named if n.site in (self.here, "")]
        found = [listed(n.summary) for n in local or named] or await self._called(name)
        once = list({each.rid: each for each in found}.values())
        return [each for each in once if not each.gone] or once

    async def _called(self, name: str) -> list[ResourceListed]:
        found, after = [], ""
        while page := await self._ledger.store.summaries(after=after, limit=PAGE):
            found += [listed(summary) for summary in page if summary.name == name and not summary.gone]
            after = page[-1].rid
        return found

    async def _show(self, command: Command) -> ResourceShown:
        return resource_shown(await self._book(command.resource), self.here, self._peers.peers())

    async def _wait(self, command: Command) -> Converged:
        def rest(book: Book) -> list[Left]:
            return [*unheard(book.log.vector, self.here, command.known), *left(book, self.here, self._peers.peers())]

        def goes_on(book: Book) -> bool:
            return not (found := rest(book)) or any(each.ends for each in found)

        loop = asyncio.get_running_loop()
        end, rid = loop.time() + command.seconds, command.resource
        if not command.known:
            await self._book(rid)
        while True:
            book = await self._ledger.until(rid, lambda book: not any(e.ends for e in rest(book)), end - loop.time())
            found = rest(book) if book else unheard({}, self.here, command.known)
            # what a command has changed at another site may not be known here yet
            if not found or loop.time() >= end or not await self._goes_on(rid, goes_on, end - loop.time()):
                return Converged(converged=not found, left=found)

    async def _goes_on(self, rid: str, goes_on: Callable[[Book], bool], seconds: float) -> bool:
        book = await self._ledger.until(rid, goes_on, min(seconds, NEWS_SECONDS))
        return book is not None and goes_on(book)

    async def _settle(self, command: Command) -> str:
        rid = command.resource
        async with self._engine.in_its_place(rid, BUSY_SECONDS):
            outcome, told = commanded(await self._book(rid), self.here, command, self._ledger.now())
            await self._ledger.report(outcome, due=True)
            self._ledger.unsent.discard((rid, outcome.dot))
        return told

    async def _place(self, command: Command) -> str:
        return await self._placer.place(command, lambda site, asked: self._at(site, asked, list[str]))

    async def _apply(self, command: Command) -> str:
        def make(book: Book | None, draft: Draft) -> Operation:
            assert book, "it was found"
            lost = operation_of(book, command.operation)
            return applied_again(book, lost, draft, self._application())

        await self._book(command.resource)
        _, op = await self._ledger.append(command.resource, make)
        return name_of(op.dot)

    def _living(self, book: Book | None, rid: str) -> Book:
        if book is None or book.log.gone:
            raise NotThere(f"{rid} isn't there any more: it was deleted", hint="`cheops resources` lists what is.")
        return book

    async def _book(self, rid: str) -> Book:
        book = await self._ledger.book(rid)
        if book is None:
            raise NotThere(f"{self.here} knows nothing of {rid}", hint="`cheops resources` lists what it knows.")
        return book

    # At others

    async def _at_holder(self, name: str, command: Command, kind: type[T]) -> T:
        found = await self.find(name)
        command = Command(**{**vars(command), "resource": found.rid})
        if self.here in found.placement or not found.placement:
            return await self._at(self.here, command, kind)
        failures = []
        for site in sorted(found.placement, key=lambda site: not self._is_up(site)):
            try:
                return await self._at(site, command, kind)
            except SiteUnreachable as error:
                failures.append(error.detail)
            except Refused as error:
                if error.members.get("code_there", NotThere.code) != NotThere.code:
                    raise
                failures.append(error.detail)  # it is to hold it, and hasn't heard of it yet
        if command.what == "show" and await self._ledger.book(found.rid):
            return await self._at(self.here, command, kind)
        raise HolderUnreachable(
            f"{found.rid} is held by {' & '.join(found.placement)}, none of which can be asked: {'; '.join(failures)}",
            hint="Try again once one of them is up: `cheops sites`.",
            sites=found.placement,
        )

    async def _at_prime(self, found: ResourceListed, command: Command) -> str:
        try:
            return await self._at(found.prime, command, str)
        except SiteUnreachable as error:
            sites = " % ".join(found.placement)
            raise HolderUnreachable(
                f"only {found.prime}, the prime of {found.rid}, can change its sites, and it can't be asked: "
                f"{error.detail}",
                hint="If it is lost for good, make another site the prime: "
                f"cheops resource scope {found.rid} '{{{found.service}: {sites}, prime: {self.here}}}'",
                sites=[found.prime],
            ) from error

    async def _at(self, site: str, command: Command, kind: type[T]) -> T:
        """What a command gives at a site. Raises SiteUnreachable, and what the command does there, as Refused."""
        if site == self.here:
            answer: T = await self._local[command.what](command)
            return answer
        wire = TypeAdapter(Command).dump_json(command)
        seconds = ASK_SECONDS + command.seconds
        said = await self._transport.ask(COMMAND, site=site, body=wire, seconds=seconds)
        return _understood(said, site, kind)

    async def _known_elsewhere(self, name: str) -> list[ResourceListed]:
        command = Command(what="find", resource=name)
        up = [site for site in self._peers.peers() if self._is_up(site)]
        asked = (self._at(site, command, list[ResourceListed]) for site in up)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        found: dict[str, ResourceListed] = {}
        for answer in answers:
            if isinstance(answer, BaseException):
                if not isinstance(answer, CheopsError):
                    raise answer
                continue
            found.update({each.rid: each for each in answer})
        return list(found.values())

    def _is_up(self, site: str) -> bool:
        view = self._peers.peers().get(site)
        return view is not None and view.state is PeerState.UP

    async def commanded(self, wire: bytes) -> bytes:
        """The answer to a command of another site's operator: {"answer": …}, or {"problem": …}. Raises BadMessage."""
        try:
            command = TypeAdapter(Command).validate_json(wire)
            work = self._local[command.what]
        except (ValidationError, KeyError) as error:
            raise BadMessage(f"a command can't be understood: {error}") from error
        try:
            answer = TypeAdapter(Any).dump_python(await work(command), mode="json")
        except CheopsError as error:
            return json.dumps({"problem": error.problem()}).encode()
        return json.dumps({"answer": answer}).encode()


def _understood(said: bytes, site: str, kind: type[T]) -> T:
    try:
        document = json.loads(said)
        if problem := document.get("problem"):
            members = {"site": site, "code_there": str(problem.get("code", ""))}
            raise Refused(f"{site}: {problem['detail']}", hint=str(problem.get("hint", "")), **members)
        return TypeAdapter(kind).validate_python(document["answer"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadMessage(f"what {site} answers to a command can't be understood: {error}") from error


def _sites_of(op: OperationShown) -> list[str]:
    """Where it failed, else where it waits."""
    failed, waiting = (_in_states(op, states) for states in (FAILED, WAITING))
    return failed or waiting


def _in_states(op: OperationShown, states: Collection[State]) -> list[str]:
    return [outcome.site for outcome in op.outcomes if State(outcome.state) in states]
