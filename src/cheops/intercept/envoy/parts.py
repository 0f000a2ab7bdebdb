"""What routes are made of, at a front as on the mesh."""

from typing import Any

from cheops.config import Site
from cheops.intercept.envoy.names import AGENT, DOOR, EXECUTED, PATH, SERVED_BY, SERVICE, TO, missed, typed

Route = dict[str, Any]


# A stream that a peer has refused is surely not executed; anything else sent again might run a write twice. Who can't
# be connected to isn't tried again: the user waits, and hears of it within 2 s.
RETRY_PEER = {"retry_on": "refused-stream", "num_retries": 1}


def configuration(name: str, host: dict[str, Any]) -> Route:
    return {**typed("envoy.config.route.v3.RouteConfiguration"), "name": name, "virtual_hosts": [host]}


def per_route_lua(scripts: dict[str, str]) -> dict[str, Any]:
    """Scripts stand with the routes, which name the same sites; a changed route drops no connection."""
    kind = "envoy.extensions.filters.http.lua.v3.LuaPerRoute"
    return {
        "typed_per_filter_config": {
            name: typed(kind, source_code={"inline_string": script}) for name, script in scripts.items()
        }
    }


def forward(match: dict[str, Any], action: dict[str, Any], **more: Any) -> Route:
    """Time is the service's own business: a watch may be silent for hours."""
    route = {"timeout": "0s", "idle_timeout": "0s", **action}
    return {"match": {"prefix": "/", **match}, "route": route, **more}


def to_door(service: str, match: dict[str, Any], filters: dict[str, Any]) -> Route:
    """To the agent, as if Lua had left it to it: the path goes in a header, past the agent's HTTP parser."""
    return forward(
        match,
        {"cluster": AGENT, "regex_rewrite": {"pattern": {"regex": "^.*$"}, "substitution": "/"}},
        request_headers_to_add=[add(SERVICE, service), add(PATH, "%REQ(:PATH)%")],
        request_headers_to_remove=[TO, DOOR],
        typed_per_filter_config=filters,
        name="agent",
        **logged_as(service),
    )


def or_agent(service: str) -> dict[str, Any]:
    """A read of something that isn't there goes to the agent: it may be there under another id, or elsewhere. So does a
    read that the service can't take at all. An agent that is away leaves it to the service again (see clusters.py).
    """
    policy = {
        "retry_on": "retriable-status-codes,connect-failure,reset-before-request",
        "retriable_status_codes": [404],
        "retriable_request_headers": [{"name": "upgrade", "present_match": False}],
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": typed(
                "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig", update_frequency=1
            ),
        },
    }
    return {"cluster": missed(service), "retry_policy": policy}


def served_by(of: Site, service: str) -> dict[str, Any]:
    """The site that has served it; with replicated resources, the agent may have had it from another."""
    if service in of.managed:
        return add(SERVED_BY, of.name, "ADD_IF_ABSENT")
    return add(SERVED_BY, of.name)


def problem(of: Site, status: int, code: str, title: str, detail: str, executed: str = "") -> dict[str, Any]:
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
            add("content-type", of.application.errors.media_type),
            *([add(EXECUTED, executed)] if executed else []),
        ],
    }


def add(name: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": action}


def exactly(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "string_match": {"exact": value}}


def logged_as(service: str) -> dict[str, Any]:
    """By the time a line is logged, the header that says the service may have been taken off."""
    return {"metadata": {"filter_metadata": {"cheops": {"service": service}}}}
