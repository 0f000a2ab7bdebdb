"""Which fields a merge touches, so that merges of other fields needn't be executed again. Pure.

A name that has a dot in it is cut at the dot like a path: at worst it overlaps more than it has to.
"""

import json
from collections.abc import Iterator
from typing import Any

PATCHES = frozenset({"application/json-patch+json", "application/openstack-images-v2.1-json-patch"})
MERGES = frozenset({"application/merge-patch+json", "application/json"})
MOVES = frozenset({"move", "copy"})  # they read another field as well


def touched(body: bytes, media_type: str) -> frozenset[str] | None:
    """The leaf fields of a merge (RFC 7396) or a patch (RFC 6902), as dotted paths; None stands for all."""
    kind = media_type.partition(";")[0].strip().lower()
    try:
        document = json.loads(body)
        if kind in PATCHES:
            return _whole(frozenset(_patched(document)))
        return _whole(frozenset(_leaves(document, ""))) if kind in MERGES and isinstance(document, dict) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _whole(paths: frozenset[str]) -> frozenset[str] | None:
    """A path without a name is the document, or a name that is empty: all of it."""
    return None if any(not all(path.split(".")) for path in paths) else paths


def _leaves(value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict) or (path and not value):
        yield path
        return
    for name, inner in value.items():
        yield from _leaves(inner, f"{path}.{name}" if path else name)


def _patched(patch: list[dict[str, Any]]) -> Iterator[str]:
    for change in patch:
        yield _dotted(change["path"])
        if change["op"] in MOVES and "from" in change:
            yield _dotted(change["from"])


def _dotted(pointer: str) -> str:
    """The path of a JSON pointer (RFC 6901), up to the list that it points into."""
    names = [name.replace("~1", "/").replace("~0", "~") for name in pointer.split("/")[1:]]
    listed = next((at for at, name in enumerate(names) if name == "-" or name.isdecimal()), len(names))
    return ".".join(names[:listed])
