"""Replication: `Site1 & Site2`, `Site1 &around(Site1, 10ms)`. Which sites a location of replicas stands for."""

from cheops.errors import NotYet
from cheops.model import Resolved, View
from cheops.plan.around import sites_at
from cheops.plan.steps import Each, Forward, Plan
from cheops.scope import Around, Location, Replicas, Spread, canonical, parts_of


def read_each(service: str, location: Location, resolved: Resolved, view: View) -> Plan:
    """A read of a collection on several sites. Writes, and reads of one resource, are replicate.py's."""
    sites = replicas_of(location, view) or ()
    choices = [Forward(service=service, site=site, resolved=resolved.decided(service, site)) for site in sites]
    return Plan(step=Each(choices=tuple(choices)), kind="replication")


def replicas_of(location: Location, view: View) -> tuple[str, ...] | None:
    """The sites of a location that means a copy on each, in its order; None if it means something else.

    Raises CantSay for an around whose distances aren't known, and NotYet for a nesting that isn't carried out.
    """
    match location:
        case Replicas():
            places = [_sites(place, view) for place in parts_of(location)]
            return tuple(dict.fromkeys(site for sites in places for site in sites))
        case Around(spread=Spread.EACH):
            return _sites(location, view)
        case _:
            return None


def _sites(place: Location, view: View) -> tuple[str, ...]:
    sites = sites_at(place, view)
    if sites is None:
        raise NotYet(
            f"'{canonical(place)}' as one of several replicas isn't carried out yet",
            hint="Name the sites: {image: Site1 & Site2}.",
        )
    return sites
