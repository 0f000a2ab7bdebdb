"""`A % B` on a collection of Kinto: one collection, whose records are each at the site that was asked for them.

Everything is real: three sites with Envoy, agents, links and disks, and a Kinto on each that knows of no other.
"""

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cheops.lab.lab import Lab
from end_to_end.asking import Reply, ask, wait_for
from end_to_end.raw import admin, read_settings, settings_of, take_up

COLLECTIONS = "/v1/buckets/shop/collections"
SHOP = "Basic " + b64encode(b"shop:shop").decode()
SITES = ("Site1", "Site2", "Site3")
ALL = "{catalog: Site1 % Site2 % Site3}"
_numbers = count(1)


@pytest.fixture(scope="module")
def whole_lab(lab_of: Callable[..., Lab]) -> Lab:
    """Its sites have credentials of their own, with which a part is made that nobody asks for any more."""
    lab = lab_of("shop", sites=3)
    for site in SITES:
        settings = read_settings(settings_of(lab, site))
        take_up(lab, site, {**settings, "credentials": {"catalog": {"kind": "header", "value": SHOP}}})
    wait_for(lambda: all(states(lab, site) == {"up"} for site in SITES), "all are up", 60)
    return lab


@pytest.fixture
def lab(whole_lab: Lab) -> Iterator[Lab]:
    """The lab, mended afterwards."""
    yield whole_lab
    whole_lab.heal()
    for site in whole_lab.sites:
        if site.status()["pids"]["agent"] is None:
            whole_lab.restart(site.name, "agent")
    wait_for(lambda: all(states(whole_lab, site) == {"up"} for site in SITES), "all are up", 60)


@pytest.fixture
def sales(lab: Lab) -> str:
    """The path of a new collection of all sites."""
    return made(lab, ALL)


@pytest.fixture
def records(sales: str) -> str:
    return f"{sales}/records"


def made(lab: Lab, scope: str) -> str:
    path = f"{COLLECTIONS}/sales-{next(_numbers)}"
    answer = call(lab, "Site1", "PUT", path, {"kind": "sales"}, scope)
    assert answer.status == 201, answer.body
    return path


def states(lab: Lab, site: str) -> set[str]:
    return {peer["state"] for peer in admin(lab, site, "/sites")["peers"]}


def call(
    lab: Lab, site: str, method: str, path: str, data: Any = None, scope: str | None = None, **headers: str
) -> Reply:
    named = {"Authorization": SHOP, "Content_Type": "application/json"} | headers
    body = None if data is None else {"data": data}
    return ask(lab.site(site).front("catalog") + path, method, scope=scope, send=body, **named)


def add(lab: Lab, site: str, records: str, **fields: Any) -> str:
    """The id of a new record, which is made where it is asked for."""
    answer = call(lab, site, "POST", records, fields)
    assert (answer.status, answer.headers["cheops-served-by"]) == (201, site), answer.body
    return str(answer.json["data"]["id"])


def filled(lab: Lab, records: str, **how_many: int) -> dict[str, str]:
    """Adds so many records at these sites; the site of each, by its id."""
    return {
        add(lab, site, records, sku=f"{site}-{n}", price=n % 3, shelf=n % 2): site
        for site, number in how_many.items()
        for n in range(number)
    }


def items(answer: Reply) -> list[dict[str, Any]]:
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json["data"]
    return found


def placed(answer: Reply) -> dict[str, str]:
    """By id the site of each record; none comes twice."""
    found = items(answer)
    assert len({one["id"] for one in found}) == len(found)
    return {one["id"]: one["cheops_site"] for one in found}


def own(lab: Lab, site: str, path: str) -> Reply:
    """What the service of a site itself says."""
    return ask(lab.site(site).backend("catalog") + path, Authorization=SHOP)


def ids_at(lab: Lab, site: str, records: str) -> set[str]:
    return {one["id"] for one in items(own(lab, site, records))}


def pages(lab: Lab, site: str, target: str) -> Iterator[Reply]:
    url = lab.site(site).front("catalog") + target
    while url:
        answer = ask(url, Authorization=SHOP)
        assert answer.status == 200, answer.body
        yield answer
        url = answer.headers.get("next-page", "")
        assert url.startswith(lab.site(site).front("catalog") if url else "")


def paged(lab: Lab, site: str, target: str) -> list[dict[str, Any]]:
    return [one for answer in pages(lab, site, target) for one in items(answer)]


def cheops(lab: Lab, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).parent / "cheops"), *words]
    environment = os.environ | {"CHEOPS_LAB": str(lab.folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def rid_of(lab: Lab, sales: str) -> str:
    return call(lab, "Site1", "GET", sales).headers["cheops-resource"]


# Making


def test_a_collection_is_made_on_all_of_its_sites(lab: Lab) -> None:
    path = f"{COLLECTIONS}/everywhere"
    answer = call(lab, "Site2", "PUT", path, {"kind": "all"}, ALL)
    assert answer.status == 201, answer.body
    assert set(answer.headers["cheops-outcome"].split(", ")) == {f"{site}=201" for site in SITES}
    assert all(own(lab, site, path).status == 200 for site in SITES)
    for site in SITES:
        whole = call(lab, site, "GET", path)
        assert (whole.json["data"]["kind"], whole.headers["cheops-resource"]) == ("all", rid_of(lab, path))


def test_if_one_site_refuses_none_has_it(lab: Lab) -> None:
    """The bucket is somebody else's at Site3, so it takes nothing from the shop."""
    for site in SITES:
        owner = "shop:shop" if site != "Site3" else "other:other"
        header = "Basic " + b64encode(owner.encode()).decode()
        bucket = lab.site(site).backend("catalog") + "/v1/buckets/half"
        assert ask(bucket, "PUT", Authorization=header).status == 201
    answer = call(lab, "Site1", "PUT", "/v1/buckets/half/collections/sales", {"kind": "half"}, ALL)
    assert answer.status == 403, answer.body
    assert "Site3=403" in answer.headers["cheops-outcome"]
    for site in ("Site1", "Site2"):
        path = "/v1/buckets/half/collections/sales"
        wait_for(lambda site=site, path=path: own(lab, site, path).status == 404, f"{site} has none")


def test_nothing_is_sent_anywhere_while_a_site_is_away(lab: Lab) -> None:
    lab.cut("Site1", "Site3")
    wait_for(lambda: "down" in states(lab, "Site1"), "Site1 has found it")
    path = f"{COLLECTIONS}/away"
    answer = call(lab, "Site1", "PUT", path, {"kind": "away"}, ALL)
    assert (answer.status, answer.json["code"], answer.json["sites"]) == (503, "holder-unreachable", ["Site3"])
    assert [own(lab, site, path).status for site in SITES] == [404, 404, 404]


# Records


def test_a_record_is_where_it_was_asked_for_and_listed_everywhere(lab: Lab, records: str) -> None:
    there = filled(lab, records, Site1=2, Site2=3, Site3=1)
    for site in SITES:
        assert placed(call(lab, site, "GET", records)) == there
        assert ids_at(lab, site, records) == {id_ for id_, at in there.items() if at == site}


def test_one_is_read_changed_and_deleted_by_its_id_from_anywhere(lab: Lab, records: str) -> None:
    one = f"{records}/{add(lab, 'Site2', records, sku='far', price=1)}"
    assert call(lab, "Site3", "GET", one).json["data"]["sku"] == "far"
    head = call(lab, "Site1", "HEAD", one)
    assert (head.status, head.headers["etag"]) == (200, own(lab, "Site2", one).headers["etag"])
    assert call(lab, "Site3", "GET", one, If_None_Match=head.headers["etag"]).status == 304
    assert call(lab, "Site1", "PATCH", one, {"price": 2}).json["data"]["price"] == 2
    assert call(lab, "Site1", "PATCH", one, {"price": 3}, If_Match=head.headers["etag"]).status == 412
    assert call(lab, "Site3", "PUT", one, {"sku": "new"}).status == 200
    assert own(lab, "Site2", one).json["data"]["sku"] == "new"
    assert [own(lab, site, one).status for site in ("Site1", "Site3")] == [404, 404]
    assert call(lab, "Site1", "DELETE", one).status == 200
    assert call(lab, "Site3", "GET", one).status == 404
    assert own(lab, "Site2", one).status == 404


@pytest.mark.parametrize("headers", [{}, {"If_None_Match": "*"}])
def test_a_chosen_id_means_the_record_that_has_it_at_whatever_site(
    lab: Lab, records: str, headers: dict[str, str]
) -> None:
    one = f"{records}/chosen"
    first = call(lab, "Site3", "PUT", one, {"sku": "first"}, **headers)
    assert (first.status, first.headers["cheops-served-by"]) == (201, "Site3")
    again = call(lab, "Site1", "PUT", one, {"sku": "second"}, **headers)
    assert again.status == (412 if headers else 200)
    assert placed(call(lab, "Site2", "GET", records)) == {"chosen": "Site3"}
    assert own(lab, "Site3", one).json["data"]["sku"] == ("first" if headers else "second")


def test_a_scope_of_one_site_means_its_part_alone(lab: Lab, records: str) -> None:
    there = filled(lab, records, Site1=1, Site2=1)
    mine, far = there
    scoped = call(lab, "Site1", "GET", records, scope="{catalog: Site2}")
    assert [one["id"] for one in items(scoped)] == [far]
    posted = call(lab, "Site1", "POST", records, {"sku": "sent"}, "{catalog: Site2}")
    assert (posted.status, posted.headers["cheops-served-by"]) == (201, "Site2"), posted.body
    assert posted.json["data"]["id"] in ids_at(lab, "Site2", records)
    assert call(lab, "Site3", "PATCH", f"{records}/{far}", {"price": 9}, "{catalog: Site2}").status == 200
    assert call(lab, "Site3", "PATCH", f"{records}/{mine}", {"price": 9}, "{catalog: Site2}").status == 404
    assert call(lab, "Site2", "GET", f"{records}/{mine}", scope="{catalog: Site2}").status == 404
    assert call(lab, "Site1", "DELETE", f"{records}?sku=sent", scope="{catalog: Site2}").status == 200
    assert ids_at(lab, "Site2", records) == {far}


def test_the_whole_is_changed_on_all_sites_and_not_on_one_alone(lab: Lab, sales: str) -> None:
    refused = call(lab, "Site1", "PATCH", sales, {"kind": "one"}, "{catalog: Site2}")
    assert (refused.status, refused.json["code"]) == (409, "subset")
    assert "Site1 % Site2 % Site3" in refused.json["detail"]
    assert call(lab, "Site3", "PATCH", sales, {"kind": "new"}).status == 200
    assert [own(lab, site, sales).json["data"]["kind"] for site in SITES] == ["new"] * 3


def test_all_records_at_once_are_not_deleted_by_one_request(lab: Lab, records: str) -> None:
    filled(lab, records, Site1=1, Site2=1)
    answer = call(lab, "Site1", "DELETE", records)
    assert (answer.status, answer.json["code"]) == (501, "not-yet")
    assert "{catalog: Site1}" in answer.json["hint"]
    assert len(items(call(lab, "Site3", "GET", records))) == 2


# Lists


def test_a_list_is_filtered_and_sorted_as_a_service_does_it(lab: Lab, records: str) -> None:
    filled(lab, records, Site1=3, Site2=5, Site3=1)
    every = items(call(lab, "Site1", "GET", records))
    assert [one["last_modified"] for one in every] == sorted((one["last_modified"] for one in every), reverse=True)
    (only,) = items(call(lab, "Site1", "GET", f"{records}?sku=Site2-4"))
    assert only["cheops_site"] == "Site2"
    assert len(items(call(lab, "Site1", "GET", f"{records}?min_price=1&_sort=sku"))) == 5

    def by(order: str) -> list[tuple[Any, ...]]:
        found = items(call(lab, "Site2", "GET", f"{records}?_sort={order}"))
        return [(one["price"], one["shelf"], one["sku"]) for one in found]

    whole = [(one["price"], one["shelf"], one["sku"]) for one in every]
    assert by("sku") == sorted(whole, key=lambda one: one[2])
    assert by("-sku") == sorted(whole, key=lambda one: one[2], reverse=True)
    assert by("shelf,-price,sku") == sorted(whole, key=lambda one: (one[1], -one[0], one[2]))


@pytest.mark.parametrize("order", ["", "sku", "-sku", "price,-sku", "-shelf,price,sku"])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_pages_have_each_record_once_and_in_order(lab: Lab, order: str, limit: int) -> None:
    records = uneven(lab)
    query = f"?_limit={limit}" + (f"&_sort={order}" if order else "")
    found = paged(lab, "Site2", records + query)
    wanted = items(call(lab, "Site1", "GET", records + (f"?_sort={order}" if order else "")))
    assert len(found) == len({one["id"] for one in found}) == 13
    assert [one["id"] for one in found] == [one["id"] for one in wanted]
    assert all(1 <= len(items(answer)) <= limit for answer in pages(lab, "Site3", records + query))


_uneven: dict[int, str] = {}


def uneven(lab: Lab) -> str:
    """One collection for all that only read: eleven records at Site3, two at Site1, none at Site2."""
    if id(lab) not in _uneven:
        _uneven[id(lab)] = f"{made(lab, ALL)}/records"
        filled(lab, _uneven[id(lab)], Site3=11, Site1=2)
    return _uneven[id(lab)]


def test_what_comes_and_goes_while_one_pages_costs_no_other_record(lab: Lab, records: str) -> None:
    """Newest first, so that what is new comes in before what was told already, as does what is changed."""
    there = filled(lab, records, Site1=6, Site2=6)
    told, answers = list[str](), pages(lab, "Site1", f"{records}?_limit=4")
    for number, answer in enumerate(answers):
        told += [one["id"] for one in items(answer)]
        if number == 0:
            filled(lab, records, Site2=2)
            assert call(lab, "Site1", "PATCH", f"{records}/{told[0]}", {"price": 9}).status == 200
        if number == 1:
            assert call(lab, "Site1", "DELETE", f"{records}/{told[-2]}").status == 200
    assert sorted(told) == sorted(there)


def test_head_counts_the_records_of_all_sites(lab: Lab) -> None:
    records = uneven(lab)
    for query, number in (("", 13), ("?price=0", 5), ("?_limit=2", 13)):
        answer = call(lab, "Site2", "HEAD", records + query)
        assert (answer.status, answer.body) == (200, b"")
        assert (answer.headers["total-objects"], answer.headers["total-records"]) == (str(number), str(number))
    assert "total-objects" not in call(lab, "Site1", "HEAD", COLLECTIONS).headers  # parts are no collections


def test_since_is_each_site_s_own_time(lab: Lab, records: str) -> None:
    """Nothing after it is left out, or comes twice; who goes on from what was told asks with the time of each site."""
    before = filled(lab, records, Site1=1, Site2=2, Site3=1)
    times = dict.fromkeys(SITES, 0)
    for one in items(call(lab, "Site1", "GET", records)):
        times[one["cheops_site"]] = max(times[one["cheops_site"]], one["last_modified"])
    after = filled(lab, records, Site3=1, Site1=1)
    gone = next(id_ for id_, site in before.items() if site == "Site2")
    assert call(lab, "Site1", "DELETE", f"{records}/{gone}").status == 200
    found = placed(call(lab, "Site2", "GET", f"{records}?_since={min(times.values()) - 1}"))
    assert after.items() <= found.items()
    assert len(items(call(lab, "Site2", "GET", f"{records}?_since=1"))) == 6
    news = [one for site in SITES for one in since(lab, records, site, times[site])]
    assert sorted(one["id"] for one in news) == sorted([*after, gone])
    assert [one["id"] for one in news if one.get("deleted")] == [gone]


def since(lab: Lab, records: str, site: str, when: int) -> list[dict[str, Any]]:
    return items(call(lab, "Site1", "GET", f"{records}?_since={when}", scope=f"{{catalog: {site}}}"))


def test_conditions_of_one_site_leave_nothing_out_of_a_list(lab: Lab) -> None:
    records = uneven(lab)
    etag = own(lab, "Site3", records).headers["etag"]
    for headers in ({"If_None_Match": etag}, {"If_Modified_Since": "Wed, 21 Oct 2037 07:28:00 GMT"}):
        assert len(items(call(lab, "Site1", "GET", records, **headers))) == 13


# Other collections


def test_other_collections_are_each_site_s_own_as_before(lab: Lab, sales: str) -> None:
    products = f"{COLLECTIONS}/products/records"
    assert {one["id"] for one in items(call(lab, "Site1", "GET", products))} == {"tea", "bread"}
    for method, status in (("GET", 404), ("PATCH", 404), ("DELETE", 404)):
        data = {"price": 1} if method == "PATCH" else None
        assert call(lab, "Site1", method, f"{products}/coffee", data).status == status
    assert call(lab, "Site1", "PUT", f"{products}/coffee", {"price": 1}).status == 201
    assert own(lab, "Site2", f"{products}/coffee").json["data"]["price"] == 720
    assert call(lab, "Site1", "DELETE", f"{products}/coffee").status == 200
    assert own(lab, "Site2", f"{products}/coffee").status == 200


@pytest.mark.parametrize(
    "path", ["/v1/", "/v1/buckets/shop", "/v1/buckets/shop/groups", f"{COLLECTIONS}/products/records/tea"]
)
def test_reads_of_what_spans_no_sites_never_meet_the_agent(lab: Lab, sales: str, path: str) -> None:
    mark = f"?_since=1&mark={next(_numbers)}" if path.endswith("groups") else f"?mark={next(_numbers)}"
    ask(lab.site("Site1").front("catalog") + path + mark, Authorization=SHOP)
    site = lab.site("Site1")
    lines = wait_for(lambda: [x for x in site.access_log() if x["path"] == path + mark], "it is logged")
    assert [(line["listener"], line["to"]) for line in lines] == [("front", "missed/catalog")]


# A cut


def test_while_cut_off_both_sides_go_on_and_lists_say_what_is_missing(lab: Lab, records: str) -> None:
    there = filled(lab, records, Site1=1, Site2=2, Site3=1)
    lab.cut("Site1", "Site2")
    lab.cut("Site3", "Site2")
    for site in SITES:
        there[add(lab, site, records, sku="meanwhile")] = site
    here = {id_: site for id_, site in there.items() if site != "Site2"}
    answer = call(lab, "Site1", "GET", records)
    assert placed(answer) == here
    assert answer.headers["cheops-outcome"] == "Site1=200, Site2=unreachable, Site3=200"
    other = call(lab, "Site2", "GET", records)
    assert placed(other).keys() == there.keys() - here.keys()
    assert "Site1=unreachable" in other.headers["cheops-outcome"]
    unsure = call(lab, "Site1", "GET", f"{records}/{next(id_ for id_, site in there.items() if site == 'Site2')}")
    assert (unsure.status, unsure.headers["cheops-outcome"]) == (404, "Site2=unreachable")
    for answer in pages(lab, "Site1", f"{records}?_limit=1"):
        assert "Site2=unreachable" in answer.headers["cheops-outcome"]
    lab.heal()
    for site in SITES:
        wait_for(lambda site=site: placed(call(lab, site, "GET", records)) == there, f"{site} lists all")


def test_an_agent_that_was_killed_knows_what_spans_sites(lab: Lab, records: str) -> None:
    there = filled(lab, records, Site1=1, Site2=1)
    lab.kill("Site1", "agent")
    wait_for(lambda: call(lab, "Site1", "GET", records).json["code"] == "agent-away", "none takes a part for the whole")
    assert call(lab, "Site2", "GET", records).headers["cheops-outcome"].endswith("Site1=200, Site3=200")
    lab.restart("Site1", "agent")
    assert placed(call(lab, "Site1", "GET", records)) == there


# Sites come and go


def test_a_site_joins_and_leaves_once_it_has_no_records(lab: Lab) -> None:
    sales = made(lab, "{catalog: Site1 % Site2}")
    records, rid = f"{sales}/records", rid_of(lab, sales)
    there = filled(lab, records, Site1=1, Site2=1)
    wait_for(lambda: call(lab, "Site3", "GET", records).status == 200, "who has no part asks one that has")
    assert placed(call(lab, "Site3", "GET", records)) == there
    sent = call(lab, "Site3", "POST", records, {"sku": "passed on"})
    assert (sent.status, own(lab, "Site3", sales).status) == (201, 404)
    moved(lab, rid, "{catalog: Site1 % Site2 % Site3}")
    one = add(lab, "Site3", records, sku="joined")
    assert placed(call(lab, "Site1", "GET", records))[one] == "Site3"
    refused = cheops(lab, "resource", "scope", rid, "{catalog: Site1 % Site2}", "--leave", "delete", "--site", "Site2")
    assert (refused.returncode, f"record {one} at Site3" in refused.stderr) == (1, True), refused.stderr
    assert call(lab, "Site1", "DELETE", f"{records}/{one}").status == 200
    moved(lab, rid, "{catalog: Site1 % Site2}", "--leave", "delete")
    assert own(lab, "Site3", sales).status == 404
    assert len(items(call(lab, "Site1", "GET", records))) == 3


def moved(lab: Lab, rid: str, scope: str, *more: str) -> None:
    done = cheops(lab, "resource", "scope", rid, scope, *more, "--site", "Site1")
    assert done.returncode == 0, done.stderr
    waited = cheops(lab, "wait", rid, "--converged", "--site", "Site1")
    assert waited.returncode == 0, waited.stderr


def test_records_go_with_their_collection_as_kinto_has_it(lab: Lab, sales: str) -> None:
    filled(lab, f"{sales}/records", Site1=1, Site2=1)
    answer = call(lab, "Site3", "DELETE", sales)
    assert (answer.status, answer.json["data"]["deleted"]) == (200, True)
    for site in SITES:
        assert own(lab, site, sales).status == 404
        assert call(lab, site, "GET", f"{sales}/records").status == 404
