"""Lists in replies: where their items are, how they are put together again, and where they go on.

What this does not promise: the order of items; each service has its own.
"""

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from pydantic_core import PydanticSerializationError, from_json, to_json

from cheops.applications.paths import as_text
from cheops.applications.resources import Resource
from cheops.applications.translate import location_here
from cheops.model import Headers

_LINK = re.compile(r'<([^>]*)>[^,]*;\s*rel="?next"?', re.IGNORECASE)
_OF_ONE_SITE = ("continue", "remainingItemCount", "resourceVersion", "selfLink")  # in a Kubernetes list's metadata
_NEXT_HEADERS = (b"next-page",)  # Kinto's


MOST_BYTES = 64 << 20


def parsed_list(body: bytes) -> Any:
    """The value of a list's body, which may be long; None if it is no JSON. What takes bodies takes it instead."""
    if len(body) > MOST_BYTES:
        return None
    try:
        return from_json(body, cache_strings="keys")
    except ValueError:  # of what it won't read, json reads some: lone surrogates, very long numbers
        return _slowly_parsed(body)


def _slowly_parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _written(value: Any) -> bytes:
    """JSON, by what writes it five times as fast as json does, which can write all that was read."""
    try:
        return to_json(value)
    except PydanticSerializationError:
        return json.dumps(value).encode()


def _parsed(body: Any) -> Any:
    return parsed_list(body) if isinstance(body, bytes) else body


def listed(body: Any, rules: Resource | None = None) -> list[Any] | None:
    """The items of a list; None if the body is none."""
    value = _parsed(body)
    if isinstance(value, list):
        return value
    where = _where(value, rules)
    return None if where is None else list(value[where])


def with_items(body: Any, rules: Resource | None, items: Sequence[Any]) -> bytes:
    """The body of a list with other items; its links to go on are gone, as they are one site's own."""
    value = _parsed(body)
    if isinstance(value, list):
        return _written(list(items))
    where = _where(value, rules)
    if where is None:
        return body if isinstance(body, bytes) else _written(body)
    kept = {name: inner for name, inner in value.items() if name not in ("next", f"{where}_links", "links")}
    if isinstance(kept.get("metadata"), dict):
        kept["metadata"] = {name: inner for name, inner in kept["metadata"].items() if name not in _OF_ONE_SITE}
    return _written({**kept, where: list(items)})


def with_next(body: bytes, rules: Resource | None, said: Any, url: str) -> bytes:
    """The body of a list that goes on at `url`, in the place where a site's own, `said`, says so; else unchanged."""
    value, told = _parsed(body), _parsed(said)
    if not isinstance(value, dict) or not isinstance(told, dict):
        return body
    links = f"{_where(told, rules)}_links"
    if isinstance(told.get("next"), str):
        value["next"] = url
    elif links in told:
        value[links] = [{"rel": "next", "href": url}]
    elif isinstance(told.get("links"), dict) and "next" in told["links"]:
        value["links"] = {"next": url}
    elif _token(told):  # a client says it as `continue`, with the other parameters that it said before
        value["metadata"] = {**value.get("metadata", {}), "continue": url[url.rfind("&") + 1 :].replace("=", ".", 1)}
    return _written(value)


def next_page(target: bytes | str, headers: Headers, body: Any, rules: Resource | None = None) -> str:
    """The target of a list's next page, on the same service; "" if this was the last."""
    asked, value = as_text(target), _parsed(body)
    found = _in_headers(headers) or (_in_body(value, _where(value, rules)) if isinstance(value, dict) else "")
    if found:
        return _from(asked.partition("?")[0], location_here(found))
    return _continued(asked, value) if isinstance(value, dict) else ""


def _from(path: str, link: str) -> str:
    """Where a link leads from this path: ?page=2, more, /notes?page=2."""
    if link.startswith("?"):
        return path + link
    return link if link.startswith("/") else path.rpartition("/")[0] + "/" + link


def _where(value: Any, rules: Resource | None) -> str | None:
    """The member that is the list: the described one, or else the only one there is."""
    if not isinstance(value, dict):
        return None
    if rules and rules.many:
        return rules.many if isinstance(value.get(rules.many), list) else None
    lists = [name for name, inner in value.items() if isinstance(inner, list) and not _are_links(name)]
    return lists[0] if len(lists) == 1 else None


def _are_links(name: str) -> bool:
    return name == "links" or name.endswith("_links")


def _in_headers(headers: Headers) -> str:
    for name, value in headers:
        if name == b"link" and (found := _LINK.search(value.decode("latin-1"))):
            return found[1]
        if name in _NEXT_HEADERS:
            return value.decode("latin-1")
    return ""


def _in_body(value: dict[str, Any], where: str | None) -> str:
    """Links as they are written: next, links.next, and [{"rel": "next", "href": …}]."""
    links = value.get("links")
    told = [value.get("next"), links.get("next") if isinstance(links, dict) else None]
    told += [
        link.get("href")
        for member in (f"{where}_links", "links")
        for link in (value.get(member) if isinstance(value.get(member), list) else [])  # type: ignore[union-attr]
        if isinstance(link, dict) and link.get("rel") == "next"
    ]
    return next((one for one in told if isinstance(one, str) and one), "")


def _continued(asked: str, value: dict[str, Any]) -> str:
    """Kubernetes gives a token to go on with."""
    token = _token(value)
    if not token:
        return ""
    path, _, query = asked.partition("?")
    kept = [(name, old) for name, old in parse_qsl(query, keep_blank_values=True) if name != "continue"]
    return f"{path}?{urlencode([*kept, ('continue', token)])}"


def _token(value: dict[str, Any]) -> str:
    metadata = value.get("metadata")
    token = metadata.get("continue") if isinstance(metadata, dict) else None
    return token if isinstance(token, str) else ""
