"""A page of a list that several sites hold, sorted together: each gives its own page, in the order that was asked for.

What this does not promise: that an order is the services' own to the letter; collation is theirs. So the items of one
site stay in the order in which it gave them, and what is taken of a site is always the beginning of its page.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import total_ordering
from itertools import accumulate
from typing import Any
from urllib.parse import parse_qsl

from cheops.applications.fields import fields_at
from cheops.applications.resources import Resource

_NUMBER = re.compile(r"[0-9]{1,18}")
_KINDS = {kind: place for place, kind in enumerate((bool, dict, list, float, str))} | {int: 3}  # null is no value


def merged(
    items_by_site: Mapping[str, Sequence[Any]], order: str, limit: int | None, going_on: Collection[str] = ()
) -> tuple[list[tuple[str, Any]], dict[str, int]]:
    """Of each site's page, which is in this order, the first `limit` items of all, with their sites; and how many of
    each site's are taken.

    `order` is as `Paging` has it: "-last_modified,name". Items without a value come last, values of unlike types by
    their types; those that are alike in all, and all if there is no order, come site by site.

    Where the list of a site is `going_on` after its page, nothing is taken that may come after what follows there.
    """
    rows = [(site, item) for site, items in items_by_site.items() for item in items]
    if order:
        rows = _sorted(rows, items_by_site, order)
    page = rows[: _end(rows, limit, going_on if order else ())]
    taken = dict.fromkeys(items_by_site, 0)
    for site, _ in page:
        taken[site] += 1
    return page, taken


def _sorted(
    rows: Sequence[tuple[str, Any]], items_by_site: Mapping[str, Sequence[Any]], order: str
) -> list[tuple[str, Any]]:
    """The rows by the places of their items, none of which is before that of an item that the site gave earlier."""
    keys, down = _plain_keys([item for _, item in rows], order) or (list(map(_key(order), (i for _, i in rows))), False)
    following = min if down else max
    places: list[Any] = []
    for items in items_by_site.values():
        places += accumulate(keys[len(places) : len(places) + len(items)], following)
    return [rows[n] for n in sorted(range(len(rows)), key=places.__getitem__, reverse=down)]


def _plain_keys(items: Sequence[Any], order: str) -> tuple[list[Any], bool] | None:
    """What compares as the items do, and whether the other way round: of one field with values that compare by
    themselves, which is what long lists are sorted by.
    """
    path = order.strip()
    name = path.lstrip("+-")
    if any(sign in name for sign in ",.[") or not all(isinstance(item, dict) for item in items):
        return None
    values = [item.get(name) for item in items]
    kinds = set(map(type, values))
    return (values, path.startswith("-")) if kinds <= {int, float} or kinds == {str} else None


def _end(rows: Sequence[tuple[str, Any]], limit: int | None, going_on: Collection[str]) -> int:
    """How many rows are sure: up to the last one of a site whose list goes on."""
    last = {site: n + 1 for n, (site, _) in enumerate(rows)} if going_on else {}
    return min([len(rows) if limit is None else limit, *(last.get(site, 0) for site in going_on)])


def order_of(target: str, rules: Resource | None) -> str:
    """How the list that is asked for is sorted: as its query says, or else as the service does by itself."""
    if rules is None:
        return ""
    asked = [value for value in _asked(target, rules.paging.sort) if value]
    return ",".join(asked) or rules.paging.order


def limit_of(target: str, rules: Resource | None) -> int | None:
    """How many items a page is to have at most; None if the query doesn't say, or says no number, or 0.

    0 is no limit to some services; of those to which it is one, no item comes anyway.
    """
    asked = _asked(target, rules.paging.limit) if rules else []
    return (int(asked[-1]) or None) if asked and _NUMBER.fullmatch(asked[-1]) else None


def chosen_of(target: str, rules: Resource | None) -> tuple[str, frozenset[str]]:
    """The target without the choice of fields that its query makes, and the choice; without one, all are told.

    Who puts lists together needs more of an item than the client wants to see: its id, what it belongs to, its order.
    """
    name = rules.paging.fields if rules else None
    path, _, query = target.partition("?")
    chosen = frozenset(field for value in _asked(target, name) for field in value.split(",") if field)
    if not chosen:
        return target, chosen
    kept = "&".join(pair for pair in query.split("&") if pair.partition("=")[0] != name)
    return path + (f"?{kept}" if kept else ""), chosen


def with_chosen(item: Any, fields: frozenset[str]) -> Any:
    """The item with the fields that were chosen; all, if none was."""
    if not fields or not isinstance(item, dict):
        return item
    return {name: value for name, value in item.items() if name in fields}


def _asked(target: str, name: str | None) -> list[str]:
    query = target.partition("#")[0].partition("?")[2]
    return [value for key, value in parse_qsl(query, keep_blank_values=True) if key == name]


def _key(order: str) -> Callable[[Any], Any]:
    fields = [field for part in order.split(",") if (field := part.strip())]
    ways = [(field.lstrip("+-"), field.startswith("-")) for field in fields]
    return lambda item: tuple([_place(item, path, down) for path, down in ways])


def _place(item: Any, path: str, down: bool) -> tuple[Any, ...]:
    """What compares as an item does by a field; null counts as no value."""
    value = next((one for one in fields_at(item, path) if one is not None), None)
    if value is None:
        return (1,)
    kind = _KINDS[type(value)]
    if isinstance(value, list | dict):
        value = json.dumps(value, sort_keys=True)
    if not down:
        return 0, kind, value
    return 0, -kind, -value if isinstance(value, int | float) else _Down(value)


@total_ordering
class _Down:
    """From the last to the first."""

    __slots__ = ("place",)

    def __init__(self, place: str) -> None:
        self.place = place

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Down) and self.place == other.place

    def __lt__(self, other: "_Down") -> bool:
        return other.place < self.place

    __hash__ = None  # type: ignore[assignment]
