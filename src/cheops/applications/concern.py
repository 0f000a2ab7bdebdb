"""What a request concerns: which resource, and what it would do to it. Pure.

A description says it; without one the conventions of REST hold: POST to a collection creates, PUT replaces (or makes)
what stands at a path, PATCH merges, DELETE deletes. What stands below an item is a facet of it, or a collection inside.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

from cheops.applications.description import Application
from cheops.applications.ids import looks_unique
from cheops.applications.resources import Behaviour, Resource
from cheops.record.operation import Kind
from cheops.record.resource import Named, Summary

READS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_MEANS = {"replace": Kind.REPLACE, "merge": Kind.MERGE, "action": Kind.ACTION}
_BY_METHOD = {"PUT": Kind.REPLACE, "PATCH": Kind.MERGE, "DELETE": Kind.DELETE}
_API = re.compile(r"api|apis|rest|v\d[\w.]*")
_PLACE = re.compile(r"\\\{[^{}]*\\\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Concern:
    """What a request is about. `kind`: None for a read. `summary`: the managed resource that it is for, None if there
    is none; `parent`: the rid of the one around it, "" if that isn't managed.

    `collection` is a path in rid form; `id` is what stands in it, "" for a POST that creates. `facet` is the part below
    the item, "" for the item itself. `lists`: it reads a collection.
    """

    kind: Kind | None
    type: str = ""
    rules: Resource | None = None
    summary: Summary | None = None
    parent: str = ""
    collection: str = ""
    id: str = ""
    facet: str = ""
    lists: bool = False
    repeats: bool = True
    commutes: bool = False
    alone: bool = False

    @property
    def makes(self) -> bool:
        """Whether it makes a resource, if there is none yet."""
        return self.kind is Kind.CREATE or (self.kind is Kind.REPLACE and bool(self.id) and not self.facet)


@dataclass(frozen=True, slots=True)
class _Found:
    """A managed resource that a path leads through: at `depth` segments; `path` is the way to it in rid form."""

    summary: Summary
    depth: int
    path: str


def segments(target: str) -> tuple[str, ...]:
    """The segments of the path, decoded; what one of them names may be a resource."""
    return tuple(unquote(part) for part in target.partition("?")[0].split("/")[1:])


def concern(
    method: str,
    target: str,
    service: str,
    application: Application,
    named: Sequence[Named],
    here: str,
    *,
    first_member: str = "",
) -> Concern:
    """What a request concerns. `named` is what the segments of its path name; `first_member` is that of its body."""
    path = segments(target)
    described = application.services.get(service)
    types = described.resources if described else {}
    canonical, found = _walk(path, [n for n in named if n.summary.service == service], here)
    inner = found[-1] if found else None
    rest = path[inner.depth :] if inner else ()
    shape = _shape(target.partition("?")[0], types)
    if inner and not rest:
        return _of_item(method, inner, _rules(inner.summary, types), "", first_member, service)
    if method in READS:
        lists = shape.lists if shape else _reads_a_list(path)
        summary = inner.summary if inner and not (shape and shape.collection) else None
        return Concern(
            kind=None,
            type=shape.type if shape else "",
            rules=types.get(shape.type) if shape else None,
            summary=summary,
            collection=canonical if lists else canonical.rpartition("/")[0],
            id="" if lists else path[-1],
            facet="/".join(rest) if summary else "",
            lists=lists,
        )
    if inner and not _is_inside(method, inner, rest, shape, types):
        return _of_item(method, inner, _rules(inner.summary, types), "/".join(rest), first_member, service)
    return _new(method, path, canonical, inner, shape, types)


def _walk(path: Sequence[str], named: Sequence[Named], here: str) -> tuple[str, list[_Found]]:
    """The path in rid form, and the managed resources on its way, from the outside inwards."""
    canonical, found = "", []
    for depth, segment in enumerate(path, start=1):
        summary = _named(segment, canonical, named, here)
        if summary and not summary.chosen:
            canonical = f"{canonical}/{summary.rid}"
        else:
            canonical = f"{canonical}/{quote(segment, safe=SAFE)}"
        if summary:
            found.append(_Found(summary, depth, canonical))
    return canonical, found


SAFE = "!$&'()*+,;=:@~-._"


def _named(segment: str, collection: str, named: Sequence[Named], here: str) -> Summary | None:
    """What a segment of this collection names: an id of this site before one of another."""
    those = [n for n in named if n.value == segment and n.summary.collection == collection]
    living = [n for n in those if not n.summary.gone] or those
    own = [n for n in living if n.site in (here, "")]
    foreign = [n for n in living if n.site not in (here, "") and looks_unique(segment)]
    return next((n.summary for n in (*own, *foreign)), None)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a description says that stands at a path: a collection, an item, or the content of one."""

    type: str
    collection: bool
    lists: bool
    facet: str = ""


def _shape(path: str, types: dict[str, Resource]) -> _Shape | None:
    for name, resource in types.items():
        if _pattern(resource.collection).fullmatch(path) or _pattern(resource.collection + "/").fullmatch(path):
            return _Shape(name, collection=True, lists=True)
        if any(_pattern(listing).fullmatch(path) for listing in resource.lists):
            return _Shape(name, collection=True, lists=True)
    for name, resource in types.items():
        if _pattern(resource.item_path).fullmatch(path):
            return _Shape(name, collection=False, lists=False)
        if resource.content and _pattern(resource.content.path).fullmatch(path):
            return _Shape(name, collection=False, lists=False, facet=path.rpartition("/")[2])
    return None


@lru_cache(maxsize=1024)
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(_PLACE.sub("[^/]+", re.escape(template)))


def _reads_a_list(path: Sequence[str]) -> bool:
    """By convention: collections and items take turns, after what only says which API it is."""
    said = [segment for segment in path if segment]
    while said and _API.fullmatch(said[0]):
        said = said[1:]
    return len(said) % 2 == 1


def _rules(summary: Summary, types: dict[str, Resource]) -> Resource | None:
    return types.get(summary.type)


def _is_inside(
    method: str, inner: _Found, rest: Sequence[str], shape: _Shape | None, types: dict[str, Resource]
) -> bool:
    """Whether a path below a managed item leads to a resource inside of it, and not to a facet of its own."""
    rules = _rules(inner.summary, types)
    if shape and shape.type != inner.summary.type:
        return shape.collection or not shape.facet
    if rules is not None:
        return False
    return len(rest) % 2 == 1 if method == "POST" else len(rest) % 2 == 0


def _of_item(
    method: str, found: _Found, rules: Resource | None, facet: str, first_member: str, service: str
) -> Concern:
    summary = found.summary
    kind = _kind(method, rules, facet)
    behaviour = _behaviour(rules, facet, first_member) if kind is Kind.ACTION else Behaviour(repeats=True)
    return Concern(
        kind=kind,
        type=summary.type,
        rules=rules,
        summary=summary,
        parent=summary.parent,
        collection=summary.collection,
        id=summary.chosen or summary.rid,
        facet=facet,
        repeats=behaviour.repeats,
        commutes=behaviour.commutes,
        alone=bool(rules and rules.session),
    )


def _kind(method: str, rules: Resource | None, facet: str) -> Kind | None:
    if method in READS:
        return None
    if method == "DELETE":
        return Kind.REPLACE if facet else Kind.DELETE  # what isn't there any more is a state of the facet
    if rules and not facet and method in rules.methods:
        return _MEANS[rules.methods[method]]
    if rules and rules.session:
        return Kind.ACTION
    return _BY_METHOD.get(method, Kind.ACTION)


def _behaviour(rules: Resource | None, facet: str, first_member: str) -> Behaviour:
    known = rules.actions if rules else {}
    return known.get(f"{facet}/{first_member}") or known.get(facet) or Behaviour()


def _new(
    method: str,
    path: Sequence[str],
    canonical: str,
    around: _Found | None,
    shape: _Shape | None,
    types: dict[str, Resource],
) -> Concern:
    """A write of something that isn't managed."""
    name = shape.type if shape else ""
    rules = types.get(name)
    parent = around.summary.rid if around else ""
    posts = method == "POST" and (shape is None or shape.collection)
    if posts:
        return Concern(
            kind=Kind.CREATE,
            type=name,
            rules=rules,
            parent=parent,
            collection=canonical.rstrip("/") if not (rules and rules.moves) else canonical,
            repeats=bool(rules and rules.replaceable),
            alone=bool(rules and rules.session),
        )
    facet = shape.facet if shape else ""
    depth = len(path) - (1 if facet else 0)
    collection = "/" + "/".join(canonical.split("/")[1:depth])
    return Concern(
        kind=_kind(method, rules, facet),
        type=name,
        rules=rules,
        parent=parent,
        collection=collection,
        id=path[depth - 1] if path else "",
        facet=facet,
    )


def first_members(document: object) -> Iterator[str]:
    """The name of the first member of a JSON object."""
    if isinstance(document, dict):
        yield from list(document)[:1]
