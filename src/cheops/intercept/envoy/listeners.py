"""Envoy's listeners: a front for each service, this site's end of the mesh, and the agent's way out."""

from typing import Any

from cheops.config import Address, Site
from cheops.intercept.envoy.clusters import MORE_HEADERS, config_file, socket, tls_context
from cheops.intercept.envoy.fronts import front_name
from cheops.intercept.envoy.names import EXECUTED, HEALTH_PATH, PATH, SERVICE, typed
from cheops.intercept.envoy.tracing import tracing
from cheops.ports import HEARTBEAT

Listener = dict[str, Any]
_SERVICE = "%METADATA(ROUTE:cheops:service)%"
UPGRADES = ("websocket", "SPDY/3.1", "tcp")  # browsers and Jupyter; kubectl exec; docker attach


def listeners(of: Site) -> list[Listener]:
    """All listeners of a site."""
    fronts = [_front(of, name, front.front) for name, front in of.settings.services.items()]
    return [*fronts, _mesh(of), _egress(of)]


def _listener(name: str, address: dict[str, Any], manager: dict[str, Any], **chain: Any) -> Listener:
    kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    filters = [{"name": "http", "typed_config": typed(kind, **manager)}]
    return {
        **typed("envoy.config.listener.v3.Listener"),
        "name": name,
        "address": address,
        "filter_chains": [{"filters": filters, **chain}],
        "per_connection_buffer_limit_bytes": 1 << 20,
    }


def _front(of: Site, service: str, address: Address) -> Listener:
    name = front_name(service)
    manager = _manager(of, name, ["cheops.scope", "cheops.location"], service) | {
        "internal_address_config": _NOBODY_INTERNAL,
        "early_header_mutation_extensions": [_STRIP],
    }
    return _listener(name, socket(address), manager)


# Envoy would say so to the services, in a header.
_NOBODY_INTERNAL = {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]}


# What only Cheops and Envoy may say. Cheops-Via comes from another front if a backend is one, and must be seen;
# Cheops-Plan, Cheops-Force and Cheops-Dependencies are the client's, so nothing of ours begins with cheops-f or
# cheops-de. RE2 has no look-ahead, and Envoy allows a hundred of its instructions.
_NOT_VIA = r"v([^i].*|i([^a].*|a.+)?)?"
_NOT_PLAN = r"p([^l].*|l([^a].*|a([^n].*|n.+)?)?)?"
_INTERNAL = rf"x-envoy-.*|cheops-([^vpfd].*|{_NOT_VIA}|{_NOT_PLAN}|d([^e].*)?)?"
_STRIP = {
    "name": "envoy.http.early_header_mutation.header_mutation",
    "typed_config": typed(
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[{"remove_on_match": {"key_matcher": {"safe_regex": {"regex": _INTERNAL}}}}],
    ),
}


# What passed a front passes here too, with what was added to it there.
_BETWEEN = {
    "skip_xff_append": True,
    "max_request_headers_kb": 96,
    "common_http_protocol_options": {"max_headers_count": MORE_HEADERS["max_headers_count"]},
}


def _mesh(of: Site) -> Listener:
    mesh = of.settings.mesh
    context = typed(
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=True,
        common_tls_context=tls_context(of, {"prefix": f"spiffe://{mesh.deployment}/site/"}, ["h2"]),
    )
    manager = _manager(of, "mesh", ["cheops.health", "cheops.peers", "cheops.location"], _SERVICE) | {
        "http2_protocol_options": {
            "allow_connect": True,
            "initial_stream_window_size": 1 << 20,
            "initial_connection_window_size": 8 << 20,
        },
        **_BETWEEN,
    }
    tls = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    return _listener("mesh", socket(mesh.listen), manager, transport_socket=tls)


def _egress(of: Site) -> Listener:
    path = {"pipe": {"path": str(of.run / "egress.sock"), "mode": 0o600}}
    return _listener(
        "egress",
        path,
        _manager(of, "egress", ["cheops.path", "cheops.location"], _SERVICE) | _BETWEEN,
    )


def _manager(of: Site, name: str, filters: list[str], service: str) -> dict[str, Any]:
    """What every listener does with HTTP: nothing that the service or its client would notice."""
    return {
        "stat_prefix": name,
        "rds": {"route_config_name": name, "config_source": config_file(of, f"{name.replace('/', '-')}.json")},
        "http_filters": [*(_FILTERS[filter] for filter in filters), _ROUTER],
        "access_log": [_access_log(of, name, service)],
        "local_reply_config": {"mappers": [_told(of, reply) for reply in _LOCAL_REPLIES]},
        "upgrade_configs": [{"upgrade_type": upgrade} for upgrade in _upgrades(of)],
        "generate_request_id": False,
        "proxy_100_continue": True,
        "server_header_transformation": "PASS_THROUGH",
        "stream_idle_timeout": "0s",
        "request_headers_timeout": "30s",
        "drain_timeout": "5s",
        "http_protocol_options": {"accept_http_10": True},
        **tracing(of, name, service),
    }


def _upgrades(of: Site) -> dict[str, None]:
    return dict.fromkeys(
        (*UPGRADES, *(name for service in of.application.services.values() for name in service.upgrades))
    )


_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": typed(
        "envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True, dynamic_stats={"value": False}
    ),
}
_LUA = typed("envoy.extensions.filters.http.lua.v3.Lua", default_source_code={"inline_string": "-- with the routes\n"})
_SKIP = {
    "action": {"name": "skip", "typed_config": typed("envoy.extensions.filters.common.matcher.action.v3.SkipFilter")}
}
_LOCATION = {
    "name": "location",
    "typed_config": typed("envoy.type.matcher.v3.HttpResponseHeaderMatchInput", header_name="location"),
}
_HAS_LOCATION = {"single_predicate": {"input": _LOCATION, "value_match": {"contains": "/"}}}
_FILTERS = {
    "cheops.scope": {"name": "cheops.scope", "typed_config": _LUA},
    "cheops.path": {"name": "cheops.path", "typed_config": _LUA},
    # What peers ask once a second isn't logged; a site that drains says no, so that they turn elsewhere in time.
    "cheops.health": {
        "name": "cheops.health",
        "typed_config": typed(
            "envoy.extensions.filters.http.health_check.v3.HealthCheck",
            pass_through_mode=False,
            headers=[
                {"name": ":path", "string_match": {"prefix": HEALTH_PATH}},
                {"name": SERVICE, "present_match": False},
            ],
        ),
    },
    "cheops.peers": {"name": "cheops.peers", "typed_config": typed("envoy.extensions.filters.http.rbac.v3.RBAC")},
    # Lua costs microseconds; a reply without a Location doesn't meet it.
    "cheops.location": {
        "name": "cheops.location",
        "typed_config": typed(
            "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
            xds_matcher={
                "matcher_list": {"matchers": [{"predicate": {"not_matcher": _HAS_LOCATION}, "on_match": _SKIP}]}
            },
            extension_config={"name": "lua", "typed_config": _LUA},
        ),
    },
}


_NO_HEARTBEATS = {
    "and_filter": {
        "filters": [
            {"not_health_check_filter": {}},
            {
                "header_filter": {
                    "header": {"name": ":path", "string_match": {"exact": HEARTBEAT}, "invert_match": True}
                }
            },
        ]
    }
}


def _access_log(of: Site, listener: str, service: str) -> dict[str, Any]:
    """One line a request. `scope` is what X-Scope or the URL says, `carried` what followed by other ways; `to` is where
    the request went, `peer` the site that it came from on the mesh.
    """
    fields = {
        "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%",  # calls follow each other within a millisecond
        "site": of.name,
        "listener": listener.partition("/")[0],
        "service": service,
        "method": "%REQ(:METHOD)%",
        "path": f"%REQ({PATH}?:PATH)%",
        "status": "%RESPONSE_CODE%",
        "scope": "%REQ(X-SCOPE)%",
        "carried": "%DYNAMIC_METADATA(cheops:carried)%",
        "to": "%UPSTREAM_CLUSTER_RAW%",
        "id": f"%REQ({of.application.request_id.header})%" if of.application.request_id else "-",
        **(
            {"peer": "%DOWNSTREAM_PEER_URI_SAN%"}
            if listener == "mesh"
            else {"client": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%"}
        ),
        "ms": "%DURATION%",
        "received": "%BYTES_RECEIVED%",
        "sent": "%BYTES_SENT%",
        "why": "%RESPONSE_CODE_DETAILS%",
    }
    return {
        "name": "file",
        **({"filter": _NO_HEARTBEATS} if listener in ("mesh", "egress") else {}),
        "typed_config": typed(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=str(of.data / "log" / "access.jsonl"),
            log_format={"json_format": fields},
        ),
    }


# Nothing else on the mesh answers 403 without asking a service.
_NOT_OPEN = {
    "filter": {
        "status_code_filter": {
            "comparison": {"op": "EQ", "value": {"default_value": 403, "runtime_key": "cheops.none"}}
        }
    },
    "body_format_override": {
        "json_format": {
            "type": "urn:cheops:not-open",
            "title": "A site doesn't open this service to the one that asks",
            "status": "%RESPONSE_CODE%",
            "detail": "%CLUSTER_METADATA(cheops:site)% doesn't open '%METADATA(ROUTE:cheops:service)%' to "
            "%DOWNSTREAM_PEER_URI_SAN%.",
            "hint": "`open_to` in its site.yaml names the sites that may use the service.",
            "site": "%CLUSTER_METADATA(cheops:site)%",
            "code": "not-open",
            "executed": "no",
            "retry": False,
            "fault": "caller",
        },
    },
}


def _reply(flags: list[str], code: str, title: str, *, executed: str) -> dict[str, Any]:
    """The problem document for replies of Envoy's own that have one of the flags; the cluster may say the code."""
    code = code or "%CLUSTER_METADATA(cheops:code)%"
    document = {
        "type": f"urn:cheops:{code}",
        "title": title,
        "status": "%RESPONSE_CODE%",
        "detail": "%CLUSTER_METADATA(cheops:sentence)%",
        "site": "%CLUSTER_METADATA(cheops:site)%",
        "code": code,
        "executed": executed,
        "retry": True,
        "fault": "peer",
        "why": "%RESPONSE_CODE_DETAILS%",
    }
    return {
        "filter": {"response_flag_filter": {"flags": flags}},
        "body_format_override": {"json_format": document},
        "headers_to_add": [
            {"header": {"key": EXECUTED, "value": executed}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ],
    }


def _told(of: Site, reply: dict[str, Any]) -> dict[str, Any]:
    """The same, as the clients of the application read it."""
    errors, document = of.application.errors, reply["body_format_override"]["json_format"]
    return reply | {"body_format_override": {"json_format": errors.fit(document), "content_type": errors.media_type}}


_LOCAL_REPLIES = (
    _NOT_OPEN,
    _reply(["UF", "UH", "UO", "NC"], "", "A site or a service can't be reached", executed="no"),
    _reply(["UC", "UR", "LR", "UT", "UPE"], "broken-off", "A site or a service broke off", executed="unknown"),
)
