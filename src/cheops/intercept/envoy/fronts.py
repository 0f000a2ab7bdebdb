"""The routes of a front, which are matched in this order.

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

Of a service that has replicated resources, what the service here doesn't find the agent is asked for. A write of it,
which is whatever isn't a read, skips the table; and where "the service here" stands, it goes to the agent here.
If it has resources that span sites, some of its reads do the same: GET and HEAD of such a resource, of a list of them,
and of a list of what belongs to them, which the path tells (applications/spans.py). An upgrade or a watch never does.
"""

from collections.abc import Callable, Iterator
from typing import Any

from cheops.applications import RequestIdCarrier
from cheops.applications.concern import READS
from cheops.applications.spans import spanning_paths
from cheops.carry.request_id import MARK
from cheops.config import Site
from cheops.intercept.envoy.lua import location_script, scope_script
from cheops.intercept.envoy.names import AGENT, PLAN, SERVICE, STANDS, TO, VIA, local, site, typed
from cheops.intercept.envoy.parts import (
    RETRY_PEER,
    Route,
    add,
    configuration,
    exactly,
    forward,
    or_agent,
    per_route_lua,
    problem,
    served_by,
    to_door,
)

_NO_LUA = {
    "typed_per_filter_config": {
        "cheops.scope": typed("envoy.extensions.filters.http.lua.v3.LuaPerRoute", disabled=True)
    }
}
TABLE_LIMIT = 4096  # texts of a front's table; scopes beyond it are Lua's


def front_routes(of: Site, service: str) -> Route:
    """The route configuration of the front of a service."""
    scripts = {"cheops.scope": scope_script(of, service), "cheops.location": location_script(of, service)}
    host = {"name": "all", "domains": ["*"], "matcher": _front_matcher(of, service), **per_route_lua(scripts)}
    return configuration(front_name(service), host)


def front_name(service: str) -> str:
    return f"front/{service}"


def _front_matcher(of: Site, service: str) -> dict[str, Any]:
    reads = {"matcher": _any(of, service)}
    if service not in of.managed:
        return reads["matcher"]
    writes = _routes(*_after_the_table(of, service, _write_here))
    by_method = dict.fromkeys(sorted(READS), reads)
    if paths := _spanning_paths(of, service):
        by_method |= dict.fromkeys(("GET", "HEAD"), _if(_of_wholes(paths), writes, otherwise=reads))
    return _tree(":method", {"exact_match_map": {"map": by_method}}, otherwise=_if(_UPGRADED, reads, otherwise=writes))


def _spanning_paths(of: Site, service: str) -> list[str]:
    return spanning_paths(of.application.services[service]) if service in of.spanned else []


def _of_wholes(paths: list[str]) -> dict[str, Any]:
    """Matches what the agent puts together of several sites; it can't do so for what has no end."""
    concerned = _has(":path", _regex("|".join(paths)))
    return {"and_matcher": {"predicate": [concerned, {"not_matcher": _UPGRADED}, {"not_matcher": _WATCH}]}}


def _if(predicate: dict[str, Any], then: dict[str, Any], otherwise: dict[str, Any]) -> dict[str, Any]:
    one = {"matcher_list": {"matchers": [{"predicate": predicate, "on_match": then}]}, "on_no_match": otherwise}
    return {"matcher": one}


def _any(of: Site, service: str) -> dict[str, Any]:
    rest = _routes(*_after_the_table(of, service, _to_here))
    table = dict(_table(of, service))
    if not table:
        return {"on_no_match": rest}
    by_scope = _tree("x-scope", {"exact_match_map": {"map": table}}, otherwise=rest)
    by_path = _tree(":path", {"prefix_match_map": {"map": {"/~scope/": rest}}}, otherwise={"matcher": by_scope})
    first = [_if_header(VIA, {"contains": _hop(of, service)}, _route(_circle(of, service)))]
    if carrier := of.application.request_id:
        first.append(_if_header(carrier.header, {"prefix": carrier.around[0] + MARK}, rest))
    first.append(_if_header(PLAN, _ANYTHING, rest))
    scoped = {"matcher_list": {"matchers": first}, "on_no_match": {"matcher": by_path}}
    return {
        "matcher_list": {"matchers": [_if_header("x-scope", {"prefix": "{"}, {"matcher": scoped})]},
        "on_no_match": rest,
    }


def _if_header(name: str, value: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    return {"predicate": _has(name, value), "on_match": then}


def _has(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"single_predicate": {"input": _header(name), "value_match": value}}


def _header(name: str) -> dict[str, Any]:
    return {"name": name, "typed_config": typed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=name)}


def _regex(regex: str) -> dict[str, Any]:
    return {"safe_regex": {"google_re2": {}, "regex": regex}}


_ANYTHING = _regex(".*")
_UPGRADED = {
    "and_matcher": {
        "predicate": [_has("upgrade", _ANYTHING), _has("connection", {"contains": "upgrade", "ignore_case": True})]
    }
}
_WATCH = _has(":path", _regex(r"[^?]*\?(.*&)?watch=(?i:1|true)(&.*)?"))


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
        **problem(of, 508, "circle", "The request goes round in circles", detail),
    }


def _passed(of: Site, service: str) -> list[dict[str, Any]]:
    """That it passed here, and who sent it; Envoy's own way to say the latter takes three times as long."""
    values = {VIA: _hop(of, service), "x-forwarded-for": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}
    return [add(name, value, "APPEND_IF_EXISTS_OR_ADD") for name, value in values.items()]


def _to_here(of: Site, service: str, match: dict[str, Any], *headers: dict[str, Any], scoped: bool = True) -> Route:
    return forward(
        match,
        or_agent(service) if service in of.managed else {"cluster": local(service)},
        request_headers_to_add=[*_passed(of, service), *headers],
        request_headers_to_remove=[TO] if scoped else [],
        response_headers_to_add=[served_by(of, service)] if scoped else [],
        response_headers_to_remove=[STANDS] if service in of.managed else [],
        name="here",
    )


def _to_peer(of: Site, service: str, action: dict[str, Any], match: dict[str, Any], *headers: dict[str, Any]) -> Route:
    added = [*_passed(of, service), add(SERVICE, service), *headers]
    action = {"retry_policy": RETRY_PEER, **action}
    return forward(match, action, request_headers_to_add=added, request_headers_to_remove=[TO], name="peer")


def _to_agent(of: Site, service: str, match: dict[str, Any]) -> Route:
    added = [*_passed(of, service), add(SERVICE, service)]
    return forward(
        match, {"cluster": AGENT}, request_headers_to_add=added, request_headers_to_remove=[TO], name="agent"
    )


def _write_here(of: Site, service: str, match: dict[str, Any], *, scoped: bool = True) -> Route:
    """To the agent, which writes it here and, if it is of something replicated, at other sites."""
    route = to_door(service, match, {})
    route["request_headers_to_add"] += _passed(of, service)
    return route


def _after_the_table(of: Site, service: str, here: Callable[..., Route]) -> list[Route]:
    in_via = {"name": VIA, "string_match": {"contains": _hop(of, service)}}
    return [
        here(of, service, {"headers": list(_no_scope(of, service))}, scoped=False) | _NO_LUA,
        _circle(of, service, headers=[in_via]),
        _to_peer(of, service, {"cluster_header": TO}, {"headers": [{"name": TO, "string_match": {"prefix": "site/"}}]}),
        here(of, service, {"headers": [exactly(TO, "local")]}),
        _to_agent(of, service, {"headers": [exactly(TO, "agent")]}),
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
    return add(carrier.header, f"{_literal(before)}%START_TIME({uuid})%{_literal(after)}")


def _literal(text: str) -> str:
    return text.replace("%", "%%")
