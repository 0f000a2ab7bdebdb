"""Envoy's routes on the mesh, from peers and to them; a front's are in fronts.py."""

from collections.abc import Iterator
from typing import Any

from cheops.applications.concern import READS
from cheops.config import Site
from cheops.intercept.envoy.clusters import spiffe_id
from cheops.intercept.envoy.lua import location_script, path_script
from cheops.intercept.envoy.names import (
    AGENT_MESH,
    AGENT_SERVICE,
    DOOR,
    PEER,
    PEER_ISSUED,
    SERVED_BY,
    SERVICE,
    STANDS,
    TO,
    local,
    typed,
)
from cheops.intercept.envoy.parts import (
    RETRY_PEER,
    Route,
    add,
    configuration,
    exactly,
    forward,
    logged_as,
    or_agent,
    per_route_lua,
    problem,
    served_by,
    to_door,
)
from cheops.ports import ALONE, HEARTBEAT


def mesh_routes(of: Site) -> Route:
    """The route configuration of this site's end of the mesh: straight to the service, or to the agent."""
    agent = [
        _agent_on_mesh({"path": HEARTBEAT}, {}),  # also of those who have departed, who hear of it there
        _agent_on_mesh({"prefix": "/"}, _open_to(of, None)),
    ]
    services = [
        route
        for name, front in of.settings.services.items()
        for route in _service_on_mesh(of, name, _open_to(of, front.open_to))
    ]
    host = {"name": "all", "domains": ["*"], "routes": [*services, *agent, _no_such_service(of)]}
    return configuration("mesh", host)


def _service_on_mesh(of: Site, service: str, filters: dict[str, Any]) -> Iterator[Route]:
    """To the service; what another agent passes on, and writes of replicated resources, to the agent here."""
    for_it = exactly(SERVICE, service)
    yield to_door(service, {"headers": [for_it, {"name": DOOR, "present_match": True}]}, filters)
    if service in of.managed:
        yield to_door(service, {"headers": [for_it, *_WRITES]}, filters)
    if service in of.managed:
        # An agent that asks all sites for their parts mustn't be answered by others that ask all sites in turn.
        yield _instance(of, service, [for_it, {"name": ALONE, "present_match": True}], filters)
    yield _instance(of, service, [for_it], filters, missing=service in of.managed)


# What isn't a read may change something; what it is, the agent knows. An upgraded connection goes past it: nobody could
# send that again.
_WRITES = [
    {"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(sorted(READS))}}, "invert_match": True},
    {"name": "upgrade", "present_match": False},
]


def _agent_on_mesh(match: dict[str, Any], filters: dict[str, Any]) -> Route:
    said = {PEER: "%DOWNSTREAM_PEER_URI_SAN%", PEER_ISSUED: "%DOWNSTREAM_PEER_CERT_V_START(%s)%"}
    return {
        "match": {**match, "headers": [exactly(SERVICE, AGENT_SERVICE)]},
        "route": {"timeout": "0s", "idle_timeout": "0s", "cluster": AGENT_MESH},
        "request_headers_to_add": [add(name, value) for name, value in said.items()],
        "typed_per_filter_config": filters,
        "name": "agent",
        **logged_as(AGENT_SERVICE),
    }


def egress_routes(of: Site) -> Route:
    """The route configuration of what the agent sends: `cheops-to` names the cluster."""
    services = [_instance(of, name, [exactly(TO, local(name))], {}) for name in of.settings.services]
    onward = {"cluster_header": TO, "retry_policy": RETRY_PEER}
    peers = [
        forward(
            {"headers": [exactly(SERVICE, name)]},
            onward,
            request_headers_to_remove=[TO],
            name="peer",
            **logged_as(name),
        )
        for name in (*of.application.services, AGENT_SERVICE)
    ]
    host = {"name": "all", "domains": ["*"], "routes": [*services, *peers]}
    return configuration("egress", host | per_route_lua({"cheops.path": path_script()}))


def _instance(
    of: Site, service: str, headers: list[dict[str, Any]], filters: dict[str, Any], *, missing: bool = False
) -> Route:
    """To this site's instance of a service, for a request that a peer or the agent has sent; `missing`: what it doesn't
    find is asked of the agent.
    """
    mended = per_route_lua({"cheops.location": location_script(of, service)})["typed_per_filter_config"]
    return forward(
        {"headers": headers},
        or_agent(service) if missing else {"cluster": local(service)},
        request_headers_to_remove=[TO, SERVICE, ALONE],
        response_headers_to_add=[served_by(of, service) if missing else add(SERVED_BY, of.name)],
        response_headers_to_remove=[STANDS] if missing else [],
        typed_per_filter_config={**mended, **filters},
        name="here",
        **logged_as(service),
    )


def _open_to(of: Site, peers: tuple[str, ...] | None) -> dict[str, Any]:
    """Who may call a service: those that are named, else all but those that have departed."""
    if peers is None and not of.departed:
        return {}
    action, named = ("DENY", of.departed) if peers is None else ("ALLOW", set(peers) - of.departed)
    ids = [spiffe_id(of.settings.mesh.deployment, peer) for peer in sorted(named)]
    names = [{"authenticated": {"principal_name": {"exact": one}}} for one in ids]
    nobody = [{"not_id": {"any": True}}]
    policy = {"permissions": [{"any": True}], "principals": names or nobody}
    rbac = {"rules": {"action": action, "policies": {"peers": policy}}}
    kind = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute"
    return {"cheops.peers": typed(kind, rbac=rbac)}


def _no_such_service(of: Site) -> Route:
    detail = f"The site {of.name} doesn't run this service. It runs: {', '.join(of.settings.services)}."
    return {
        "match": {"prefix": "/"},
        "name": "no such service",
        **problem(of, 404, "no-such-service", "No such service", detail, executed="no"),
    }
