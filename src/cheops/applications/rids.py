"""The names that Cheops gives to resources: UUIDv8 (RFC 9562) whose first four digits are c4e1.

A resource whose id is the same on every site has the rid that follows from it, so that two sites which make it at the
same time mean the same one. What this does not promise: that a text which looks like a rid names anything.
"""

import hashlib
import json
import re
from collections.abc import Callable

MARK = "c4e1"
_SHAPE = re.compile(r"c4e1[0-9a-f]{4}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(r"[0-9a-fA-F]{16,}")
_MIXED = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_.:-]{20,}")

RandomDigits = Callable[[int], str]
"""Gives so many random hexadecimal digits."""


def new_rid(random: RandomDigits) -> str:
    return _rid(random(27), "89ab"[int(random(1), 16) % 4])


def rid_of(service: str, type_: str, collection: str, chosen: str) -> str:
    """The rid of a resource whose id was chosen: the same wherever it is made. `collection` is in rid form."""
    digest = hashlib.sha256(json.dumps([service, type_, collection, chosen]).encode()).hexdigest()
    return _rid(digest[:27], "89ab"[int(digest[27], 16) % 4])


def is_rid(text: str) -> bool:
    return _SHAPE.fullmatch(text) is not None


def looks_unique(text: str) -> bool:
    """Whether no other resource is likely to have this id by chance: a UUID, a hash, a long random word.

    Another site's `5` or `web` may well be another thing here.
    """
    return any(shape.fullmatch(text) for shape in (_UUID, _HEX, _MIXED))


def _rid(digits: str, variant: str) -> str:
    return f"{MARK}{digits[:4]}-{digits[4:8]}-8{digits[8:11]}-{variant}{digits[11:14]}-{digits[14:26]}"
