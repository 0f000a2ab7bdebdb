"""What Envoy is told of peers: who may call, whom it asks whether it lives, what it logs and what clients may say."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cheops.config import Address, Peer, Site
from cheops.intercept.envoy.clusters import FEW, clusters
from cheops.intercept.envoy.fronts import front_routes
from cheops.intercept.envoy.listeners import _INTERNAL, listeners
from cheops.intercept.envoy.names import AGENT, AGENT_AWAY, AGENT_MESH, AGENT_SERVICE, PLAN, SERVICE, VIA
from cheops.intercept.envoy.routes import _open_to, mesh_routes
from cheops.ports import HEARTBEAT
from values import OPENSTACK, PLAIN, SHOP, site_of

Document = dict[str, Any]


def inside(value: Any) -> Iterator[Document]:
    """Every object of a document."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from inside(item)


def with_peers(count: int) -> Site:
    return site_of(SHOP, "Site1", {f"Site{n}": n for n in range(1, count + 2)})


# Who may call a service.


def departed(*names: str) -> Site:
    return replace(site_of(SHOP), departed=frozenset(names))


def decides(rbac: Document, caller: str) -> bool:
    """Whether Envoy's filter lets a caller pass: a plain reading of its documentation."""
    if not rbac:
        return True
    rules = rbac["cheops.peers"]["rbac"]["rules"]
    (policy,) = rules["policies"].values()
    assert policy["permissions"] == [{"any": True}]
    met = any(_is(principal, f"spiffe://test/site/{caller}") for principal in policy["principals"])
    return met is (rules["action"] == "ALLOW")


def _is(principal: Document, uri: str) -> bool:
    match principal:
        case {"not_id": {"any": True}}:
            return False
        case {"authenticated": {"principal_name": {"exact": name}}}:
            return bool(name == uri)
    raise AssertionError(f"unknown: {principal}")


@pytest.mark.parametrize(
    ("gone", "open_to", "may"),
    [
        ((), None, {"Site2", "Site3", "Site9"}),
        ((), (), set()),
        ((), ("Site2",), {"Site2"}),
        (("Site3",), None, {"Site2", "Site9"}),
        (("Site2", "Site3", "Site9"), None, set()),
        (("Site3",), ("Site2", "Site3"), {"Site2"}),
        (("Site2",), ("Site2",), set()),  # not everybody, since nobody is left
        (("Site2",), (), set()),
    ],
)
def test_who_may_call_a_service(gone: tuple[str, ...], open_to: tuple[str, ...] | None, may: set[str]) -> None:
    rbac = _open_to(departed(*gone), open_to)
    assert {caller for caller in ("Site2", "Site3", "Site9") if decides(rbac, caller)} == may


def test_of_the_departed_the_mesh_lets_heartbeats_through_alone() -> None:
    """Who has departed is told so: its agent asks this one's."""
    (host,) = mesh_routes(departed("Site2"))["virtual_hosts"]
    shut = [("cheops.peers" in route.get("typed_per_filter_config", {}), route["match"]) for route in host["routes"]]
    agent = {"headers": [{"name": SERVICE, "string_match": {"exact": AGENT_SERVICE}}]}
    assert [match for closed, match in shut if not closed] == [{"path": HEARTBEAT, **agent}, {"prefix": "/"}]
    assert (True, {"prefix": "/", **agent}) in shut


# Clusters.


def said_of(site: Site) -> dict[str, Document]:
    found = clusters(site)
    return {cluster["name"]: cluster["metadata"]["filter_metadata"]["cheops"] for cluster in found}


def test_every_cluster_says_in_words_and_by_a_code_what_it_means_that_it_does_not_answer() -> None:
    codes = {name: said["code"] for name, said in said_of(site_of(SHOP)).items()}
    assert {name for name, code in codes.items() if code == AGENT_AWAY} == {AGENT, AGENT_MESH}
    assert {code for name, code in codes.items() if name not in (AGENT, AGENT_MESH)} == {"unreachable"}
    assert all(said["site"] and said["sentence"].endswith(".") for said in said_of(site_of(SHOP)).values())


def test_the_code_is_what_envoy_answers() -> None:
    for listener in listeners(site_of(SHOP)):
        codes = [part["code"] for part in inside(listener) if "executed" in part and "code" in part]
        assert codes == ["not-open", "%CLUSTER_METADATA(cheops:code)%", "broken-off"], listener["name"]


@pytest.mark.parametrize(("count", "few"), [(1, True), (FEW, True), (FEW + 1, False), (60, False)])
def test_many_peers_are_not_asked_by_envoy_and_their_idle_links_are_closed(count: int, few: bool) -> None:
    peers = [cluster for cluster in clusters(with_peers(count)) if cluster["name"].startswith("site/")]
    assert len(peers) == count
    for cluster in peers:
        (common,) = [part["common_http_protocol_options"] for part in inside(cluster) if _COMMON in part]
        assert ("health_checks" in cluster, "idle_timeout" in common) == (few, not few)


_COMMON = "common_http_protocol_options"


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("10.0.0.5", "STATIC"),
        ("fd00::5", "STATIC"),
        ("site2.example", "STRICT_DNS"),
        ("1.2", "STRICT_DNS"),  # Envoy would refuse all clusters if one said that these are addresses
        ("999.1.1.1", "STRICT_DNS"),
        ("١.٢.٣.٤", "STRICT_DNS"),
    ],
)
def test_only_what_is_an_address_is_given_to_envoy_as_one(host: str, kind: str) -> None:
    site = site_of(SHOP)
    site = site.with_peers({"Site2": Peer(number=2, mesh=Address(host=host, port=1))}, ())
    (cluster,) = [cluster for cluster in clusters(site) if cluster["name"] == "site/Site2"]
    assert cluster["type"] == kind


# Logs.


def test_heartbeats_are_not_logged_where_agents_speak_and_all_else_is() -> None:
    def logged(listener: Document, path: str) -> bool:
        (log,) = [part["access_log"][0] for part in inside(listener) if "access_log" in part]
        filters = log.get("filter", {}).get("and_filter", {}).get("filters", [])
        headers = [each["header_filter"]["header"] for each in filters if "header_filter" in each]
        assert all((h["name"], h["invert_match"]) == (":path", True) for h in headers)
        return all(h["string_match"] != {"exact": path} for h in headers)

    for listener in listeners(site_of(SHOP)):
        front = listener["name"].startswith("front/")
        assert logged(listener, HEARTBEAT) is front, listener["name"]
        assert logged(listener, "/distances"), listener["name"]
        assert logged(listener, HEARTBEAT + "/x"), listener["name"]


# Plans.


@pytest.mark.parametrize("described", [SHOP, OPENSTACK, PLAIN])
def test_a_plan_is_never_answered_by_the_service_nor_from_the_table(described: Any) -> None:
    site = site_of(described)
    for service in site.settings.services:
        (host,) = front_routes(site, service)["virtual_hosts"]
        lists = [part["routes"] for part in inside(host["matcher"]) if "routes" in part]
        assert lists
        for routes in lists:
            at_once, *others = routes
            assert {"name": PLAN, "present_match": False} in at_once["match"]["headers"]
            assert others[-1]["name"] == "agent"
        if "exact_match_map" in json.dumps(host):
            assert _before_the_table(host["matcher"]) == {VIA, PLAN, *_ids(site)}


def _ids(site: Site) -> set[str]:
    return {site.application.request_id.header} if site.application.request_id else set()


def _before_the_table(matcher: Document) -> set[str]:
    """The headers that are looked at under an X-Scope, before its text is looked up."""
    (scoped,) = matcher["matcher_list"]["matchers"]
    matchers = scoped["on_match"]["matcher"]["matcher_list"]["matchers"]
    return {each["predicate"]["single_predicate"]["input"]["typed_config"]["header_name"] for each in matchers}


# What clients may not say.

WORDS = ("cheops-", "x-envoy-", "cheops", "via", "plan", "vi", "pla", "v", "p", "-", "x", "only", "executed", "to")


def is_internal(name: str) -> bool:
    """What only Cheops and Envoy may say."""
    clients = name in (VIA, PLAN) or name.startswith(("cheops-f", "cheops-de"))
    return name.startswith(("x-envoy-", "cheops-")) and not clients


@given(st.lists(st.sampled_from(WORDS), max_size=5).map("".join) | st.from_regex(r"cheops-[a-z-]{0,6}", fullmatch=True))
@example("cheops-")
@example("cheops-v")
@example("cheops-vi")
@example("cheops-p")
@example("cheops-pl")
@example("cheops-pla")
@example(VIA)
@example(PLAN)
@example("cheops-via-x")
@example("cheops-plans")
def test_a_front_takes_off_what_only_cheops_and_envoy_may_say(name: str) -> None:
    """RE2 and `re` agree on what these few means say; Envoy compares the whole name."""
    assert bool(re.fullmatch(_INTERNAL, name)) is is_internal(name)


def test_every_front_does_and_the_mesh_does_not() -> None:
    strips = {listener["name"]: _INTERNAL in json.dumps(listener) for listener in listeners(site_of(SHOP))}
    assert strips == {"front/catalog": True, "front/orders": True, "mesh": False, "egress": False}
