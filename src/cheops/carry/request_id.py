"""The request id that carries a resolved scope: a UUIDv8 (RFC 9562) with the bindings inside.

Of its 122 free bits two stay in the variant's digit; the other thirty hexadecimal digits are

    c4e0 N BBBB… R…       the mark; how many bindings; each: service number · 1024 + site number; the rest random
    c4e0 f SSS R…         too many bindings: kept by the agent of site S, under this id

intercept/envoy/scope.lua reads and writes the same. What this does not promise: that a client could not make such an id
itself. It could; it says no more than the scope that the client may write anyway.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MARK = "c4e0"
KEPT = "f"
MOST_BINDINGS = 4
_DIGITS = 30
_SHAPE = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-8([0-9a-f]{3})-[89ab]([0-9a-f]{3})-([0-9a-f]{12})")

RandomDigits = Callable[[int], str]
"""Gives so many random hexadecimal digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bindings:
    """(service number, site number) of each binding that an id carries."""

    numbers: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptBy:
    """The id stands for a scope that the agent of the site with this number keeps."""

    site: int


def encode(numbers: Sequence[tuple[int, int]], random: RandomDigits) -> str:
    """The UUID that carries (service, site) numbers: at most 4, services to 62, sites to 1023; none is no mark."""
    if len(numbers) > MOST_BINDINGS:
        raise ValueError(f"a request id carries at most {MOST_BINDINGS} bindings, not {len(numbers)}")
    return _uuid(
        MARK + str(len(numbers)) + "".join(f"{service * 1024 + site:04x}" for service, site in numbers), random
    )


def encode_kept(site: int, random: RandomDigits) -> str:
    """A UUID under which the agent of site number `site` keeps a scope."""
    return _uuid(f"{MARK}{KEPT}{site:03x}", random)


def decode(uuid: str) -> Bindings | KeptBy | None:
    """What a UUID carries; None if it isn't marked."""
    found = _SHAPE.fullmatch(uuid)
    digits = "".join(found.groups()) if found else ""
    if not digits.startswith(MARK):
        return None
    if digits[4] == KEPT:
        return KeptBy(site=int(digits[5:8], 16))
    if digits[4] not in "1234":
        return None
    groups = (int(digits[5 + 4 * i : 9 + 4 * i], 16) for i in range(int(digits[4])))
    return Bindings(numbers=tuple(divmod(group, 1024) for group in groups))


def _uuid(head: str, random: RandomDigits) -> str:
    digits = head + random(_DIGITS - len(head))
    variant = "89ab"[int(random(1), 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-8{digits[12:15]}-{variant}{digits[15:18]}-{digits[18:]}"
