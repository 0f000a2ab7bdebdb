"""Requests in rid form and back: ids of a site become rids before a request is written down, and the ids of the site
where it is executed afterwards. Pure.

JSON is changed string by string and stays otherwise byte for byte what it was; what isn't JSON, or is large, is left
alone. An id of another site counts only if it can't mean anything else.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from cheops.applications.concern import SAFE, segments
from cheops.applications.description import Application
from cheops.applications.fields import values_at
from cheops.applications.ids import RID, is_rid, looks_unique
from cheops.applications.resources import Resource
from cheops.errors import BadRequest
from cheops.model import Headers
from cheops.record.resource import Named, Summary

Pairs = tuple[tuple[str, str], ...]
LONGEST_ID = 255
MOST_VALUES = 4000
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"(?=(\s*:)?)')
_SECRET = re.compile(r"auth|cookie|key|passw|secret|signature|token", re.IGNORECASE)
_DROPPED = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        *("content-length", "baggage", "x-scope", "prefer", "forwarded", "x-forwarded-for", "x-forwarded-proto"),
        *("x-request-id", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"),
        *("x-real-ip", "traceparent", "tracestate"),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recast:
    """A request with other ids in it; `refers` are the rids of the resources that it names."""

    target: str
    headers: Pairs = ()
    body: bytes | None = None
    refers: tuple[str, ...] = ()


class UnknownHere(Exception):
    """A site has no id of its own for `rid`."""

    def __init__(self, rid: str) -> None:
        super().__init__(rid)
        self.rid = rid


def values_in(target: str, body: bytes | None) -> frozenset[str]:
    """What may be an id: the segments of the path, the values of the query, the strings of a JSON body."""
    query = target.partition("?")[2]
    found = {*segments(target), *(unquote(pair.partition("=")[2]) for pair in query.split("&"))}
    for value in _strings(body):
        if len(found) >= MOST_VALUES:
            break
        found.add(value)
    return frozenset(value for value in found if 0 < len(value) <= LONGEST_ID)


def _text(body: bytes | None) -> str | None:
    """The text of a JSON body; None if it is none."""
    if body is None or body[:1] not in (b"{", b"["):
        return None
    try:
        text = body.decode()
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    return text


def _strings(body: bytes | None) -> Iterator[str]:
    text = _text(body)
    for token in _STRING.finditer(text) if text else ():
        if token[1] is None:
            yield json.loads(token[0])


def in_rids(
    target: str,
    headers: Pairs,
    body: bytes | None,
    named: Sequence[Named],
    here: str,
    service: str,
    rules: Resource | None = None,
) -> Recast:
    """The request with rids in the place of ids that differ from site to site."""
    path, question, query = target.partition("?")
    meant = _Meant(named, here)
    refers: dict[str, None] = {}
    declared = _declared(body, rules, meant, service)
    refers.update(dict.fromkeys(declared.values()))

    def rid_of(value: str) -> str | None:
        summary = meant.anywhere(value)
        rid = declared.get(value) or (summary.rid if summary else None)
        if rid:
            refers[rid] = None
        return rid if rid and not meant.chosen(rid) else None

    walked = meant.walk(segments(path), service, refers)
    text = _text(body)
    new = _replaced(text, rid_of).encode() if text is not None and body is not None else body
    query = "&".join(_in_query(pair, rid_of) for pair in query.split("&")) if question else ""
    return Recast(target=walked + question + query, headers=headers, body=new, refers=tuple(refers))


class _Meant:
    """What values mean, of all that is named."""

    def __init__(self, named: Sequence[Named], here: str) -> None:
        self._named, self._here = named, here
        self._by_rid = {n.summary.rid: n.summary for n in named}

    def chosen(self, rid: str) -> bool:
        return bool(self._by_rid[rid].chosen)

    def anywhere(self, value: str) -> Summary | None:
        """What a value means wherever it stands: only what can't mean anything else does."""
        if not looks_unique(value):
            return None
        found = [n.summary for n in self._named if n.value == value]
        living = [summary for summary in found if not summary.gone] or found
        return living[0] if living else None

    def of_type(self, value: str, service: str, kind: str) -> str | None:
        """The rid of a resource of this type that a value means here."""
        found = [n for n in self._named if n.value == value and (n.summary.service, n.summary.type) == (service, kind)]
        own = [n for n in found if n.site in (self._here, "")] or [n for n in found if looks_unique(value)]
        return own[0].summary.rid if own else None

    def walk(self, path: Sequence[str], service: str, refers: dict[str, None]) -> str:
        """The path in rid form."""
        canonical = ""
        for segment in path:
            summary = self._at(segment, canonical, service) or self.anywhere(segment)
            if summary:
                refers[summary.rid] = None
            own = summary.rid if summary and not summary.chosen else quote(segment, safe=SAFE)
            canonical = f"{canonical}/{own}"
        return canonical

    def _at(self, segment: str, collection: str, service: str) -> Summary | None:
        those = [
            n
            for n in self._named
            if n.value == segment and n.summary.collection == collection and n.summary.service == service
        ]
        living = [n for n in those if not n.summary.gone] or those
        own = [n for n in living if n.site in (self._here, "")] or [n for n in living if looks_unique(segment)]
        return own[0].summary if own else None


def _declared(body: bytes | None, rules: Resource | None, meant: _Meant, service: str) -> dict[str, str]:
    """By value the rids of what the description says that a body refers to."""
    text = _text(body)
    if text is None or rules is None or not rules.refers:
        return {}
    document = json.loads(text)
    inner = document.get(rules.one, document) if rules.one and isinstance(document, dict) else document
    found = {}
    for field, target in rules.refers.items():
        where, _, kind = target.rpartition("/")
        for value in values_at(inner, field):
            if isinstance(value, str) and (rid := meant.of_type(value, where or service, kind)):
                found[value] = rid
    return found


def _replaced(text: str, by: Callable[[str], str | None]) -> str:
    """A JSON text with other strings in it; names of members are left alone."""

    def string(token: re.Match[str]) -> str:
        if token[1] is not None:
            return token[0]
        new = by(json.loads(token[0]))
        return token[0] if new is None else json.dumps(new)

    return _STRING.sub(string, text)


def _in_query(pair: str, rid_of: Callable[[str], str | None]) -> str:
    name, equals, value = pair.partition("=")
    rid = rid_of(unquote(value)) if equals else None
    return f"{name}={rid}" if rid else pair


def rids_in(target: str, headers: Pairs, body: bytes | None) -> frozenset[str]:
    """The rids that stand in a request."""
    found = {match[0] for match in RID.finditer(target)}
    found |= {match[0] for _, value in headers for match in RID.finditer(value)}
    return frozenset(found | {value for value in _strings(body) if is_rid(value)})


def at_site(target: str, headers: Pairs, body: bytes | None, ids: Mapping[str, str]) -> Recast:
    """The request with a site's own ids. Raises UnknownHere if it has none for a rid."""

    def local(match: re.Match[str]) -> str:
        if match[0] not in ids:
            raise UnknownHere(match[0])
        return quote(ids[match[0]], safe=SAFE)

    def plain(value: str) -> str | None:
        if not is_rid(value):
            return None
        if value not in ids:
            raise UnknownHere(value)
        return ids[value]

    text = _text(body)
    return Recast(
        target=RID.sub(local, target),
        headers=tuple((name, RID.sub(local, value)) for name, value in headers),
        body=_replaced(text, plain).encode() if text is not None else body,
    )


def item_of(summary: Summary, application: Application) -> str:
    """The path of a resource, in rid form."""
    described = application.services.get(summary.service)
    rules = described.resources.get(summary.type) if described else None
    own = quote(summary.chosen, safe=SAFE) if summary.chosen else summary.rid
    if rules and rules.item:
        tail = rules.item_path[len(rules.collection) :] if rules.item_path.startswith(rules.collection) else None
        if tail is not None:
            return summary.collection + tail.replace("{id}", own)
    return f"{summary.collection.rstrip('/')}/{own}"


# Headers


def is_secret(name: str) -> bool:
    """Whether a header holds a credential, as far as its name tells."""
    return _SECRET.search(name) is not None


def recordable(headers: Headers, application: Application) -> Pairs:
    """The headers that are written down: no credentials, nothing that is one site's or one connection's own."""
    carriers = {application.request_id.header.lower()} if application.request_id else set()
    pairs = ((name.decode("latin1"), value.decode("latin1")) for name, value in headers)
    return tuple(
        (name, value)
        for name, value in pairs
        if name not in _DROPPED | carriers and not name.startswith(("cheops-", "x-envoy-")) and not is_secret(name)
    )


def secret_headers(headers: Headers) -> Headers:
    """The headers that are credentials."""
    return tuple(pair for pair in headers if is_secret(pair[0].decode("latin1")))


def check_query(target: str) -> None:
    """Raises BadRequest for credentials in a URL, which would be written down."""
    for pair in target.partition("?")[2].split("&"):
        name = unquote(pair.partition("=")[0])
        if "=" in pair and _SECRET.search(name) and not _HARMLESS.fullmatch(name):
            raise BadRequest(
                f"'{name}' in the URL looks like a credential, and a write of a replicated resource is written down",
                hint="Send it in a header.",
            )


_HARMLESS = re.compile(r"(sort_)?keys?|_token|page_token|continue_token", re.IGNORECASE)
