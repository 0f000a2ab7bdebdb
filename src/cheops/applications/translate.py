"""Ids in requests: from what a client wrote to rids, and from rids to what a site calls its own.

Only the strings concerned are replaced; all else stays byte for byte, and a body that has nothing to translate, is no
JSON or is larger than a megabyte stays whole. What this does not promise: that an id inside of a longer text is found.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote_plus, unquote_to_bytes

from cheops.applications.concern import Concern, Known, concern, everywhere
from cheops.applications.description import Application
from cheops.applications.json_text import Value, is_json, quoted, replaced, text_of, values
from cheops.applications.paths import as_text, decoded, encoded, raw_segments, segments, split_address
from cheops.applications.resources import Resource
from cheops.applications.rids import MARK, is_rid
from cheops.errors import NoIdThere
from cheops.record.resource import Named, Summary

Pairs = tuple[tuple[str, str], ...]
LONGEST_ID = 255
MOST_VALUES = 4000
"""So many values of a request are looked up; a body with more of them is an upload of data, not of references."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Translated:
    """A request in other words. `refers` are the rids of others that it names; `unknown` those that name nothing."""

    target: str
    headers: Pairs
    body: bytes | None
    refers: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def values_in(
    target: bytes | str, media_type: str = "", body: bytes | None = None, headers: Pairs = ()
) -> frozenset[str]:
    """What may be an id in a request: segments of the path, values of the query and of headers, strings of a body."""
    found: set[str] = set()
    for value in _texts(as_text(target), headers, body if body and is_json(media_type) else None):
        if value and len(value) <= LONGEST_ID and value.isprintable():
            found.add(value)
        if len(found) >= MOST_VALUES:
            break
    return frozenset(found)


def in_rids(
    target: bytes | str,
    headers: Pairs,
    body: bytes | None,
    named: Sequence[Named],
    here: str,
    service: str,
    application: Application,
) -> Translated:
    """The request as it is recorded: rids stand where each site has an id of its own; chosen ids stay as they are."""
    about = concern("POST", target, service, application, named, here, body)
    known, refers = Known.at(named, here), _Refers(about=about)

    def generic(value: str) -> str:
        return refers.noted(known.unique(value), value)

    def in_body(value: Value) -> str:
        assert value.string is not None
        declared = _declared(value, about.rules, service)
        summary = known.of_type(value.string, *declared) if declared else None
        return refers.noted(summary or known.unique(value.string), value.string)

    path, question, query = as_text(target).partition("?")
    return Translated(
        target=_path(path, dict(about.places)) + question + _query(query, generic),
        headers=tuple((name, generic(value)) for name, value in headers),
        body=_body(_media_type(headers), body, known.by_value, in_body),
        refers=tuple(sorted(refers.found)),
        unknown=tuple(sorted(rids_in(target, headers, body) - {one.summary.rid for one in named})),
    )


def rids_in(target: bytes | str, headers: Pairs, body: bytes | None) -> frozenset[str]:
    """All rids that stand in a request."""
    json = body if body and is_json(_media_type(headers)) and _may_hold(body, (MARK,)) else None
    return frozenset(value for value in _texts(as_text(target), headers, json) if is_rid(value))


def at_site(target: str, headers: Pairs, body: bytes | None, ids: Mapping[str, str], site: str = "") -> Translated:
    """A recorded request as `site` understands it; `ids` has its id of each rid. Raises NoIdThere."""

    def local(value: str) -> str:
        if not is_rid(value):
            return value
        if value not in ids:
            raise no_id_there(value, site)
        return ids[value]

    def in_body(value: Value) -> str:
        assert value.string is not None
        return local(value.string)

    path, question, query = target.partition("?")
    places = {n: local(value) for n, value in enumerate(segments(path)) if is_rid(value)}
    return Translated(
        target=_path(path, places) + question + _query(query, local),
        headers=tuple((name, local(value)) for name, value in headers),
        body=_body(_media_type(headers), body, (MARK,), in_body),
    )


def no_id_there(rid: str, site: str) -> NoIdThere:
    where = site or "the site"
    return NoIdThere(
        f"the request names the resource {rid}, and {where} has no id of it yet",
        hint=f"It can be executed once {where} holds that resource: cheops resource show {rid}",
        rid=rid,
    )


def along(target: str, address: str) -> str:
    """The target of a request to a resource that moves: at its last address, with the parameters that it adds."""
    path, query, _ = split_address(address)
    at = [one for one in query[1:].split("&") if one]
    given = {_name(parameter) for parameter in at}
    added = [one for one in target.partition("?")[2].split("&") if one and _name(one) not in given]
    return (path or "/") + ("?" + "&".join([*at, *added]) if at or added else "")


def location_here(location: str) -> str:
    """A Location without the site that it leads to: path, query and fragment."""
    path, query, fragment = split_address(location)
    return ("/" if location and not path and not query else path) + query + fragment


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refers:
    """Notes which other resources a request names."""

    about: Concern
    found: set[str] = field(default_factory=set)

    def noted(self, summary: Summary | None, value: str) -> str:
        if summary is None:
            return value
        if self.about.summary is None or summary.rid != self.about.summary.rid:
            self.found.add(summary.rid)
        return everywhere(summary)


def _declared(value: Value, rules: Resource | None, service: str) -> tuple[str, str] | None:
    """(service, type) of what the field refers to, if the description says so."""
    if rules is None or not rules.refers:
        return None
    path = value.path
    for wrapper in (rules.one and f"{rules.one}.", rules.many and f"{rules.many}[].", "[]."):
        if wrapper and path.startswith(wrapper):
            path = path.removeprefix(wrapper)
            break
    told = rules.refers.get(path)
    if told is None:
        return None
    owner, _, type_ = told.rpartition("/")
    return owner or service, type_


def _texts(target: str, headers: Pairs, body: bytes | None) -> Iterator[str]:
    path, _, query = target.partition("?")
    yield from segments(path)
    yield from (_decoded_parameter(one.partition("=")[2]) for one in query.split("&") if "=" in one)
    yield from (value for _, value in headers)
    text = text_of(body) if body else None
    yield from (value.string for value in values(text or "") if value.string is not None)


def _path(path: str, places: Mapping[int, str]) -> str:
    """The path with other segments in these places; the rest stands as it was written."""
    raw = raw_segments(path)
    form = [
        segment if places.get(n) is None or places[n] == decoded(segment) else encoded(places[n])
        for n, segment in enumerate(raw)
    ]
    ending = path[len(path.rstrip("/")) :]
    return "".join(f"/{segment}" for segment in form) + ending if form else path


def _query(query: str, translate: Callable[[str], str]) -> str:
    return "&".join(_parameter(one, translate) for one in query.split("&"))


def _parameter(parameter: str, translate: Callable[[str], str]) -> str:
    name, equals, raw = parameter.partition("=")
    value = _decoded_parameter(raw)
    new = translate(value) if equals else value
    return parameter if new == value else f"{name}={quote_plus(new)}"


def _decoded_parameter(raw: str) -> str:
    return unquote_to_bytes(raw.replace("+", " ").encode("latin-1", "replace")).decode("utf-8", "replace")


def _may_hold(body: bytes, words: Iterable[str]) -> bool:
    """Whether any of the words may stand in a body: a look that spares most bodies the slower one."""
    escaped = b"\\u" in body or b"\\/" in body
    return escaped or any(quoted(word)[1:-1].encode("utf-8", "replace") in body for word in words)


def _body(media_type: str, body: bytes | None, words: Iterable[str], translate: Callable[[Value], str]) -> bytes | None:
    """The body with its strings translated; `words` are those that may change, or are a part of what may."""
    text = text_of(body) if body and is_json(media_type) and _may_hold(body, words) else None
    if text is None:
        return body
    spans = dict(_changed(values(text), translate))
    return replaced(text, spans).encode() if spans else body


def _changed(found: Iterable[Value], translate: Callable[[Value], str]) -> Iterator[tuple[tuple[int, int], str]]:
    for value in found:
        if value.string is not None and (new := translate(value)) != value.string:
            yield (value.start, value.end), quoted(new)


def _media_type(headers: Pairs) -> str:
    return next((value for name, value in headers if name.lower() == "content-type"), "")


def _name(parameter: str) -> str:
    return parameter.partition("=")[0]
