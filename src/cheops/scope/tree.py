"""The tree of a scope: what its writer asks for, whatever the text looked like.

A tree that can be built means something: names are names, nothing is repeated, and no operator is nested in one where
it has no clear meaning. Whether the sites and services exist is not known here; `names` checks that.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

Span: TypeAlias = tuple[int, int]  # start and end, offsets into the text as it was written

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
LONGEST_US: Final = 3_600_000_000  # an hour: no link between two sites is that slow

_UNITS: Final = (("s", 1_000_000), ("ms", 1_000), ("us", 1))


class UnclearError(ValueError):
    """Something that can't be understood; `part` is what stands in the way, `code` says why."""

    def __init__(self, part: "Location | Binding", code: str) -> None:
        super().__init__(part, code)
        self.part, self.code = part, code


class Spread(Enum):
    """Which of the sites around a centre are meant; the value is the sign before `around`."""

    FIRST = ""
    EACH = "&"
    ACROSS = "%"


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteName:
    """One site, by its name."""

    name: str
    span: Span = field(default=(0, 0), compare=False, repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Around:
    """The sites at most `within_us` microseconds (round trip) from the site `centre`, itself included."""

    centre: str
    within_us: int
    spread: Spread = Spread.FIRST
    span: Span = field(default=(0, 0), compare=False, repr=False)
    centre_span: Span = field(default=(0, 0), compare=False, repr=False)

    def __post_init__(self) -> None:
        check_name(self.centre)
        if not 0 < self.within_us <= LONGEST_US:
            raise ValueError(f"within_us is 1 to {LONGEST_US}, not {self.within_us}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Replicas:
    """An identical copy on each of two or more places (`&`)."""

    places: tuple["Location", ...]
    span: Span = field(default=(0, 0), compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_parts(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cross:
    """One resource that spans two or more parts (`%`)."""

    parts: tuple["Location", ...]
    span: Span = field(default=(0, 0), compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_parts(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Otherwise:
    """The first of two or more choices that can (`;`)."""

    choices: tuple["Location", ...]
    span: Span = field(default=(0, 0), compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_parts(self)


Joined: TypeAlias = Replicas | Cross | Otherwise
Location: TypeAlias = SiteName | Around | Joined


@dataclass(frozen=True, kw_only=True, slots=True)
class Binding:
    """A service and where its requests go; `span` covers the service's name."""

    service: str
    location: Location
    span: Span = field(default=(0, 0), compare=False, repr=False)

    def __post_init__(self) -> None:
        check_service(self.service)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Bindings and a prime, or one bare location for the service that the request is for, or nothing: all local.

    text: what was written, into which every span points; empty for a tree made by hand.
    """

    bindings: tuple[Binding, ...] = ()
    prime: SiteName | None = None
    bare: Location | None = None
    text: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.bare and (self.bindings or self.prime):
            raise ValueError("a bare location stands alone")
        bound: set[str] = set()
        for binding in self.bindings:
            if binding.service.lower() in bound:
                raise UnclearError(binding, "service-twice")
            bound.add(binding.service.lower())


_SIGNS: Final[dict[type, str]] = {Replicas: " & ", Cross: " % ", Otherwise: " ; "}

# What has no clear meaning inside what, however deep.
_REFUSED: Final[dict[type, tuple[type, Spread, str]]] = {
    Cross: (Replicas, Spread.EACH, "replicas-in-cross"),
    Replicas: (Cross, Spread.ACROSS, "cross-in-replicas"),
}


def parts_of(location: Location) -> tuple[Location, ...]:
    """What an operator joins; nothing for a site or an around."""
    match location:
        case Replicas():
            return location.places
        case Cross():
            return location.parts
        case Otherwise():
            return location.choices
        case SiteName() | Around():
            return ()


def joined(kind: type[Joined], parts: tuple[Location, ...], span: Span = (0, 0)) -> Location:
    """The parts under one operator: those that are of its kind are merged into it, and one part alone is itself.

    Raises UnclearError when the whole would have no clear meaning.
    """
    if len(parts) == 1:
        return parts[0]
    flat = tuple(inner for part in parts for inner in (parts_of(part) if isinstance(part, kind) else (part,)))
    if kind is Replicas:
        return Replicas(places=flat, span=span)
    return Cross(parts=flat, span=span) if kind is Cross else Otherwise(choices=flat, span=span)


def sites_of(location: Location) -> Iterator[SiteName]:
    """Every site that is named, the centres of arounds too, in the order of the text."""
    for inner in walk(location):
        if isinstance(inner, SiteName):
            yield inner
        elif isinstance(inner, Around):
            yield SiteName(name=inner.centre, span=inner.centre_span)


def walk(location: Location) -> Iterator[Location]:
    """A location and all that it is made of."""
    yield location
    for part in parts_of(location):
        yield from walk(part)


def is_single_site(location: Location) -> bool:
    """True for a site by its name: what the data plane resolves alone."""
    return isinstance(location, SiteName)


def canonical(tree: Scope | Location) -> str:
    """The one text of a tree: `parse(canonical(tree))` is that tree again."""
    match tree:
        case Scope():
            return _scope_text(tree)
        case SiteName():
            return tree.name
        case Around():
            return f"{tree.spread.value}around({tree.centre}, {duration_text(tree.within_us)})"
        case Replicas() | Cross() | Otherwise():
            return _joined_text(tree)


def duration_text(microseconds: int) -> str:
    """The duration in the largest unit that needs no fraction: 1500000 is `1500ms`, 2000000 is `2s`."""
    unit, size = next((unit, size) for unit, size in _UNITS if microseconds % size == 0)
    return f"{microseconds // size}{unit}"


def check_name(name: str) -> None:
    """Raises ValueError for what can't name a site."""
    if not NAME.fullmatch(name):
        raise ValueError(f"not a name: {name!r}")


def check_service(name: str) -> None:
    """Raises ValueError for what can't name a service."""
    check_name(name)
    if name.lower() == "prime":
        raise ValueError("no service can be called prime")


def _scope_text(scope: Scope) -> str:
    if scope.bare:
        return canonical(scope.bare)
    entries = [f"{binding.service}: {canonical(binding.location)}" for binding in scope.bindings]
    if scope.prime:
        entries.append(f"prime: {scope.prime.name}")
    return "{" + ", ".join(entries) + "}"


def _joined_text(location: Joined) -> str:
    # `;` is the loosest, and of the others neither stands in the other: nothing else ever needs parentheses.
    return _SIGNS[type(location)].join(
        f"({canonical(part)})" if isinstance(part, Otherwise) else canonical(part) for part in parts_of(location)
    )


def _check_parts(whole: Joined) -> None:
    seen: set[Location] = set()
    for part in parts_of(whole):
        if isinstance(part, type(whole)):
            raise ValueError(f"a {type(whole).__name__} directly inside another: build it with joined()")
        if part in seen:
            raise UnclearError(part, "repeated")
        seen.add(part)
        _check_nesting(whole, part)
    if len(seen) < 2:
        raise ValueError(f"a {type(whole).__name__} joins at least two places")


def _check_nesting(whole: Joined, part: Location) -> None:
    if type(whole) not in _REFUSED:
        return
    kind, spread, code = _REFUSED[type(whole)]
    for inner in walk(part):
        if isinstance(inner, kind) or (isinstance(inner, Around) and inner.spread is spread):
            raise UnclearError(inner, code)
