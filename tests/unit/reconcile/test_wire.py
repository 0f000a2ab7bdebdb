"""What agents tell each other: there and back, between versions N and N-1, bounded, and never trusted."""

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheops.errors import BadMessage
from cheops.reconcile.wire import (
    MOST_BYTES,
    Heard,
    Lent,
    Page,
    Push,
    pack,
    packed_heard,
    packed_page,
    packed_push,
    read_heard,
    read_page,
    read_push,
    unpack,
)
from cheops.record.operation import (
    Birth,
    Body,
    Dot,
    Item,
    Kind,
    Operation,
    Outcome,
    Recorded,
    State,
    from_json,
    to_json,
)
from cheops.record.stamp import Stamp

texts = st.text(max_size=20)
authors = st.from_regex(r"Site[1-9]\.[0-9a-f]{8}", fullmatch=True)
requests = st.builds(
    Recorded,
    method=st.sampled_from(["PUT", "POST"]),
    target=st.just("/x?a=%2f"),
    headers=st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    body=st.none()
    | st.binary(max_size=50).map(lambda content: Body(inline=content, size=len(content)))
    | st.just(Body(sha256="ab" * 32, size=9)),
    secret=st.booleans(),
)
operations = st.builds(
    Operation,
    rid=texts,
    author=authors,
    n=st.integers(1, 99),
    stamp=st.builds(Stamp, st.integers(0, 2**50), st.integers(0, 99)),
    kind=st.sampled_from(Kind),
    after=st.dictionaries(authors, st.integers(1, 9), max_size=3),
    facet=texts,
    touches=st.none() | st.frozensets(texts, max_size=3),
    repeats=st.booleans(),
    commutes=st.booleans(),
    alone=st.booleans(),
    request=st.none() | requests,
    birth=st.none() | st.builds(Birth, service=texts, type=texts, collection=texts, chosen=texts),
    placement=st.lists(texts, max_size=3).map(tuple),
    leave=st.sampled_from(["keep", "delete"]),
    refers=st.lists(texts, max_size=3).map(tuple),
    shares=st.dictionaries(texts, texts, max_size=2),
)
outcomes = st.builds(
    Outcome,
    rid=texts,
    dot=st.builds(Dot, authors, st.integers(1, 99)),
    site=texts,
    version=st.integers(0, 2**50),
    state=st.sampled_from(State),
    run=st.integers(0, 99),
    status=st.none() | st.integers(100, 599),
    body=st.binary(max_size=50),
    local_id=texts,
    at=st.floats(0, 2e9),
)


@given(operations | outcomes)
def test_an_item_is_read_as_it_was(item: Item) -> None:
    assert from_json(json.loads(json.dumps(to_json(item)))) == item


@given(st.lists(operations | outcomes, max_size=3))
def test_messages_are_read_as_they_were(items: list[Item]) -> None:
    lent = (Lent(rid="r", dot=Dot("Site1.x", 1), headers=(("authorization", "é"),)),)
    push = Push(store="s", previous=3, position=5, lost=True, items=tuple(items), lent=lent)
    assert read_push(packed_push(push)) == push
    page = Page(store="s", position=5, items=tuple(items), more=True)
    assert read_page(packed_page(page)) == page
    assert read_heard(packed_heard(Heard(store="s", position=7))) == Heard(store="s", position=7)


@given(operations | outcomes)
def test_members_that_are_not_known_are_skipped(item: Item) -> None:
    told = to_json(item)
    (kind, document), *_ = told.items()
    for name in ("request", "birth"):
        if document.get(name):
            document[name] = {**document[name], "of_version_n_plus_1": 1}
    assert from_json({kind: {**document, "of_version_n_plus_1": [1]}, "else": 2}) == item


def test_what_an_older_version_does_not_say_has_a_default() -> None:
    least = {"rid": "r", "author": "Site1.x", "n": 1, "stamp": [5, 0], "kind": "merge"}
    read = from_json({"operation": least})
    assert read == Operation(rid="r", author="Site1.x", n=1, stamp=Stamp(5, 0), kind=Kind.MERGE)
    said = from_json({"outcome": {"rid": "r", "dot": ["Site1.x", 1], "site": "Site2", "state": "done"}})
    assert said == Outcome(rid="r", dot=Dot("Site1.x", 1), site="Site2", state=State.DONE)
    push = read_push(pack({"store": "s", "previous": 0, "position": 1, "items": [{"operation": least}], "new": {}}))
    assert push.items == (read,)
    assert not push.lost


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"j",
        b"jnull",
        b"j[]",
        b"j{}",
        b"znot deflated",
        b"j" + b"[" * 100_000,
        b'j{"store": 1, "previous": "x", "position": 1}',
        b'j{"store": "s", "previous": 0, "position": 1, "items": [{"operation": {}}]}',
        b'j{"store": "s", "previous": 0, "position": 1, "items": [{"operation": {"kind": "sing"}}]}',
        b'j{"store": "s", "previous": 0, "position": 1, "items": [3]}',
        b'j{"store": "s", "previous": 0, "position": 1, "lent": [["r"]]}',
    ],
)
def test_what_is_not_a_push_is_told(wire: bytes) -> None:
    with pytest.raises(BadMessage):
        read_push(wire)


def test_a_message_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(BadMessage, match="longer"):
        unpack(b"z" + zlib.compress(b"{" + b" " * (MOST_BYTES + 10) + b"}"))


def test_a_long_message_is_deflated() -> None:
    document = {"items": ["the same again"] * 1000}
    assert len(pack(document)) < 1000
    assert unpack(pack(document)) == document
