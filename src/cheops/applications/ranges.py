"""Ranges of addresses, as numbers: a /8 or an IPv6 /64 costs no more than a /30, as nothing is counted one by one.

In bodies they are lists of {"start": "10.0.0.2", "end": "10.0.0.64"}, both ends included.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import pairwise
from typing import Any

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, order=True, slots=True)
class Range:
    """The addresses from `first` to `last`, both included."""

    version: int
    first: int
    last: int

    @property
    def size(self) -> int:
        return self.last - self.first + 1


def network_of(value: Any) -> Network | None:
    """The network that a CIDR means; None if it is none, such as one with bits of a host."""
    if not isinstance(value, str) or "/" not in value:
        return None
    try:
        return ip_network(value)
    except ValueError:
        return None


def address_of(value: Any) -> Address | None:
    try:
        return ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None


def hosts(network: Network) -> list[Range]:
    """What can be given to hosts: not the network's own address, and for IPv4 not that of the broadcast."""
    first, last = int(network.network_address) + 1, int(network.broadcast_address)
    last -= network.version == 4
    return [Range(network.version, first, last)] if first <= last else []


def ranges_of(value: Any) -> list[Range] | None:
    """The ranges that a body lists, in its order; None if that isn't what it is."""
    if not isinstance(value, list):
        return None
    found = [_range(one) for one in value]
    return None if None in found else [one for one in found if one]


def as_value(ranges: Iterable[Range]) -> list[dict[str, str]]:
    """The ranges as a body lists them."""
    return [{"start": _text(one.version, one.first), "end": _text(one.version, one.last)} for one in ranges]


def joined(ranges: Iterable[Range]) -> list[Range]:
    """The same addresses in as few ranges as can be, by address."""
    whole: list[Range] = []
    for one in sorted(ranges):
        before = whole[-1] if whole else None
        if before and before.version == one.version and one.first <= before.last + 1:
            whole[-1] = Range(one.version, before.first, max(before.last, one.last))
        else:
            whole.append(one)
    return whole


def within(ranges: Iterable[Range], network: Network) -> bool:
    """Whether all are inside of the network."""
    first, last = int(network.network_address), int(network.broadcast_address)
    return all(one.version == network.version and first <= one.first and one.last <= last for one in ranges)


def apart(ranges: Iterable[Range]) -> bool:
    """Whether no address is in two of them."""
    ordered = sorted(ranges)
    return all(a.version != b.version or a.last < b.first for a, b in pairwise(ordered))


def without(ranges: Iterable[Range], address: Address) -> list[Range]:
    """The ranges without this address; that in which it was becomes two."""
    at, left = int(address), []
    for one in ranges:
        if one.version != address.version or not one.first <= at <= one.last:
            left.append(one)
            continue
        halves = Range(one.version, one.first, at - 1), Range(one.version, at + 1, one.last)
        left += [half for half in halves if half.size > 0]
    return left


def piece(ranges: Iterable[Range], start: int, size: int) -> list[Range]:
    """The addresses from number `start` on, `size` of them, as they follow each other in the ranges."""
    found, end = [], start + size
    for one in ranges:
        first, last = max(start, 0), min(end, one.size) - 1
        if first <= last:
            found.append(Range(one.version, one.first + first, one.first + last))
        start, end = start - one.size, end - one.size
    return found


def _range(value: Any) -> Range | None:
    if not isinstance(value, dict):
        return None
    start, end = address_of(value.get("start")), address_of(value.get("end"))
    if start is None or end is None or start.version != end.version or int(start) > int(end):
        return None
    return Range(start.version, int(start), int(end))


def _text(version: int, number: int) -> str:
    return str(IPv4Address(number) if version == 4 else IPv6Address(number))
