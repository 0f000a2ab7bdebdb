"""Names that Envoy's resources, Envoy's Lua and the agent must agree on."""

from typing import Any

TO = "cheops-to"  # where a front's request goes: "local", "agent" or the name of a peer's cluster
SERVICE = "cheops-service"  # the service that a request on the mesh, or to the agent, is for
PATH = "cheops-path"  # the path byte for byte, past parsers that would mend it
PEER = "cheops-peer"  # the site that a request on the mesh comes from, by its certificate
PEER_ISSUED = "cheops-peer-issued"  # when that certificate was issued, in seconds
PASSED = "cheops-passed"  # the site whose agent passes a request on; without a door, it asks this service alone
DOOR = "cheops-door"  # on the mesh: for the agent there, as if it had come to the front
VIA = "cheops-via"  # every front that a request passed; what finds itself there breaks the circle
SERVED_BY = "cheops-served-by"
EXECUTED = "cheops-executed"  # of what Envoy answers in a service's place: "no" or "unknown"
ATTEMPT = "cheops-attempt"  # inside of Envoy: which attempt at a request this is, from 1 on
STANDS = "x-envoy-ratelimited"  # of a reply, inside of Envoy: it stands, and the request isn't tried again
PLAN = "cheops-plan"  # the client wants to see the plan, and nothing sent

HEALTH_PATH = "/health?from="  # asked on the mesh, of Envoy itself
AGENT_SERVICE = "cheops"  # the agent itself, as a service on the mesh; no service of an application may take the name
AGENT_AWAY = "agent-away"  # the code of what Envoy answers while its agent doesn't run
AGENT = "agent"
AGENT_MESH = "agent-mesh"
COLLECTOR = "collector"  # of traces


def local(service: str) -> str:
    """The cluster of this site's own instance of a service."""
    return f"local/{service}"


def missed(service: str) -> str:
    """The same, and behind it the agent, for what isn't found there."""
    return f"missed/{service}"


def site(name: str) -> str:
    """The cluster of a peer."""
    return f"site/{name}"


def typed(kind: str, **fields: Any) -> dict[str, Any]:
    """Envoy's Any: a message of the type `kind` of its v3 API."""
    return {"@type": f"type.googleapis.com/{kind}", **fields}


def lua_value(value: Any) -> str:
    """A value of strings, numbers, truths and mappings, as Lua writes it."""
    match value:
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return '"' + "".join(map(_lua_byte, value.encode("utf-8", "surrogatepass"))) + '"'
        case dict():
            return "{" + ", ".join(f"[{lua_value(key)}] = {lua_value(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "{" + ", ".join(lua_value(item) for item in value) + "}"
    raise TypeError(f"Lua has no {value!r}")


def _lua_byte(byte: int) -> str:
    """Lua 5.1 knows no escape of Unicode; a decimal one has three digits, lest a digit that follows be part of it."""
    return chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03}"
