"""One reply of those that the sites of a whole have given, each of its part.

A reply says all that any part said: a client finds the fields it knows, whichever sites could be asked. What this does
not promise: that what is missing is made up for; a sum is that of the parts that are there.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

from cheops.applications.fields import fields_at
from cheops.applications.json_text import parsed
from cheops.applications.ranges import as_value, joined, ranges_of
from cheops.applications.resources import Resource

_DEEPEST = 50
"""Below, the first part's objects are taken as they are; no API nests so deep, and a hostile reply would."""


def whole_of(parts: Mapping[str, bytes], rules: Resource | None, prime: str, here: str) -> bytes:
    """One reply of the parts' replies, by site; those that are missing couldn't be had. b"" if none could.

    It is the prime's, else this site's, else the first one's, byte for byte if the others add nothing to it.
    """
    base = next((parts[site] for site in _ordered(parts, prime, here)), b"")
    values = {site: value for site, body in parts.items() if (value := parsed(body)) is not None}
    told = parsed(base)
    if len(parts) < 2 or not isinstance(told, dict):
        return base
    wrapped = rules is not None and rules.one and isinstance(told.get(rules.one), dict)
    try:
        whole = _whole(values, rules, (prime, here), f"{rules.one}." if rules and wrapped else "")
        return base if whole == told else json.dumps(whole).encode()
    except (RecursionError, ValueError):  # nested to the very limit, or a sum of too many digits
        return base


def whole_value(parts: Mapping[str, Any], rules: Resource | None, prime: str, here: str) -> Any:
    """As `whole_of`, of values without their wrapper, such as the items of lists; None if there are none."""
    return _whole(parts, rules, (prime, here), "")


def _whole(parts: Mapping[str, Any], rules: Resource | None, first: tuple[str, str], wrapper: str) -> Any:
    """`wrapper`: how the paths of fields begin."""
    values = [parts[site] for site in _ordered(parts, *first)]
    if len(values) < 2 or not isinstance(values[0], dict):
        return values[0] if values else None
    whole = values[0]
    for other in values[1:]:
        whole = _filled(whole, other)
    for path, combine in _ways(rules):
        said = [one for value in values for one in fields_at(value, wrapper + path) if one is not None]
        if said and "[]" not in path and fields_at(whole, wrapper + path):
            new = combine(said) if len(said) > 1 else said[0]
            whole = _with(whole, (wrapper + path).split("."), new)
    return whole


def _ordered(parts: Iterable[str], *first: str) -> list[str]:
    """The sites that have a part, these first."""
    there = list(parts)
    return list(dict.fromkeys([*(site for site in first if site in there), *there]))


def _filled(value: Any, other: Any, depth: int = 0) -> Any:
    """The value, with the members that only the other has."""
    if not isinstance(value, dict) or not isinstance(other, dict) or depth > _DEEPEST:
        return value
    kept = {name: _filled(inner, other[name], depth + 1) if name in other else inner for name, inner in value.items()}
    return {**kept, **{name: inner for name, inner in other.items() if name not in value}}


def _with(value: dict[str, Any], steps: list[str], new: Any) -> dict[str, Any]:
    """The value with another one at the end of these steps, which are there."""
    name, *below = steps
    return {**value, name: _with(value[name], below, new) if below else new}


def _sum(said: list[Any]) -> Any:
    try:
        return sum(said) if all(map(_is_number, said)) else said[0]
    except OverflowError:  # of a float and a number beyond all floats
        return said[0]


def _least(said: list[Any]) -> Any:
    return min(said) if _are_ordered(said) else said[0]


def _most(said: list[Any]) -> Any:
    return max(said) if _are_ordered(said) else said[0]


def _concat(said: list[Any]) -> Any:
    """The items of all lists, each once."""
    if not all(isinstance(one, list) for one in said):
        return said[0]
    found: dict[str, Any] = {}
    for item in chain(*said):
        found.setdefault(json.dumps(item, sort_keys=True), item)
    return list(found.values())


def _all(said: list[Any]) -> Any:
    return all(said) if all(isinstance(one, bool) for one in said) else said[0]


def _any(said: list[Any]) -> Any:
    return any(said) if all(isinstance(one, bool) for one in said) else said[0]


def _pools(said: list[Any]) -> Any:
    """All ranges, by address, in as few as can be."""
    ranges = [ranges_of(one) for one in said]
    known = [one for some in ranges if some is not None for one in some]
    return said[0] if None in ranges else as_value(joined(known))


_Combine = Callable[[list[Any]], Any]
"""What becomes of the values that two parts or more have; the first is taken if one of them isn't what it should be."""
_BY: dict[str, _Combine] = {
    "sum": _sum,
    "min": _least,
    "max": _most,
    "concat": _concat,
    "all": _all,
    "any": _any,
    "share": _sum,
    "pools": _pools,
}


def _ways(rules: Resource | None) -> list[tuple[str, _Combine]]:
    """(path, how) of each field that isn't the base's."""
    span = rules.span if rules else None
    if span is None:
        return []
    ways = {path: _BY[division.by] for path, division in span.divide.items()}
    return list({**ways, **{path: _BY[how] for path, how in span.aggregate.items()}}.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_ordered(said: list[Any]) -> bool:
    """Whether one is the least: of numbers, or of texts such as times."""
    return all(map(_is_number, said)) or all(isinstance(one, str) for one in said)
