"""Cross: `Site1 % Site2`, `Site1 %around(Site1, 10ms)`. Which sites a location of parts stands for, and their prime."""

from dataclasses import dataclass

from cheops.errors import BadScope, NotYet
from cheops.model import Resolved, View
from cheops.plan.around import sites_at
from cheops.plan.steps import Each, Forward, Plan
from cheops.scope import Around, Cross, Location, Spread, canonical, parts_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Spanned:
    """Where a whole is to be: its sites in their order, and the prime among them."""

    sites: tuple[str, ...]
    prime: str


def read_parts(service: str, location: Location, resolved: Resolved, view: View) -> Plan:
    """A read of what is on several sites; what is made of it is span.py's."""
    where = spanned_by(location, "", view)
    sites = where.sites if where else ()
    choices = [Forward(service=service, site=site, resolved=resolved.decided(service, site)) for site in sites]
    return Plan(step=Each(choices=tuple(choices)), kind="cross")


def spanned_by(location: Location | None, prime: str, view: View) -> Spanned | None:
    """The sites of a location that means one resource across them; None if it means something else.

    Without a `prime` the first site is it. Raises BadScope for a prime that isn't one of them, CantSay for an around
    whose distances aren't known, and NotYet for a nesting that isn't carried out.
    """
    match location:
        case Cross():
            found = [site for place in parts_of(location) for site in _sites(place, view)]
        case Around(spread=Spread.ACROSS):
            found = list(_sites(location, view))
        case _:
            return None
    sites = tuple(dict.fromkeys(found))
    if prime and prime not in sites:
        raise BadScope(
            f"the prime is {prime}, which isn't one of the sites that '{canonical(location)}' stands for",
            hint=f"Name one of them: prime: {sites[0]}" if sites else "Name a site.",
        )
    return Spanned(sites=sites, prime=prime or sites[0])


def _sites(place: Location, view: View) -> tuple[str, ...]:
    sites = sites_at(place, view)
    if sites is None:
        raise NotYet(
            f"'{canonical(place)}' as one of several parts isn't carried out",
            hint="Name the sites: {network: Site1 % Site2}.",
        )
    return sites
