"""Envoy's clusters: the site's own services, its agent, and its peers."""

from typing import Any

from cheops.config import Address, Site
from cheops.intercept.envoy.names import (
    AGENT,
    AGENT_AWAY,
    AGENT_MESH,
    ATTEMPT,
    COLLECTOR,
    HEALTH_PATH,
    PATH,
    SERVICE,
    STANDS,
    local,
    missed,
    site,
    typed,
)

PEER_CONNECT_SECONDS = 1.5  # TCP and TLS; a user hears of an unreachable site within 2 s
FEW = 16  # peers; if there are more, links aren't kept open for nothing, so that a site's load doesn't grow with them
IDLE_SECONDS = 5
UNLIMITED = 1_000_000  # Envoy's default of 1024 would refuse a site's 1025th watch
Cluster = dict[str, Any]


def clusters(of: Site) -> list[Cluster]:
    """All clusters of a site. Every one has a sentence for the user who meets it when it doesn't answer."""
    here = of.name
    services = [_service(here, name, front.backend) for name, front in of.settings.services.items()]
    peers = [_peer(of, name, peer.mesh) for name, peer in of.settings.peers.items()]
    but = f", but for writes of {', '.join(sorted(of.managed))}" if of.managed else ""
    but += f", and reads of what spans sites in {', '.join(sorted(of.spanned))}" if of.spanned else ""
    served = f"Requests without a scope, or with one site in it, are served without it{but}."
    sentence = f"The agent of {here} doesn't run. {served}"
    agent = _pipe(AGENT, str(of.run / "door.sock"), here, sentence)
    mesh = _pipe(AGENT_MESH, str(of.run / "mesh.sock"), here, sentence)
    return [*services, agent, mesh, *peers, *_collector(of), *_missed(of)]


def _missed(of: Site) -> list[Cluster]:
    """For services with replicated resources: the service, and behind it the agent, which is asked for what the service
    doesn't find.
    """
    return [
        _with_agent(of.name, name, front.backend) for name, front in of.settings.services.items() if name in of.managed
    ]


def _with_agent(here: str, service: str, backend: Address) -> Cluster:
    """One cluster with two priorities. An attempt at the agent that fails is followed by one at the service again, so
    that the service's own word stands while the agent is away, from the first moment on.
    """
    both = typed("envoy.extensions.clusters.aggregate.v3.ClusterConfig", clusters=[local(service), AGENT])
    alone = {"load_assignment", "common_lb_config"}
    cluster = {key: value for key, value in _service(here, service, backend).items() if key not in alone | {"type"}}
    return cluster | {
        "name": missed(service),
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {"name": "envoy.clusters.aggregate", "typed_config": both},
        **_protocol(explicit_http_config={"http_protocol_options": {}}, http_filters=_by_attempt(service)),
    }


def _by_attempt(service: str) -> list[dict[str, Any]]:
    """What the attempts differ in: the second is the agent's, the third the service's as the first was.

    Headers stay changed from one attempt to the next. To Envoy's router, x-envoy-ratelimited means: this reply stands,
    don't try again, whatever its status.
    """
    agent = {
        "request_mutations": [_set(SERVICE, service), _set(PATH, "%REQ(:PATH)%")],
        "response_mutations": [_set(STANDS, "true")],
    }
    again = {"request_mutations": [_without(SERVICE), _without(PATH)]}
    return [
        _mutation({"request_mutations": [_set(ATTEMPT, "%UPSTREAM_REQUEST_ATTEMPT_COUNT%")]}),
        _on_attempt(2, _mutation(agent)),
        _on_attempt(3, _mutation(again)),
        _mutation({"request_mutations": [_without(ATTEMPT)]}),
        {"name": "codec", "typed_config": typed("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec")},
    ]


def _set(name: str, value: str) -> dict[str, Any]:
    header = {"key": name, "value": value}
    return {"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}


def _without(name: str) -> dict[str, Any]:
    return {"remove": name}


def _mutation(mutations: dict[str, Any]) -> dict[str, Any]:
    kind = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
    return {"name": "mutation", "typed_config": typed(kind, mutations=mutations)}


def _on_attempt(number: int, then: dict[str, Any]) -> dict[str, Any]:
    attempt = typed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=ATTEMPT)
    is_it = {
        "single_predicate": {"input": {"name": ATTEMPT, "typed_config": attempt}, "value_match": {"exact": str(number)}}
    }
    skip = typed("envoy.extensions.filters.common.matcher.action.v3.SkipFilter")
    other = {"predicate": {"not_matcher": is_it}, "on_match": {"action": {"name": "skip", "typed_config": skip}}}
    matching = typed(
        "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        xds_matcher={"matcher_list": {"matchers": [other]}},
        extension_config=then,
    )
    return {"name": f"attempt-{number}", "typed_config": matching}


def _cluster(
    name: str, address: dict[str, Any], *, site: str, sentence: str, code: str = "unreachable", **more: Any
) -> Cluster:
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address}}]}
    return {
        **typed("envoy.config.cluster.v3.Cluster"),
        "name": name,
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [endpoint]},
        "circuit_breakers": {"thresholds": [_limits("DEFAULT"), _limits("HIGH")]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},  # else Envoy sends to the dead
        "metadata": {"filter_metadata": {"cheops": {"site": site, "sentence": sentence, "code": code}}},
        **more,
    }


def _limits(priority: str) -> dict[str, Any]:
    kinds = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"priority": priority, **dict.fromkeys(kinds, UNLIMITED)}


def _protocol(**fields: Any) -> dict[str, Any]:
    options = typed("envoy.extensions.upstreams.http.v3.HttpProtocolOptions", **fields)
    return {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}}


# What passed a front (60 KB and 100 headers at most) passes the rest of the way too, with what we add to it.
MORE_HEADERS = {"max_headers_count": 200, "max_response_headers_kb": 96}

# A service may close a connection that lay idle just as a request is written to it: be the first to close. Servers
# keep idle connections for 2 s (gunicorn), 5 s (node) and longer.
_HTTP1 = _protocol(
    common_http_protocol_options={"idle_timeout": "1s"}, explicit_http_config={"http_protocol_options": {}}
)


def _service(here: str, name: str, backend: Address) -> Cluster:
    sentence = f"The service '{name}' of {here} doesn't answer at {backend}."
    return _cluster(local(name), socket(backend), site=here, sentence=sentence, **_kind(backend), **_HTTP1)


def _collector(of: Site) -> list[Cluster]:
    """Where spans go, if the settings say so. One that doesn't answer holds few of them: the others are dropped."""
    if of.settings.traces is None:
        return []
    address = of.settings.traces.endpoint.address
    sentence = f"The collector of traces doesn't answer at {address}."
    few = {"priority": "DEFAULT", "max_connections": 4, "max_pending_requests": 16, "max_requests": 16}
    bounds: dict[str, Any] = {"circuit_breakers": {"thresholds": [few]}}
    return [_cluster(COLLECTOR, socket(address), site=of.name, sentence=sentence, **_kind(address), **_HTTP1, **bounds)]


def _pipe(name: str, path: str, here: str, sentence: str) -> Cluster:
    protocol = _protocol(
        common_http_protocol_options={"idle_timeout": "1s", **MORE_HEADERS},
        explicit_http_config={"http_protocol_options": {}},
    )
    pipe = {"pipe": {"path": path}}
    return _cluster(name, pipe, site=here, sentence=sentence, code=AGENT_AWAY, type="STATIC", **protocol)


def socket(address: Address) -> dict[str, Any]:
    """An address as Envoy writes it."""
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _kind(address: Address) -> dict[str, Any]:
    return {"type": "STATIC"} if address.is_literal else {"type": "STRICT_DNS", "dns_lookup_family": "ALL"}


def _peer(of: Site, name: str, mesh: Address) -> Cluster:
    few = len(of.settings.peers) <= FEW
    common = MORE_HEADERS if few else {**MORE_HEADERS, "idle_timeout": f"{IDLE_SECONDS}s"}
    asked: Cluster = {"health_checks": [_health_check(of)]} if few else {}
    return _cluster(
        site(name),
        socket(mesh),
        site=name,
        sentence=f"The site {name} can't be reached from {of.name}.",
        **_kind(mesh),
        **_protocol(
            common_http_protocol_options=common,
            explicit_http_config={"http2_protocol_options": _http2()},
        ),
        connect_timeout=f"{PEER_CONNECT_SECONDS}s",
        transport_socket=_tls_to(of, name),
        **asked,
    )


def _http2() -> dict[str, Any]:
    """A link that vanishes is noticed in 1.3 s at most; windows bound what a slow reader makes us hold."""
    return {
        "allow_connect": True,
        "connection_keepalive": {"interval": "0.5s", "timeout": "0.75s", "interval_jitter": {"value": 10}},
        "initial_stream_window_size": 1 << 20,
        "initial_connection_window_size": 8 << 20,
    }


def _health_check(of: Site) -> dict[str, Any]:
    return {
        "timeout": "1s",
        "interval": "1s",
        "no_traffic_interval": "1s",
        "interval_jitter_percent": 10,
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "http_health_check": {"path": f"{HEALTH_PATH}{of.name}", "host": "mesh", "codec_client_type": "HTTP2"},
    }


def _tls_to(of: Site, name: str) -> dict[str, Any]:
    context = typed(
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=tls_context(of, {"exact": spiffe_id(of.settings.mesh.deployment, name)}, ["h2"]),
        sni=f"{name.lower()}.{of.settings.mesh.deployment}",
    )
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def spiffe_id(deployment: str, name: str) -> str:
    """The name in a site's certificate."""
    return f"spiffe://{deployment}/site/{name}"


def tls_context(of: Site, peer: dict[str, Any], alpn: list[str]) -> dict[str, Any]:
    """Both ends show a certificate of the deployment's authority; `peer` matches the name in the other's."""
    authority = {"filename": str(of.file(of.settings.mesh.authority))}
    names = [{"san_type": "URI", "matcher": peer}]
    return {
        "alpn_protocols": alpn,
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificate_sds_secret_configs": [{"name": "site", "sds_config": config_file(of, "secret.json")}],
        "validation_context": {"trusted_ca": authority, "match_typed_subject_alt_names": names},
    }


def secret(of: Site) -> dict[str, Any]:
    """The site's certificate and key. Only of a secret does Envoy read the files again once others are renamed into
    their place. The authority's certificate isn't one: each costs an inotify instance, of which a user has 128.
    """
    mesh = of.settings.mesh
    files = {
        "certificate_chain": {"filename": str(of.file(mesh.certificate))},
        "private_key": {"filename": str(of.file(mesh.key))},
        "watched_directory": {"path": str(of.file(mesh.certificate).parent)},
    }
    return {**typed("envoy.extensions.transport_sockets.tls.v3.Secret"), "name": "site", "tls_certificate": files}


def config_file(of: Site, name: str) -> dict[str, Any]:
    """Where Envoy finds what stands in a file of its own, and that it shall watch it."""
    path = {"path": str(of.data / "envoy" / name), "watched_directory": {"path": str(of.data / "envoy")}}
    return {"path_config_source": path, "resource_api_version": "V3", "initial_fetch_timeout": "10s"}
