"""Fields of JSON documents by their paths: image_id, networks[].uuid, server.imageRef. Pure."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any


def values_at(document: Any, path: str) -> Iterator[Any]:
    """What stands at a path; [] stands for each of a list."""
    yield from _at(document, path.split("."))


def _at(document: Any, names: Sequence[str]) -> Iterator[Any]:
    if not names:
        yield document
        return
    name, each = names[0].removesuffix("[]"), names[0].endswith("[]")
    if not isinstance(document, dict) or name not in document:
        return
    inner = document[name]
    for value in (inner if isinstance(inner, list) else ()) if each else (inner,):
        yield from _at(value, names[1:])


def without(document: Any, paths: Collection[str]) -> Any:
    """The document without what stands at these paths."""
    return _without(document, [path.split(".") for path in paths])


def _without(document: Any, paths: Sequence[Sequence[str]]) -> Any:
    if isinstance(document, list) or not isinstance(document, dict):
        return document
    kept = {}
    for name, value in document.items():
        below = [path[1:] for path in paths if path[0].removesuffix("[]") == name]
        if any(not path for path in below):
            continue
        if below and isinstance(value, list):
            kept[name] = [_without(each, below) for each in value]
        else:
            kept[name] = _without(value, below) if below else value
    return kept


def leaves(document: Any, inside: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that isn't an object, with its path; a list is one value."""
    if isinstance(document, dict) and document:
        for name, value in document.items():
            yield from leaves(value, f"{inside}.{name}" if inside else str(name))
    else:
        yield inside, document
