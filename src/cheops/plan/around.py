"""Around: `around(Site1, 10ms)`. The sites that are up and near, nearest first, by measured round-trip times.

The times are those that the centre itself has measured; whoever is asked adds how old its knowledge is.
"""

from cheops.errors import CantSay, NobodyNear
from cheops.model import Distances, PeerState, Resolved, RoundTrip, View
from cheops.plan.steps import FirstAble, Forward, Near, Plan
from cheops.scope import Around, Location, SiteName, canonical, duration_text

_LISTED = 5  # in the message that none is near


def near(place: Around, view: View) -> tuple[Near, ...]:
    """The sites that qualify, nearest first: near by what the centre says, and up as far as this site knows.

    Raises CantSay when nothing is known of the centre's distances.
    """
    found = _by_distance(_distances(place, view))
    return tuple(
        Near(site=site, round_trip=trip)
        for site, trip in found
        if trip.us <= place.within_us and not _is_down(site, view)
    )


def sites_at(place: Location, view: View) -> tuple[str, ...] | None:
    """The site that is named, or those that are near; None for what isn't one place. Raises CantSay."""
    match place:
        case SiteName(name=name):
            return (name,)
        case Around():
            return tuple(each.site for each in near(place, view))
        case _:
            return None


def go_around(service: str, place: Around, resolved: Resolved, view: View) -> Plan:
    """The nearest that can. Raises NobodyNear, or CantSay."""
    found = near(place, view)
    if not found:
        raise _nobody(place, view)
    return first_able(service, [each.site for each in found], resolved, view, kind="around", near=found)


def first_able(
    service: str, sites: list[str], resolved: Resolved, view: View, *, kind: str, near: tuple[Near, ...] = ()
) -> Plan:
    """The sites in their order, each once; those that are known to be down come last, in case they are back."""
    once = list(dict.fromkeys(sites))
    down = [site for site in once if _is_down(site, view)]
    ordered = [*(site for site in once if site not in down), *down]
    choices = [Forward(service=service, site=site, resolved=resolved.decided(service, site)) for site in ordered]
    return Plan(step=FirstAble(choices=tuple(choices)), kind=kind, near=near)


def _is_down(site: str, view: View) -> bool:
    return site in view.peers and view.peers[site].state is PeerState.DOWN


def _distances(place: Around, view: View) -> Distances:
    """Those that the centre told, with their age as of now; the centre itself is at no distance."""
    if place.centre not in view.distances:
        raise CantSay(
            f"how far the sites are from {place.centre} isn't known on {view.site}: it can't be asked, and never told",
            hint="Name a site, or another centre.",
            site=place.centre,
        )
    told = view.distances[place.centre]
    here = [site for site in told.of if site in view.site_numbers]  # a site that has left meanwhile isn't meant
    return Distances(of={site: told.of[site] for site in here}, age=told.age)


def _by_distance(distances: Distances) -> list[tuple[str, RoundTrip]]:
    aged = {
        site: RoundTrip(us=trip.us, spread_us=trip.spread_us, age=trip.age + distances.age)
        for site, trip in distances.of.items()
    }
    return sorted(aged.items(), key=lambda found: (found[1].us, found[0]))


def _nobody(place: Around, view: View) -> NobodyNear:
    nearest = _by_distance(_distances(place, view))[:_LISTED]
    times = ", ".join(
        f"{site} {trip.us / 1000:.1f}ms{' (down)' if _is_down(site, view) else ''}" for site, trip in nearest
    )
    limit = duration_text(place.within_us)
    return NobodyNear(
        f"no site that is up is within {limit} of {place.centre}; the nearest: {times or 'none'}",
        hint=f"Allow more time than {canonical(place)}, or write what to do otherwise: {canonical(place)} ; Site1.",
        nearest=[{"site": site, "ms": round(trip.us / 1000, 3), "age": round(trip.age, 1)} for site, trip in nearest],
    )
