"""What a request concerns: which managed resource, which part of it, and what the request does to that.

The description says where resources are; where it is silent, any path below another is. What this does not promise:
that the service has what the path names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cheops.applications.description import Application
from cheops.applications.json_text import parsed
from cheops.applications.paths import Fit, encoded, filled, fit, joined, places_of, segments
from cheops.applications.resources import Action, Resource
from cheops.applications.rids import looks_unique
from cheops.record.operation import Kind
from cheops.record.resource import Named, Summary

READS = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_ONE = {"PATCH": Kind.MERGE, "PUT": Kind.REPLACE, "POST": Kind.ACTION, "DELETE": Kind.DELETE}
_OF_A_FACET = {**_OF_ONE, "DELETE": Kind.REPLACE}  # to write nothing there; the resource lives on
_REPEAT = frozenset({Kind.REPLACE, Kind.MERGE, Kind.DELETE})


@dataclass(frozen=True, kw_only=True, slots=True)
class Concern:
    """What a request concerns.

    `summary` is the managed resource itself (or that of which `facet` is a part), None if it isn't managed; then
    `parent` is the deepest managed resource that it is inside of, or would be. `kind` None is a read. `collection`
    is the path in rid form, `id` as it stands in the target, "" if it is the collection that is asked. `lists`: a read
    of what is, or without a description may be, a collection; `whole`: a write to all of a collection at once. `places`
    are the segments of the path that name managed resources, as rids or chosen ids. With a `facet`, nothing is born.
    """

    summary: Summary | None
    parent: Summary | None
    kind: Kind | None
    type: str
    rules: Resource | None
    collection: str
    id: str
    facet: str = ""
    lists: bool = False
    whole: bool = False
    repeats: bool = True
    commutes: bool = False
    alone: bool = False
    places: tuple[tuple[int, str], ...] = ()

    @property
    def may_make(self) -> bool:
        """Whether a resource may come to be by it: by POST to a collection, or PUT where the client chooses the id."""
        if self.facet or self.whole:
            return False
        puts = self.kind is Kind.REPLACE and (self.rules is None or self.rules.client_id == "accepted")
        return self.kind is Kind.CREATE or puts


@dataclass(frozen=True, kw_only=True, slots=True)
class _Spot:
    """One reading of a path: a resource of this type, or its collection (no id), and where it ends."""

    type: str
    rules: Resource | None
    collection: str
    id: str
    taken: int
    summary: Summary | None
    parent: Summary | None
    places: tuple[tuple[int, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """The values of a request that name something, as they are understood at the site `here`."""

    by_value: Mapping[str, Sequence[Named]]

    @classmethod
    def at(cls, named: Sequence[Named], here: str) -> "Known":
        """The site's own id comes first. Another site's counts only if it can't be another thing here."""
        counting = [one for one in named if one.site in ("", here) or looks_unique(one.value)]
        by_value: dict[str, list[Named]] = {}
        for one in sorted(counting, key=lambda one: (one.summary.gone, one.site != here, one.site != "")):
            by_value.setdefault(one.value, []).append(one)
        return cls(by_value=by_value)

    def of(self, value: str) -> list[Summary]:
        return [one.summary for one in self.by_value.get(value, ())]

    def unique(self, value: str) -> Summary | None:
        """What the value names, wherever it stands."""
        return next(iter(self.of(value)), None) if looks_unique(value) else None

    def of_type(self, value: str, service: str, type_: str) -> Summary | None:
        return next((one for one in self.of(value) if (one.service, one.type) == (service, type_)), None)

    def inside(self, value: str, service: str, type_: str | None, collection: str) -> Summary | None:
        """The resource of that name in the collection."""
        there = (one for one in self.of(value) if one.collection == collection)
        return next((one for one in there if one.service == service and type_ in (None, one.type)), None)


def everywhere(summary: Summary) -> str:
    """What stands for a resource in a recorded request: the id that it has everywhere, or else its rid."""
    return summary.chosen or summary.rid


def item_of(summary: Summary, application: Application) -> str:
    """The path of a resource, in rid form."""
    described = application.services.get(summary.service)
    rules = described.resources.get(summary.type) if described else None
    own, collection = encoded(everywhere(summary)), summary.collection.rstrip("/")
    if rules and rules.item and rules.item.startswith(rules.collection):
        return collection + rules.item[len(rules.collection) :].replace("{id}", own)
    return f"{collection}/{own}"


def concern(
    method: str,
    target: bytes | str,
    service: str,
    application: Application,
    named: Sequence[Named],
    here: str,
    body: bytes | None = None,
) -> Concern:
    """What the request concerns. `named` is what its values name, `body` is looked at for the keys of actions."""
    path = segments(target)
    known = Known.at(named, here)
    described = application.services[service].resources if service in application.services else {}
    spots = list(_described(path, service, described, known))
    spot = _managed(spots, len(path)) or _undescribed(path, method, service, known)
    return _concern(method, path, spot, known, bool(spots), body)


def _managed(spots: list[_Spot], length: int) -> _Spot | None:
    """The reading that counts: of what is managed, or may come to be, the deepest; else the nearest to the end."""
    counting = [spot for spot in spots if _counts(spot, length)]
    return max(counting or spots, key=lambda spot: (spot.taken, spot.summary is not None, not spot.id), default=None)


def _counts(spot: _Spot, length: int) -> bool:
    """A thing inside of a managed one that isn't managed itself is a part of that, unless this request may make it."""
    if spot.summary:
        return True
    makes = not spot.id or (spot.rules is not None and spot.rules.client_id == "accepted")
    return makes and spot.taken == length


def _described(path: tuple[str, ...], service: str, types: dict[str, Resource], known: Known) -> Iterator[_Spot]:
    asked = joined(path)
    for name, rules in types.items():
        if found := fit(rules.item_path, asked):
            yield _spot(found, service, name, types, known, asked)
        for collection in (rules.collection, *rules.lists):
            found = fit(collection, asked)
            if found and found.taken == len(path):
                yield _spot(found, service, name, types, known, asked)


def _spot(found: Fit, service: str, name: str, types: dict[str, Resource], known: Known, asked: str) -> _Spot:
    rules, parent = types[name], None
    form: dict[str, str] = {}
    places: list[tuple[int, str]] = []
    for place, n, value in sorted(found.places, key=lambda one: (one[0] == "id", one[1])):
        here_are = _collection(name if place == "id" else place, types, form)
        one = None if place.endswith("*") else _named(value, name if place == "id" else place, service, here_are, known)
        form[place] = everywhere(one) if one else value
        if one:
            places.append((n, form[place]))
            parent = parent if place == "id" else one
    id_ = next((value for place, _, value in found.places if place == "id"), "")
    collection = _collection(name, types, form) or asked
    summary = known.inside(id_, service, name, collection) if id_ else None
    return _Spot(
        type=name,
        rules=rules,
        collection=collection,
        id=id_,
        taken=found.taken,
        summary=summary,
        parent=parent,
        places=tuple(places),
    )


def _collection(place: str, types: dict[str, Resource], form: dict[str, str]) -> str | None:
    """Where the resources of this type are, if the path says so; else any of that name will do."""
    rules = types.get(place)
    return filled(rules.collection, form) if rules and set(places_of(rules.collection)) <= form.keys() else None


def _named(value: str, place: str, service: str, collection: str | None, known: Known) -> Summary | None:
    """The managed resource that stands in the place of a template."""
    owner_service, _, type_ = place.rpartition("/")
    if collection is not None:
        return known.inside(value, service, type_, collection)
    return known.of_type(value, owner_service or service, type_)


def _undescribed(path: tuple[str, ...], method: str, service: str, known: Known) -> _Spot:
    """By the conventions of REST: each segment may name what is inside of the path before it."""
    form, places, before = list(path), list[tuple[int, str]](), ""
    spots: list[_Spot] = []
    for n, value in enumerate(path):
        if summary := known.inside(value, service, None, before or "/"):
            form[n] = everywhere(summary)
            places.append((n, form[n]))
            spots.append(_plain(tuple(form[:n]), value, summary, spots, places))
        before += f"/{encoded(form[n])}"
    if spots:
        return spots[-1]
    if method == "POST" or not path:
        return _plain(path, "", None, [], [])
    return _plain(path[:-1], path[-1], None, [], [])


def _plain(
    collection: tuple[str, ...], id_: str, summary: Summary | None, before: list[_Spot], places: list[tuple[int, str]]
) -> _Spot:
    return _Spot(
        type=summary.type if summary else collection[-1] if collection else "",
        rules=None,
        collection=joined(collection),
        id=id_,
        taken=len(collection) + bool(id_),
        summary=summary,
        parent=before[-1].summary if before else None,
        places=tuple(places),
    )


def _concern(
    method: str, path: tuple[str, ...], spot: _Spot, known: Known, described: bool, body: bytes | None
) -> Concern:
    rest, places = [], dict(spot.places)
    for n in range(spot.taken, len(path)):
        summary = known.unique(path[n])
        rest.append(everywhere(summary) if summary else path[n])
        if summary:
            places[n] = rest[-1]
    facet = "/".join(rest)
    action = _action(spot.rules, facet, body) if method == "POST" and spot.id else None
    kind = _kind(method, spot, facet, action)
    return Concern(
        summary=spot.summary,
        parent=spot.parent,
        kind=kind,
        type=spot.type,
        rules=spot.rules,
        collection=spot.collection,
        id=spot.id,
        facet=facet,
        lists=kind is None and (not spot.id or (not described and spot.summary is None)),
        whole=kind is not None and not spot.id and kind is not Kind.CREATE,
        repeats=_repeats(kind, spot.rules, action),
        commutes=kind is Kind.ACTION and action is not None and action.commutes,
        alone=spot.rules is not None and spot.rules.session,
        places=tuple(sorted(places.items())),
    )


def _kind(method: str, spot: _Spot, facet: str, action: Action | None) -> Kind | None:
    if method in READS:
        return None
    if not spot.id:
        return Kind.CREATE if method == "POST" else Kind.ACTION
    if action:
        return Kind.ACTION
    if facet:
        return Kind.REPLACE if _is_content(method, spot, facet) else _OF_A_FACET.get(method, Kind.ACTION)
    meant = spot.rules.methods.get(method) if spot.rules else None  # type: ignore[call-overload]
    return Kind(meant) if meant else _OF_ONE.get(method, Kind.ACTION)


def _is_content(method: str, spot: _Spot, facet: str) -> bool:
    content = spot.rules.content if spot.rules else None
    return content is not None and method == content.method and content.path.endswith(f"{{id}}/{facet}")


def _action(rules: Resource | None, facet: str, body: bytes | None) -> Action | None:
    """What the description says of this action."""
    told = [action for action in (rules.actions if rules else ()) if action.path == facet]
    keys = _keys(body) if any(action.key for action in told) else frozenset()
    return next((action for action in told if action.key is None or action.key in keys), None)


def _keys(body: bytes | None) -> frozenset[str]:
    value = parsed(body) if body else None
    return frozenset(value) if isinstance(value, dict) else frozenset()


def _repeats(kind: Kind | None, rules: Resource | None, action: Action | None) -> bool:
    if kind is Kind.CREATE:
        return rules is not None and rules.replaceable
    return kind is None or kind in _REPEAT or (action is not None and action.repeats)
