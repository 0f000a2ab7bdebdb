"""The files that Envoy reads: whole, of one piece, and accepted by Envoy itself."""

import datetime
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cheops.applications import Application
from cheops.config import Address, Front, Site, Traces
from cheops.intercept.envoy.binary import find_envoy
from cheops.intercept.envoy.files import bootstrap, discovery, watched_files
from cheops.intercept.envoy.names import TO
from cheops.sites.certificates import issue, make_authority
from values import OPENSTACK, PLAIN, SHOP, SITES, application, site_of

Document = dict[str, Any]
ODD = application(r"""
    carriers:
      - {kind: header}
      - {kind: request-id, header: X-ID, format: "%START_TIME(%s)%{uuid}\"'\\"}
    services: {a: {number: 1, upgrades: [h2c, "a/b"]}, c-._d: {number: 62, aliases: ["1"]}}
""")
ODD_SITES = {"Site1": 1, "true": 2, "1e5": 3, "A.b_c-d": 1023}
KINDS: dict[str, tuple[Application, Mapping[str, int]]] = {
    "shop": (SHOP, SITES),
    "openstack": (OPENSTACK, SITES),
    "plain": (PLAIN, ODD_SITES),
    "odd": (ODD, ODD_SITES),
    "alone": (SHOP, {"Site1": 1}),
    "many": (SHOP, {"Site1": 1, **{f"Peer{n}": n for n in range(2, 100)}}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's folder with its certificate, and the folders that the agent makes."""
    folder = tmp_path_factory.mktemp("s")
    now = datetime.datetime.now(datetime.UTC)
    issue(make_authority(folder / "authority", "test", now), "Site1", folder / "tls", now)
    for name in ("envoy", "run", "log"):
        (folder / "data" / name).mkdir(parents=True)
    return folder


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, folder: Path) -> Site:
    described, sites = KINDS[request.param]
    return site_of(described, "Site1", sites, folder)


def changed(site: Site, **fields: Any) -> Site:
    return replace(site, settings=site.settings.model_copy(update=fields))


def inside(value: Any) -> Iterator[Document]:
    """Every object of a document."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from inside(item)


def names_of(document: Document) -> list[str]:
    return [resource["name"] for resource in document["resources"]]


def routes_among(files: dict[str, Document]) -> dict[str, Document]:
    others = {"clusters.json", "listeners.json", "secret.json"}
    assert others <= files.keys()
    return {name: document for name, document in files.items() if name not in others}


def test_there_is_one_file_for_each_route_configuration(site: Site) -> None:
    files = watched_files(site)
    fronts = {f"front-{service}.json": [f"front/{service}"] for service in site.settings.services}
    routes = {**fronts, "mesh.json": ["mesh"], "egress.json": ["egress"]}
    assert {name: names_of(document) for name, document in routes_among(files).items()} == routes


def test_the_secret_is_a_file_for_both_ends_of_the_mesh(site: Site) -> None:
    files = watched_files(site)
    named = [
        (part["name"], Path(part["sds_config"]["path_config_source"]["path"]).name)
        for part in inside([files["clusters.json"], files["listeners.json"]])
        if "sds_config" in part
    ]
    assert named == [("site", "secret.json")] * (1 + len(site.settings.peers))
    assert names_of(files["secret.json"]) == ["site"]


def test_every_cluster_that_a_route_names_exists(site: Site) -> None:
    files = watched_files(site)
    clusters = names_of(files["clusters.json"])
    assert len(clusters) == len(set(clusters))
    routes = list(routes_among(files).values())
    named = {part["cluster"] for part in inside(routes) if isinstance(part.get("cluster"), str)}
    assert named
    assert named <= set(clusters)


def test_so_do_those_that_lua_or_the_agent_name_in_a_header(site: Site) -> None:
    files = watched_files(site)
    by_header = {part["cluster_header"] for part in inside(list(files.values())) if "cluster_header" in part}
    assert by_header == {TO}
    own = {f"local/{service}" for service in site.settings.services} | {f"site/{peer}" for peer in site.settings.peers}
    assert own | {"agent", "agent-mesh"} == set(names_of(files["clusters.json"]))


def test_every_route_configuration_that_a_listener_names_is_a_file(site: Site) -> None:
    files = watched_files(site)
    named = {
        (part["route_config_name"], Path(part["config_source"]["path_config_source"]["path"]).name)
        for part in inside(files["listeners.json"])
        if "route_config_name" in part
    }
    assert named == {(names_of(document)[0], name) for name, document in routes_among(files).items()}


def test_what_the_bootstrap_watches_is_written(site: Site) -> None:
    sources = bootstrap(site)["dynamic_resources"].values()
    assert {Path(source["path_config_source"]["path"]) for source in sources} == {
        site.data / "envoy" / name for name in ("clusters.json", "listeners.json")
    }


def test_everything_is_json(site: Site) -> None:
    documents = [bootstrap(site), watched_files(site)]
    assert json.loads(json.dumps(documents)) == documents


def test_equal_content_is_an_equal_version(site: Site) -> None:
    again = site_of(site.application, "Site1", site.site_numbers, site.folder)
    assert watched_files(again) == watched_files(site)
    resources = [{"name": "a", "b": 1}]
    assert discovery(resources) == discovery([{"b": 1, "name": "a"}])
    assert discovery(resources)["resources"] == resources


def versions(site: Site) -> dict[str, str]:
    return {name: document["version_info"] for name, document in watched_files(site).items()}


def test_other_content_is_another_version_and_only_of_its_file(folder: Path) -> None:
    site = site_of(SHOP, "Site1", SITES, folder)
    before = versions(site)
    assert len(set(before.values())) == len(before)
    front = site.settings.services["orders"]

    def differing(**fields: Any) -> set[str]:
        after = versions(changed(site, **fields))
        return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}

    closed = front.model_copy(update={"open_to": ("Site2",)})
    assert differing(services={**site.settings.services, "orders": closed}) == {"mesh.json"}
    moved = Front(front=front.front, backend=Address(host="10.0.0.9", port=1))
    location = {"front-orders.json", "mesh.json", "egress.json"}
    assert differing(services={**site.settings.services, "orders": moved}) == location | {"clusters.json"}
    other = Front(front=Address(host="127.0.0.9", port=1), backend=front.backend)
    assert differing(services={**site.settings.services, "orders": other}) == location | {"listeners.json"}
    fewer = {"Site2": site.settings.peers["Site2"]}
    assert differing(peers=fewer) == {"front-orders.json", "front-catalog.json", "clusters.json"}
    alone = {"catalog": site.settings.services["catalog"]}
    assert differing(services=alone) == {"front-orders.json", *location, "clusters.json", "listeners.json"}


def made_static(site: Site) -> Document:
    """The bootstrap with all that it would watch inside, so that one look shows whether Envoy accepts it."""
    document, files = json.loads(json.dumps([bootstrap(site), watched_files(site)]))
    clusters, listeners = (files.pop(f"{name}.json")["resources"] for name in ("clusters", "listeners"))
    secrets = [_bare(secret) for secret in files.pop("secret.json")["resources"]]
    routes = {route["name"]: _bare(route) for routes in files.values() for route in routes["resources"]}
    clusters, listeners = [_bare(cluster) for cluster in clusters], [_bare(listener) for listener in listeners]
    for manager in [part for part in inside(listeners) if "rds" in part]:
        manager["route_config"] = routes[manager.pop("rds")["route_config_name"]]
    for named in [part for part in inside([clusters, listeners]) if "sds_config" in part]:
        del named["sds_config"]
    del document["dynamic_resources"]
    return {**document, "static_resources": {"listeners": listeners, "clusters": clusters, "secrets": secrets}}


def _bare(message: Document) -> Document:
    return {name: value for name, value in message.items() if name != "@type"}


def complaint_about(document: Document, folder: Path) -> str:
    """What Envoy says of a bootstrap; nothing if it accepts it."""
    path = folder / "validated.json"
    path.write_text(json.dumps(document))
    arguments = [find_envoy(), "--mode", "validate", "-c", str(path), "--log-level", "error"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
    return "" if done.returncode == 0 else done.stderr + done.stdout


def test_envoy_accepts_all_of_it(site: Site) -> None:
    assert complaint_about(made_static(site), site.folder) == ""


def test_it_accepts_the_bootstrap_beside_the_files(folder: Path) -> None:
    for name, document in watched_files(site_of(SHOP, "Site1", SITES, folder)).items():
        (folder / "data" / "envoy" / name).write_text(json.dumps(document))
    assert complaint_about(bootstrap(site_of(SHOP, "Site1", SITES, folder)), folder) == ""


@pytest.mark.parametrize(
    "front",
    [
        {"front": "0.0.0.0:80", "backend": "backend.example:81", "open_to": []},
        {"front": "[::1]:80", "backend": "[::1]:81", "open_to": ["Site2", "Site3"]},
    ],
    ids=["closed", "v6"],
)
def test_it_accepts_what_site_yaml_may_say(folder: Path, front: Document) -> None:
    site = site_of(SHOP, "Site1", SITES, folder)
    services = {**site.settings.services, "orders": Front.model_validate(front)}
    assert complaint_about(made_static(changed(site, services=services)), folder) == ""


def test_and_it_would_say_what_is_wrong(folder: Path) -> None:
    """So its silence above means something."""
    document = made_static(site_of(SHOP, "Site1", SITES, folder))
    clusters = document["static_resources"]["clusters"]
    document["static_resources"]["clusters"] = [c for c in clusters if c["name"] != "local/orders"]
    assert "local/orders" in complaint_about(document, folder)
    document = made_static(site_of(SHOP, "Site1", SITES, folder))
    text = json.dumps(document).replace("local S = {", "local S = {{")
    assert "script load error" in complaint_about(json.loads(text), folder)


def traced(site: Site, **fields: Any) -> Site:
    return changed(site, traces=Traces.model_validate({"endpoint": "http://127.0.0.1:4318", **fields}))


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:4318", "http://collector.example/otlp", "http://[::1]:1"])
def test_it_accepts_traces(site: Site, endpoint: str) -> None:
    assert complaint_about(made_static(traced(site, endpoint=endpoint, sample=0.25)), site.folder) == ""


def without_traces(document: Document) -> Document:
    """The document with what belongs to traces taken out."""
    text: Document = json.loads(json.dumps(document))
    for part in inside(text):
        for name in ("tracing", "request_id_extension", "version_info", "tracing.opentelemetry.min_flush_spans"):
            part.pop(name, None)
        if "resources" in part:
            part["resources"] = [resource for resource in part["resources"] if resource["name"] != "collector"]
    return text


def test_traces_add_something_to_listeners_and_clusters_and_change_nothing_else(site: Site) -> None:
    plain, with_traces = watched_files(site), watched_files(traced(site))
    differ = {name for name in plain.keys() | with_traces.keys() if plain.get(name) != with_traces.get(name)}
    assert differ == {"listeners.json", "clusters.json"}
    assert without_traces(with_traces) == without_traces(plain)
    assert without_traces(bootstrap(traced(site))) == bootstrap(site)
    assert bootstrap(traced(site)) != bootstrap(site)


def test_without_the_setting_envoy_is_told_nothing_of_traces(site: Site) -> None:
    text = json.dumps([bootstrap(site), watched_files(site)])
    assert not {word for word in ("tracing", "opentelemetry", "collector", "request_id_extension") if word in text}


def test_every_listener_makes_spans_and_traces_begin_at_the_fronts(site: Site) -> None:
    listeners = watched_files(traced(site, endpoint="http://[::1]:4318/otlp", sample=0.25))["listeners.json"]
    begun = {}
    for listener in listeners["resources"]:
        (tracing,) = [part["tracing"] for part in inside(listener) if "tracing" in part]
        tracer = tracing["provider"]["typed_config"]
        assert tracer["http_service"]["http_uri"]["uri"] == "http://[::1]:4318/otlp/v1/traces"
        assert tracer["service_name"] == "cheops-Site1"
        (ratio,) = [part["sampling_percentage"] for part in inside(tracer) if "sampling_percentage" in part]
        begun[listener["name"]] = ratio["numerator"]
    fronts = {f"front/{service}": 250_000 for service in site.settings.services}
    assert begun == {**fronts, "mesh": 0, "egress": 0}


def test_a_client_s_request_id_is_left_as_it_is(site: Site) -> None:
    """Envoy would write into it whether the request is traced."""
    extensions = [
        part["request_id_extension"]["typed_config"]
        for part in inside(watched_files(traced(site)))
        if "request_id_extension" in part
    ]
    assert len(extensions) == 2 + len(site.settings.services)
    assert all(extension["pack_trace_reason"] is False for extension in extensions)
