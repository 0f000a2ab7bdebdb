"""What replies say, as the description or the conventions of REST have it."""

import json
from typing import Any

import pytest

from cheops.applications.lists import listed, next_page, with_items, with_next
from cheops.applications.replies import (
    Made,
    Progress,
    chosen_in,
    comparable,
    failed_inside,
    follow,
    has_key,
    identity_in,
    key_in,
    learned,
    made,
    with_id,
    without_revisions,
)
from cheops.applications.resources import Resource
from unit.applications.known import IMAGE_ID, KUBERNETES, OPENSTACK, REGISTRY, SERVER_1, SHOP

SERVER = OPENSTACK.services["compute"].resources["server"]
IMAGE = OPENSTACK.services["image"].resources["image"]
NETWORK = OPENSTACK.services["network"].resources["network"]
PROJECT = OPENSTACK.services["identity"].resources["project"]
CONFIGMAP = KUBERNETES.services["kubernetes"].resources["configmap"]
UPLOAD = REGISTRY.services["registry"].resources["upload"]
RECORD = SHOP.services["catalog"].resources["record"]
HOSTILE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"5",
    b'"x"',
    b"{}",
    b"\xff",
    b'{"id": {"a": 1}}',
    b"[" * 100_000,
    b'{"server": 1}',
]


def at(location: str) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"location", location.encode()),)


@pytest.mark.parametrize(
    ("status", "location", "body", "id_", "name"),
    [
        (201, "/notes/5", b"", "5", ""),
        (201, "http://10.0.0.1:8700/notes/a%20b/", b'{"name": "n"}', "a b", "n"),
        (200, "", b'{"id": 5, "name": "n"}', "5", "n"),
        (201, "", b'{"uuid": "u"}', "u", ""),
        (201, "", b'{"metadata": {"name": "m"}}', "m", "m"),
        (201, "", b'{"note": {"id": "w", "title": "t"}}', "w", "t"),
        (201, "/notes/5", b'{"id": "other"}', "5", ""),
        (201, "/elsewhere/5", b'{"id": "x"}', "x", ""),
        (202, "/jobs/9", b'{"id": "9"}', "", ""),  # of the job
        (202, "/notes/5", b'{"job": 1}', "5", ""),
        (201, "", b'{"id": true}', "", ""),
        (204, "", b"", "", ""),
    ],
)
def test_what_was_made_without_a_description(status: int, location: str, body: bytes, id_: str, name: str) -> None:
    headers = at(location) if location else ()
    assert made(status, headers, body, None, "/notes") == Made(local_id=id_, name=name)


def test_what_was_made_as_described() -> None:
    nova = made(
        202, at(f"http://n/v2.1/servers/{SERVER_1}"), b'{"server": {"id": "s", "name": "web"}}', SERVER, "/v2.1/servers"
    )
    assert nova == Made(local_id="s", name="web")
    begun = made(202, at("http://r/v2/a/b/blobs/uploads/u1?_state=x"), b"", UPLOAD, "/v2/a/b/blobs/uploads/")
    assert begun == Made(local_id="u1", name="")
    assert made(201, (), b'{"data": {"id": "r"}}', RECORD, "/v1/x").local_id == "r"


@pytest.mark.parametrize("body", HOSTILE)
def test_hostile_bodies(body: bytes) -> None:
    for rules in (None, SERVER, CONFIGMAP, RECORD):
        assert made(201, (), body, rules, "/notes") == Made(local_id="", name="")
        assert chosen_in(body, rules) == ""
        assert identity_in(body, rules) == ""
        assert key_in(body, rules) == {}
        assert without_revisions(body, rules) == body
        assert failed_inside(200, body, rules) == ""
        assert next_page("/notes", (), body, rules) == ""
        assert learned([body, body], rules) == frozenset()
        comparable(body, rules)
        listed(body, rules)
        with_items(body, rules, [])


def test_an_error_inside_of_a_200() -> None:
    rules = Resource(collection="/notes", errors_in="errors[].message")
    wrapped = Resource(collection="/notes", one="note", errors_in="fault")
    assert failed_inside(200, b'{"errors": [{"message": "no room"}]}', rules) == "no room"
    assert failed_inside(200, b'{"errors": []}', rules) == ""
    assert failed_inside(500, b'{"errors": [{"message": "no room"}]}', rules) == ""
    assert failed_inside(200, b'{"note": {"fault": {"code": 5}}}', wrapped) == '{"code": 5}'
    assert failed_inside(200, b'{"note": {"fault": null}}', wrapped) == ""


def test_a_server_is_followed_until_it_runs() -> None:
    item = f"/v2.1/servers/{SERVER_1}"
    asks = follow(202, at("http://n/x"), b'{"server": {"id": "s"}}', SERVER, item)
    assert asks
    assert asks.target == item
    assert asks.progress(200, b'{"server": {"status": "BUILD"}}') == (Progress.UNDER_WAY, "")
    assert asks.progress(200, b'{"server": {"status": "ACTIVE"}}') == (Progress.DONE, "")
    assert asks.progress(200, b'{"server": {"status": "ERROR"}}') == (Progress.FAILED, "its status is ERROR")
    assert asks.progress(404, b"")[0] is Progress.FAILED
    assert asks.progress(503, b"") == asks.progress(429, b"") == (Progress.UNDER_WAY, "")
    assert follow(200, (), b'{"server": {"status": "ACTIVE"}}', SERVER, item) is None
    assert follow(400, (), b"", SERVER, item) is None


def test_a_202_is_followed_where_it_leads() -> None:
    asks = follow(202, at("http://10.0.0.1/jobs/9?a=b"), b"", None, "/notes/5")
    assert asks
    assert asks.target == "/jobs/9?a=b"
    assert asks.progress(202, b"")[0] is Progress.UNDER_WAY
    assert asks.progress(303, b"")[0] is asks.progress(201, b"")[0] is Progress.DONE
    assert asks.progress(200, b'{"status": "Running"}')[0] is Progress.UNDER_WAY
    assert asks.progress(200, b'{"state": "failed"}') == (Progress.FAILED, "its state is failed")
    assert asks.progress(200, b'{"title": "a note"}')[0] is Progress.DONE
    assert follow(202, (), b"", None, "/notes/5") is None
    assert follow(201, at("/notes/5"), b"", None, "/notes/5") is None


def test_ids_that_a_client_chooses() -> None:
    assert chosen_in(b'{"id": "%s"}' % IMAGE_ID.encode(), IMAGE) == IMAGE_ID
    assert chosen_in(b'{"metadata": {"name": "m"}}', CONFIGMAP) == "m"
    assert chosen_in(b'{"data": {"id": "r"}}', RECORD) == "r"
    assert chosen_in(b'{"server": {"id": "s"}}', SERVER) == ""  # nova refuses them
    assert chosen_in(b'{"id": "x"}', None) == ""


def test_a_name_that_is_an_identity() -> None:
    one = identity_in(b'{"project": {"name": "p", "domain_id": "d"}}', PROJECT)
    assert one == identity_in(b'{"project": {"domain_id": "d", "name": "p", "enabled": true}}', PROJECT)
    assert one != identity_in(b'{"project": {"name": "p", "domain_id": "e"}}', PROJECT)
    assert identity_in(b'{"server": {"name": "web"}}', SERVER) == ""
    assert identity_in(b'{"project": {"enabled": true}}', PROJECT) == ""


def test_a_creation_is_looked_for_by_its_key() -> None:
    assert key_in(b'{"server": {"name": "web"}}', SERVER) == {"name": "web"}
    assert key_in(b'{"name": "n"}', None) == {"name": "n"}
    key = key_in(b'{"project": {"name": "p"}}', PROJECT)
    assert has_key({"name": "p", "domain_id": "default"}, key)
    assert not has_key({"name": "q", "domain_id": "default"}, key)
    assert not has_key({"name": "p"}, {})


@pytest.mark.parametrize(
    ("body", "rules", "wanted"),
    [
        (b'{ "a": 1.0}', IMAGE, b'{"id": "x",  "a": 1.0}'),
        (b"{}", IMAGE, b'{"id": "x"}'),
        (b'{"id" : "old", "n": 1e2}', IMAGE, b'{"id" : "x", "n": 1e2}'),
        (b'{"data": {"a": 1}}', RECORD, b'{"data": {"id": "x", "a": 1}}'),
        (b'{"permissions": {}}', RECORD, b'{"data": {"id": "x"}, "permissions": {}}'),
        (b'{"metadata": {"generateName": "m-"}}', CONFIGMAP, b'{"metadata": {"name": "x", "generateName": "m-"}}'),
        (b'{"data": 5}', RECORD, None),
        (b"[]", IMAGE, b"[]"),
        (b"not json", IMAGE, b"not json"),
    ],
)
def test_an_id_is_put_into_a_creation(body: bytes, rules: Resource, wanted: bytes | None) -> None:
    assert with_id(body, rules, "x") == (body if wanted is None else wanted)


@pytest.mark.parametrize(
    ("body", "rules", "wanted"),
    [
        (
            b'{"metadata": {"resourceVersion": "5", "name":"m"}, "n": 1.0}',
            CONFIGMAP,
            b'{"metadata": {"name":"m"}, "n": 1.0}',
        ),
        (b'{"metadata": {"name": "m" , "uid": "u"}, "status": {"a": [1]}}', CONFIGMAP, b'{"metadata": {"name": "m" }}'),
        (b'{"data": {"last_modified": 5}}', RECORD, b'{"data": {}}'),
        (b'{"last_modified": 5, "data": {"a": {"last_modified": 6}}}', RECORD, None),
        (
            b'{"network": {"name": "n", "revision_number": 7, "x": "}"}}',
            NETWORK,
            b'{"network": {"name": "n", "x": "}"}}',
        ),
        (b'{"metadata": {"uid": 1, "resourceVersion": 2, "generation": 3}}', CONFIGMAP, b'{"metadata": {}}'),
        (b'{"anything": 1}', None, None),
    ],
)
def test_revisions_aren_t_recorded(body: bytes, rules: Resource | None, wanted: bytes | None) -> None:
    left = without_revisions(body, rules)
    assert left == (body if wanted is None else wanted)
    json.loads(left)


def test_what_is_compared() -> None:
    body = b'{"server": {"id": "s", "name": "web", "created": "now", "meta": {"a": 1, "host": "h"}, "z": [{"h": 1}]}}'
    assert comparable(body, SERVER, frozenset({"meta.host", "z[].h"})) == {"name": "web", "meta": {"a": 1}, "z": [{}]}
    assert comparable(b'{"data": {"id": "r", "last_modified": 1, "a": 2}}', RECORD) == {"id": "r", "a": 2}
    assert comparable(b'{"id": 5, "a": 1}', None) == {"a": 1}


def test_fields_that_sites_set_are_learned() -> None:
    replies = [
        b'{"note": {"id": 1, "text": "t", "at": {"made": 5, "zone": "UTC"}, "tags": ["a"]}}',
        b'{"note": {"id": 2, "text": "t", "at": {"made": 6, "zone": "UTC"}, "tags": ["a"], "extra": null}}',
    ]
    assert learned(replies) == {"id", "at.made", "extra"}
    assert learned(replies[::-1]) == {"id", "at.made", "extra"}
    assert learned(replies[:1]) == learned([]) == frozenset()
    assert comparable(replies[0], None, learned(replies)) == comparable(replies[1], None, learned(replies))


@pytest.mark.parametrize(
    ("body", "rules", "items"),
    [
        (b"[1, 2]", None, [1, 2]),
        (b'{"notes": [1], "total": 1}', None, [1]),
        (b'{"notes": [1], "links": []}', None, [1]),
        (b'{"servers": [1], "servers_links": [], "others": [2]}', SERVER, [1]),
        (b'{"a": [1], "b": [2]}', None, None),
        (b'{"others": [1]}', SERVER, None),
        (b'{"note": {}}', None, None),
        (b"nothing", None, None),
    ],
)
def test_lists(body: bytes, rules: Resource | None, items: list[Any] | None) -> None:
    assert listed(body, rules) == items
    again = with_items(body, rules, [7])
    assert listed(again, rules) == (None if items is None else [7])
    assert (again == body) is (items is None)


def test_a_list_put_together_has_no_links_of_one_site() -> None:
    body = b'{"servers": [1], "servers_links": [{"rel": "next", "href": "http://x/?marker=1"}], "total": 5}'
    assert json.loads(with_items(body, SERVER, [2])) == {"servers": [2], "total": 5}
    maps = b'{"kind": "List", "metadata": {"resourceVersion": "5", "continue": "abc"}, "items": [1]}'
    assert json.loads(with_items(maps, CONFIGMAP, [])) == {"kind": "List", "metadata": {}, "items": []}


@pytest.mark.parametrize(
    ("headers", "body", "wanted"),
    [
        (
            ((b"link", b'<http://10.0.0.1:80/notes?page=3>; rel="next", </notes?page=1>; rel="prev"'),),
            b"[]",
            "/notes?page=3",
        ),
        (((b"link", b'</notes?page=1>; rel="prev", <?page=3>; rel=next'),), b"[]", "/notes?page=3"),
        (((b"link", b'</notes?page=1>; rel="prev"'),), b"[]", ""),
        (((b"next-page", b"http://k/notes?_token=x"),), b'{"data": []}', "/notes?_token=x"),
        ((), b'{"notes": [], "next": "/notes?marker=5"}', "/notes?marker=5"),
        ((), b'{"notes": [], "links": {"next": "http://x/notes?p=2", "self": "y"}}', "/notes?p=2"),
        ((), b'{"notes": [], "notes_links": [{"rel": "next", "href": "http://n/notes?marker=1"}]}', "/notes?marker=1"),
        ((), b'{"items": [], "metadata": {"continue": "a+b"}}', "/notes?limit=2&continue=a%2Bb"),
        ((), b'{"items": [], "metadata": {"continue": ""}}', ""),
        ((), b'{"notes": [], "next": null}', ""),
        ((), b"[]", ""),
    ],
)
def test_the_next_page(headers: tuple[tuple[bytes, bytes], ...], body: bytes, wanted: str) -> None:
    assert next_page("/notes?limit=2&continue=old", headers, body) == wanted


def test_kubernetes_goes_on_by_a_token_of_ours() -> None:
    said = b'{"metadata": {"continue": "of one site"}, "items": [{}]}'
    cut = with_items(said, None, [{}])
    url = "http://front/things?limit=2&cheops-page=abc"
    assert json.loads(with_next(cut, None, said, url))["metadata"] == {"continue": "cheops-page.abc"}
    assert json.loads(with_next(cut, None, cut, url))["metadata"] == {}
