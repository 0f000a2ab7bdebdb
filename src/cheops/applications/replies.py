"""What a service's replies say: what was made, what went wrong inside a 200, what it is still at, what a list holds.

Pure. A description says where to look; without one `id`, `uuid`, `metadata.name` and Location are looked at.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any
from urllib.parse import unquote, urlsplit

from cheops.applications.fields import leaves, values_at, without
from cheops.applications.resources import Resource
from cheops.model import Headers

_IDS = ("id", "uuid", "metadata.name", "name", "key")


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a creation has made: "" where the reply doesn't say."""

    local_id: str = ""


class Standing(Enum):
    """How far a service is with what it has accepted."""

    DONE = auto()
    FAILED = auto()
    UNDER_WAY = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Following:
    """Where to ask what became of something."""

    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A part of a list; `next` is the target of the next part, "" if this is the last."""

    items: tuple[Any, ...]
    next: str = ""

    def alike(self, body: bytes, rules: Resource | None) -> list[str]:
        """The ids of those that agree with all that a creation's body says, and with its key if it has one."""
        wanted = inner_of(_json(body), rules)
        key = (rules.key or rules.name) if rules else "name"
        found = []
        for item in self.items:
            local = _id_in(item, rules)
            if local and isinstance(wanted, dict) and _agrees(wanted, item, key, rules):
                found.append(local)
        return found


def _agrees(wanted: Mapping[str, Any], item: Any, key: str | None, rules: Resource | None) -> bool:
    if key and (named := list(values_at(wanted, key))):
        return named == list(values_at(item, key))
    ignored = (*rules.set_by_site, *rules.revision) if rules else ()
    there = dict(leaves(item))
    return all(there.get(path) == value for path, value in leaves(without(wanted, ignored)))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def inner_of(document: Any, rules: Resource | None) -> Any:
    """What is inside of the wrapper, if there is one."""
    if rules and rules.one and isinstance(document, dict) and isinstance(document.get(rules.one), dict):
        return document[rules.one]
    return document


def _id_in(document: Any, rules: Resource | None) -> str:
    for field in (rules.id,) if rules else _IDS:
        for value in values_at(document, field):
            if isinstance(value, str | int) and not isinstance(value, bool) and str(value):
                return str(value)
    if rules is None and isinstance(document, dict) and len(document) == 1:
        (inner,) = document.values()
        return _id_in(inner, rules) if isinstance(inner, dict) else ""
    return ""


def made(headers: Headers, content: bytes, rules: Resource | None, target: str) -> Made:
    """What a creation at `target` has made."""
    location = dict(headers).get(b"location", b"").decode("latin1")
    if rules and rules.moves:
        return Made(local_id=_last(location))
    in_body = _id_in(inner_of(_json(content), rules), rules)
    path = urlsplit(location).path
    collection = target.partition("?")[0].rstrip("/")
    if path.startswith(collection + "/") and not (rules and in_body):
        return Made(local_id=_last(location))
    return Made(local_id=in_body or _last(location))


def _last(location: str) -> str:
    return unquote(urlsplit(location).path.rstrip("/").rpartition("/")[2])


def failed_inside(status: int, content: bytes, rules: Resource | None) -> str:
    """The error inside a reply of success; "" if there is none, or none is described."""
    if not (rules and rules.errors_in and 200 <= status < 300):
        return ""
    found = [value for value in values_at(_json(content), rules.errors_in) if value]
    return json.dumps(found[0], ensure_ascii=False)[:500] if found else ""


def follow(status: int, headers: Headers, content: bytes, rules: Resource | None, target: str) -> Following | None:
    """Where to ask what becomes of what a reply has accepted; None if it is at its end, or nobody says where."""
    if rules and rules.follows:
        if _standing(inner_of(_json(content), rules), rules) is Standing.DONE:
            return None
        local = _id_in(inner_of(_json(content), rules), rules)
        path = target.partition("?")[0].rstrip("/")
        return Following(target=f"{path}/{local}" if local and not path.endswith(f"/{local}") else path)
    if status != 202 or (rules and rules.moves):
        return None
    location = dict(headers).get(b"location", b"").decode("latin1")
    split = urlsplit(location)
    return Following(target=split.path + (f"?{split.query}" if split.query else "")) if split.path else None


def standing_of(status: int, content: bytes, rules: Resource | None) -> Standing:
    """What the place to ask has answered."""
    if rules and rules.follows and status < 300:
        return _standing(inner_of(_json(content), rules), rules)
    if status == 202:
        return Standing.UNDER_WAY
    return Standing.DONE if status < 400 or status in (404, 410) else Standing.FAILED


def _standing(document: Any, rules: Resource) -> Standing:
    assert rules.follows
    values = {str(value) for value in values_at(document, rules.follows.field)}
    if values & set(rules.follows.failed):
        return Standing.FAILED
    return Standing.DONE if values & set(rules.follows.done) else Standing.UNDER_WAY


# Bodies of creations


def chosen_in(body: bytes, rules: Resource) -> str:
    """The id that a client has chosen, "" if it hasn't."""
    for value in values_at(inner_of(_json(body), rules), rules.id):
        if isinstance(value, str):
            return value
    return ""


def name_in(body: bytes, rules: Resource | None) -> str:
    """The name of what is made, "" if it has none."""
    field = rules.name if rules else "name"
    for value in values_at(inner_of(_json(body), rules), field) if field else ():
        if isinstance(value, str):
            return value
    return ""


def with_id(body: bytes, rules: Resource, chosen: str) -> bytes:
    """The body of a creation with this id in it."""
    document = _json(body)
    inner = inner_of(document, rules)
    if not isinstance(inner, dict) or list(values_at(inner, rules.id)) or "[" in rules.id:
        return body
    *around, last = rules.id.split(".")
    for name in around:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            return body
    inner[last] = chosen
    return json.dumps(document, ensure_ascii=False).encode()


def without_revisions(body: bytes, rules: Resource | None) -> bytes:
    """The body without what names a site's own version of the resource."""
    document = _json(body) if rules and rules.revision else None
    if document is None or rules is None:
        return body
    wrapped = inner_of(document, rules) is not document
    paths = [f"{rules.one}.{path}" for path in rules.revision] if wrapped else rules.revision
    less = without(document, paths)
    return body if less == document else json.dumps(less, ensure_ascii=False).encode()


# Replicas compared


def comparable(content: bytes, rules: Resource | None, learned: Collection[str]) -> dict[str, Any]:
    """By path the fields of a replica that should be the same on every site."""
    ignored = (rules.id, *rules.set_by_site, *rules.revision) if rules else _IDS[:2]
    document = without(inner_of(_json(content), rules), ignored)
    return {path: value for path, value in leaves(document) if path not in learned}


def learned(replies: Sequence[bytes], rules: Resource | None) -> frozenset[str]:
    """The fields that sites set themselves, as their replies to one creation show: those that differ."""
    seen = [dict(leaves(inner_of(_json(reply), rules))) for reply in replies]
    paths = {path for fields in seen for path in fields}
    return frozenset(path for path in paths if any(fields.get(path) != seen[0].get(path) for fields in seen))


# Lists


def listed(content: bytes, rules: Resource | None) -> Page:
    """The items of a list, and where it goes on."""
    document = _json(content)
    place = list_in(document, rules)
    if place is None:
        return Page(items=())
    items = document if place == "" else document[place]
    return Page(items=tuple(items), next=_next(document, place))


def list_in(document: Any, rules: Resource | None) -> str | None:
    """The name of the member that holds the items, "" for the document itself, None if there is none."""
    if isinstance(document, list):
        return ""
    if not isinstance(document, dict):
        return None
    if rules and rules.many:
        return rules.many if isinstance(document.get(rules.many), list) else None
    lists = [name for name, value in document.items() if isinstance(value, list) and not name.endswith("links")]
    return lists[0] if len(lists) == 1 else None


def _next(document: Any, place: str) -> str:
    if not isinstance(document, dict):
        return ""
    for value in _next_links(document, place):
        split = urlsplit(value)
        return split.path + (f"?{split.query}" if split.query else "")
    return ""


def _next_links(document: Mapping[str, Any], place: str) -> Iterator[str]:
    """OpenStack has two ways to say it."""
    if isinstance(document.get("next"), str):
        yield document["next"]
    for link in document.get(f"{place}_links", ()) or ():
        if isinstance(link, dict) and link.get("rel") == "next" and isinstance(link.get("href"), str):
            yield link["href"]
    links = document.get("links")
    if isinstance(links, dict) and isinstance(links.get("next"), str):
        yield links["next"]


def id_of(item: Any, rules: Resource | None) -> str:
    """The id of an item of a list, "" if it has none."""
    return _id_in(item, rules)
