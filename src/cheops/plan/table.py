"""Which operator is planned by what: the one table."""

from collections.abc import Callable, Mapping
from typing import Any

from cheops.errors import NotYet
from cheops.model import Resolved, View
from cheops.plan.around import go_around
from cheops.plan.cross import read_parts
from cheops.plan.otherwise import fall_over
from cheops.plan.replication import read_each
from cheops.plan.sharing import share
from cheops.plan.steps import Plan
from cheops.scope import (
    Around,
    Binding,
    Cross,
    Location,
    Otherwise,
    Replicas,
    Scope,
    SiteName,
    Spread,
    canonical,
    parts_of,
    walk,
)

PLANNED_BY: Mapping[type, Callable[[str, Any, Resolved, View], Plan]] = {
    SiteName: share,
    Otherwise: fall_over,
    Replicas: read_each,
    Cross: read_parts,
}
SPREAD_BY: Mapping[Spread, Callable[[str, Any, Resolved, View], Plan]] = {
    Spread.FIRST: go_around,
    Spread.EACH: read_each,
    Spread.ACROSS: read_parts,
}


def make_plan(scope: Scope, service: str, view: View) -> Plan:
    """The plan of a request for `service` under a scope whose names are resolved.

    Raises NotYet, also for what only a later call of the workflow would meet; NobodyNear and CantSay for an around.
    """
    check_carried_out(scope)
    resolved = Resolved(location_of={binding.service: binding.location for binding in scope.bindings})
    location = resolved.location_of.get(service, SiteName(name=view.site))
    planned_by = SPREAD_BY[location.spread] if isinstance(location, Around) else PLANNED_BY[type(location)]
    return planned_by(service, location, resolved, view)


def check_carried_out(scope: Scope) -> None:
    """Raises NotYet for what this version doesn't do."""
    for binding in scope.bindings:
        _refuse(binding)


def centres_of(scope: Scope, service: str) -> set[str]:
    """The sites whose distances the plan of a request for `service` needs to know."""
    locations = [binding.location for binding in scope.bindings if binding.service == service]
    return {inner.centre for location in locations for inner in walk(location) if isinstance(inner, Around)}


def _refuse(binding: Binding) -> None:
    for inner in walk(binding.location):
        kind = inner.spread if isinstance(inner, Around) else type(inner)
        asks = _SEVERAL if kind in _MANY and _chooses(binding.location) else ""
        if asks:
            raise NotYet(
                f"'{binding.service}: {canonical(binding.location)}' asks for {asks}, "
                "which this version of Cheops understands but doesn't carry out yet; nothing was sent anywhere",
                hint="Name one site for each service, such as {"
                + f"{binding.service}: {_first_site(binding.location)}"
                + "}.",
            )


_MANY: tuple[type | Spread, ...] = (Replicas, Spread.EACH, Cross, Spread.ACROSS)
_SEVERAL = "replication (&) or parts (%) together with a choice (;)"


def _chooses(location: Location) -> bool:
    """Whether some of it is a choice, so that who holds a replica would be open."""
    return any(
        isinstance(inner, Otherwise) or (isinstance(inner, Around) and inner.spread is Spread.FIRST)
        for inner in walk(location)
    )


def _first_site(location: Location) -> str:
    match location:
        case SiteName(name=name) | Around(centre=name):
            return name
        case _:
            return _first_site(parts_of(location)[0])
