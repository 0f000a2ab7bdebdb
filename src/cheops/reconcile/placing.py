"""Changes which sites hold a resource: copies, and parts of what spans sites.

The sites of a whole are the business of its prime's agent alone, since two sites that join at the same moment must not
get the same slot; another agent only makes another site the prime, once the old one is lost.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cheops.applications import Application, Resource
from cheops.applications.concern import item_of
from cheops.applications.divide import Parts, divided
from cheops.applications.fields import body_of_one, fields_at
from cheops.errors import HolderUnreachable, NothingToDo, NotThere, ReliedOn
from cheops.model import PeerState, Request
from cheops.ports import Credentials, Peers
from cheops.reconcile.book import Book
from cheops.reconcile.children import Family, span_of
from cheops.reconcile.commanding import Command
from cheops.reconcile.dependencies import Dependencies
from cheops.reconcile.drafting import placed
from cheops.reconcile.ledger import Draft, Ledger
from cheops.reconcile.showing import name_of
from cheops.record.operation import Body, Kind, Operation, Recorded

AskedAt = Callable[[str, Command], "Any"]
"""What a command gives at another site."""


class Placer:
    """Placements that this site's agent makes."""

    def __init__(
        self,
        ledger: Ledger,
        family: Family,
        peers: Peers,
        credentials: Credentials,
        dependencies: Dependencies,
        application: Callable[[], Application],
    ) -> None:
        self._dependencies = dependencies
        self._ledger, self._family, self._peers = ledger, family, peers
        self._credentials, self._application = credentials, application

    async def place(self, command: Command, ask: AskedAt) -> str:
        """The name of the operation that does it. Raises NothingToDo, NotThere, CantDivide, ReliedOn,
        HolderUnreachable, StoreFailed.
        """
        book = self._living(await self._ledger.book(command.resource), command.resource)
        prime = self._prime(book, command)
        if set(book.holders) == set(command.sites) and prime == book.log.prime:
            raise NothingToDo(f"{book.rid} is to be at {' & '.join(command.sites)} already")
        shares: dict[str, str] = {}
        if book.log.prime:
            await self._check(book, command, prime, ask)
            shares = await self._shared(book, command)

        def make(now: Book | None, draft: Draft) -> Operation:
            living = self._living(now, command.resource)
            return replace(placed(living.rid, command.sites, draft, prime=prime, leave=command.leave), shares=shares)

        after, op = await self._ledger.append(command.resource, make)
        if book.log.prime and set(book.holders) != set(command.sites):
            await self._restate(after)
            await self._place_children(after, command, ask)
        return name_of(op.dot)

    def _living(self, book: Book | None, rid: str) -> Book:
        if book is None or book.log.gone:
            raise NotThere(f"{rid} isn't there any more: it was deleted", hint="`cheops resources` lists what is.")
        return book

    def _prime(self, book: Book, command: Command) -> str:
        """The prime from now on: the one that is named, else the one that was, if it stays."""
        if not book.log.prime:
            return ""
        return command.prime or (book.log.prime if book.log.prime in command.sites else command.sites[0])

    # What must be so

    async def _check(self, book: Book, command: Command, prime: str, ask: AskedAt) -> None:
        here, was = self._ledger.here, book.log.prime
        service, sites = book.summary.service, " % ".join(book.holders)
        lost = prime != was and not self._is_up(was)
        if here != was and not (lost and set(command.sites) <= set(book.holders)):
            raise HolderUnreachable(
                f"only {was}, the prime of {book.rid}, can change its sites, and it can't be asked",
                hint="If it is lost for good, make another site the prime first: "
                f"cheops resource scope {book.rid} '{{{service}: {sites}, prime: {here}}}'",
                sites=[was],
            )
        self._check_slots(book, command, prime)
        for site in book.holders:
            if site not in command.sites:
                await self._check_childless(book, site, ask)

    def _check_slots(self, book: Book, command: Command, prime: str) -> None:
        """Raises CantDivide if there is nothing left for a site that joins."""
        rules, slots = self._rules(book), tuple(dict.fromkeys((*book.log.slots, *command.sites)))
        parts = Parts(prime=prime, sites=command.sites, slots=slots, born=book.log.born)
        for op in book.log.effective:
            body = op.request.body.inline if op.birth and op.request and op.request.body else None
            for site in command.sites if body and rules else ():
                assert rules
                divided(body or b"", rules, parts, site)

    async def _check_childless(self, book: Book, site: str, ask: AskedAt) -> None:
        """Nobody leaves whose part something belongs to; of a site that was removed nothing is left to ask."""
        gone = site != self._ledger.here and site not in self._peers.peers()
        if gone or not self._family.kinds(book, holding=False):
            return
        command = Command(what="children", resource=book.rid)
        named: Sequence[str] = await (self.children(command) if site == self._ledger.here else ask(site, command))
        if named:
            raise ReliedOn(
                f"{len(named)} resources at {site} belong to its part: {', '.join(named[:10])}",
                hint="Delete them first, or make them anew at another site.",
                relying=list(named)[:100],
            )

    async def children(self, command: Command) -> list[str]:
        """What belongs to this site's part of a whole, as its service tells this site's own credentials."""
        book = self._living(await self._ledger.book(command.resource), command.resource)
        credentials = await self._credentials.headers(book.summary.service) or ()
        request = Request(service=book.summary.service, method="GET", target=b"/", headers=credentials)
        named, mute = await self._family.named(book, [self._ledger.here], request, holding=False)
        if mute:
            raise HolderUnreachable(
                f"the service of {self._ledger.here} can't say what belongs to its part",
                hint="Look whether it runs, and takes this site's own credentials.",
                sites=mute,
            )
        return named

    async def _shared(self, book: Book, command: Command) -> dict[str, str]:
        """What a part needs and a site that joins lacks is used where it is."""
        before = dict(book.log.placed.shares if book.log.placed else {})
        creation = next((op for op in book.log.effective if op.birth), None)
        body = creation.request.body.inline if creation and creation.request and creation.request.body else None
        if set(command.sites) <= set(book.holders) or body is None:
            return before
        secrets = await self._credentials.headers(book.summary.service) or ()
        request = Request(service=book.summary.service, method="POST", target=b"/", headers=())
        lacks = await self._dependencies.lacks(request, body, self._rules(book), command.sites, secrets)
        return before | {
            f"{site}/{lack.reference.service}": lack.there[0] for lack in lacks for site in lack.missing if lack.there
        }

    def _is_up(self, site: str) -> bool:
        view = self._peers.peers().get(site)
        return site == self._ledger.here or (view is not None and view.state is PeerState.UP)

    # What follows

    async def _restate(self, book: Book) -> None:
        """Other parts make other shares: the whole number is said anew."""
        rules = self._rules(book)
        shares = {path for path, division in span_of(rules).divide.items() if division.by == "share"}
        said = {path: value for path in shares if (value := _said_last(book, path, rules)) is not None}
        if said:
            await self._ledger.append(book.rid, lambda now, draft: self._restated(now or book, said, draft))

    def _restated(self, book: Book, said: dict[str, Any], draft: Draft) -> Operation:
        rules = self._rules(book)
        how, content = span_of(rules).restate, _nested(said, rules)
        creation = next((op for op in book.log.effective if op.birth), None)
        return Operation(
            rid=book.rid,
            author=draft.author,
            n=draft.n,
            stamp=draft.stamp,
            after=draft.after,
            kind=Kind.MERGE,
            touches=frozenset(said),
            request=Recorded(
                method=how.method,
                target=item_of(book.summary, self._application()),
                headers=(("content-type", how.media_type),),
                body=Body(inline=content, size=len(content)),
                secret=bool(creation and creation.request and creation.request.secret),
            ),
            again=creation.dot if creation else None,
        )

    async def _place_children(self, book: Book, command: Command, ask: AskedAt) -> None:
        """What belongs to it and spans sites too goes where it goes."""
        kinds = {name for name, says in span_of(self._rules(book)).children.items() if says.spans}
        for child in await self._ledger.store.referring(book.rid):
            if child.prime and child.type in kinds and set(child.placement) != set(command.sites):
                own = Command(
                    what="place", resource=child.rid, sites=command.sites, leave=command.leave, prime=command.prime
                )
                await self.place(own, ask)

    def _rules(self, book: Book) -> Resource | None:
        service = self._application().services.get(book.summary.service)
        return service.resources.get(book.summary.type) if service else None


def _said_last(book: Book, path: str, rules: Resource | None) -> Any:
    """What the whole was last said to have at a path."""
    for op in reversed(book.log.effective):
        says = op.request and op.request.body and span_of(rules).divides(op.facet)
        body = op.request.body.inline if op.request and op.request.body and says else None
        if body and (values := fields_at(body_of_one(body, rules), path)):
            return values[0]
    return None


def _nested(said: dict[str, Any], rules: Resource | None) -> bytes:
    """The body of a change of these fields."""
    whole: dict[str, Any] = {}
    for path, value in said.items():
        at = whole
        *steps, last = path.split(".")
        for step in steps:
            at = at.setdefault(step, {})
        at[last] = value
    return json.dumps({rules.one: whole} if rules and rules.one else whole).encode()
