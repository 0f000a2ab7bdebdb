"""Which fields a merge touches: the leaves of a JSON merge patch (RFC 7396), the paths of a JSON patch (RFC 6902)."""

import json
from collections.abc import Iterator
from typing import Any

MOST_FIELDS = 1000


def touched(body: bytes, media_type: str) -> frozenset[str] | None:
    """The fields, with dots between their names; None if it may be any."""
    kind = media_type.partition(";")[0].strip().lower()
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(document, list):
        found = _paths(document) if "patch" in kind or kind.endswith("-patch") else None
    else:
        found = frozenset(_leaves(document)) if isinstance(document, dict) else None
    return found if found is not None and len(found) <= MOST_FIELDS else None


def _leaves(document: dict[str, Any], inside: str = "") -> Iterator[str]:
    for name, value in document.items():
        path = f"{inside}.{name}" if inside else name
        if isinstance(value, dict) and value:
            yield from _leaves(value, path)
        else:
            yield path


def _paths(patch: list[Any]) -> frozenset[str] | None:
    try:
        pointers = [str(change[key]) for change in patch for key in ("path", "from") if key in change]
    except (TypeError, KeyError):
        return None
    return frozenset(pointer.strip("/").replace("/", ".") for pointer in pointers)
