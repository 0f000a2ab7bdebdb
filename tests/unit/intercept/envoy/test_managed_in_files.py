"""What Envoy is told of services with replicated resources, and that all else stays as it was."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cheops.applications.concern import READS
from cheops.applications.spans import spanning_paths
from cheops.config import Site
from cheops.intercept.envoy.clusters import clusters
from cheops.intercept.envoy.files import watched_files
from cheops.intercept.envoy.fronts import front_routes
from cheops.intercept.envoy.names import AGENT, local, missed
from cheops.intercept.envoy.routes import egress_routes, mesh_routes
from unit.intercept.envoy.test_files import KINDS, complaint_about, folder, inside, made_static, names_of
from values import SHOP, SITES, application, site_of

Document = dict[str, Any]
__all__ = ["folder"]


def managed(site: Site, *services: str) -> Site:
    return replace(site, managed=frozenset(services))


def of(*services: str, at: Path = Path("/srv/cheops")) -> Site:
    return managed(site_of(SHOP, "Site1", SITES, at), *services)


def differing(one: Site, other: Site) -> set[str]:
    before, after = watched_files(one), watched_files(other)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_a_service_that_becomes_managed_changes_no_listener_and_no_other_front() -> None:
    """A changed listener drains its connections; routes and clusters drop none."""
    assert differing(of(), of("catalog")) == {"front-catalog.json", "mesh.json", "clusters.json"}
    assert differing(of("catalog"), of("catalog", "orders")) == {"front-orders.json", "mesh.json", "clusters.json"}


def test_one_that_this_site_does_not_run_changes_only_what_is_said_of_the_agent() -> None:
    assert differing(of(), of("elsewhere")) <= {"clusters.json"}


def test_what_the_agent_sends_to_the_service_never_comes_back_to_it() -> None:
    assert egress_routes(of("catalog", "orders")) == egress_routes(of())


def test_equal_settings_are_equal_files() -> None:
    assert watched_files(of("catalog", "orders")) == watched_files(of("orders", "catalog"))


@pytest.mark.parametrize("kind", KINDS)
def test_envoy_accepts_it(kind: str, folder: Path) -> None:
    described, sites = KINDS[kind]
    site = managed(site_of(described, "Site1", sites, folder), *described.services)
    files = watched_files(site)
    named = {part["cluster"] for part in inside(list(files.values())) if isinstance(part.get("cluster"), str)}
    assert named <= set(names_of(files["clusters.json"]))
    assert {missed(service) for service in described.services} <= named
    assert complaint_about(made_static(site), folder) == ""


def actions(document: Any) -> set[str]:
    """The clusters that routes lead to."""
    return {
        route.get("cluster") or route["cluster_header"]
        for part in inside(document)
        if isinstance(route := part.get("route"), dict)
    }


def by_method(site: Site, service: str) -> tuple[dict[str, Any], Any]:
    """By method, and for all others."""
    (host,) = front_routes(site, service)["virtual_hosts"]
    tree = host["matcher"]["matcher_tree"]
    assert tree["input"]["typed_config"]["header_name"] == ":method"
    return tree["exact_match_map"]["map"], host["matcher"]["on_no_match"]


def test_reads_lead_to_the_service_and_writes_never() -> None:
    reads, others = by_method(of("catalog"), "catalog")
    assert set(reads) == READS
    for read in reads.values():
        assert actions(read) == {missed("catalog"), "cheops-to", AGENT, "site/Site2", "site/Site3"}
    assert actions(others["matcher"]["on_no_match"]) == {AGENT, "cheops-to"}


def test_upgrades_do_as_reads_do() -> None:
    reads, others = by_method(of("catalog"), "catalog")
    (upgraded,) = others["matcher"]["matcher_list"]["matchers"]
    assert upgraded["on_match"] == reads["GET"]


NETS = application("""
    carriers: [{kind: header}, {kind: request-id, header: X-Request-ID}]
    services:
      network:
        number: 1
        resources:
          net: {collection: /v2.0/nets, span: {children: {port: {}}}}
          port: {collection: /v2.0/ports}
      plain: {number: 2, resources: {net: {collection: /v2.0/nets}}}
""")


def spanned(*services: str) -> Site:
    return replace(managed(site_of(NETS), "network", "plain"), spanned=frozenset(services))


def test_resources_that_span_sites_change_the_front_and_what_is_said_of_the_agent() -> None:
    assert differing(spanned(), spanned("network")) == {"front-network.json", "clusters.json"}
    assert differing(spanned("network"), spanned("network", "plain")) == {"clusters.json"}  # none of its types can
    said = json.dumps(clusters(spanned("network")), ensure_ascii=False)
    assert "but for writes of network, plain, and reads of what spans sites in network." in said


def test_reads_of_them_lead_where_writes_do_and_other_reads_where_they_did() -> None:
    before, _ = by_method(spanned(), "network")
    reads, others = by_method(spanned("network"), "network")
    assert reads["OPTIONS"] == before["OPTIONS"]
    for method in ("GET", "HEAD"):
        (concerned,) = reads[method]["matcher"]["matcher_list"]["matchers"]
        assert concerned["on_match"] == others["matcher"]["on_no_match"]
        assert reads[method]["matcher"]["on_no_match"] == before[method]


def test_a_read_of_them_is_known_by_its_path_unless_it_is_an_upgrade_or_a_watch() -> None:
    reads, others = by_method(spanned("network"), "network")
    (concerned,) = reads["GET"]["matcher"]["matcher_list"]["matchers"]
    path, upgrade, watch = concerned["predicate"]["and_matcher"]["predicate"]
    assert regex_of(path).split("|") == spanning_paths(NETS.services["network"])
    assert upgrade == {"not_matcher": others["matcher"]["matcher_list"]["matchers"][0]["predicate"]}
    watches = re.compile(regex_of(watch["not_matcher"]))
    for query in ("?watch=true", "?watch=1", "?a=b&watch=True", "?watch=true&a=b"):
        assert watches.fullmatch(f"/v2.0/nets{query}")
    for query in ("", "?watch=false", "?watch=0", "?watch=10", "?a=watch=true", "?nowatch=1", "?watch"):
        assert not watches.fullmatch(f"/v2.0/nets{query}")


def regex_of(predicate: dict[str, Any]) -> str:
    single = predicate["single_predicate"]
    assert single["input"]["typed_config"]["header_name"] == ":path"
    return str(single["value_match"]["safe_regex"]["regex"])


@pytest.mark.parametrize("kinds", [1, 60])
def test_envoy_accepts_their_paths(kinds: int, folder: Path) -> None:
    many = ", ".join(f"net{n}: {{collection: '/v2.0/{{p*}}/nets{n}', span: {{}}}}" for n in range(kinds))
    described = application(f"services: {{network: {{resources: {{{many}}}}}}}")
    site = managed(site_of(described, "Site1", SITES, folder), "network")
    assert complaint_about(made_static(replace(site, spanned=site.managed)), folder) == ""


def test_on_the_mesh_their_reads_go_to_the_service() -> None:
    assert mesh_routes(spanned("network")) == mesh_routes(spanned())


def test_on_the_mesh_a_write_and_what_is_meant_for_the_agent_go_to_its_door() -> None:
    (host,) = mesh_routes(of("catalog"))["virtual_hosts"]
    named: dict[str, list[tuple[str, list[str]]]] = {}
    for route in host["routes"]:
        headers = route["match"].get("headers", [])
        service = next((h["string_match"]["exact"] for h in headers if h["name"] == "cheops-service"), "")
        if "route" in route:
            named.setdefault(service, []).append((route["route"]["cluster"], [h["name"] for h in headers[1:]]))
    assert named["catalog"] == [
        (AGENT, ["cheops-door"]),
        (AGENT, [":method", "upgrade"]),
        (local("catalog"), ["cheops-passed"]),  # an agent asks this service alone, and no other that this one may ask
        (missed("catalog"), []),
    ]
    assert named["orders"] == [(AGENT, ["cheops-door"]), (local("orders"), [])]


def test_who_may_not_call_a_service_may_not_call_its_agent_for_it_either() -> None:
    site = replace(of("catalog"), departed=frozenset({"Site2"}))
    (host,) = mesh_routes(site)["virtual_hosts"]
    for route in host["routes"]:
        if any(h.get("string_match") == {"exact": "catalog"} for h in route["match"].get("headers", [])):
            assert "cheops.peers" in route["typed_per_filter_config"]


def test_no_number_of_misses_is_too_many_at_once() -> None:
    (cluster,) = [cluster for cluster in clusters(of("catalog")) if cluster["name"] == missed("catalog")]
    assert all(limits["max_retries"] >= 1_000_000 for limits in cluster["circuit_breakers"]["thresholds"])


def test_a_read_that_an_agent_sends_for_the_service_alone_never_leads_to_the_agent() -> None:
    (host,) = mesh_routes(of("catalog"))["virtual_hosts"]
    reads = [route for route in host["routes"] if route["name"] == "here" and names_catalog(route)]
    marked, others = reads
    assert marked["match"]["headers"][-1] == {"name": "cheops-passed", "present_match": True}
    assert (marked["route"]["cluster"], others["route"]["cluster"]) == (local("catalog"), missed("catalog"))
    assert all("cheops-passed" in route["request_headers_to_remove"] for route in reads)


def names_catalog(route: dict[str, Any]) -> bool:
    return "catalog" in json.dumps(route["match"])
