"""Bodies of lists: whatever JSON a service gives is read and written, by the fast way or the slow one."""

import json

import pytest

from cheops.applications.lists import listed, parsed_list, with_items


@pytest.mark.parametrize(
    "item",
    ['{"a": "é", "b": [1.5, true, null]}', '"\\ud800"', "12345678901234567890123", "1" * 4000, "NaN", '"\\u2028"'],
)
def test_items_stay_what_they_are(item: str) -> None:
    body = f'{{"data": [{item}], "next": "/more"}}'.encode()
    value = parsed_list(body)
    (found,) = listed(value) or ()
    again = with_items(value, None, [found])
    assert repr(json.loads(again)) == repr({"data": [json.loads(item)]})


@pytest.mark.parametrize("body", [b"", b"[1,]", b"<html>", b'{"data": 1}', b"\xff", b"[" * 100_000])
def test_what_is_no_list_is_none(body: bytes) -> None:
    assert listed(body) is None
    assert with_items(body, None, [1]) == body
