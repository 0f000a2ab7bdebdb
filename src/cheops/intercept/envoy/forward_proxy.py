"""The short-lived proxy of `cheops run`: an Envoy that adds a scope to whatever a command sends over plain HTTP."""

import json
from pathlib import Path
from typing import Any

from cheops.intercept.envoy.names import typed

_CACHE = {
    "name": "names",
    "dns_lookup_family": "ALL",
    "typed_dns_resolver_config": {
        "name": "envoy.network.dns_resolver.getaddrinfo",  # what the command itself would ask: /etc/hosts and all
        "typed_config": typed("envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig"),
    },
}


def forward_proxy(scope: str, folder: Path) -> dict[str, Any]:
    """Envoy's bootstrap: it listens on a free port of 127.0.0.1, and its admin socket is `folder`/envoy.sock."""
    kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    listener = {
        "name": "proxy",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": typed(kind, **_manager(scope))}]}],
    }
    return {
        "admin": {"address": {"pipe": {"path": str(folder / "envoy.sock"), "mode": 0o600}}},
        "static_resources": {"listeners": [listener], "clusters": [_CLUSTER]},
    }


def _manager(scope: str) -> dict[str, Any]:
    add = {
        "header": {"key": "x-scope", "value": scope.replace("%", "%%")},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    onward = {
        "match": {"prefix": "/"},
        "route": {"cluster": "anywhere", "timeout": "0s", "idle_timeout": "0s"},
        "request_headers_to_add": [add],
    }
    filter_kind = "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig"
    return {
        "stat_prefix": "proxy",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [_TUNNEL, onward]}]},
        "http_filters": [
            {"name": "names", "typed_config": typed(filter_kind, dns_cache_config=_CACHE)},
            {
                "name": "router",
                "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True),
            },
        ],
        "upgrade_configs": [{"upgrade_type": name} for name in ("websocket", "SPDY/3.1", "tcp", "CONNECT")],
        "local_reply_config": _UNREACHABLE,
        "generate_request_id": False,
        "proxy_100_continue": True,
        "server_header_transformation": "PASS_THROUGH",
        "stream_idle_timeout": "0s",
        "http_protocol_options": {"accept_http_10": True},
    }


# A scope can't be put into what is encrypted from end to end; to tunnel it without one would not be what was asked.
_TUNNEL = {
    "match": {"connect_matcher": {}},
    "direct_response": {
        "status": 501,
        "body": {
            "inline_string": json.dumps(
                {
                    "type": "urn:cheops:encrypted",
                    "title": "A scope can't be added to HTTPS",
                    "status": 501,
                    "detail": "cheops run adds the scope to plain HTTP. Use the front's http:// address.",
                }
            )
            + "\n"
        },
    },
    "response_headers_to_add": [
        {
            "header": {"key": "content-type", "value": "application/problem+json"},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
    ],
}

_CLUSTER = {
    "name": "anywhere",
    "connect_timeout": "5s",
    "lb_policy": "CLUSTER_PROVIDED",
    "cluster_type": {
        "name": "envoy.clusters.dynamic_forward_proxy",
        "typed_config": typed(
            "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig", dns_cache_config=_CACHE
        ),
    },
}

_UNREACHABLE = {
    "mappers": [
        {
            "filter": {"response_flag_filter": {"flags": ["UF", "UH", "DF", "NC"]}},
            "body_format_override": {
                "content_type": "application/problem+json",
                "json_format": {
                    "type": "urn:cheops:unreachable",
                    "title": "Nothing answers there",
                    "status": "%RESPONSE_CODE%",
                    "detail": "cheops run can't reach %REQ(:AUTHORITY)%",
                    "why": "%RESPONSE_CODE_DETAILS%",
                },
            },
        }
    ]
}
