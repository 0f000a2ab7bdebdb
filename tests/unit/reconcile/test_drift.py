"""What counts as drift: of a log, and of what sites say they have."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from cheops.applications import Resource
from cheops.ports import Dossier
from cheops.reconcile.book import Book, book_of
from cheops.reconcile.drift import Part, Reading, Verified, compared, repeated, said, to_repeat
from cheops.record.log import Log
from cheops.record.operation import Birth, Body, Kind, Operation, Outcome, Recorded, State
from cheops.record.stamp import Stamp

AUTHOR = "Site1.a"
BIRTH = Birth(service="notes", type="notes", collection="/notes")
WHAT = {"POST": Kind.CREATE, "PUT": Kind.REPLACE, "PATCH": Kind.MERGE, "ACT": Kind.ACTION, "DELETE": Kind.DELETE}
SITES = ("Site1", "Site2")


def log_of(*requests: tuple[str, Any], facet: str = "") -> Book:
    """A book of these operations of Site1, one after the other, that both sites have executed."""
    operations = []
    for n, (what, document) in enumerate(requests, start=1):
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        kind = WHAT[what]
        touches = frozenset(document) if kind is Kind.MERGE else None
        operations.append(
            Operation(
                rid="r",
                author=AUTHOR,
                n=n,
                stamp=Stamp(n, 0),
                after={AUTHOR: n - 1},
                kind=kind,
                facet=facet if n > 1 else "",
                touches=touches,
                request=Recorded(method=what, target="/notes", body=Body(inline=content, size=len(content))),
                repeats=kind is not Kind.CREATE,
                birth=BIRTH if n == 1 else None,
                placement=SITES if n == 1 else (),
            )
        )
    outcomes = [
        Outcome(rid="r", dot=op.dot, site=site, version=1, state=State.DONE, run=op.n)
        for op in operations
        for site in SITES
    ]
    summary = Log.of(operations).summary("r")
    return book_of(Dossier(summary=summary, operations=tuple(operations), outcomes=tuple(outcomes)))


def reading(book: Book, site: str, document: Any, facet: str = "", replies: Mapping[int, Any] | None = None) -> Reading:
    """What a site has; `replies` is what it answered to the operations, by their number."""
    parts = {facet: _part(document)}
    return Reading(
        site=site,
        state="read",
        known=book.log.vector,
        parts=parts if not facet else {"": _part({}), **parts},
        replies={f"{AUTHOR}/{n}": reply for n, reply in (replies or {}).items()},
    )


def _part(document: Any) -> Part:
    if isinstance(document, bytes):
        return Part(status=200, sha256=hashlib.sha256(document).hexdigest(), size=len(document))
    return Part(status=404) if document is None else Part(status=200, json=True, value=document)


def verified(
    book: Book,
    one: Any,
    other: Any,
    replies: tuple[Any, Any] = (None, None),
    rules: Resource | None = None,
) -> Verified:
    found = [
        reading(book, site, has, replies=told) for site, has, told in zip(SITES, (one, other), replies, strict=True)
    ]
    return compared(book, "Site1", found, rules)


def drifted(found: Verified) -> dict[str, list[str]]:
    return {each.path: each.drifted for each in found.fields}


CREATED = ("POST", {"a": 1, "b": {"c": 1}})


@pytest.mark.parametrize(
    ("requests", "fields"),
    [
        ([CREATED], {"a": 1, "b.c": 1}),
        ([CREATED, ("PATCH", {"a": 2})], {"a": 2, "b.c": 1}),
        ([CREATED, ("PATCH", {"a": None})], {"a": None, "b.c": 1}),
        ([CREATED, ("PATCH", {"b": 5})], {"a": 1, "b": 5}),
        ([CREATED, ("PUT", {"d": [1, 2]}), ("PATCH", {"e": 1})], {"d": [1, 2], "e": 1}),
        ([("POST", b"no JSON"), ("PATCH", {"e": 1})], {"e": 1}),
    ],
)
def test_the_last_operation_that_touches_a_field_says_what_it_is(requests: Any, fields: dict[str, Any]) -> None:
    found = said(log_of(*requests), "", None)
    assert {path: value for path, (value, _) in found.fields.items()} == fields


def test_a_merge_inside_of_what_was_a_plain_value_takes_its_place() -> None:
    book = log_of(("POST", {"a": 1}), ("PATCH", {"a": {"b": 2}}))
    op = replace(book.log.operations[(AUTHOR, 2)], touches=frozenset({"a.b"}))  # type: ignore[index]
    changed = replace(book, log=Log.of([*(o for o in book.log.order if o.n == 1), op]))
    found = said(changed, "", None)
    assert {path: value for path, (value, _) in found.fields.items()} == {"a.b": 2}


def test_what_an_action_may_have_changed_is_unsure() -> None:
    assert said(log_of(CREATED, ("ACT", {}), ("PATCH", {"a": 3})), "", None).unsure == {"b.c"}


def test_the_site_without_what_the_log_says_has_drifted() -> None:
    found = verified(log_of(CREATED, ("PATCH", {"a": 2})), {"a": 2, "b": {"c": 1}}, {"a": 9, "b": {"c": 1}})
    (field,) = found.fields
    assert (field.path, field.says, field.operation) == ("a", 2, f"{AUTHOR}/2")
    assert (field.values, field.drifted) == ({"Site1": 2, "Site2": 9}, ["Site2"])
    assert {site.site: (site.state, site.why) for site in found.sites} == {
        "Site1": ("equal", ""),
        "Site2": ("drifted", "a"),
    }
    assert found.state == "drifted"
    assert to_repeat(found, "Site2") == [f"{AUTHOR}/2"]
    assert to_repeat(found, "Site1") == []


def test_a_field_that_is_missing_has_drifted() -> None:
    found = verified(log_of(CREATED), {"a": 1, "b": {"c": 1}}, {"a": 1})
    assert [(each.path, each.values, each.drifted) for each in found.fields] == [("b.c", {"Site1": 1}, ["Site2"])]


def test_what_is_the_same_everywhere_is_no_drift() -> None:
    assert verified(log_of(CREATED), {"a": "one", "x": 1}, {"a": "one", "x": 1}).state == "equal"


def test_a_majority_isnt_the_truth() -> None:
    book = log_of(CREATED)
    found = verified(book, {"a": 1, "b": {"c": 1}, "x": 1}, {"a": 1, "b": {"c": 1}, "x": 2})
    assert [(each.path, each.operation, each.drifted) for each in found.fields] == [("x", "", ["Site1", "Site2"])]
    assert to_repeat(found, "Site2") == []


def test_what_a_replacement_leaves_out_is_as_the_site_replied_to_it() -> None:
    book = log_of(("PUT", {"a": 1}))
    found = verified(book, {"a": 1}, {"a": 1, "x": 2}, ({1: {"a": 1}}, {1: {"a": 1}}))
    assert [(each.path, each.operation, each.drifted) for each in found.fields] == [("x", f"{AUTHOR}/1", ["Site2"])]
    assert to_repeat(found, "Site2") == [f"{AUTHOR}/1"]
    (field,) = verified(book, {"a": 1}, {"a": 1, "x": 2}).fields
    assert (field.operation, field.drifted) == ("", ["Site1", "Site2"]), "nobody knows"


def test_a_field_that_a_site_of_another_version_does_not_have_is_no_drift() -> None:
    """L2 (starlingx LP#2163966): it would be mended again and again."""
    new, old = {"a": 1, "x": 1, "default": 1}, {"a": 1}
    for what in ("POST", "PUT"):
        book = log_of((what, {"a": 1, "x": 1}))
        assert verified(book, new, old, ({1: new}, {1: old})).state == "equal"
    book = log_of(("POST", {"a": 1}), ("PATCH", {"x": 1}))
    replies = ({1: {"a": 1, "default": 1}, 2: new}, {1: old, 2: old})
    assert verified(book, new, old, replies).state == "equal"
    assert drifted(verified(book, new, {"a": 2}, replies)) == {"a": ["Site2"]}


def test_what_sites_set_themselves_is_learned_from_the_replies_to_one_creation() -> None:
    replies = ({1: {"a": 1, "host": "x", "at": 1}}, {1: {"a": 1, "host": "y", "at": 1}})
    book = log_of(("POST", {"a": 1}))
    found = verified(book, {"a": 1, "host": "x", "at": 1}, {"a": 1, "host": "z", "at": 2}, replies)
    assert drifted(found) == {"at": ["Site1", "Site2"]}


def test_what_was_asked_for_is_compared_even_if_the_replies_differed() -> None:
    replies = ({1: {"a": 1}}, {1: {"a": "1"}})
    book = log_of(("POST", {"a": 1}))
    assert verified(book, {"a": 1}, {"a": "1"}, replies).state == "equal", "Site2's service writes it so"
    assert drifted(verified(book, {"a": 1}, {"a": 7}, replies)) == {"a": ["Site2"]}


def test_after_an_action_the_log_is_believed_only_where_a_site_bears_it_out() -> None:
    book = log_of(("POST", {"a": 1}), ("ACT", {}))
    assert drifted(verified(book, {"a": 1}, {"a": 7})) == {"a": ["Site2"]}
    (field,) = verified(book, {"a": 6}, {"a": 7}).fields
    assert (field.operation, field.drifted) == ("", ["Site1", "Site2"])


def test_a_single_replica_is_compared_with_the_log() -> None:
    book = log_of(CREATED)
    found = compared(book, "Site1", [reading(book, "Site1", {"a": 5, "b": {"c": 1}, "x": 1})], None)
    assert drifted(found) == {"a": ["Site1"]}


def test_contents_are_compared_by_what_they_are() -> None:
    book = log_of(CREATED, ("PUT", b"right"), facet="file")
    found = compared(
        book,
        "Site1",
        [reading(book, "Site1", b"right", "file"), reading(book, "Site2", b"wrong", "file")],
        None,
    )
    (field,) = found.fields
    assert (field.facet, field.path, field.operation, field.drifted) == ("file", "", f"{AUTHOR}/2", ["Site2"])
    assert field.says == f"5 bytes, SHA-256 {hashlib.sha256(b'right').hexdigest()}"
    gone = [reading(book, "Site1", b"right", "file"), reading(book, "Site2", None, "file")]
    assert compared(book, "Site1", gone, None).fields[0].drifted == ["Site2"]


def test_who_is_behind_or_ahead_is_not_compared() -> None:
    book = log_of(CREATED, ("PATCH", {"a": 2}))
    right, wrong = reading(book, "Site1", {"a": 2, "b": {"c": 1}}), reading(book, "Site2", {"a": 1})
    found = compared(book, "Site1", [right, replace(wrong, known={AUTHOR: 1})], None)
    assert [(site.state) for site in found.sites] == ["equal", "pending"]
    assert found.state == "pending"
    found = compared(book, "Site1", [right, replace(wrong, known={**wrong.known, "Site2.b": 1})], None)
    assert [site.state for site in found.sites] == ["pending", "pending"]
    assert not found.fields


def test_what_is_absent_or_cannot_be_read_is_told() -> None:
    book = log_of(CREATED)
    lost = Reading(site="Site1", state="absent", known=book.log.vector)
    mute = Reading(site="Site2", state="unreadable", why="the service answers 500 to a read")
    found = compared(book, "Site1", [lost, mute], None)
    assert [(site.state, bool(site.why)) for site in found.sites] == [("absent", True), ("unreadable", True)]
    assert (found.state, found.fields) == ("absent", [])


def test_what_was_deleted_is_to_be_absent() -> None:
    book = log_of(CREATED, ("DELETE", {}))
    lost = Reading(site="Site1", state="absent", known=book.log.vector)
    found = compared(book, "Site1", [lost, reading(book, "Site2", {"a": 1})], None)
    assert [site.state for site in found.sites] == ["equal", "drifted"]


def test_what_comes_after_and_overlaps_is_repeated_too() -> None:
    def names(book: Book, *first: int) -> list[int]:
        return [op.n for op in repeated(book, "Site2", [f"{AUTHOR}/{n}" for n in first])]

    book = log_of(CREATED, ("PATCH", {"a": 1, "b": 1}), ("PATCH", {"b": 2}), ("PATCH", {"d": 2}), ("ACT", {}))
    assert names(book, 2) == [2, 3]
    assert names(book, 4) == [4]
    assert names(log_of(("PUT", {"a": 1}), ("PATCH", {"b": 2})), 1) == [1, 2]
    op = book.log.order[2]
    dropped = {**book.outcomes, op.dot: {"Site2": replace(book.outcomes[op.dot]["Site2"], state=State.DROPPED)}}
    assert names(replace(book, outcomes=dropped), 2) == [2], "what was dropped by command stays so"
