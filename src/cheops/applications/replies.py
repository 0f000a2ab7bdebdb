"""What the replies and bodies of a service say: what was made, whether it failed, when it is done, what is compared.

The description says where it stands; else the conventions of REST do. What this does not promise: that a service means
what it says.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from cheops.applications.fields import (
    PLAIN,
    body_of_one,
    cut,
    fields_at,
    leaves,
    put,
    text_at,
    without,
)
from cheops.applications.json_text import parsed
from cheops.applications.paths import segments
from cheops.applications.resources import Resource
from cheops.applications.translate import location_here
from cheops.model import Headers

_IDS = ("id", "uuid", "metadata.name")
_NAMES = ("name", "metadata.name", "title")
_STATES = ("status", "state")
_UNDER_WAY = frozenset(
    {"accepted", "building", "creating", "in progress", "in-progress", "in_progress", "inprogress", "new", "pending"}
    | {"processing", "queued", "running", "started", "starting", "waiting"}
)
_FAILED = frozenset({"aborted", "canceled", "cancelled", "error", "failed", "failure", "timeout"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a site made: its own id of it ("" if the reply doesn't say), and its name."""

    local_id: str
    name: str


class Progress(Enum):
    """How far something is that a service does after its reply."""

    UNDER_WAY = "under way"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Follow:
    """Where to ask how it goes on: by GET of `target`. `rules` tell it by a field of the item, else HTTP does."""

    target: str
    rules: Resource | None = None

    def progress(self, status: int, body: bytes) -> tuple[Progress, str]:
        """How far it is, and what the service says if it failed. A 5xx or 429 says nothing: ask again."""
        if status >= 500 or status == 429:
            return Progress.UNDER_WAY, ""
        if status >= 400:
            return Progress.FAILED, f"GET {self.target} was answered {status}"
        if self.rules and self.rules.follows:
            return _by_field(self.rules, body)
        return _by_http(status, body)


def made(
    status: int, headers: Headers, body: bytes, rules: Resource | None = None, collection: str | None = None
) -> Made:
    """What the reply to a creation says was made; `collection` is where it was asked for, at that site."""
    value = body_of_one(body, rules)
    at = _location(headers)
    below = _last_segment(at, collection)
    if rules is not None:
        return Made(local_id=text_at(value, rules.id) or below, name=text_at(value, rules.name) if rules.name else "")
    name = next((text for path in _NAMES if (text := text_at(value, path))), "")
    if status == 202 and at and not below:  # the body may tell of the job
        return Made(local_id="", name=name)
    return Made(local_id=below or next((text for path in _IDS if (text := text_at(value, path))), ""), name=name)


def failed_inside(status: int, body: bytes, rules: Resource | None) -> str:
    """The error inside of a reply that says it went well; "" if there is none."""
    if rules is None or rules.errors_in is None or not 200 <= status < 300:
        return ""
    value = parsed(body)
    for scope in (value, body_of_one(body, rules)):
        if error := next((one for one in fields_at(scope, rules.errors_in) if one), None):
            return error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    return ""


def follow(status: int, headers: Headers, body: bytes, rules: Resource | None, item: str) -> Follow | None:
    """Where to ask whether a creation that was answered so is done; None if it is. `item` is its target."""
    if rules and rules.follows and 200 <= status < 300:
        progress, _ = _by_field(rules, body)
        return None if progress is Progress.DONE or not item else Follow(target=item, rules=rules)
    at = _location(headers)
    return Follow(target=location_here(at)) if status == 202 and at else None


def chosen_in(body: bytes, rules: Resource | None) -> str:
    """The id that a client chose in the body of a creation; "" if there is none, or the service takes none."""
    if rules is None or rules.client_id != "accepted":
        return ""
    return text_at(body_of_one(body, rules), rules.id)


def identity_in(body: bytes, rules: Resource | None) -> str:
    """What tells it from all others in its collection: the chosen id, or else a key that is unique there."""
    if chosen := chosen_in(body, rules):
        return chosen
    key = key_in(body, rules) if rules and rules.unique_name else {}
    return json.dumps(key, sort_keys=True) if key else ""


def key_in(body: bytes, rules: Resource | None) -> dict[str, str]:
    """The natural key of a creation, by field: how it is looked for in a list after a crash; {} if it has none."""
    described = rules or PLAIN
    value = body_of_one(body, rules)
    key = {path: text_at(value, path) for path in described.natural_key}
    return key if key and key[described.natural_key[0]] else {}


def has_key(item: Any, key: dict[str, str]) -> bool:
    """Whether an item of a list has this key; a part of the key that the creation left to the service doesn't count."""
    return bool(key) and all(text_at(item, path) == text for path, text in key.items() if text)


def with_id(body: bytes, rules: Resource, id_: str) -> bytes:
    """The body of a creation with this id inside; a body that is no JSON object stays as it is."""
    return put(body, f"{rules.one}.{rules.id}" if rules.one else rules.id, id_)


def from_caller(reply: bytes, rules: Resource) -> bytes:
    """What the reply to a creation says that was taken from who asked, as the body of another; b"{}" if nothing."""
    value, body = body_of_one(reply, rules), b"{}"
    for path in rules.from_caller:
        if text := text_at(value, path):
            body = put(body, f"{rules.one}.{path}" if rules.one else path, text)
    return body


def with_missing(body: bytes, other: bytes, rules: Resource) -> bytes:
    """The body, and what is said only in the other one of `from_caller`."""
    there, more = body_of_one(body, rules), body_of_one(other, rules)
    for path in rules.from_caller:
        if (text := text_at(more, path)) and not fields_at(there, path):
            body = put(body, f"{rules.one}.{path}" if rules.one else path, text)
    return body


def without_revisions(body: bytes, rules: Resource | None) -> bytes:
    """The body without what is a site's own: revisions, and fields that a site sets."""
    if rules is None:
        return body
    own = (*rules.revision, *rules.set_by_site)
    wrapper = f"{rules.one}." if rules.one else ""
    return cut(body, frozenset(f"{wrapper}{path}" for path in own)) if own else body


def comparable(body: bytes, rules: Resource | None, learned: frozenset[str] = frozenset()) -> Any:
    """What of an item should be the same on every site; None if it is no JSON."""
    described = rules or PLAIN
    own = {*described.set_by_site, *described.revision, *learned}
    if described.client_id != "accepted":
        own |= {described.id} if rules else set(_IDS[:2])
    return without(body_of_one(body, rules), frozenset(own))


def learned(bodies: Iterable[bytes], rules: Resource | None = None) -> frozenset[str]:
    """Fields that differ between the sites' replies to one creation: those that each site sets itself."""
    replies = [dict(leaves(body_of_one(body, rules))) for body in bodies]
    paths = {path for reply in replies for path in reply if path}
    missing = object()
    return frozenset(
        path for path in paths if any(reply.get(path, missing) != replies[0].get(path) for reply in replies)
    )


def _by_field(rules: Resource, body: bytes) -> tuple[Progress, str]:
    follows = rules.follows
    state = text_at(body_of_one(body, rules), follows.field) if follows else ""
    if follows and state in follows.done:
        return Progress.DONE, ""
    if follows and state in follows.failed:
        return Progress.FAILED, f"its {follows.field} is {state}"
    return Progress.UNDER_WAY, ""


def _by_http(status: int, body: bytes) -> tuple[Progress, str]:
    """A 202 goes on; a 3xx leads to what was made; else a word of the body may say more."""
    if status != 200:
        return (Progress.UNDER_WAY if status == 202 else Progress.DONE), ""
    value = body_of_one(body, None)
    state = next((text for path in _STATES if (text := text_at(value, path))), "")
    if state.lower() in _FAILED:
        return Progress.FAILED, f"its state is {state}"
    return (Progress.UNDER_WAY if state.lower() in _UNDER_WAY else Progress.DONE), ""


def _location(headers: Headers) -> str:
    return next((value.decode("latin-1") for name, value in headers if name == b"location"), "")


def _last_segment(location: str, collection: str | None) -> str:
    """The id that a Location names; "" if it doesn't lead into the collection."""
    path = segments(location_here(location)) if location else ()
    if not path or (collection is not None and path[:-1] != segments(collection)):
        return ""
    return path[-1]
