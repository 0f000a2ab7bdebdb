"""Which operator is planned by what: the one table."""

from collections.abc import Mapping

from cheops.errors import NotYet
from cheops.model import Resolved, View
from cheops.plan.sharing import share
from cheops.plan.steps import Plan
from cheops.scope import Around, Binding, Cross, Location, Otherwise, Replicas, Scope, SiteName, canonical, parts_of

NOT_YET: Mapping[type, str] = {
    Replicas: "replication (&)",
    Cross: "a resource that spans sites (%)",
    Otherwise: "falling over to another site (;)",
    Around: "choosing a site by distance (around)",
}
"""Operators that are understood but not carried out by this version."""


def make_plan(scope: Scope, service: str, view: View) -> Plan:
    """The plan of a request for `service` under a scope whose names are resolved. Raises NotYet."""
    site_of = {binding.service: _site(binding) for binding in scope.bindings}
    return share(service, Resolved(site_of=site_of), view)


def _site(binding: Binding) -> str:
    match binding.location:
        case SiteName(name=name):
            return name
        case operator:
            raise NotYet(
                f"'{binding.service}: {canonical(operator)}' asks for {NOT_YET[type(operator)]}, "
                "which this version of Cheops understands but doesn't carry out yet; nothing was sent anywhere",
                hint="Name one site for each service, such as {" + f"{binding.service}: {_first_site(operator)}" + "}.",
            )


def _first_site(location: Location) -> str:
    match location:
        case SiteName(name=name) | Around(centre=name):
            return name
        case _:
            return _first_site(parts_of(location)[0])
