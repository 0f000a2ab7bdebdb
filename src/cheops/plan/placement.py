"""Where a resource is to be held, as `cheops resource scope` says it. Pure."""

from dataclasses import dataclass

from cheops.errors import BadScope
from cheops.model import View
from cheops.plan.cross import spanned_by
from cheops.plan.replication import replicas_of
from cheops.scope import ScopeError, SiteName, canonical, parse


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """The sites, and of parts the prime, if the scope names one; `spans` None: the scope fits copies and parts."""

    sites: tuple[str, ...]
    prime: str = ""
    spans: bool | None = None


def placement_of(text: str, service: str, view: View) -> Placement:
    """What a scope says of where a resource of `service` is to be: {image: Site1 & Site3}, Site1 & Site3, or
    {network: Site1 % Site3, prime: Site3}.

    Raises BadScope, and as replicas_of and spanned_by do.
    """
    try:
        resolved = view.names.resolve(parse(text), for_service=service)
    except ScopeError as error:
        raise BadScope(error.message, hint=error.hint, column=error.column, caret=error.caret()) from error
    bound = {binding.service: binding.location for binding in resolved.bindings}
    location = bound.pop(service, None)
    if location is None or bound:
        others = ", ".join(bound) or "nothing"
        what = f"the resource is of '{service}', and the scope binds {others}"
        raise BadScope(what, hint=f"Write where it is to be: {{{service}: Site1 & Site2}}")
    prime = resolved.prime.name if resolved.prime else ""
    if isinstance(location, SiteName):
        return Placement(sites=(location.name,), prime=prime)
    if where := spanned_by(location, prime, view):
        return Placement(sites=where.sites, prime=prime, spans=True)
    sites = replicas_of(location, view)
    if sites is None:
        raise BadScope(f"'{canonical(location)}' isn't a place to be at", hint="Name sites: Site1, or Site1 & Site2.")
    return Placement(sites=sites, spans=False)
