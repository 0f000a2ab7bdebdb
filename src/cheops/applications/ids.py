"""Ids of resources: rids, which are the same on every site, and those that a site's service makes. Pure.

A rid is a UUIDv8 (RFC 9562) with a mark. Where a name or an id is the client's to choose, the rid follows from it, so
that two sites that are cut off from each other mean the same resource by the same name.
"""

import hashlib
import re
from collections.abc import Callable

MARK = "c4e1"
RID = re.compile(rf"{MARK}[0-9a-f]{{4}}-[0-9a-f]{{4}}-8[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}")
_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_LONG = 20  # characters of letters and digits that nobody chooses twice


def rid_of(service: str, kind: str, collection: str, identity: str) -> str:
    """The rid of what a client has chosen the id, or a unique name, of."""
    text = "\0".join((service, kind, collection, identity))
    return _rid(hashlib.sha256(text.encode()).hexdigest())


def new_rid(digits: Callable[[int], str]) -> str:
    """A rid that nobody has had; `digits` gives random hexadecimal digits."""
    return _rid(digits(32))


def _rid(digits: str) -> str:
    variant = "89ab"[int(digits[7], 16) % 4]
    return f"{MARK}{digits[:4]}-{digits[4:7]}{digits[8]}-8{digits[9:12]}-{variant}{digits[12:15]}-{digits[16:28]}"


def is_rid(text: str) -> bool:
    return RID.fullmatch(text) is not None


def looks_unique(value: str) -> bool:
    """Whether an id surely means the same thing wherever it is met: a UUID, or long enough to be drawn by chance."""
    if _UUID.fullmatch(value):
        return True
    return (
        len(value) >= _LONG and value.isascii() and any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    )
