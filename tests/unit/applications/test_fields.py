"""Fields of bodies: what a merge touches, and changes that leave the rest as it was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheops.applications.fields import cut, fields_at, put, text_at, touched
from cheops.applications.resources import Resource

WRAPPED = Resource(collection="/notes", one="note")


@pytest.mark.parametrize(
    ("body", "rules", "fields"),
    [
        (b'{"a": 1, "b": {"c": null, "d": {}}, "e": [{"f": 1}]}', None, {"a", "b.c", "b.d", "e"}),
        (b'{"note": {"a": 1}, "other": 2}', WRAPPED, {"a"}),
        (b'[{"op": "add", "path": "/tags/-", "value": 1}, {"op": "remove", "path": "/a/0/b"}]', None, {"tags", "a"}),
        (b'[{"op": "move", "from": "/a~1b", "path": "/c/d"}]', None, {"a/b", "c.d"}),
        (b'[{"op": "add"}]', None, None),
        (b"[1]", None, None),
        (b'{"other": 1}', WRAPPED, None),
        (b'"text"', None, None),
        (b"text", None, None),
        (b"", None, None),
    ],
)
def test_what_a_merge_touches(body: bytes, rules: Resource | None, fields: set[str] | None) -> None:
    assert touched(body, rules) == fields


def test_fields_by_their_paths() -> None:
    value = {"a": [{"b": "x"}, {"b": 5}, {}, 7], "c": {"d": 1.5, "e": True}}
    assert fields_at(value, "a[].b") == ["x", 5]
    assert fields_at(value, "c[].d") == fields_at(value, "a.b") == fields_at(None, "a") == []
    assert (text_at(value, "c.d"), text_at(value, "c.e"), text_at(value, "c")) == ("1.5", "", "")


NAMES = st.sampled_from(["a", "b", "c", "é", '"'])
VALUES = st.recursive(
    st.one_of(st.integers(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=10,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)
SPELLINGS = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"separators": (" , ", " : ")}])


@given(OBJECTS, SPELLINGS, st.sets(st.sampled_from(["a", "b", "c", "a.b", "b.a", "c.c.c"])))
def test_cutting_is_the_same_as_leaving_out(
    value: dict[str, object], spelling: dict[str, object], paths: set[str]
) -> None:
    left = cut(json.dumps(value, **spelling).encode(), frozenset(paths))  # type: ignore[arg-type]
    assert json.loads(left) == left_out(value, "", paths)


def left_out(value: object, at: str, paths: set[str]) -> object:
    if not isinstance(value, dict):
        return value
    kept = ((name, f"{at}.{name}" if at else name, inner) for name, inner in value.items())
    return {name: left_out(inner, path, paths) for name, path, inner in kept if path not in paths}


@given(OBJECTS, SPELLINGS, st.sampled_from(["a", "a.b", "b.c.a"]))
def test_what_is_put_is_there(value: dict[str, object], spelling: dict[str, object], path: str) -> None:
    body = json.dumps(value, **spelling).encode()  # type: ignore[arg-type]
    written = put(body, path, 'né"w')
    if reaches(value, path):
        assert text_at(json.loads(written), path) == 'né"w'
        first = frozenset({path.split(".")[0]})
        assert json.loads(cut(written, first)) == json.loads(cut(body, first))
    else:
        assert written == body


def reaches(value: object, path: str) -> bool:
    """Whether there is nothing but objects on the way."""
    for step in path.split(".")[:-1]:
        value = value.get(step, {}) if isinstance(value, dict) else None
    return isinstance(value, dict)
