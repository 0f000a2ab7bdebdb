"""A list of wholes, or of what belongs to them: of all their sites, sorted and cut into pages as the service does it.

Of another site's list only what belongs to a whole is this site's business, unless the scope says so. Each item says
where it is, in `cheops_site`. Where the list goes on is our own link: for each site where its page begins, how many of
that were told, and which were the last of these, as others may come before them or go meanwhile. A site that can't be
asked stays in the link while others go on. Not promised: one moment for all sites; that each page is full.
"""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import quote

from cheops.applications import Application, Resource
from cheops.applications.aggregate import whole_value
from cheops.applications.concern import Concern, item_of
from cheops.applications.fields import body_of_one, text_at
from cheops.applications.lists import listed, next_page, parsed_list, with_items, with_next
from cheops.applications.merging import chosen_of, limit_of, merged, order_of, with_chosen
from cheops.applications.paths import filled, places_of
from cheops.errors import SiteUnreachable
from cheops.execute import OUTCOME
from cheops.model import Reply, Request
from cheops.reconcile.asking import Asker, Held, Said, unconditional
from cheops.reconcile.children import child_types
from cheops.reconcile.ledger import Ledger
from cheops.unite import PAGE, not_ours, own_page

SITE = "cheops_site"
_COUNTS = frozenset({b"total-records", b"total-objects", b"x-total-count"})
_DROPPED = frozenset({b"content-length", b"etag", b"last-modified", b"link", b"next-page", b"content-encoding"})


_REMEMBERED = 3  # of the items of a page that were told, in links


class _From(NamedTuple):
    """Where a site's page begins, how many of its items were told, and the ids of the last of these."""

    target: str
    told: int = 0
    last: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Page:
    """A site's page, and what the site said; of `items` those from `begin` on are to be told."""

    said: Said
    target: str
    value: Any = None
    whole: Sequence[Any] = ()
    begin: int = 0

    @property
    def items(self) -> Sequence[Any]:
        return self.whole[self.begin :] if self.begin else self.whole

    def following(self, rules: Resource | None) -> str:
        """Where the site's next page begins, "" if this was its last."""
        return next_page(self.target, self.said.reply.headers, self.value, rules) if self.said.reply else ""


class SpanList:
    """Lists of one site's ledger."""

    def __init__(self, ledger: Ledger, asker: Asker, application: Application, is_down: Callable[[str], bool]) -> None:
        self._ledger, self._asker, self._application, self._is_down = ledger, asker, application, is_down

    async def reply(self, request: Request, concern: Concern, sites: Sequence[str], scope: str | None) -> Reply:
        """The list; with a `scope` all that these sites have. Raises BadRequest, SiteUnreachable if none has a list."""
        target, pages = _asked(request.target.decode("latin1"))
        general, chosen = chosen_of(await self._asker.in_rids(target, request.service), concern.rules)
        here_first = sorted(sites, key=lambda site: site != self._ledger.here)
        counts = _counts(concern) if pages is None else frozenset()
        asked = {site: (pages or {}).get(site, _From("")) for site in here_first if pages is None or site in pages}
        found = await asyncio.gather(
            *(self._page(site, unconditional(request), concern, at, general) for site, at in asked.items())
        )
        told = [page for page in found if page.said.well]
        words = ", ".join(f"{page.said.site}={page.said.word}" for page in found)
        if not told:
            return _nearest(found, words)
        if request.method == "HEAD":
            return _headed(told, counts, words)
        items = await self._told(request, concern, told, scope is not None)
        order, limit = order_of(target, concern.rules), limit_of(target, concern.rules)
        going_on = {page.said.site for page in told if page.following(concern.rules)}
        shown, taken = merged({site: [item for _, item in of] for site, of in items.items()}, order, limit, going_on)
        following = _following(found, items, taken, concern.rules)
        placed = [_placed(item, site, chosen) for site, item in shown]
        link = _url(request, target, following, scope) if following else ""
        first = next((page for page in told if page.said.site in following), told[0])
        return _written(concern.rules, told, placed, link, first.value, counts, words)

    async def _page(self, site: str, request: Request, concern: Concern, at: _From, general: str) -> _Page:
        """The page that begins there, in the ids of that site, else the first one of the list."""
        local = at.target or await self._asker.at_site(general, site)
        if local is None:
            return _Page(said=Said(site=site, why="no-part-yet"), target="")
        if self._is_down(site):
            return _Page(said=Said(site=site, why="unreachable"), target=local, begin=at.told)
        said = await self._asker.ask(site, request, local)
        if not said.well or request.method == "HEAD":
            return _Page(said=said, target=local, begin=at.told)
        value = parsed_list(said.content)
        whole = listed(value, concern.rules)
        if whole is None:
            return _Page(said=replace(said, reply=None, why="no-list"), target=local)
        return _Page(said=said, target=local, value=value, whole=whole, begin=_begin(whole, at, concern.rules))

    # What of a site's page is told

    async def _told(
        self, request: Request, concern: Concern, pages: Sequence[_Page], everything: bool
    ) -> dict[str, list[tuple[int, Any]]]:
        """By site the items that are told, each with its place in the page; a whole is told by one site alone."""
        found = await asyncio.gather(*(self._here(page, request, concern) for page in pages))
        every = {page.said.site: items for page, items in zip(pages, found, strict=True)}
        if concern.rules is None or concern.rules.span is None:
            return {site: [one for one in enumerate(of) if one[1] is not None] for site, of in every.items()}
        held = await self._held(request, concern, pages)
        parts: dict[str, dict[str, Any]] = {}
        for site, items in every.items():
            for item, of in zip(items, held[site], strict=True):
                if of and of.prime:
                    parts.setdefault(of.rid, {})[site] = item
        told: dict[str, list[tuple[int, Any]]] = {site: [] for site in every}
        for site, items in every.items():
            for place, (item, of) in enumerate(zip(items, held[site], strict=True)):
                if of is None or not of.prime:
                    told[site] += [(place, item)] if everything or site == self._ledger.here else []
                elif self._teller(of) == site:
                    known = parts[of.rid] | await self._missing(request, concern, of, set(parts[of.rid]))
                    whole = whole_value(known, concern.rules, of.prime, self._ledger.here)
                    told[site].append((place, {SITE: " % ".join(of.holders), **whole}))
        return told

    def _teller(self, of: Held) -> str:
        """The site whose list tells of a whole: this one, else the first that can be asked."""
        up = [site for site in of.holders if not self._is_down(site)]
        return self._ledger.here if self._ledger.here in of.holders else next(iter(up), of.holders[0])

    async def _missing(self, request: Request, concern: Concern, of: Held, there: set[str]) -> dict[str, Any]:
        """The parts of a whole that stand in other pages of their sites."""
        whole = self._ledger.wholes.get(of.rid)
        sites = [site for site in of.holders if site not in there and not self._is_down(site)] if whole else []
        found = {}
        for site in sites:
            assert whole
            target = await self._asker.at_site(item_of(whole, self._application), site)
            said = await self._asker.ask(site, request, target) if target else None
            if said and said.well:
                body = await self._asker.body_here(said.content, site, request.service)
                found[site] = body_of_one(body, concern.rules)
        return found

    async def _held(self, request: Request, concern: Concern, pages: Sequence[_Page]) -> dict[str, list[Held | None]]:
        """What each item is a part of, as its site knows it."""
        known = await asyncio.gather(*(self._held_of(page, request, concern.rules) for page in pages))
        return {page.said.site: held for page, held in zip(pages, known, strict=True)}

    async def _held_of(self, page: _Page, request: Request, rules: Resource | None) -> list[Held | None]:
        """Each item may be inside of another thing, and so in another collection."""
        places = [(_collection(item, page.target, rules), _id(item, rules)) for item in page.items]
        ids: dict[str, list[str]] = {}
        for collection, id_ in places:
            ids.setdefault(collection, []).append(id_)
        asked = {at: replace(request, target=at.encode("latin1")) for at in ids}
        known = await asyncio.gather(*(self._asker.held_at(page.said.site, asked[at], ids[at]) for at in ids))
        held = dict(zip(ids, known, strict=True))
        return [held[collection].get(id_) for collection, id_ in places]

    async def _here(self, page: _Page, request: Request, concern: Concern) -> Sequence[Any]:
        """The items of a page in this site's ids; None stands for what is no business of this site."""
        site = page.said.site
        if site == self._ledger.here:
            return page.items
        keeps = await self._keeps(site, request.service, concern)
        kept = [item if keeps(item) else None for item in page.items]
        if concern.rules is None or not (concern.rules.refers or concern.rules.span):
            return kept  # nothing in it is an id of this site
        translated: list[Any] = json.loads(
            await self._asker.body_here(json.dumps(kept).encode(), site, request.service)
        )
        return translated

    async def _keeps(self, site: str, service: str, concern: Concern) -> Callable[[Any], bool]:
        """Whether an item of another site belongs to a whole: all that is inside of one by its path, else what names
        one.
        """
        if (concern.parent and concern.parent.prime) or (concern.rules and concern.rules.span):
            return lambda _: True
        kinds = [kind for kind in child_types(self._application, service) if kind.type == concern.type]
        fields = {kind.owner: kind.says.field for kind in kinds if kind.says.field}
        ids = {owner: await self._ids(site, service, owner) for owner in fields}
        return lambda item: any(text_at(item, field) in ids[owner] for owner, field in fields.items())

    async def _ids(self, site: str, service: str, owner: str) -> frozenset[str]:
        """The ids of the parts that a site has of the wholes of a type."""
        wholes = [one.rid for one in self._ledger.wholes.values() if (one.service, one.type) == (service, owner)]
        return frozenset((await self._ledger.local_ids(wholes, site)).values())


def _collection(item: Any, target: str, rules: Resource | None) -> str:
    """Where an item is: in the list that was asked for, or where it says itself."""
    path = target.partition("?")[0]
    if rules is None or path.rstrip("/") not in rules.lists:
        return path
    owners = {owner: text_at(item, field) for owner, field in rules.inside.items()}
    known = set(owners) == set(places_of(rules.collection)) and all(owners.values())
    return filled(rules.collection, owners) if known else path


def _id(item: Any, rules: Resource | None) -> str:
    return text_at(item, rules.id) if rules else ""


def _placed(item: Any, site: str, chosen: frozenset[str]) -> Any:
    if not isinstance(item, dict):
        return item
    return {SITE: item.get(SITE, site), **with_chosen(item, chosen)}


def _begin(whole: Sequence[Any], at: _From, rules: Resource | None) -> int:
    """How many items of a page that is read again were told: up to the last of those that are remembered."""
    told = [n for n, item in enumerate(whole) if _id(item, rules) in at.last] if at.last else []
    return told[-1] + 1 if told else at.told


def _following(
    pages: Sequence[_Page],
    items: Mapping[str, Sequence[tuple[int, Any]]],
    taken: Mapping[str, int],
    rules: Resource | None,
) -> dict[str, _From]:
    """Where the list goes on, by site; nothing if it doesn't at any site that could be asked."""
    told = [page for page in pages if page.said.site in items]
    found = {page.said.site: _going_on(page, items[page.said.site], taken[page.said.site], rules) for page in told}
    following = {site: more for site, more in found.items() if more}
    mute = {page.said.site: _From(page.target, page.begin) for page in pages if page.said.site not in items}
    return following | mute if following else {}


def _going_on(page: _Page, items: Sequence[tuple[int, Any]], taken: int, rules: Resource | None) -> _From | None:
    """Where a site goes on; None if there is no more."""
    if taken < len(items):
        place = page.begin + items[taken][0]
        last = tuple(_id(item, rules) for item in page.whole[max(place - _REMEMBERED, 0) : place])
        return _From(page.target, place, last)
    following = page.following(rules)
    return _From(following) if following else None


def _asked(target: str) -> tuple[str, dict[str, _From] | None]:
    """The target without our own parameter, and where each site's page begins, if that stands in it."""
    plain, pages = own_page(target)
    if pages is None:
        return plain, None
    try:
        found = {s: _From(str(at), int(told), tuple(map(str, last))) for s, (at, told, last) in pages.items()}
    except (ValueError, TypeError) as error:
        raise not_ours("isn't one of ours") from error
    depth = plain.partition("?")[0].count("/")
    if any((at.target and at.target.partition("?")[0].count("/") != depth) or at.told < 0 for at in found.values()):
        raise not_ours("leads elsewhere")
    return plain, found


def _nearest(pages: Sequence[_Page], words: str) -> Reply:
    """No site has told a list: what the first says that says anything."""
    said = next((page.said for page in pages if page.said.reply), None)
    if said is None or said.reply is None:
        raise SiteUnreachable(f"none of the sites can tell: {words}", site=pages[0].said.site, executed="no")
    return replace(said.reply, headers=(*said.reply.headers, (OUTCOME, words.encode())), body=_once(said.content))


def _headed(told: Sequence[_Page], counts: frozenset[bytes], words: str) -> Reply:
    """What is said of the list without its items."""
    first = told[0].said.reply
    assert first
    kept = [pair for pair in first.headers if pair[0] not in _DROPPED | _COUNTS]
    return replace(first, headers=(*kept, *_counted(told, counts), (OUTCOME, words.encode())), body=_once(b""))


def _written(
    rules: Resource | None,
    told: Sequence[_Page],
    items: list[Any],
    link: str,
    going_on: Any,
    counts: frozenset[bytes],
    words: str,
) -> Reply:
    """The list as the first site says it, with all items; `going_on` is one that goes on, if there is a `link`."""
    first = told[0].said.reply
    assert first
    body = with_items(told[0].value, rules, items)
    headers = [pair for pair in first.headers if pair[0] not in _DROPPED | _COUNTS]
    headers += _counted(told, counts)
    if link:
        body = with_next(body, rules, going_on, link)
        headers += [(b"link", f'<{link}>; rel="next"'.encode()), (b"next-page", link.encode())]
    headers += [(b"content-length", str(len(body)).encode()), (OUTCOME, words.encode())]
    return replace(first, headers=tuple(headers), body=_once(body))


def _counts(concern: Concern) -> frozenset[bytes]:
    """The headers that may be added up: only if all that each site counts is told, and by it alone."""
    inside = concern.parent and concern.parent.prime and not (concern.rules and concern.rules.span)
    return _COUNTS if inside else frozenset()


def _counted(told: Sequence[_Page], counts: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """How many there are in all, where each site says it."""
    said = [dict(page.said.reply.headers) for page in told if page.said.reply]
    names = [name for name in said[0] if name in counts and all(each.get(name, b"").isdigit() for each in said)]
    return [(name, str(sum(int(each[name]) for each in said)).encode()) for name in names]


def _url(request: Request, target: str, following: Mapping[str, _From], scope: str | None) -> str:
    """Where the list goes on, at the front that was asked."""
    word = base64.urlsafe_b64encode(json.dumps(following).encode()).decode().rstrip("=")
    prefix = f"/~scope/{quote(scope, safe='')}" if scope else ""
    host = next((value.decode("latin1") for value in request.values(b"host")), "")
    origin = f"http://{host}" if host else ""
    return f"{origin}{prefix}{target}{'&' if '?' in target else '?'}{PAGE}={word}"


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
