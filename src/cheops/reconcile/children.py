"""What belongs to a whole: where its children are at each site. They are in nobody's log (decision 16)."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cheops.applications import Application, Resource
from cheops.applications.concern import item_of
from cheops.applications.fields import text_at
from cheops.applications.resources import Children, Span
from cheops.errors import HolderUnreachable, ReliedOn
from cheops.model import Request
from cheops.reconcile.asking import Asker, as_read
from cheops.reconcile.book import Book
from cheops.record.resource import Summary

LISTED = 10  # children, in a refusal


@dataclass(frozen=True, kw_only=True, slots=True)
class ChildType:
    """A type of children of a type that spans sites."""

    service: str
    owner: str
    owner_rules: Resource
    type: str
    rules: Resource
    says: Children

    def list_of(self, whole: Summary, application: Application, id_: str) -> str:
        """Where the children of a whole are listed, in rid form; those that name it by a field, by that."""
        if self.says.field:
            return f"{self.rules.collection}?{self.says.field}={id_}"
        inside = self.owner_rules.item_path.replace("{id}", f"{{{self.owner}}}")
        return item_of(whole, application) + self.rules.collection.removeprefix(inside)


def span_of(rules: Resource | None) -> Span:
    """What the description says of how a type spans sites; if nothing, all parts are the same."""
    return (rules.span if rules else None) or Span()


def child_types(application: Application, service: str) -> list[ChildType]:
    """All types of a service that are children of one that spans."""
    types = application.services[service].resources if service in application.services else {}
    return [
        ChildType(service=service, owner=owner, owner_rules=rules, type=name, rules=types[name], says=says)
        for owner, rules in types.items()
        if rules.span
        for name, says in rules.span.children.items()
    ]


class Family:
    """Looks for the children of wholes."""

    def __init__(self, asker: Asker, application: Callable[[], Application]) -> None:
        self._asker, self._application = asker, application

    async def check_childless(
        self, book: Book, sites: Sequence[str], request: Request, *, holding: bool, what: str
    ) -> None:
        """Raises ReliedOn with the children that a whole has at these sites, of types that hold it if that matters,
        and HolderUnreachable if one of them can't say.
        """
        named, mute = await self.named(book, sites, request, holding=holding)
        if mute:
            raise HolderUnreachable(
                f"{' and '.join(mute)} can't say whether something belongs to its part; {what}",
                hint="Send it again once the site is up: `cheops sites`.",
                sites=mute,
            )
        if named:
            raise ReliedOn(
                f"{len(named)} resources belong to it: {', '.join(named[:LISTED])}{' …' if named[LISTED:] else ''}",
                hint="Delete them first.",
                relying=named[:100],
            )

    async def named(
        self, book: Book, sites: Sequence[str], request: Request, *, holding: bool
    ) -> tuple[list[str], list[str]]:
        """What belongs to the parts of these sites, in words, and the sites that can't say."""
        asked = [(kind, site) for kind in self.kinds(book, holding=holding) for site in sites]
        found = await asyncio.gather(*(self._at(book, kind, site, request) for kind, site in asked))
        every = list(zip(asked, found, strict=True))
        mute = dict.fromkeys(site for (_, site), items in every if items is None)
        named = [
            f"{kind.type} {text_at(item, kind.rules.id)} at {site}"
            for (kind, site), items in every
            for item in items or ()
            if not any(text_at(item, field) in values for field, values in kind.says.unless.items())
        ]
        return named, list(mute)

    def kinds(self, book: Book, *, holding: bool) -> list[ChildType]:
        """The types of what may belong to a single part; those that hold the whole if that matters."""
        kinds = (kind for kind in child_types(self._application(), book.summary.service) if _is_of(kind, book))
        return [kind for kind in kinds if not kind.says.spans and (kind.says.holds or not holding)]

    async def _at(self, book: Book, kind: ChildType, site: str, request: Request) -> Sequence[object] | None:
        local = book.local_id(site)
        if not local:
            return ()
        target = await self._asker.at_site(kind.list_of(book.summary, self._application(), local), site)
        where = (kind.says.field, local) if kind.says.field else None
        read = replace(as_read(request), service=book.summary.service)
        return () if target is None else await self._asker.items(site, read, target, kind.rules, where)


def _is_of(kind: ChildType, book: Book) -> bool:
    return (kind.service, kind.owner) == (book.summary.service, book.summary.type)
