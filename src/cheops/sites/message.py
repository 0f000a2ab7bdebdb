"""What sites tell each other in a heartbeat and in its reply, and how that is written: compact JSON. Pure.

Versions N and N-1 talk to each other, so fields that aren't known are skipped and those that are missing have a
default. What a peer sends is bounded, and never trusted to have the right form.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

from cheops.errors import BadHeartbeat
from cheops.sites.roll import Member, Standing

MOST_BYTES = 1 << 20
MOST_RECORDS = 8192  # in a roll; that is some 700 KB
MOST_MANAGED = 256  # words on services of a site that have replicated resources
MOST_TOLD = 64  # of anything else
LONGEST_TEXT = 255
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_MESH = re.compile(r"[^\s/@]{1,255}:[0-9]{1,5}")
_DIGEST = re.compile(r"[0-9a-f]{0,64}")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rumour:
    """That somebody found `site` dead (or else alive again) `age` seconds ago."""

    site: str
    dead: bool
    age: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Near:
    """How far a site is from the sender: the round trip and its spread in microseconds, measured `age` seconds ago."""

    site: str
    us: int
    spread_us: int
    age: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A heartbeat, or the reply to one.

    `sender` is the sender's own record. `digest` is that of its roll, `news` are records it changed lately, and `roll`
    is the whole of it, if `want_roll` asked for that; None: not told. `sent_at` is its wall clock, in seconds since
    1970; `held` is for how long it had the request before it sent the reply, in seconds. `unanswered`: for so long it
    has had no answer from the receiver, in seconds; None if it gets them.
    """

    sender: Member
    incarnation: str = ""
    version: str = ""
    sequence: int = 0
    digest: str = ""
    sent_at: float = 0.0
    held: float = 0.0
    unanswered: float | None = None
    want_roll: bool = False
    news: tuple[Member, ...] = ()
    roll: tuple[Member, ...] | None = None
    rumours: tuple[Rumour, ...] = ()
    near: tuple[Near, ...] | None = None

    def encoded(self) -> bytes:
        """The message as it goes on the wire."""
        told = {
            "incarnation": self.incarnation,
            "version": self.version,
            "sequence": self.sequence,
            "digest": self.digest,
            "sent": round(self.sent_at, 6),
            "held": round(self.held, 6),
            "want_roll": self.want_roll,
            "news": [_record(member) for member in self.news],
            "rumours": [[rumour.site, int(rumour.dead), round(rumour.age, 1)] for rumour in self.rumours],
        }
        needed = {"site": _record(self.sender), **{key: value for key, value in told.items() if value}}
        if self.unanswered is not None:
            needed["unanswered"] = round(self.unanswered, 1)
        if self.roll is not None:
            needed["roll"] = [_record(member) for member in self.roll]
        if self.near is not None:
            needed["near"] = [[near.site, near.us, near.spread_us, near.age] for near in self.near]
        return json.dumps(needed, separators=(",", ":"), allow_nan=False).encode()


def decoded(wire: bytes) -> Message:
    """The message of these bytes. Raises BadHeartbeat, which says what is wrong with it."""
    if len(wire) > MOST_BYTES:
        raise BadHeartbeat(f"the heartbeat is {len(wire)} bytes long; {MOST_BYTES} are the most")
    try:
        fields = json.loads(wire)
        if not isinstance(fields, dict):
            raise ValueError("it is no object")
        return _message(fields)
    except (ValueError, RecursionError) as error:
        raise BadHeartbeat(f"the heartbeat can't be understood: {str(error) or 'it is nested too deeply'}") from error


def _message(fields: dict[str, Any]) -> Message:
    def of(key: str, read: Callable[[Any], T], default: T) -> T:
        if fields.get(key) is None:
            return default
        try:
            return read(fields[key])
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error

    if "site" not in fields:
        raise ValueError("site: it is missing")
    return Message(
        sender=of("site", _member, _NOBODY),
        incarnation=of("incarnation", _text, ""),
        version=of("version", _text, ""),
        sequence=of("sequence", _whole, 0),
        digest=of("digest", _matching(_DIGEST), ""),
        sent_at=of("sent", _number, 0.0),
        held=of("held", _number, 0.0),
        unanswered=of("unanswered", _number, None),
        want_roll=of("want_roll", bool, False),
        news=of("news", _list(_member, MOST_TOLD), ()),
        roll=of("roll", _list(_member, MOST_RECORDS), None),
        rumours=of("rumours", _list(_rumour, MOST_TOLD), ()),
        near=of("near", _list(_near, MOST_TOLD), None),
    )


_NOBODY = Member(name="nobody", number=1, mesh="nowhere:1", generation=0)
_STANDINGS = {standing.value: standing for standing in Standing}


def _record(member: Member) -> list[Any]:
    standing: tuple[Any, ...] = () if member.standing is Standing.MEMBER else (member.standing.value,)
    if member.managed:
        standing = (member.standing.value, list(member.managed))
    return [member.name, member.number, member.mesh, member.generation, member.revision, *standing]


def _member(value: Any) -> Member:
    name, number, mesh, generation, revision, *rest = _row(value, 5)
    standing = rest[0] if rest else "member"
    if not isinstance(standing, str) or standing not in _STANDINGS:
        raise ValueError(f"{_shown(standing)} is no standing of a site")
    if not 1 <= _whole(number) <= 1023:
        raise ValueError(f"{_shown(number)} is no site number")
    return Member(
        name=_matching(_NAME)(name),
        number=number,
        mesh=_matching(_MESH)(mesh),
        generation=_whole(generation),
        revision=_whole(revision),
        standing=_STANDINGS[standing],
        managed=_list(_text, MOST_MANAGED)(rest[1]) if len(rest) > 1 else (),
    )


def _rumour(value: Any) -> Rumour:
    site, dead, age, *_ = _row(value, 3)
    return Rumour(site=_matching(_NAME)(site), dead=bool(dead), age=_number(age))


def _near(value: Any) -> Near:
    site, us, spread_us, age, *_ = _row(value, 4)
    return Near(site=_matching(_NAME)(site), us=_whole(us), spread_us=_whole(spread_us), age=_whole(age))


def _row(value: Any, least: int) -> list[Any]:
    if not isinstance(value, list) or len(value) < least:
        raise ValueError(f"{_shown(value)} isn't a list of {least} or more")
    return value


def _list(read: Callable[[Any], T], most: int) -> Callable[[Any], tuple[T, ...]]:
    def of(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError(f"{_shown(value)} isn't a list of at most {most}")
        return tuple(read(item) for item in value)

    return of


def _matching(pattern: re.Pattern[str]) -> Callable[[Any], str]:
    def of(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(f"{_shown(value)} doesn't look like {pattern.pattern}")
        return value

    return of


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise ValueError(f"{_shown(value)} isn't a text of at most {LONGEST_TEXT} characters")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise ValueError(f"{_shown(value)} isn't a whole number")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e15 or not isfinite(value):
        raise ValueError(f"{_shown(value)} isn't a number")
    return float(value)


def _shown(value: Any) -> str:
    return repr(value)[:80]
