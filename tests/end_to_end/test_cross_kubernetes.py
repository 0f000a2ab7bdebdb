"""A deployment that spans three clusters: `A % B % C` on real sites, and a service that has Kubernetes' conventions."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from cheops.lab.lab import Lab
from end_to_end.asking import ask, wait_for
from end_to_end.clusters import (
    ALL,
    DEPLOYMENTS,
    all_up,
    bodies,
    call,
    deployment,
    has_shares,
    made,
    outcomes,
    part,
    ready,
    shares,
    whole,
)
from end_to_end.raw import admin
from end_to_end.test_operating import cheops
from end_to_end.wire import Wire, request

SITES = ("Site1", "Site2", "Site3")


@pytest.fixture(scope="module")
def whole_lab(lab_of: Callable[..., Lab]) -> Lab:
    return lab_of(Path(__file__).parent / "apps" / "kubernetes", sites=3)


@pytest.fixture
def lab(whole_lab: Lab) -> Iterator[Lab]:
    """The lab, mended before and after."""
    all_up(whole_lab)
    yield whole_lab
    whole_lab.heal()
    all_up(whole_lab)


def down(lab: Lab, site: str, *others: str) -> None:
    """Cuts a site off from others, and waits until these know."""
    for other in others:
        lab.cut(site, other)
        wait_for(lambda other=other: state(lab, other, site) == "down", f"{other} knows", 60)


def state(lab: Lab, at: str, site: str) -> str:
    return next(peer["state"] for peer in admin(lab, at, "/sites")["peers"] if peer["site"] == site)


def test_ten_replicas_are_four_three_and_three_and_seen_from_anywhere_as_ten(lab: Lab) -> None:
    reply = call(lab, "Site1", "POST", DEPLOYMENTS, deployment("web"), ALL)
    assert reply.status == 201, reply.body
    assert outcomes(reply) == dict.fromkeys(SITES, "201")
    assert reply.json["spec"]["replicas"] == 10
    assert shares(lab, "web") == [4, 3, 3]
    for site in SITES:
        ready(lab, site, "web", 10)
        status = whole(lab, site, "web")["status"]
        assert [status[name] for name in ("replicas", "updatedReplicas", "availableReplicas")] == [10, 10, 10]
        assert "unavailableReplicas" not in status
        assert whole(lab, site, "web")["metadata"]["uid"] == part(lab, "Site1", "web")["metadata"]["uid"], "the prime's"


def test_a_creation_asks_each_site_once_whether_it_is_there(lab: Lab) -> None:
    """What a site lacks it doesn't look for at all others, which would look for it at all others."""
    made(lab, "once")
    for site in SITES:
        log = lab.folder / site / "data" / "log" / "access.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines() if "/once" in line]
        reads = [line for line in lines if line["method"] == "GET" and line["listener"] == "mesh"]
        assert len(reads) <= 1, reads


def test_a_merge_patch_from_another_site_than_the_prime_is_divided_again(lab: Lab) -> None:
    made(lab, "patched")
    reply = call(lab, "Site3", "PATCH", f"{DEPLOYMENTS}/patched", {"spec": {"replicas": 7}})
    assert (reply.status, reply.json["spec"]["replicas"]) == (200, 7)
    has_shares(lab, "patched", 3, 2, 2)
    ready(lab, "Site2", "patched", 7)


def test_what_was_read_is_written_back_whole_as_kubectl_replace_does(lab: Lab) -> None:
    """Its resourceVersion and uid are one site's; no other site is shown them."""
    made(lab, "replaced")
    ready(lab, "Site2", "replaced", 10)
    read = whole(lab, "Site2", "replaced")
    assert read["metadata"]["resourceVersion"]
    read["spec"]["replicas"] = 8
    reply = call(lab, "Site2", "PUT", f"{DEPLOYMENTS}/replaced", read)
    assert (reply.status, reply.json["spec"]["replicas"]) == (200, 8), reply.body
    has_shares(lab, "replaced", 4, 2, 2)
    ready(lab, "Site3", "replaced", 8)
    assert len({part(lab, site, "replaced")["metadata"]["uid"] for site in SITES}) == 3


def test_kubectl_scale_says_the_whole_number_too(lab: Lab) -> None:
    rid = made(lab, "scaled")
    reply = call(lab, "Site2", "PATCH", f"{DEPLOYMENTS}/scaled/scale", {"spec": {"replicas": 6}})
    assert reply.status == 200, reply.body
    has_shares(lab, "scaled", 2, 2, 2)
    ready(lab, "Site1", "scaled", 6)
    assert "moves it" in cheops(
        lab, "Site1", "resource", "scope", rid, "{kubernetes: Site1 % Site2}", "--leave", "delete"
    )
    has_shares(lab, "scaled", 3, 3, None)


def test_a_status_is_a_part_s_own(lab: Lab) -> None:
    made(lab, "stated")
    ready(lab, "Site1", "stated", 10)
    for site, number in zip(SITES, (4, 3, 3), strict=True):
        read = call(lab, site, "GET", f"{DEPLOYMENTS}/stated/status")
        assert read.json["status"]["readyReplicas"] == number


def test_a_list_tells_of_a_whole_once_and_with_its_sites(lab: Lab) -> None:
    made(lab, "listed")
    ready(lab, "Site1", "listed", 10)
    assert ask(lab.site("Site2").backend("kubernetes") + DEPLOYMENTS, "POST", send=deployment("own", 2)).status == 201
    for site in SITES:
        for path in (DEPLOYMENTS, "/apis/apps/v1/deployments"):
            reply = call(lab, site, "GET", f"{path}?labelSelector=app%3Dlisted")
            (item,) = reply.json["items"]
            assert item["cheops_site"] == "Site1 % Site2 % Site3"
            assert (item["spec"]["replicas"], item["status"]["readyReplicas"]) == (10, 10)
            assert reply.json["kind"] == "DeploymentList"
    assert call(lab, "Site1", "POST", "/api/v1/namespaces", {"metadata": {"name": "other"}}).status == 201
    other = DEPLOYMENTS.replace("default", "other")
    assert call(lab, "Site1", "POST", other, deployment("listed", 1)).status == 201
    found = call(lab, "Site1", "GET", "/apis/apps/v1/deployments?labelSelector=app%3Dlisted").json["items"]
    assert [(item["cheops_site"], item["spec"]["replicas"]) for item in found] == [
        ("Site1 % Site2 % Site3", 10),
        ("Site1", 1),
    ], "a namesake in another namespace isn't a part of it"
    names = [item["metadata"]["name"] for item in call(lab, "Site2", "GET", DEPLOYMENTS).json["items"]]
    assert names.count("listed") == names.count("own") == 1
    assert "own" not in [item["metadata"]["name"] for item in call(lab, "Site1", "GET", DEPLOYMENTS).json["items"]]


def test_a_list_goes_on_as_kubectl_asks_for_it(lab: Lab) -> None:
    for name in ("page-1", "page-2", "page-3"):
        reply = call(lab, "Site1", "POST", DEPLOYMENTS, with_label(name), "{kubernetes: Site1 % Site2}")
        assert reply.status == 201, reply.body
    names: list[str] = []
    more = ""
    for _ in range(4):
        page = call(lab, "Site2", "GET", f"{DEPLOYMENTS}?labelSelector=of%3Dpages&limit=1{more}").json
        names += [item["metadata"]["name"] for item in page["items"]]
        if not (token := page["metadata"].get("continue")):
            break
        more = f"&continue={quote(token, safe='')}"
    assert names == ["page-1", "page-2", "page-3"]


def with_label(name: str) -> dict[str, Any]:
    one = deployment(name, 2)
    one["metadata"]["labels"]["of"] = "pages"
    return one


def test_who_prefers_a_table_gets_the_whole_as_it_is(lab: Lab) -> None:
    """A table is made by the API server, of its part; kubectl then prints names and ages."""
    made(lab, "tabled")
    table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    for path in (f"{DEPLOYMENTS}/tabled", f"{DEPLOYMENTS}?labelSelector=app%3Dtabled"):
        found = call(lab, "Site3", "GET", path, Accept=table).json
        (item,) = found.get("items", [found])
        assert item["spec"]["replicas"] == 10
    assert call(lab, "Site3", "GET", f"{DEPLOYMENTS}/tabled/status", Accept=table).json["kind"] == "Table"


def test_a_watch_streams_its_site_s_own_part_at_once(lab: Lab) -> None:
    made(lab, "watched")
    has_shares(lab, "watched", 4, 3, 3)
    host, port = lab.site("Site2").front("kubernetes").removeprefix("http://").split(":")
    with Wire((host, int(port))) as wire:
        wire.send(request("GET", f"{DEPLOYMENTS}?watch=1&fieldSelector=metadata.name%3Dwatched".encode()))
        assert wire.head()[0] == 200
        first = json.loads(wire.chunk())
        assert (first["type"], first["object"]["spec"]["replicas"]) == ("ADDED", 3)
        call(lab, "Site1", "PATCH", f"{DEPLOYMENTS}/watched", {"spec": {"replicas": 30}})
        while (told := json.loads(wire.chunk())["object"])["status"].get("readyReplicas") != 10:
            assert told["spec"]["replicas"] in (3, 10)


def test_a_name_that_one_cluster_has_already_is_made_nowhere(lab: Lab) -> None:
    backend = lab.site("Site3").backend("kubernetes") + DEPLOYMENTS
    assert ask(backend, "POST", send=deployment("taken", 1)).status == 201
    reply = call(lab, "Site1", "POST", DEPLOYMENTS, deployment("taken"), ALL)
    assert (reply.status, reply.json["message"].partition(";")[0]) == (409, "Site3 has taken already")
    assert shares(lab, "taken") == [None, None, 1]


def test_two_sites_go_on_without_a_third_which_follows(lab: Lab) -> None:
    made(lab, "cut")
    down(lab, "Site3", "Site1", "Site2")
    reply = call(lab, "Site1", "PATCH", f"{DEPLOYMENTS}/cut", {"spec": {"replicas": 7}})
    assert outcomes(reply) == {"Site1": "200", "Site2": "200", "Site3": "pending"}
    assert shares(lab, "cut") == [3, 2, 3]
    read = call(lab, "Site3", "GET", f"{DEPLOYMENTS}/cut")
    assert (read.json["spec"]["replicas"], outcomes(read)["Site3"]) == (3, "200")
    lab.heal()
    has_shares(lab, "cut", 3, 2, 2)
    for site in SITES:
        ready(lab, site, "cut", 7)


def test_both_sides_scale_and_agree_on_the_last_number(lab: Lab) -> None:
    made(lab, "sides")
    down(lab, "Site3", "Site1", "Site2")
    assert call(lab, "Site1", "PATCH", f"{DEPLOYMENTS}/sides", {"spec": {"replicas": 7}}).status == 200
    assert call(lab, "Site3", "PATCH", f"{DEPLOYMENTS}/sides", {"spec": {"replicas": 20}}).status == 200
    lab.heal()
    has_shares(lab, "sides", 8, 6, 6)
    for site in SITES:
        ready(lab, site, "sides", 20)


def test_a_site_joins_and_another_leaves_and_the_shares_are_divided_anew(lab: Lab) -> None:
    rid = made(lab, "moving", scope="{kubernetes: Site1 % Site2}")
    assert shares(lab, "moving") == [5, 5, None]
    assert "moves it" in cheops(lab, "Site2", "resource", "scope", rid, ALL)
    has_shares(lab, "moving", 4, 3, 3)
    ready(lab, "Site3", "moving", 10)
    cheops(lab, "Site3", "resource", "scope", rid, "{kubernetes: Site1 % Site3}", "--leave", "delete")
    has_shares(lab, "moving", 5, None, 5)
    ready(lab, "Site2", "moving", 10)


def test_a_prime_that_is_lost_is_replaced(lab: Lab) -> None:
    rid = made(lab, "primed")
    down(lab, "Site1", "Site2", "Site3")
    scope = "{kubernetes: Site2 % Site3, prime: Site2}"
    assert "moves it" in cheops(lab, "Site2", "resource", "scope", rid, scope, "--leave", "delete")
    has_shares(lab, "primed", 4, 5, 5)
    ready(lab, "Site3", "primed", 10)
    reply = call(lab, "Site3", "PATCH", f"{DEPLOYMENTS}/primed", {"spec": {"replicas": 5}})
    assert outcomes(reply) == {"Site2": "200", "Site3": "200"}
    assert shares(lab, "primed") == [4, 3, 2]
    lab.heal()
    has_shares(lab, "primed", None, 3, 2)
    ready(lab, "Site1", "primed", 5)


def test_a_deletion_takes_all_parts(lab: Lab) -> None:
    rid = made(lab, "gone")
    reply = call(lab, "Site2", "DELETE", f"{DEPLOYMENTS}/gone")
    assert (reply.status, outcomes(reply)) == (200, dict.fromkeys(SITES, "200"))
    has_shares(lab, "gone", None, None, None)
    assert call(lab, "Site3", "GET", f"{DEPLOYMENTS}/gone").status == 404
    assert json.loads(cheops(lab, "Site1", "resource", "show", rid, "--json"))["resource"]["gone"]
    made(lab, "gone", 3)
    assert shares(lab, "gone") == [1, 1, 1]


ONLY = {"Cheops_Plan": "only"}


def test_the_plan_of_a_creation_shows_each_part_to_the_letter_and_sends_nothing(lab: Lab) -> None:
    asked = deployment("planned", resourceVersion="7")
    plan = call(lab, "Site2", "POST", DEPLOYMENTS, asked, ALL, **ONLY)
    assert (plan.json["collaboration"], plan.json["unreachable"]) == ("cross", [])
    parts = {site: deployment("planned", replicas) for site, replicas in zip(SITES, (4, 3, 3), strict=True)}
    assert bodies(plan) == parts
    assert shares(lab, "planned") == [None, None, None]


def test_the_plan_of_a_change_too(lab: Lab) -> None:
    made(lab, "foreseen")
    for path in ("", "/scale"):
        plan = call(lab, "Site3", "PATCH", f"{DEPLOYMENTS}/foreseen{path}", {"spec": {"replicas": 8}}, **ONLY)
        assert bodies(plan) == {s: {"spec": {"replicas": n}} for s, n in zip(SITES, (4, 2, 2), strict=True)}
    plan = call(lab, "Site3", "DELETE", f"{DEPLOYMENTS}/foreseen", **ONLY)
    assert [step["request"]["method"] for step in plan.json["steps"]] == ["DELETE"] * 3
    refused = call(lab, "Site3", "PATCH", f"{DEPLOYMENTS}/foreseen", {"spec": {"replicas": "many"}}, **ONLY)
    assert refused.status == 400
    assert shares(lab, "foreseen") == [4, 3, 3]
