"""What a log is made of: operations, and the outcomes that sites report of them. Pure values, and their JSON.

Versions N and N-1 talk to each other: members that aren't known are skipped, and those that are missing have a default.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from cheops.record.stamp import Stamp

Vector = Mapping[str, int]
"""How many operations of each author are known: a version vector (Parker et al., 1983)."""


class Dot(NamedTuple):
    """The name of an operation in the log of its resource: the `n`th of its author."""

    author: str
    n: int


class Kind(Enum):
    """What an operation does to its resource, as HTTP or the application's description says."""

    CREATE = "create"  # POST to a collection
    REPLACE = "replace"  # PUT; of a resource that isn't there yet, it makes it
    MERGE = "merge"  # PATCH, or what the description calls so
    ACTION = "action"
    DELETE = "delete"
    PLACE = "place"  # the resource is to be held by other sites


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """The body of a recorded request: `inline`, or else kept by its SHA-256 (in hex) beside the store."""

    inline: bytes | None = None
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """A request as it is kept: it holds no credentials, no site's revisions and no site's own ids.

    In `target` (path and query), `headers` and JSON bodies, the rid stands where each site has an id of its own.
    `secret`: it came with credentials, so it can't be executed without any.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: Body | None = None
    secret: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Birth:
    """What an operation that makes a resource says of it.

    `collection` is a path, as in Recorded. `chosen` is the id that is the same on every site, "" if each site makes its
    own. `parent` is the rid of the resource it is inside of, "" if that isn't managed.
    """

    service: str
    type: str
    collection: str
    chosen: str = ""
    name: str = ""
    parent: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One change of one resource, as requested.

    `author` is a site and the store that it wrote with ("Site1.3f9c2a1b"): a site whose store was lost is another
    author. `after` is what the author knew of this log. `facet` is the part of the resource that is written: "" its
    record, "file" its content. `touches` are the fields of a merge, None means all. `repeats`: executing it twice is
    the same as once; `commutes`: with every other operation. `alone`: only who made the resource knows of it, so there
    is no other operation at the same time. `placement` is of births and PLACE; `leave` says what a site that holds it
    no longer does with its copy: "keep" or "delete"; with a `prime`, which is one of the sites, each of them has a part
    of the resource instead of a copy. `refers` are rids. `shares` says where other services are
    called while the request is executed, {service: location in scope-lang}: what the scope said of them. `in_turn`: a
    site executes it once those before it in the placement have. `again`: by
    command its request is that of another operation, which lost a conflict.
    """

    rid: str
    author: str
    n: int
    stamp: Stamp
    kind: Kind
    after: Vector = field(default_factory=dict)
    facet: str = ""
    touches: frozenset[str] | None = None
    repeats: bool = True
    commutes: bool = False
    alone: bool = False
    request: Recorded | None = None
    birth: Birth | None = None
    placement: tuple[str, ...] = ()
    leave: str = "keep"
    prime: str = ""
    refers: tuple[str, ...] = ()
    shares: Mapping[str, str] = field(default_factory=dict)
    in_turn: bool = False
    again: Dot | None = None

    @property
    def dot(self) -> Dot:
        return Dot(self.author, self.n)

    @property
    def site(self) -> str:
        """Where it was requested."""
        return self.author.rpartition(".")[0]

    def knew(self, other: "Operation") -> bool:
        """Whether it causally comes after `other`."""
        return self.after.get(other.author, 0) >= other.n

    def concurrent(self, other: "Operation") -> bool:
        return self.dot != other.dot and not self.knew(other) and not other.knew(self)


class State(Enum):
    """How far a site is with an operation."""

    PENDING = "pending"  # not executed yet; `why` says what it waits for
    BEGUN = "begun"  # sent, or about to be; after a crash nobody knows
    DONE = "done"
    REFUSED = "refused"  # by the service, for good: retried or dropped by command only
    DROPPED = "dropped"  # by command
    SKIPPED = "skipped"  # superseded before it was executed
    ASKS = "asks"  # an operator must say whether it was executed


FINAL = frozenset({State.DONE, State.DROPPED, State.SKIPPED})
WITHDRAWN = "withdrawn"
"""The code of an outcome of the author's own site, DROPPED: nobody has accepted the operation, and who asked knows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What has come of an operation on `site`.

    `version` counts up with each change, so that the newest report is known; 0: the site hasn't reported yet. `run` is
    when it was last executed, as the place in the order of executions of this resource on this site: 0 if it never was.
    `status` is HTTP's, of the service; `body` is the beginning of what it said, `media_type` its type, `location` its
    Location. `local_id` is the site's id of what was made. `code` says for machines why it waits or failed, and `why`
    in a sentence. `at` is when that was, `since` when it was requested, or was to be tried again by command: both in
    seconds since 1970, 0 if that isn't known.
    """

    rid: str
    dot: Dot
    site: str
    version: int = 0
    state: State = State.PENDING
    run: int = 0
    attempts: int = 0
    status: int | None = None
    body: bytes = b""
    media_type: str = ""
    location: str = ""
    local_id: str = ""
    code: str = ""
    why: str = ""
    at: float = 0.0
    since: float = 0.0


WAS_REFUSED = "was-refused"
"""The code of an outcome, SKIPPED: the service had refused it before something superseded it."""


Item = Operation | Outcome
"""What sites tell each other."""


def to_json(item: Item) -> dict[str, Any]:
    """The item as a JSON object: {"operation": …} or {"outcome": …}."""
    return {"operation": _operation(item)} if isinstance(item, Operation) else {"outcome": _outcome(item)}


def from_json(document: Mapping[str, Any]) -> Item:
    """The item of a JSON object. Raises ValueError, with what is wrong."""
    try:
        if "operation" in document:
            return _read_operation(document["operation"])
        return _read_outcome(document["outcome"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it isn't an item of a log: {type(error).__name__}: {error}") from error


def _operation(op: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "rid": op.rid,
        "author": op.author,
        "n": op.n,
        "stamp": [op.stamp.ms, op.stamp.counter],
        "kind": op.kind.value,
        "after": dict(op.after),
        "facet": op.facet,
        "touches": None if op.touches is None else sorted(op.touches),
        "repeats": op.repeats,
        "commutes": op.commutes,
        "alone": op.alone,
        "leave": op.leave,
        "prime": op.prime,
        "in_turn": op.in_turn,
        "placement": list(op.placement),
        "refers": list(op.refers),
        "shares": dict(op.shares),
    }
    if op.again:
        told["again"] = list(op.again)
    if op.request:
        told["request"] = _recorded(op.request)
    if op.birth:
        told["birth"] = {name: getattr(op.birth, name) for name in Birth.__slots__}
    return told


def _recorded(request: Recorded) -> dict[str, Any]:
    told: dict[str, Any] = {
        "method": request.method,
        "target": request.target,
        "headers": [list(pair) for pair in request.headers],
        "secret": request.secret,
    }
    if request.body:
        inline = request.body.inline
        told["body"] = (
            {"inline": base64.b64encode(inline).decode()}
            if inline is not None
            else {"sha256": request.body.sha256, "size": request.body.size}
        )
    return told


def _outcome(outcome: Outcome) -> dict[str, Any]:
    told = {name: getattr(outcome, name) for name in Outcome.__slots__}
    return {
        **told,
        "dot": list(outcome.dot),
        "state": outcome.state.value,
        "body": base64.b64encode(outcome.body).decode(),
    }


def _read_operation(told: Mapping[str, Any]) -> Operation:
    touches = told.get("touches")
    return Operation(
        rid=str(told["rid"]),
        author=str(told["author"]),
        n=int(told["n"]),
        stamp=Stamp(*(int(part) for part in told["stamp"])),
        kind=Kind(told["kind"]),
        after={str(author): int(n) for author, n in told.get("after", {}).items()},
        facet=str(told.get("facet", "")),
        touches=None if touches is None else frozenset(str(name) for name in touches),
        repeats=bool(told.get("repeats", True)),
        commutes=bool(told.get("commutes", False)),
        alone=bool(told.get("alone", False)),
        request=_read_recorded(told["request"]) if told.get("request") else None,
        birth=_read_birth(told["birth"]) if told.get("birth") else None,
        placement=tuple(str(site) for site in told.get("placement", ())),
        leave=str(told.get("leave", "keep")),
        prime=str(told.get("prime", "")),
        in_turn=bool(told.get("in_turn", False)),
        refers=tuple(str(rid) for rid in told.get("refers", ())),
        shares={str(service): str(site) for service, site in told.get("shares", {}).items()},
        again=_read_dot(told["again"]) if told.get("again") else None,
    )


def _read_recorded(told: Mapping[str, Any]) -> Recorded:
    body = told.get("body")
    return Recorded(
        method=str(told["method"]),
        target=str(told["target"]),
        headers=tuple((str(name), str(value)) for name, value in told.get("headers", ())),
        body=_read_body(body) if body else None,
        secret=bool(told.get("secret", False)),
    )


def _read_body(told: Mapping[str, Any]) -> Body:
    if "inline" in told:
        inline = base64.b64decode(told["inline"], validate=True)
        return Body(inline=inline, size=len(inline))
    return Body(sha256=str(told["sha256"]), size=int(told["size"]))


def _read_dot(told: Sequence[Any]) -> Dot:
    author, n = told
    return Dot(str(author), int(n))


def _read_birth(told: Mapping[str, Any]) -> Birth:
    return Birth(**{name: str(told.get(name, "")) for name in Birth.__slots__})


def _read_outcome(told: Mapping[str, Any]) -> Outcome:
    status = told.get("status")
    return Outcome(
        rid=str(told["rid"]),
        dot=_read_dot(told["dot"]),
        site=str(told["site"]),
        version=int(told.get("version", 0)),
        state=State(told["state"]),
        run=int(told.get("run", 0)),
        attempts=int(told.get("attempts", 0)),
        status=None if status is None else int(status),
        body=base64.b64decode(told.get("body", ""), validate=True),
        media_type=str(told.get("media_type", "")),
        location=str(told.get("location", "")),
        local_id=str(told.get("local_id", "")),
        code=str(told.get("code", "")),
        why=str(told.get("why", "")),
        at=float(told.get("at", 0)),
        since=float(told.get("since", 0)),
    )
