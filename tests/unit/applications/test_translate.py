"""Ids in requests: to rids where they were requested, and to each site's own where they are executed."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheops.applications.json_text import text_of, values
from cheops.applications.rids import is_rid, looks_unique, new_rid, rid_of
from cheops.applications.translate import Translated, along, at_site, in_rids, location_here, rids_in, values_in
from cheops.errors import NoIdThere
from unit.applications.known import (
    CLOUD,
    IMAGE,
    IMAGE_ID,
    NETWORK,
    NETWORK_1,
    NETWORK_2,
    NOTE,
    NOTES,
    OPENSTACK,
    PAGE,
    PLAIN,
    SERVER,
    SERVER_1,
    SERVER_2,
)

JSON = (("content-type", "application/json"),)
AT_SITE1 = {SERVER: SERVER_1, NETWORK: NETWORK_1}
AT_SITE2 = {SERVER: SERVER_2, NETWORK: NETWORK_2}


def told(
    target: str, body: bytes | None = None, here: str = "Site1", headers: tuple[tuple[str, str], ...] = JSON
) -> Translated:
    return in_rids(target, headers, body, CLOUD, here, "compute", OPENSTACK)


def test_a_server_from_one_site_to_another() -> None:
    body = b'{"server": {"networks": [{"uuid": "%s"}],  "imageRef":"%s", "size": 1.50}}'
    here = told("/v2.1/servers", body % (NETWORK_1.encode(), IMAGE_ID.encode()))
    assert here.body == body % (NETWORK.encode(), IMAGE_ID.encode())
    assert here.refers == tuple(sorted((NETWORK, IMAGE)))
    there = at_site(here.target, here.headers, here.body, AT_SITE2)
    assert there.body == body % (NETWORK_2.encode(), IMAGE_ID.encode())


@pytest.mark.parametrize("id_", [SERVER_1, SERVER_2, SERVER])
def test_in_the_path_the_query_and_headers(id_: str) -> None:
    headers = (("x-server", id_), ("x-note", f"not {id_}"))
    here = told(f"/v2.1/servers/{id_}/action/?of={id_}&a=b+c&%41=%62", None, headers=headers)
    assert here.target == f"/v2.1/servers/{SERVER}/action/?of={SERVER}&a=b+c&%41=%62"
    assert here.headers == (("x-server", SERVER), headers[1])
    assert here.refers == ()
    there = at_site(here.target, here.headers, here.body, AT_SITE2)
    assert there.target == f"/v2.1/servers/{SERVER_2}/action/?of={SERVER_2}&a=b+c&%41=%62"


def test_the_rid_of_what_has_a_chosen_id_becomes_that_id() -> None:
    assert told("/v2.1/servers", b'{"server": {"imageRef": "%s"}}' % IMAGE.encode()).body == (
        b'{"server": {"imageRef": "%s"}}' % IMAGE_ID.encode()
    )
    assert (
        in_rids(f"/v2/images/{IMAGE}", (), None, CLOUD, "Site1", "image", OPENSTACK).target == f"/v2/images/{IMAGE_ID}"
    )


def test_short_ids_count_in_their_places_only() -> None:
    here = in_rids("/notes/5/pages/5?n=5", JSON, b'{"n": "5", "m": 5}', NOTES, "Site1", "notes", PLAIN)
    assert (here.target, here.body) == (f"/notes/{NOTE}/pages/{PAGE}?n=5", b'{"n": "5", "m": 5}')
    there = at_site(here.target, here.headers, here.body, {NOTE: "7", PAGE: "9"})
    assert there.target == "/notes/7/pages/9?n=5"


def test_a_rid_that_names_nothing_here() -> None:
    stranger = rid_of("a", "b", "/c", "d")
    assert told("/v2.1/servers", b'["%s"]' % stranger.encode()).unknown == (stranger,)
    assert told("/v2.1/servers", b'["%s"]' % SERVER.encode()).unknown == ()


def test_a_site_without_an_id_of_it() -> None:
    with pytest.raises(NoIdThere) as caught:
        at_site(f"/v2.1/servers/{SERVER}", (), None, {}, "Site2")
    assert SERVER in caught.value.detail
    assert "Site2" in caught.value.detail
    assert caught.value.members == {"rid": SERVER}
    for headers, body in ((JSON, b'["%s"]' % SERVER.encode()), ((("x-a", SERVER),), None)):
        with pytest.raises(NoIdThere):
            at_site("/", headers, body, {})


def test_rids_in_a_recorded_request() -> None:
    body = b'{"a": ["%s", "x%s"]}' % (NETWORK.encode(), IMAGE.encode())
    assert rids_in(f"/v2.1/servers/{SERVER}", JSON, body) == {SERVER, NETWORK}
    assert rids_in("/", (("content-type", "text/plain"),), body) == frozenset()


def test_values_that_may_be_ids() -> None:
    body = b'{"key": "va\\u006cue", "n": 5, "list": ["%s", "a\\u0000b", "\\ud800", ""]}' % (b"x" * 256)
    assert values_in("/notes/a%2Fb?q=c%20d&e", "application/json", body) == {"notes", "a/b", "c d", "value"}
    assert values_in("/", "text/plain", body) == frozenset()
    many = json.dumps([str(n) for n in range(100_000)]).encode()
    assert len(values_in("/", "application/json", many)) == 4000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a": "%s"' % SERVER_1.encode(),
        b'\xef\xbb\xbf{"a": "%s"}' % SERVER_1.encode(),
        json.dumps([SERVER_1]).encode("utf-16"),
        b'["%s", "\xff"]' % SERVER_1.encode(),
        b"[" * 200_000 + b'"%s"' % SERVER_1.encode() + b"]" * 200_000,
        b'["%s", "%s"]' % (SERVER_1.encode(), b"x" * 1_000_001),
        b'"x%s"' % SERVER_1.encode(),
        b'{"%s": 1}' % SERVER_1.encode(),
        b'{"a":1e999, "b": -0.0, "a":  1.000 ,"c":"\\u00e9\\/"}',
        b'{"\\ud800": "\\udfff", "n": 123456789012345678901234567890}',
    ],
)
def test_bodies_that_stay_byte_for_byte(body: bytes) -> None:
    assert told("/v2.1/servers", body).body == body
    assert at_site("/", JSON, body, {}).body == body


def test_other_media_types_are_left_alone() -> None:
    body = b'["%s"]' % SERVER_1.encode()
    for media_type in ("application/octet-stream", "text/plain; charset=utf-8", "application/jsonish"):
        assert told("/", body, headers=(("content-type", media_type),)).body == body
    for media_type in ("application/JSON; charset=utf-8", "application/merge-patch+json"):
        assert told("/", body, headers=(("Content-Type", media_type),)).body == b'["%s"]' % SERVER.encode()


def test_an_escaped_id_is_seen_too() -> None:
    escaped = SERVER_1.replace("1", "\\u0031", 1)
    assert told("/", b'{"a": "%s"}' % escaped.encode()).body == b'{"a": "%s"}' % SERVER.encode()


def test_a_session_that_moves() -> None:
    address = "http://10.0.0.2:5000/v2/tea/blobs/uploads/u2?_state=b%2F"
    assert along("/v2/tea/blobs/uploads/u1?_state=a&digest=sha256:1", address) == (
        "/v2/tea/blobs/uploads/u2?_state=b%2F&digest=sha256:1"
    )
    assert along("/v2/tea/blobs/uploads/u1?digest=d", "/v2/x") == "/v2/x?digest=d"
    assert along("/v2/tea/blobs/uploads/u1", "/v2/x") == "/v2/x"


@pytest.mark.parametrize(
    ("location", "here"),
    [
        ("http://10.0.0.2:80/notes/5?a=b#c", "/notes/5?a=b#c"),
        ("/notes/5", "/notes/5"),
        ("5", "5"),
        ("https://host", "/"),
        ("//host/x", "/x"),
        ("http://[", "/"),
        ("http://[/a:b", "/a:b"),
        ("?page=2", "?page=2"),
    ],
)
def test_a_location_leads_to_the_front_that_was_asked(location: str, here: str) -> None:
    assert location_here(location) == here


def test_rids() -> None:
    rid = new_rid(lambda digits: "0123456789abcdef0123456789abcdef"[:digits])
    assert is_rid(rid)
    assert is_rid(rid_of("notes", "note", "/notes", "ä"))
    assert rid_of("a", "b", "/c", "d") == rid_of("a", "b", "/c", "d")
    different = {
        rid_of("a", "b", "/c", "d"),
        rid_of("ab", "", "/c", "d"),
        rid_of("a", "b", "/", "cd"),
        rid_of("", "", "", ""),
    }
    assert len(different) == 4
    assert not is_rid(SERVER_1)
    assert not is_rid(SERVER.replace("c4e1", "c4e0"))


def test_what_looks_unique() -> None:
    assert all(looks_unique(text) for text in (SERVER_1, "0123456789abcdef", "a1" * 10, SERVER))
    assert not any(looks_unique(text) for text in ("5", "web", "deadbeef", "a" * 20 + "z", "abc 123 " * 4, ""))


IDS = st.sampled_from([SERVER_1, NETWORK_1, IMAGE_ID, "5", "web", "", 'é\n"\\\\'])
WORDS = st.one_of(IDS, st.text(max_size=5))
JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=20,
)
SPELLINGS = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}])
SEGMENTS = st.one_of(IDS, st.text(alphabet=string.ascii_letters + string.digits + "._~-", max_size=5))


@given(JSONS, SPELLINGS, st.lists(SEGMENTS.filter(lambda text: text.isalnum() or "-" in text), max_size=5))
def test_there_and_back_is_the_same(value: object, spelling: dict[str, object], path: list[str]) -> None:
    body = json.dumps(value, ensure_ascii=False, **spelling).encode("utf-8", "surrogatepass")  # type: ignore[arg-type]
    target = "/v2.1/servers/" + "/".join(path) + "?id=" + (path[0] if path else "")
    here = told(target, body)
    assert SERVER_1.encode() not in _strings(here.body)
    back = at_site(here.target, here.headers, here.body, AT_SITE1)
    assert (back.target, back.headers, back.body) == (target, JSON, body)


@given(JSONS, SPELLINGS)
def test_where_nothing_is_managed_nothing_changes(value: object, spelling: dict[str, object]) -> None:
    body = json.dumps(value, **spelling).encode()  # type: ignore[arg-type]
    left = in_rids("/v2.1/servers", JSON, body, [], "Site1", "compute", OPENSTACK)
    assert left == Translated(target="/v2.1/servers", headers=JSON, body=body)


@given(JSONS, SPELLINGS)
def test_values_of_a_text_stand_where_they_are_said_to(value: object, spelling: dict[str, object]) -> None:
    text = json.dumps(value, **spelling)  # type: ignore[arg-type]
    found = list(values(text))
    assert found[-1].path == ""
    assert repr(json.loads(text[found[-1].start : found[-1].end])) == repr(json.loads(text))
    for one in found:
        part = json.loads(text[one.start : one.end])
        assert (part if isinstance(part, str) else None) == one.string


@given(st.text(alphabet='{}[]",:\\ \n01truefalsn', max_size=30))
def test_text_that_isn_t_json_is_left_alone(text: str) -> None:
    body = text.encode()
    if text_of(body) is None:
        assert told("/", body).body == body
    else:
        assert list(values(text))


def _strings(body: bytes | None) -> set[bytes]:
    text = text_of(body or b"")
    return {(one.string or "").encode("utf-8", "replace") for one in values(text)} if text else set()
