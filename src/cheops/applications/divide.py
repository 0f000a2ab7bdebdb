"""What of a request each site executes, when its resource spans several: a share of a number, addresses of its own.

Pure: of a description, and of sites in the order in which they joined, every site comes to the same. What isn't divided
stays byte for byte.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cheops.applications.fields import fields_at, put_json, touched
from cheops.applications.json_text import parsed, replaced, text_of, values
from cheops.applications.ranges import (
    Address,
    Network,
    Range,
    address_of,
    apart,
    as_value,
    hosts,
    joined,
    network_of,
    piece,
    ranges_of,
    within,
    without,
)
from cheops.applications.resources import Division, Resource
from cheops.errors import CantDivide
from cheops.record.paths import overlap

_FEWEST_SLOTS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The sites of a whole. `slots`: all that were ever in it, in the order in which they joined; `sites`: those that
    are in it now, in their order; `born`: how many it had at first; `prime` is one of `sites`.
    """

    prime: str
    sites: tuple[str, ...]
    slots: tuple[str, ...]
    born: int


def divides(rules: Resource) -> bool:
    """Whether anything of it is divided; else all parts are the same."""
    return bool(_divisions(rules))


def divided(body: bytes, rules: Resource, parts: Parts, site: str) -> bytes:
    """The part of a request's body that `site` is to execute; the same bytes if nothing of it is divided.

    A creation is known by its range: one without it, and without pools, isn't divided (`range_of` is None). A site that
    has left has a share of 0, and keeps its pools. Raises CantDivide.
    """
    value = parsed(body) if divides(rules) else None
    if isinstance(value, list):
        _no_patch(body, rules)
    if not isinstance(value, dict):
        return body
    _no_several(value, rules)
    inside, wrapper = _inside(value, rules)
    for path, division in _divisions(rules).items():
        part = _BY[division.by](inside, path, division, parts, site)
        body = body if part is None else _put(body, wrapper + path, part)
    return body


def range_of(body: bytes, rules: Resource) -> Network | None:
    """The range of addresses that a body names, of those that are divided; None if it names none."""
    inside, _ = _inside(parsed(body), rules)
    found = [network_of(_said(inside, one.range)) for one in _divisions(rules).values() if one.range]
    return next((one for one in found if one), None)


def overlapping(one: Network, other: Network) -> bool:
    """Whether an address is in both; a range of IPv4 and one of IPv6 have none in common."""
    return one.version == other.version and one.overlaps(other)


def _share(inside: Any, path: str, division: Division, parts: Parts, site: str) -> int | None:
    """Each gets what its weight comes to, rounded down; the prime gets the remainder too, unless its weight is 0."""
    if not fields_at(inside, path):
        return None
    whole, weights = _said(inside, path), _weights(path, division, parts)
    if not isinstance(whole, int) or isinstance(whole, bool) or whole < 0:
        raise CantDivide(
            f"{path} is {_spelled(whole)}, which can't be divided among {', '.join(parts.sites)}",
            hint="Say a whole number, 0 or more: how many there are to be on all sites together.",
        )
    total = sum(weights.values())
    shares = {one: whole * weight // total for one, weight in weights.items()}
    first = parts.prime if weights.get(parts.prime) else next(one for one in weights if weights[one])
    shares[first] += whole - sum(shares.values())
    return shares.get(site, 0)


def _weights(path: str, division: Division, parts: Parts) -> dict[str, int]:
    weights = {site: division.weights.get(site, 1) for site in parts.sites}
    if any(weights.values()):
        return weights
    raise CantDivide(
        f"{path} can't be divided: the weights of {', '.join(parts.sites)} are all 0",
        hint="Give one of these sites a weight in the description, or let the resource span another one.",
    )


def _pools(inside: Any, path: str, division: Division, parts: Parts, site: str) -> list[dict[str, str]] | None:
    """A site's slot is its place among all that ever joined, so what it got stays its own whoever joins or leaves."""
    field = division.range or ""
    if not fields_at(inside, field):
        if not fields_at(inside, path):
            return None
        raise CantDivide(
            f"{path} can't be changed: each site has its own, and goes on giving addresses from them",
            hint=f"Leave {path} out, or delete the resource and make it anew.",
        )
    addresses, slots = _addresses(inside, path, division), max(_FEWEST_SLOTS, 2 * parts.born)
    size = sum(one.size for one in addresses) // slots
    if not size:
        raise CantDivide(
            f"{field} {_said(inside, field)} has too few addresses: {path} is divided into {slots}",
            hint="Take a larger range.",
        )
    return as_value(piece(addresses, _slot(path, parts, site, slots) * size, size))


def _slot(path: str, parts: Parts, site: str, slots: int) -> int:
    if site not in parts.slots:
        raise CantDivide(f"{path} has no part for {site}, which isn't one of {', '.join(parts.slots)}")
    slot = parts.slots.index(site)
    if slot < slots:
        return slot
    raise CantDivide(
        f"no slot left for {site}: {path} was divided into {slots}, and as many sites have joined before it",
        hint="A site that has left keeps its slot. Make a new one that spans all of the sites from the beginning.",
    )


def _addresses(inside: Any, path: str, division: Division) -> list[Range]:
    """All that are divided: those that the body says, or else the hosts of its range; never the gateway's."""
    said, network = _said(inside, path), _network(inside, division.range or "")
    ranges = hosts(network) if said is None else _listed(said, path, network)
    if not division.gateway:
        return ranges
    gateway = _said(inside, division.gateway)
    if gateway is not None:
        return without(ranges, _gateway(gateway, division.gateway))
    # Neutron makes the first host the gateway if it isn't told which; who says pools has thought of that.
    return without(ranges, network.network_address + 1) if said is None else ranges


def _network(inside: Any, field: str) -> Network:
    said = _said(inside, field)
    if network := network_of(said):
        return network
    raise CantDivide(f"{field} is {_spelled(said)}, which is no range of addresses", hint="Write it as 10.0.0.0/24.")


def _gateway(said: Any, field: str) -> Address:
    if address := address_of(said):
        return address
    raise CantDivide(f"{field} is {_spelled(said)}, which is no address", hint="Write it as 10.0.0.1.")


def _listed(said: Any, path: str, network: Network) -> list[Range]:
    ranges = ranges_of(said)
    if ranges is None:
        what, hint = "isn't a list of ranges", 'Write it as [{"start": "10.0.0.2", "end": "10.0.0.99"}].'
    elif not within(ranges, network):
        what, hint = f"isn't all inside of {network}", "Take ranges that are inside."
    elif not apart(ranges):
        what, hint = "has ranges that overlap", "Name each address once."
    else:
        return joined(ranges)
    raise CantDivide(f"{path} {what}", hint=hint)


def _put(body: bytes, path: str, part: Any) -> bytes:
    """The body with the part of a site; a field that is there twice would be read in two ways, so it isn't divided."""
    text, new = text_of(body) or "", json.dumps(part)
    there = {(one.start, one.end): new for one in values(text) if one.path == path}
    changed = replaced(text, there).encode() if there else put_json(body, path, new)
    if len(there) > 1 or fields_at(parsed(changed), path) != [part]:
        raise CantDivide(
            f"{path} can't be divided: it is there twice, or something else is in its place",
            hint="Name each field of the body once.",
        )
    return changed


def _no_patch(body: bytes, rules: Resource) -> None:
    """A list of operations (RFC 6902) may test, move and copy what has another value on each site."""
    fields = touched(body, rules) or frozenset()
    for path in _named(rules):
        if "" in fields or overlap(fields, frozenset({path, f"{rules.one}.{path}"})):
            raise CantDivide(
                f"a JSON patch can't change {path}, which has another value on each site",
                hint="Send a merge patch (RFC 7396), or the whole.",
            )


def _no_several(value: dict[str, Any], rules: Resource) -> None:
    """Several that are made by one request, as in {"subnets": [...]}, would each need to be divided."""
    several = value.get(rules.many) if rules.many else None
    for one in several if isinstance(several, list) else []:
        for path in _named(rules):
            if fields_at(one, path):
                raise CantDivide(f"{path} is there for several at once", hint="Send a request for each of them.")


_BY: dict[str, Callable[[Any, str, Division, Parts, str], Any]] = {"share": _share, "pools": _pools}


def _divisions(rules: Resource) -> dict[str, Division]:
    return rules.span.divide if rules.span else {}


def _named(rules: Resource) -> Iterator[str]:
    """All fields by which is divided."""
    for path, division in _divisions(rules).items():
        yield from (one for one in (path, division.range) if one)


def _inside(value: Any, rules: Resource) -> tuple[Any, str]:
    """What the wrapper holds, if there is one, and how paths begin outside of it."""
    inner = value.get(rules.one) if rules.one and isinstance(value, dict) else None
    return (inner, f"{rules.one}.") if isinstance(inner, dict) else (value, "")


def _said(inside: Any, path: str) -> Any:
    return next(iter(fields_at(inside, path)), None)


def _spelled(value: Any) -> str:
    """A value in a sentence."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return json.dumps(value, ensure_ascii=False)[:100]
