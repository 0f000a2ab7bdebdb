"""The Lua of Envoy, with the names and numbers of a site written above it."""

from importlib.resources import files
from typing import Any

from cheops.config import Site
from cheops.intercept.envoy.names import lua_value


def scope_script(of: Site, service: str) -> str:
    """The script that chooses the site at the front of a service."""
    application = of.application
    numbers = {name: entry.number or 0 for name, entry in application.services.items()}
    names = {word: name for name, entry in application.services.items() for word in (name, *entry.aliases)}
    facts = {
        "service": service,
        "site": of.name,
        "sites": of.site_numbers,
        "site_of": {number: name for name, number in of.site_numbers.items()},
        "services": names,
        "numbers": numbers,
        "service_of": {number: name for name, number in numbers.items() if number},
        "request_id": _request_id(of),
        "token": _token(of, service),
        "baggage": application.adds_baggage,
    }
    return _script("scope.lua", facts)


def _request_id(of: Site) -> dict[str, Any] | None:
    carrier = of.application.request_id
    if carrier is None:
        return None
    before, after = carrier.around
    return {"header": carrier.header.lower(), "before": before, "after": after}


def _token(of: Site, service: str) -> dict[str, Any] | None:
    carrier = of.application.token_suffix
    if carrier is None:
        return None
    headers = [header.lower() for header in carrier.headers]
    return {"headers": headers, "separator": carrier.separator, "cut": service in carrier.cut_at}


def location_script(of: Site, service: str) -> str:
    """The script that mends the Locations of a service."""
    front = of.settings.services[service]
    return _script("location.lua", {"addresses": {str(front.backend).lower(): True, str(front.front).lower(): True}})


def path_script() -> str:
    """The script that puts the path of what the agent sends in its place."""
    return (files(__package__) / "path.lua").read_text()


def _script(name: str, facts: dict[str, Any]) -> str:
    return f"local S = {lua_value(facts)}\n{(files(__package__) / name).read_text()}"
