"""Where a resource is to be held, as `cheops resource scope` says it. Pure."""

from cheops.errors import BadScope
from cheops.model import View
from cheops.plan.replication import replicas_of
from cheops.scope import ScopeError, SiteName, canonical, parse


def placement_of(text: str, service: str, view: View) -> tuple[str, ...]:
    """The sites of a scope that says where a resource of `service` is to be: {image: Site1 & Site3}, or Site1 & Site3.

    Raises BadScope, and as replicas_of does.
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
    sites = (location.name,) if isinstance(location, SiteName) else replicas_of(location, view)
    if sites is None:
        raise BadScope(f"'{canonical(location)}' isn't a place to be at", hint="Name sites: Site1, or Site1 & Site2.")
    return sites
