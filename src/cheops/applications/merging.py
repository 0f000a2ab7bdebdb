"""A page of a list that several sites hold, sorted together: each gives its own page, in the order that was asked for.

What this does not promise: that an order is the services' own to the letter; collation is theirs. So the items of one
site stay in the order in which it gave them, and what is taken of a site is always the beginning of its page.
"""

import heapq
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import total_ordering
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

from cheops.applications.fields import fields_at
from cheops.applications.resources import Resource

_NUMBER = re.compile(r"[0-9]{1,18}")
_NAMES = {int: "number", float: "number"}


def merged(
    items_by_site: Mapping[str, Sequence[Any]], order: str, limit: int | None
) -> tuple[list[tuple[str, Any]], dict[str, int]]:
    """Of each site's page, which is in this order, the first `limit` items of all, with their sites; and how many of
    each site's are taken.

    `order` is as `Paging` has it: "-last_modified,name". Items without a value come last, values of unlike types by
    their types; those that are alike in all, and all if there is no order, come site by site.
    """
    streams = [_of_site(site, items) for site, items in items_by_site.items()]
    page = list(islice(heapq.merge(*streams, key=_key(order)), limit))
    taken = dict.fromkeys(items_by_site, 0)
    for site, _ in page:
        taken[site] += 1
    return page, taken


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


def _of_site(site: str, items: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    return ((site, item) for item in items)


def _key(order: str) -> Callable[[tuple[str, Any]], Any]:
    fields = [field for part in order.split(",") if (field := part.strip())]
    ways = [(field.lstrip("+-"), field.startswith("-")) for field in fields]
    return lambda one: tuple(_place(one[1], path, down) for path, down in ways)


def _place(item: Any, path: str, down: bool) -> tuple[bool, Any]:
    """What compares as an item does by a field; null counts as no value."""
    value = next((one for one in fields_at(item, path) if one is not None), None)
    if value is None:
        return True, None
    kind = _NAMES.get(type(value), type(value).__name__)
    place = kind, json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else value
    return False, _Down(place) if down else place


@total_ordering
class _Down:
    """From the last to the first."""

    __slots__ = ("place",)

    def __init__(self, place: tuple[str, Any]) -> None:
        self.place = place

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Down) and self.place == other.place

    def __lt__(self, other: "_Down") -> bool:
        return other.place < self.place

    __hash__ = None  # type: ignore[assignment]
