"""Paths of targets, and the templates of descriptions that they fit."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

_PLACE = re.compile(r"\{([^{}]*)\}")
_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://[^/?#]*)?([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)  # RFC 3986, B
_SAFE = "!$&'()*+,;=:@-._~"  # RFC 3986 lets them stand in a segment


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """How a path fits a template: (place, segment number, value) of each place, and how many segments it took."""

    places: tuple[tuple[str, int, str], ...]
    taken: int


def as_text(target: bytes | str) -> str:
    """A target as text that has its bytes as characters."""
    return target.decode("latin-1") if isinstance(target, bytes) else target


def split_address(address: str) -> tuple[str, str, str]:
    """(path, ?query, #fragment) of a URL or of what may stand in its place; those that it lacks are ""."""
    found = _URL.match(address)
    path, query, fragment = found.groups("") if found else (address, "", "")
    return path, query, fragment


def segments(target: bytes | str) -> tuple[str, ...]:
    """The segments of a target's path, percent-decoded; a slash at the end makes none."""
    raw = raw_segments(as_text(target).partition("?")[0])
    return tuple(decoded(segment) for segment in raw)


def raw_segments(path: str) -> list[str]:
    return path.rstrip("/").split("/")[1:]


def decoded(raw: str) -> str:
    try:
        return unquote_to_bytes(raw.encode("latin-1")).decode("utf-8", "replace")
    except UnicodeEncodeError:
        return unquote_to_bytes(raw).decode("utf-8", "replace")


def encoded(segment: str) -> str:
    return quote(segment.encode("utf-8", "replace"), safe=_SAFE)


def joined(segments: tuple[str, ...]) -> str:
    """The path of these segments; "/" if there are none."""
    return "/" + "/".join(encoded(segment) for segment in segments)


def fit(template: str, path: str) -> Fit | None:
    """How the beginning of a path, as `joined` writes it, fits a template with {id}, {type} and {several*}."""
    found = _pattern(template).match(path + "/")
    if not found:
        return None
    places = tuple(
        (place, found.string.count("/", 0, found.start(n)) - 1, decoded(found[n]))
        for n, place in enumerate(_PLACE.findall(template), 1)
    )
    return Fit(places=places, taken=found[0].count("/") - 1)


def places_of(template: str) -> list[str]:
    return _PLACE.findall(template)


def filled(template: str, values: Mapping[str, str]) -> str:
    """The path of a template with these values in its places."""
    return _PLACE.sub(lambda place: _filler(place[1], values[place[1]]), template)


def _filler(place: str, value: str) -> str:
    return "/".join(encoded(part) for part in value.split("/")) if place.endswith("*") else encoded(value)


@lru_cache(maxsize=1000)
def _pattern(template: str) -> re.Pattern[str]:
    parts = _PLACE.split(template.rstrip("/"))
    shapes = [
        (r"(.+)" if part.endswith("*") else r"([^/]+)") if n % 2 else re.escape(part) for n, part in enumerate(parts)
    ]
    return re.compile("".join(shapes) + "/")
