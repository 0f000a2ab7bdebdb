"""What agents tell each other of their logs, and how it is written: compact JSON, deflated (RFC 1951) when that helps.

Versions N and N-1 talk to each other: members that aren't known are skipped. What a peer sends is bounded.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cheops.errors import BadMessage
from cheops.record.operation import Dot, Item, from_json, to_json

MOST_BYTES = 64 << 20  # of a message, inflated
WORTH_BYTES = 1024  # from here on it is deflated
PLAIN, DEFLATED = b"j", b"z"


@dataclass(frozen=True, kw_only=True, slots=True)
class Lent:
    """Credentials of a caller, for one operation: they are never written down."""

    rid: str
    dot: Dot
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Push:
    """Items of the feed that the sender has for the receiver: those after `previous`, up to `position`.

    `store` is the sender's store, whose positions these are. Without items it only says how far the feed goes. `lost`:
    the sender has found that the receiver has lost its store.
    """

    store: str
    previous: int
    position: int
    lost: bool = False
    items: tuple[Item, ...] = ()
    lent: tuple[Lent, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """The answer: how far the receiver has read the feed, and the name of its store."""

    store: str
    position: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A part of a feed, for who pulls: up to `position`; `more`: there is more; `lost` as in Push."""

    store: str
    position: int
    lost: bool = False
    items: tuple[Item, ...] = ()
    more: bool = False


def pack(document: Mapping[str, Any]) -> bytes:
    """The bytes of a document."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) < WORTH_BYTES:
        return PLAIN + text
    return DEFLATED + zlib.compress(text, level=1)


def unpack(wire: bytes) -> dict[str, Any]:
    """The document of these bytes. Raises BadMessage."""
    try:
        document = json.loads(_inflated(wire[1:]) if wire[:1] == DEFLATED else wire[1:])
    except (ValueError, zlib.error, RecursionError) as error:
        raise BadMessage(f"a message between agents can't be understood: {error}") from error
    if not isinstance(document, dict):
        raise BadMessage("a message between agents can't be understood: it is no object")
    return document


def _inflated(data: bytes) -> bytes:
    inflating = zlib.decompressobj()
    text = inflating.decompress(data, MOST_BYTES)
    if inflating.unconsumed_tail:
        raise ValueError(f"it is longer than {MOST_BYTES:,} bytes")
    return text


def packed_push(push: Push) -> bytes:
    return pack(
        {
            "store": push.store,
            "previous": push.previous,
            "position": push.position,
            "lost": push.lost,
            "items": [to_json(item) for item in push.items],
            "lent": [[lent.rid, list(lent.dot), [list(pair) for pair in lent.headers]] for lent in push.lent],
        }
    )


def read_push(wire: bytes) -> Push:
    """Raises BadMessage."""
    document = unpack(wire)
    try:
        return Push(
            store=str(document["store"]),
            previous=int(document["previous"]),
            position=int(document["position"]),
            lost=bool(document.get("lost", False)),
            items=_items(document.get("items", ())),
            lent=tuple(
                Lent(rid=str(rid), dot=Dot(str(author), int(n)), headers=tuple((str(a), str(b)) for a, b in headers))
                for rid, (author, n), headers in document.get("lent", ())
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadMessage(f"a push can't be understood: {type(error).__name__}: {error}") from error


def packed_heard(heard: Heard) -> bytes:
    return pack({"store": heard.store, "position": heard.position})


def read_heard(wire: bytes) -> Heard:
    """Raises BadMessage."""
    document = unpack(wire)
    try:
        return Heard(store=str(document["store"]), position=int(document["position"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadMessage(f"the answer to a push can't be understood: {error}") from error


def packed_page(page: Page) -> bytes:
    items = [to_json(item) for item in page.items]
    return pack({"store": page.store, "position": page.position, "items": items, "more": page.more, "lost": page.lost})


def read_page(wire: bytes) -> Page:
    """Raises BadMessage."""
    document = unpack(wire)
    try:
        return Page(
            store=str(document["store"]),
            position=int(document["position"]),
            items=_items(document.get("items", ())),
            more=bool(document.get("more", False)),
            lost=bool(document.get("lost", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadMessage(f"a page of a log can't be understood: {error}") from error


def _items(told: Sequence[Mapping[str, Any]]) -> tuple[Item, ...]:
    """Raises ValueError: an item that can't be read isn't skipped, since it would be lost."""
    return tuple(from_json(item) for item in told)
