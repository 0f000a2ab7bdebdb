"""The files that Envoy reads: what it starts with, and what it watches for changes."""

import hashlib
import json
from typing import Any

from cheops.config import Site
from cheops.intercept.envoy.clusters import clusters, config_file, secret
from cheops.intercept.envoy.fronts import front_routes
from cheops.intercept.envoy.listeners import listeners
from cheops.intercept.envoy.names import typed
from cheops.intercept.envoy.routes import egress_routes, mesh_routes
from cheops.intercept.envoy.tracing import runtime

Document = dict[str, Any]


def bootstrap(of: Site) -> Document:
    """What Envoy starts with; a change needs another process."""
    return {
        "node": {"id": of.name, "cluster": of.settings.mesh.deployment},
        "admin": {"address": {"pipe": {"path": str(of.run / "envoy.sock"), "mode": 0o600}}},
        "dynamic_resources": {
            "cds_config": config_file(of, "clusters.json"),
            "lds_config": config_file(of, "listeners.json"),
        },
        "layered_runtime": {"layers": [{"name": "static", "static_layer": runtime(of)}]},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": typed(
                        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        max_active_downstream_connections=50_000,
                    ),
                }
            ]
        },
    }


def watched_files(of: Site) -> dict[str, Document]:
    """The files that Envoy watches, by name: clusters, listeners, the secret, and one for each route configuration."""
    routes = [*(front_routes(of, service) for service in of.settings.services), mesh_routes(of), egress_routes(of)]
    files = {f"{route['name'].replace('/', '-')}.json": discovery([route]) for route in routes}
    files["secret.json"] = discovery([secret(of)])
    return {**files, "clusters.json": discovery(clusters(of)), "listeners.json": discovery(listeners(of))}


def discovery(resources: list[Document]) -> Document:
    """A discovery response, whose version is the hash of what it says, so that equal files are equal versions."""
    digest = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()
    return {"version_info": digest[:16], "resources": resources}
