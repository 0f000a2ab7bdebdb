"""What requests concern: with a description, and by the conventions of REST alone."""

import pytest

from cheops.applications.concern import Concern, concern
from cheops.applications.paths import segments
from cheops.applications.rids import rid_of
from cheops.record.operation import Kind
from cheops.record.resource import Named, Summary
from unit.applications.known import (
    A_NOTE,
    A_PAGE,
    A_SERVER,
    AN_IMAGE,
    CLOUD,
    IMAGE_ID,
    KUBERNETES,
    NETWORK,
    NETWORK_1,
    NOTE,
    NOTES,
    OPENSTACK,
    PAGE,
    PLAIN,
    REGISTRY,
    SERVER,
    SERVER_1,
    SERVER_2,
    SHOP,
    named,
)


def nova(method: str, target: str, body: bytes | None = None) -> Concern:
    return concern(method, target, "compute", OPENSTACK, CLOUD, "Site1", body)


def notes(method: str, target: str, here: str = "Site1") -> Concern:
    return concern(method, target, "notes", PLAIN, NOTES, here)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", ()),
        ("/notes/", ("notes",)),
        ("/a%2Fb/c%20d?x=/y", ("a/b", "c d")),
        (b"/caf\xc3\xa9", ("café",)),
        ("/caf%C3%A9", ("café",)),
        ("/a//b", ("a", "", "b")),
        ("*", ()),
    ],
)
def test_segments(target: str | bytes, path: tuple[str, ...]) -> None:
    assert segments(target) == path


@pytest.mark.parametrize(
    ("method", "below", "kind", "facet"),
    [
        ("GET", "", None, ""),
        ("HEAD", "/metadata", None, "metadata"),
        ("PUT", "", Kind.MERGE, ""),  # as nova means it
        ("PATCH", "", Kind.MERGE, ""),
        ("DELETE", "", Kind.DELETE, ""),
        ("POST", "/action", Kind.ACTION, "action"),
        ("PUT", "/metadata", Kind.REPLACE, "metadata"),
        ("PATCH", "/metadata", Kind.MERGE, "metadata"),
        ("DELETE", "/metadata/colour", Kind.REPLACE, "metadata/colour"),
        ("DELETE", "/os-interface/abc", Kind.REPLACE, "os-interface/abc"),  # isn't managed, so it is a part
    ],
)
@pytest.mark.parametrize("id_", [SERVER_1, SERVER_2, SERVER])
def test_a_managed_server(id_: str, method: str, below: str, kind: Kind | None, facet: str) -> None:
    found = nova(method, f"/v2.1/servers/{id_}{below}")
    assert (found.summary, found.kind, found.facet, found.id) == (A_SERVER, kind, facet, id_)
    assert (found.type, found.collection, found.places) == ("server", "/v2.1/servers", ((2, SERVER),))


def test_what_is_made_inside_of_a_managed_one() -> None:
    found = nova("POST", f"/v2.1/servers/{SERVER_1}/os-interface")
    assert (found.summary, found.parent, found.kind, found.type) == (None, A_SERVER, Kind.CREATE, "interface")
    assert found.collection == f"/v2.1/servers/{SERVER}/os-interface"
    assert found.id == ""


def test_an_action_is_known_by_the_body() -> None:
    lock = nova("POST", f"/v2.1/servers/{SERVER_1}/action", b'{"lock": null}')
    reboot = nova("POST", f"/v2.1/servers/{SERVER_1}/action", b'{"reboot": {"type": "SOFT"}}')
    assert (lock.repeats, reboot.repeats, lock.commutes) == (True, False, False)
    for hostile in (b"", b"[", b"[1]", b'"lock"', b"\xff", b"[" * 100_000):
        assert not nova("POST", f"/v2.1/servers/{SERVER_1}/action", hostile).repeats


def test_ids_of_others_inside_of_a_part() -> None:
    found = nova("DELETE", f"/v2.1/servers/{SERVER_1}/os-interface/{NETWORK_1}")
    assert found.facet == f"os-interface/{NETWORK}"
    assert found.places == ((2, SERVER), (4, NETWORK))


def test_lists_and_creations() -> None:
    assert nova("GET", "/v2.1/servers").lists
    assert nova("GET", "/v2.1/servers/detail?limit=2").lists
    assert not nova("GET", f"/v2.1/servers/{SERVER_1}").lists
    created = nova("POST", "/v2.1/servers")
    assert (created.kind, created.type, created.id, created.lists, created.repeats) == (
        Kind.CREATE,
        "server",
        "",
        False,
        False,
    )


def test_the_content_of_an_image() -> None:
    found = concern("PUT", f"/v2/images/{IMAGE_ID}/file", "image", OPENSTACK, CLOUD, "Site2")
    assert (found.summary, found.kind, found.facet, found.repeats) == (AN_IMAGE, Kind.REPLACE, "file", True)
    assert found.places == ((2, IMAGE_ID),)


def test_another_service_has_other_resources_at_the_same_path() -> None:
    assert concern("GET", f"/v2/images/{IMAGE_ID}", "compute", OPENSTACK, CLOUD, "Site1").summary is None


@pytest.mark.parametrize(("here", "id_"), [("Site1", "5"), ("Site2", "7"), ("Site3", NOTE), ("Site1", NOTE)])
def test_without_a_description(here: str, id_: str) -> None:
    found = notes("DELETE", f"/notes/{id_}", here)
    assert (found.summary, found.kind, found.type, found.collection) == (A_NOTE, Kind.DELETE, "notes", "/notes")
    assert (found.facet, found.rules, found.lists) == ("", None, False)


def test_a_short_id_of_another_site_may_be_another_thing() -> None:
    assert notes("DELETE", "/notes/7", "Site1").summary is None
    assert notes("DELETE", "/notes/5", "Site3").summary is None


@pytest.mark.parametrize(
    ("method", "target", "summary", "kind", "facet"),
    [
        ("GET", "/notes/5/pages/5", A_PAGE, None, ""),
        ("PATCH", "/notes/5/pages/5", A_PAGE, Kind.MERGE, ""),
        ("PUT", "/notes/5/pages/6", A_NOTE, Kind.REPLACE, "pages/6"),
        ("POST", "/notes/5/pages", A_NOTE, Kind.ACTION, "pages"),
        ("POST", "/notes/5", A_NOTE, Kind.ACTION, ""),
        ("DELETE", "/notes/5/pages", A_NOTE, Kind.REPLACE, "pages"),
    ],
)
def test_below_a_managed_one(method: str, target: str, summary: Summary, kind: Kind | None, facet: str) -> None:
    found = notes(method, target)
    assert (found.summary, found.kind, found.facet) == (summary, kind, facet)


def test_the_deepest_counts_and_each_place_is_its_own() -> None:
    found = notes("GET", "/notes/5/pages/5/lines/1")
    assert (found.summary, found.parent, found.facet) == (A_PAGE, A_NOTE, "lines/1")
    assert found.places == ((1, NOTE), (3, PAGE))
    assert found.collection == f"/notes/{NOTE}/pages"


def test_what_nobody_manages() -> None:
    made = notes("POST", "/books")
    assert (made.summary, made.kind, made.type, made.collection, made.id) == (None, Kind.CREATE, "books", "/books", "")
    put = notes("PUT", "/books/dune")
    assert (put.summary, put.kind, put.type, put.collection, put.id) == (None, Kind.REPLACE, "books", "/books", "dune")
    assert notes("GET", "/books").lists


def test_the_local_id_wins_over_the_same_id_of_another_site() -> None:
    mine = Summary(rid=rid_of("notes", "notes", "/notes", "a"), service="notes", type="notes", collection="/notes")
    same = "44444444-0000-4000-8000-000000000004"
    both = [Named(value=same, site="Site2", summary=A_NOTE), Named(value=same, site="Site1", summary=mine)]
    for order in (both, both[::-1]):
        assert concern("GET", f"/notes/{same}", "notes", PLAIN, order, "Site1").summary == mine
        assert concern("GET", f"/notes/{same}", "notes", PLAIN, order, "Site2").summary == A_NOTE


def test_what_lives_wins_over_what_is_gone() -> None:
    gone = Summary(rid=NOTE, service="notes", type="notes", collection="/notes", gone=True)
    lives = Summary(rid=PAGE, service="notes", type="notes", collection="/notes")
    both = [Named(value="5", site="Site1", summary=gone), Named(value="5", site="Site1", summary=lives)]
    assert concern("GET", "/notes/5", "notes", PLAIN, both, "Site1").summary == lives
    assert concern("GET", "/notes/5", "notes", PLAIN, both[:1], "Site1").summary == gone


SHOP_BUCKET = Summary(
    rid=rid_of("catalog", "bucket", "/v1/buckets", "shop"),
    service="catalog",
    type="bucket",
    collection="/v1/buckets",
    chosen="shop",
)
RECORDS = "/v1/buckets/shop/collections/tea/records"


def test_a_record_that_may_be_made_inside_of_a_managed_bucket() -> None:
    found = concern("PUT", f"{RECORDS}/r1", "catalog", SHOP, named(SHOP_BUCKET), "Site1")
    assert (found.summary, found.parent, found.kind, found.type) == (None, SHOP_BUCKET, Kind.REPLACE, "record")
    assert (found.collection, found.id) == (RECORDS, "r1")
    posted = concern("POST", RECORDS, "catalog", SHOP, named(SHOP_BUCKET), "Site1")
    assert (posted.kind, posted.repeats, posted.parent) == (Kind.CREATE, True, SHOP_BUCKET)


@pytest.mark.parametrize(
    ("service", "method", "target", "makes"),
    [
        ("compute", "POST", "/v2.1/servers", True),
        ("compute", "PUT", "/v2.1/servers/web", False),  # nova makes the ids
        ("compute", "PUT", "/v2.1/flavors/small", False),  # a merge
        ("image", "PUT", f"/v2/images/{IMAGE_ID}/file", False),
        ("image", "POST", "/v2/images", True),
        ("image", "PUT", "/anything/else", True),
        ("image", "DELETE", "/v2/images/x", False),
        ("image", "GET", "/v2/images", False),
    ],
)
def test_what_may_make_something(service: str, method: str, target: str, makes: bool) -> None:
    assert concern(method, target, service, OPENSTACK, CLOUD, "Site1").may_make is makes


def test_all_of_a_collection_at_once() -> None:
    found = concern("DELETE", RECORDS, "catalog", SHOP, named(SHOP_BUCKET), "Site1")
    assert (found.whole, found.summary, found.parent) == (True, None, SHOP_BUCKET)


def test_the_same_name_in_another_bucket_is_another_thing() -> None:
    tea = Summary(
        rid=PAGE, service="catalog", type="collection", collection="/v1/buckets/shop/collections", chosen="tea"
    )
    other = concern("GET", "/v1/buckets/other/collections/tea", "catalog", SHOP, named(tea), "Site1")
    below = concern("PUT", "/v1/buckets/other/collections/tea/records/r", "catalog", SHOP, named(tea), "Site1")
    assert (other.summary, below.summary, below.parent) == (None, None, None)
    assert concern("GET", "/v1/buckets/shop/collections/tea", "catalog", SHOP, named(tea), "Site1").summary == tea


def test_kubernetes_names() -> None:
    maps = "/api/v1/namespaces/default/configmaps"
    found = concern("PUT", f"{maps}/settings", "kubernetes", KUBERNETES, [], "Site1")
    assert (found.type, found.collection, found.id, found.kind) == ("configmap", maps, "settings", Kind.REPLACE)
    assert concern("GET", "/api/v1/configmaps", "kubernetes", KUBERNETES, [], "Site1").lists
    assert concern("POST", maps, "kubernetes", KUBERNETES, [], "Site1").repeats


def test_a_registry_s_names_have_slashes() -> None:
    found = concern("PUT", "/v2/library/tea/manifests/latest", "registry", REGISTRY, [], "Site1")
    assert (found.type, found.collection, found.id) == ("manifest", "/v2/library/tea/manifests", "latest")
    begun = concern("POST", "/v2/library/tea/blobs/uploads/", "registry", REGISTRY, [], "Site1")
    assert (begun.type, begun.kind, begun.alone) == ("upload", Kind.CREATE, True)
    chunk = concern("PATCH", f"/v2/library/tea/blobs/uploads/{SERVER_1}?_state=x", "registry", REGISTRY, [], "Site1")
    assert (chunk.type, chunk.kind, chunk.repeats, chunk.alone) == ("upload", Kind.ACTION, False, True)


@pytest.mark.parametrize("target", ["/", "*", "//", "/%", "/%zz/%00", "/" + "a/" * 5000, b"/\xff\xfe", "/..;/{id}"])
def test_hostile_targets(target: str | bytes) -> None:
    for application, service in ((PLAIN, "notes"), (OPENSTACK, "compute"), (REGISTRY, "registry")):
        assert concern("GET", target, service, application, CLOUD, "Site1").summary is None
