"""Otherwise: `Site1 ; Site2`. The first that can; execute.py knows when going on to the next does no harm."""

from cheops.errors import CantSay, NobodyNear
from cheops.model import Resolved, View
from cheops.plan.around import first_able, near
from cheops.plan.steps import Near, Plan
from cheops.scope import Around, Location, Otherwise, SiteName, canonical


def fall_over(service: str, location: Otherwise, resolved: Resolved, view: View) -> Plan:
    """The choices in their order; an around among them stands for the sites that it finds. Raises NobodyNear."""
    found = [_sites(choice, view) for choice in location.choices]
    sites = [site for names, _ in found for site in names]
    if not sites:
        what = f"no site that is up is near enough for '{canonical(location)}'"
        raise NobodyNear(what, hint="Allow more time, or name a site.")
    nears = tuple(near for _, those in found for near in those)
    return first_able(service, sites, resolved, view, kind="otherwise", near=nears)


def _sites(choice: Location, view: View) -> tuple[list[str], tuple[Near, ...]]:
    match choice:
        case SiteName(name=name):
            return [name], ()
        case Around():
            nears = _near_if_known(choice, view)
            return [each.site for each in nears], nears
        case _:
            raise TypeError(f"not planned here: {canonical(choice)}")


def _near_if_known(choice: Around, view: View) -> tuple[Near, ...]:
    """An around of which nothing is known leaves it to the other choices."""
    try:
        return near(choice, view)
    except CantSay:
        return ()
