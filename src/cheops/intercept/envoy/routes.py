"""Envoy's routes. A front's are matched in this order.

A write (POST, PUT, PATCH, DELETE) of a service that has replicated resources: to the agent. Else, if
X-Scope begins with `{`:
    the front stands in Cheops-Via already      508
    the request id is marked already            go on below
    Cheops-Plan is there                        go on below
    the path begins with /~scope/               go on below
    X-Scope is a text of the table              the site, at once: one hash look-up
all else:
    nothing carries a scope                     the service here, at once
    the front stands in Cheops-Via already      508
    Lua has chosen (cheops-to)                  the site it chose, or the agent
    else                                        Lua, which chooses; then these are matched again

What a service that has replicated resources doesn't find, the agent is asked for.
"""

from collections.abc import Iterator
from typing import Any

from cheops.applications import RequestIdCarrier
from cheops.carry.request_id import MARK
from cheops.config import Site
from cheops.intercept.envoy.clusters import spiffe_id
from cheops.intercept.envoy.lua import location_script, path_script, scope_script
from cheops.intercept.envoy.names import (
    AGENT,
    AGENT_MESH,
    AGENT_SERVICE,
    DOOR,
    EXECUTED,
    PATH,
    PEER,
    PEER_ISSUED,
    PLAN,
    SERVED_BY,
    SERVICE,
    TO,
    VIA,
    local,
    missed,
    site,
    typed,
)
from cheops.ports import HEARTBEAT

Route = dict[str, Any]

# A stream that a peer has refused is surely not executed; anything else sent again might run a write twice. Who can't
# be connected to isn't tried again: the user waits, and hears of it within 2 s.
_RETRY_PEER = {"retry_on": "refused-stream", "num_retries": 1}
_NO_LUA = {
    "typed_per_filter_config": {
        "cheops.scope": typed("envoy.extensions.filters.http.lua.v3.LuaPerRoute", disabled=True)
    }
}
TABLE_LIMIT = 4096  # texts of a front's table; scopes beyond it are Lua's


def front_routes(of: Site, service: str) -> Route:
    """The route configuration of the front of a service."""
    scripts = {"cheops.scope": scope_script(of, service), "cheops.location": location_script(of, service)}
    host = {"name": "all", "domains": ["*"], "matcher": _front_matcher(of, service), **_per_route_lua(scripts)}
    return _configuration(front_name(service), host)


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
    return _configuration("mesh", host)


def _service_on_mesh(of: Site, service: str, filters: dict[str, Any]) -> Iterator[Route]:
    """To the service; what another agent passes on, and writes of replicated resources, to the agent here."""
    for_it = _is(SERVICE, service)
    yield _to_door(of, service, {"headers": [for_it, {"name": DOOR, "present_match": True}]}, filters)
    if service in of.managed:
        yield _to_door(of, service, {"headers": [for_it, _WRITES]}, filters)
    yield _instance(of, service, for_it, filters, missing=service in of.managed)


# Whatever may change something; what it is, the agent knows.
_WRITES = {"name": ":method", "string_match": {"safe_regex": {"regex": "POST|PUT|PATCH|DELETE"}}}


def _to_door(of: Site, service: str, match: dict[str, Any], filters: dict[str, Any]) -> Route:
    """To the agent, as if Lua had left it to it: the path goes in a header, past the agent's HTTP parser."""
    return _forward(
        match,
        {"cluster": AGENT, "regex_rewrite": {"pattern": {"regex": "^.*$"}, "substitution": "/"}},
        request_headers_to_add=[_add(SERVICE, service), _add(PATH, "%REQ(:PATH)%")],
        request_headers_to_remove=[TO, DOOR],
        typed_per_filter_config=filters,
        name="agent",
        **_logged_as(service),
    )


def _agent_on_mesh(match: dict[str, Any], filters: dict[str, Any]) -> Route:
    said = {PEER: "%DOWNSTREAM_PEER_URI_SAN%", PEER_ISSUED: "%DOWNSTREAM_PEER_CERT_V_START(%s)%"}
    return {
        "match": {**match, "headers": [_is(SERVICE, AGENT_SERVICE)]},
        "route": {"timeout": "0s", "idle_timeout": "0s", "cluster": AGENT_MESH},
        "request_headers_to_add": [_add(name, value) for name, value in said.items()],
        "typed_per_filter_config": filters,
        "name": "agent",
        **_logged_as(AGENT_SERVICE),
    }


def egress_routes(of: Site) -> Route:
    """The route configuration of what the agent sends: `cheops-to` names the cluster."""
    services = [_instance(of, name, _is(TO, local(name)), {}) for name in of.settings.services]
    onward = {"cluster_header": TO, "retry_policy": _RETRY_PEER}
    peers = [
        _forward(
            {"headers": [_is(SERVICE, name)]}, onward, request_headers_to_remove=[TO], name="peer", **_logged_as(name)
        )
        for name in (*of.application.services, AGENT_SERVICE)
    ]
    host = {"name": "all", "domains": ["*"], "routes": [*services, *peers]}
    return _configuration("egress", host | _per_route_lua({"cheops.path": path_script()}))


def front_name(service: str) -> str:
    return f"front/{service}"


def _configuration(name: str, host: dict[str, Any]) -> Route:
    return {**typed("envoy.config.route.v3.RouteConfiguration"), "name": name, "virtual_hosts": [host]}


def _per_route_lua(scripts: dict[str, str]) -> dict[str, Any]:
    """Scripts stand with the routes, which name the same sites; a changed route drops no connection."""
    kind = "envoy.extensions.filters.http.lua.v3.LuaPerRoute"
    return {
        "typed_per_filter_config": {
            name: typed(kind, source_code={"inline_string": script}) for name, script in scripts.items()
        }
    }


def _instance(
    of: Site, service: str, header: dict[str, Any], filters: dict[str, Any], *, missing: bool = False
) -> Route:
    """To this site's instance of a service, for a request that a peer or the agent has sent; `missing`: what it doesn't
    find is asked of the agent.
    """
    mended = _per_route_lua({"cheops.location": location_script(of, service)})["typed_per_filter_config"]
    return _forward(
        {"headers": [header]},
        _or_agent(service) if missing else {"cluster": local(service)},
        request_headers_to_remove=[TO] if missing else [TO, SERVICE],
        response_headers_to_add=[_add(SERVED_BY, of.name)],
        typed_per_filter_config={**mended, **filters},
        name="here",
        **_logged_as(service),
    )


def _or_agent(service: str) -> dict[str, Any]:
    """A read of something that isn't there goes to the agent: it may be there under another id, or elsewhere."""
    policy = {
        "retry_on": "retriable-status-codes",
        "retriable_status_codes": [404],
        "num_retries": 1,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": typed(
                "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig", update_frequency=1
            ),
        },
    }
    return {"cluster": missed(service), "retry_policy": policy}


def _logged_as(service: str) -> dict[str, Any]:
    """By the time a line is logged, the header that says the service may have been taken off."""
    return {"metadata": {"filter_metadata": {"cheops": {"service": service}}}}


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
        **_problem(of, 404, "no-such-service", "No such service", detail, executed="no"),
    }


def _problem(of: Site, status: int, code: str, title: str, detail: str, executed: str = "") -> dict[str, Any]:
    document = {
        "type": f"urn:cheops:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "retry": False,
    }
    return {
        "direct_response": {"status": status, "body": {"inline_string": of.application.errors.body(document).decode()}},
        "response_headers_to_add": [
            _add("content-type", of.application.errors.media_type),
            *([_add(EXECUTED, executed)] if executed else []),
        ],
    }


def _front_matcher(of: Site, service: str) -> dict[str, Any]:
    if service not in of.managed:
        return _unmanaged_matcher(of, service)
    in_via = {"name": VIA, "string_match": {"contains": _hop(of, service)}}
    agent = _to_door(of, service, {}, {})
    agent["request_headers_to_add"] += _passed(of, service)
    writes = _routes(_circle(of, service, headers=[in_via]), agent | _NO_LUA)
    methods = dict.fromkeys(("POST", "PUT", "PATCH", "DELETE"), writes)
    return _tree(
        ":method", {"exact_match_map": {"map": methods}}, otherwise={"matcher": _unmanaged_matcher(of, service)}
    )


def _unmanaged_matcher(of: Site, service: str) -> dict[str, Any]:
    rest = _routes(*_after_the_table(of, service))
    table = dict(_table(of, service))
    if not table:
        return {"on_no_match": rest}
    by_scope = _tree("x-scope", {"exact_match_map": {"map": table}}, otherwise=rest)
    by_path = _tree(":path", {"prefix_match_map": {"map": {"/~scope/": rest}}}, otherwise={"matcher": by_scope})
    first = [_if_header(VIA, {"contains": _hop(of, service)}, _route(_circle(of, service)))]
    if carrier := of.application.request_id:
        first.append(_if_header(carrier.header, {"prefix": carrier.around[0] + MARK}, rest))
    first.append(_if_header(PLAN, {"safe_regex": {"google_re2": {}, "regex": ".*"}}, rest))
    scoped = {"matcher_list": {"matchers": first}, "on_no_match": {"matcher": by_path}}
    return {
        "matcher_list": {"matchers": [_if_header("x-scope", {"prefix": "{"}, {"matcher": scoped})]},
        "on_no_match": rest,
    }


def _if_header(name: str, value: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    return {"predicate": {"single_predicate": {"input": _header(name), "value_match": value}}, "on_match": then}


def _header(name: str) -> dict[str, Any]:
    return {"name": name, "typed_config": typed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=name)}


def _tree(name: str, table: dict[str, Any], otherwise: dict[str, Any]) -> dict[str, Any]:
    """One look-up of a header's value in a table."""
    return {"matcher_tree": {"input": _header(name), **table}, "on_no_match": otherwise}


def _route(route: Route) -> dict[str, Any]:
    return {"action": {"name": "route", "typed_config": typed("envoy.config.route.v3.Route", **route)}}


def _routes(*routes: Route) -> dict[str, Any]:
    return {"action": {"name": "routes", "typed_config": typed("envoy.config.route.v3.RouteList", routes=list(routes))}}


def _hop(of: Site, service: str) -> str:
    return f"{of.name}/{service};"


def _circle(of: Site, service: str, **match: Any) -> Route:
    what = f"The request came back to the front of '{service}' on {of.name}."
    detail = f"{what} A backend in site.yaml is likely the address of a front."
    return {
        "match": {"prefix": "/", **match},
        "name": "circle",
        **_problem(of, 508, "circle", "The request goes round in circles", detail),
    }


def _forward(match: dict[str, Any], action: dict[str, Any], **more: Any) -> Route:
    """Time is the service's own business: a watch may be silent for hours."""
    route = {"timeout": "0s", "idle_timeout": "0s", **action}
    return {"match": {"prefix": "/", **match}, "route": route, **more}


def _add(name: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": action}


def _passed(of: Site, service: str) -> list[dict[str, Any]]:
    """That it passed here, and who sent it; Envoy's own way to say the latter takes three times as long."""
    values = {VIA: _hop(of, service), "x-forwarded-for": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}
    return [_add(name, value, "APPEND_IF_EXISTS_OR_ADD") for name, value in values.items()]


def _is(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "string_match": {"exact": value}}


def _to_here(of: Site, service: str, match: dict[str, Any], *headers: dict[str, Any], scoped: bool = True) -> Route:
    managed = service in of.managed
    return _forward(
        match,
        _or_agent(service) if managed else {"cluster": local(service)},
        request_headers_to_add=[
            *_passed(of, service),
            *headers,
            *([_add(SERVICE, service)] if managed else []),
        ],
        request_headers_to_remove=[TO] if scoped else [],
        response_headers_to_add=[_add(SERVED_BY, of.name)] if scoped else [],
        name="here",
    )


def _to_peer(of: Site, service: str, action: dict[str, Any], match: dict[str, Any], *headers: dict[str, Any]) -> Route:
    added = [*_passed(of, service), _add(SERVICE, service), *headers]
    action = {"retry_policy": _RETRY_PEER, **action}
    return _forward(match, action, request_headers_to_add=added, request_headers_to_remove=[TO], name="peer")


def _to_agent(of: Site, service: str, match: dict[str, Any]) -> Route:
    added = [*_passed(of, service), _add(SERVICE, service)]
    return _forward(
        match, {"cluster": AGENT}, request_headers_to_add=added, request_headers_to_remove=[TO], name="agent"
    )


def _after_the_table(of: Site, service: str) -> list[Route]:
    no_scope = _to_here(of, service, {"headers": list(_no_scope(of, service))}, scoped=False)
    in_via = {"name": VIA, "string_match": {"contains": _hop(of, service)}}
    return [
        no_scope | _NO_LUA,
        _circle(of, service, headers=[in_via]),
        _to_peer(of, service, {"cluster_header": TO}, {"headers": [{"name": TO, "string_match": {"prefix": "site/"}}]}),
        _to_here(of, service, {"headers": [_is(TO, "local")]}),
        _to_agent(of, service, {"headers": [_is(TO, "agent")]}),
        _to_agent(of, service, {}),  # where Lua is met; should it fail, the agent has the request
    ]


def _no_scope(of: Site, service: str) -> Iterator[dict[str, Any]]:
    """Matches requests that carry no scope in any way that this application has, and go in no circle."""

    def without(name: str, match: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "string_match": match, "invert_match": True, "treat_missing_header_as_empty": True}

    yield {"name": "x-scope", "present_match": False}
    yield {"name": PLAN, "present_match": False}
    yield {"name": TO, "present_match": False}
    yield without(VIA, {"contains": _hop(of, service)})
    yield without("baggage", {"contains": "scope"})
    yield without(":path", {"prefix": "/~scope/"})
    if of.application.request_id:
        yield without(of.application.request_id.header, {"prefix": of.application.request_id.around[0] + MARK})
    if of.application.token_suffix:
        for name in of.application.token_suffix.headers:
            yield without(name, {"contains": of.application.token_suffix.separator + "{"})


def _table(of: Site, service: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The plainest scopes of one binding, word for word, and the route of each. Lua would choose the same in 8 µs.

    An application with carriers that only Lua (or the agent) can write has no table.
    """
    application = of.application
    if application.token_suffix or application.adds_baggage:
        return
    words = (service, *application.services[service].aliases)
    texts = [
        (f"{{{word}:{space}{name}}}", name)
        for name in of.site_names
        for word in (w for spelling in words for w in dict.fromkeys((spelling, spelling.capitalize())))
        for space in (" ", "")
    ]
    for text, name in texts[:TABLE_LIMIT]:
        headers = [_request_id(of, application.request_id, service, name)] if application.request_id else []
        here = name == of.name
        to = (
            _to_here(of, service, {}, *headers)
            if here
            else _to_peer(of, service, {"cluster": site(name)}, {}, *headers)
        )
        yield text, _route(to | _NO_LUA)


def _request_id(of: Site, carrier: RequestIdCarrier, service: str, name: str) -> dict[str, Any]:
    """A marked id made by Envoy's own formatter: the binding, this site's number, and the time to 10 ns."""
    number = of.application.services[service].number or 0
    digits = f"{MARK}1{number * 1024 + of.site_numbers[name]:04x}{of.settings.number:03x}"
    before, after = carrier.around
    uuid = f"{digits[:8]}-{digits[8:12]}-8%j-80%H-%M%S%8f"
    return _add(carrier.header, f"{_literal(before)}%START_TIME({uuid})%{_literal(after)}")


def _literal(text: str) -> str:
    return text.replace("%", "%%")
