"""The names that a deployment knows, and a scope checked against them.

Service names and their aliases are case-insensitive, site names are exact. Says nothing of sites being up.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Final

from .errors import mistake, quoted
from .tree import Binding, Location, Scope, SiteName, canonical, check_name, check_service, sites_of

_MOST_LISTED: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """services: type → aliases, like `{"compute": ("nova",)}`; sites: their names.

    Raises ValueError for what no scope could name, and for an alias that would mean two services.
    """

    services: Mapping[str, tuple[str, ...]]
    sites: tuple[str, ...]
    _types: dict[str, str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        types: dict[str, str] = {}
        for service, aliases in self.services.items():
            for name in (service, *aliases):
                check_service(name)
                if types.setdefault(name.lower(), service.lower()) != service.lower():
                    raise ValueError(f"{name} would mean both {types[name.lower()]} and {service}")
        for site in self.sites:
            check_name(site)
        object.__setattr__(self, "_types", types)

    def resolve(self, scope: Scope, for_service: str | None = None) -> Scope:
        """The scope with each service under its type, in lower case, and a bare location bound to `for_service`.

        Raises ScopeError at the first name that isn't known or is bound twice.
        """
        bindings: dict[str, Binding] = {}
        for binding in _bindings(scope, for_service):
            service = self._type(binding, scope.text)
            if service in bindings:
                found = quoted(binding.service)
                raise mistake("same-service", scope.text, binding.span[0], found=found, service=quoted(service))
            self._check_sites(binding.location, scope.text)
            bindings[service] = replace(binding, service=service)
        if scope.prime:
            self._check_sites(scope.prime, scope.text)
        return replace(scope, bindings=tuple(bindings.values()), bare=None)

    def _type(self, binding: Binding, text: str) -> str:
        name = binding.service.lower()
        if name not in self._types:
            near = _near(name, self._types) or _known("services", set(self._types.values()))
            raise mistake("unknown-service", text, binding.span[0], found=quoted(binding.service), near=near)
        return self._types[name]

    def _check_sites(self, location: Location, text: str) -> None:
        for site in sites_of(location):
            if site.name not in self.sites:
                found, near = quoted(site.name), self._near_sites(site)
                raise mistake("unknown-site", text, site.span[0], found=found, near=near)

    def _near_sites(self, site: SiteName) -> str:
        same = [known for known in self.sites if known.lower() == site.name.lower()]
        if same:
            return f"site names are exact: did you mean {' or '.join(same)}?"
        return _near(site.name, self.sites) or _known("sites", self.sites)


def _bindings(scope: Scope, for_service: str | None) -> tuple[Binding, ...]:
    if not scope.bare:
        return scope.bindings
    if for_service is None:
        raise mistake("which-service", scope.text, scope.bare.span[0], found=canonical(scope.bare))
    return (Binding(service=for_service, location=scope.bare, span=scope.bare.span),)


def _near(name: str, known: Iterable[str]) -> str:
    spellings: dict[str, list[str]] = {}
    for spelling in known:
        spellings.setdefault(spelling.lower(), []).append(spelling)
    matches = get_close_matches(name.lower(), spellings, _MOST_LISTED)
    near = sorted(spelling for match in matches for spelling in spellings[match])
    if len(near) == 1:
        return f"did you mean {near[0]}?"
    return f"near names are {', '.join(near)}" if near else ""


def _known(what: str, names: Iterable[str]) -> str:
    listed = sorted(names)
    if not listed:
        return f"no {what} are known here"
    more = f" and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
    return f"known {what} are {', '.join(listed[:_MOST_LISTED])}{more}"
