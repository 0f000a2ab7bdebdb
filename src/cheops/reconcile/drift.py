"""Whether the replicas of a resource are alike, by what the services of its sites say of it. Pure.

What is the same on every site isn't drift, and what a site sets itself isn't either: what is declared so, or what
differed between the replies to one creation. Where replicas differ, the last operation that says the field is right;
so is what the site's service replied to that operation, since it may write things in its own way. Where no operation
says anything, it is told that they differ: a majority isn't taken for the truth.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cheops.applications.fields import PLAIN, leaves, without
from cheops.applications.json_text import parsed
from cheops.applications.replies import comparable, learned
from cheops.applications.resources import Resource
from cheops.reconcile.book import Book
from cheops.reconcile.showing import ResourceListed, listed, name_of, unheard
from cheops.record.operation import Kind, Operation, State
from cheops.record.paths import ancestors

READ, ABSENT, PENDING, UNREADABLE, SKIPPED = "read", "absent", "pending", "unreadable", "skipped"
EQUAL, DRIFTED = "equal", "drifted"
WRITES = frozenset({Kind.CREATE, Kind.REPLACE, Kind.MERGE})
_IDS = frozenset({"id", "uuid"})
_MISSING: Any = None
"""What isn't there: for most services the same as null."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a service gave for a resource, or a facet of it: JSON, or bytes by their SHA-256 (in hex) and number."""

    status: int
    json: bool = False
    value: Any = None
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a site's agent found at its own service. `state` is READ, ABSENT, PENDING (it isn't through with the log),
    UNREADABLE or SKIPPED (not to be compared); `known` is what it knows of the log. In `parts` (by facet) and `replies`
    (by operation, what the service said then) rids stand where the site has ids of its own.
    """

    site: str
    state: str
    why: str = ""
    known: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    replies: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FieldVerified:
    """A field that isn't alike. `facet` is the part of the resource, `path` where in its JSON; "" is all of it.

    `says` is what `operation` says it is ("" if the log says nothing; `says` is null then, too). `values` has it by
    site, without those that don't have it. `drifted` are the sites that don't have what the log says, or all that
    differ.
    """

    facet: str
    path: str
    says: Any
    operation: str
    values: dict[str, Any]
    drifted: list[str]


@dataclass(frozen=True, kw_only=True)
class SiteVerified:
    """How the replica of a site is: equal, absent, pending, drifted, unreadable or skipped, and why."""

    site: str
    state: str
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What came of comparing the replicas of a resource; `state` is the worst of its sites."""

    resource: ResourceListed
    state: str
    sites: list[SiteVerified]
    fields: list[FieldVerified]


_WORST = (DRIFTED, ABSENT, UNREADABLE, PENDING, EQUAL, SKIPPED)


def compared(book: Book, here: str, readings: Sequence[Reading], rules: Resource | None) -> Verified:
    """The readings of all sites that hold it, compared at the site `here`, whose book this is."""
    ahead = [r for r in readings if unheard(book.log.vector, here, r.known)]
    told = {r.site: SiteVerified(site=r.site, state=r.state, why=r.why) for r in readings}
    fields: list[FieldVerified] = []
    if ahead:
        why = f"{ahead[0].site} knows operations that {here} hasn't heard of yet"
        told.update({r.site: SiteVerified(site=r.site, state=PENDING, why=why) for r in readings if r.state == READ})
    else:
        told.update({r.site: _through(book, r) for r in readings})
        there = [r for r in readings if told[r.site].state == READ]
        fields = [] if book.log.gone else [f for facet in _facets(there) for f in _differing(book, facet, there, rules)]
        told.update({r.site: _judged(r.site, book, fields) for r in there})
    sites = [told[r.site] for r in readings]
    state = next((worst for worst in _WORST if any(site.state == worst for site in sites)), EQUAL)
    return Verified(resource=listed(book.summary), state=state, sites=sites, fields=fields)


def _through(book: Book, reading: Reading) -> SiteVerified:
    """A site that is behind isn't compared; one that has nothing is as it should be if it was deleted."""
    if reading.state in (UNREADABLE, SKIPPED):
        return SiteVerified(site=reading.site, state=reading.state, why=reading.why)
    if behind := unheard(reading.known, reading.site, book.log.vector):
        return SiteVerified(site=reading.site, state=PENDING, why=f"{behind[0].operation}: {behind[0].why}")
    if reading.state == ABSENT and book.log.gone:
        return SiteVerified(site=reading.site, state=EQUAL, why="it was deleted")
    if reading.state == ABSENT:
        return SiteVerified(site=reading.site, state=ABSENT, why=reading.why or "the service doesn't have it any more")
    return SiteVerified(site=reading.site, state=reading.state, why=reading.why)


def _judged(site: str, book: Book, fields: Sequence[FieldVerified]) -> SiteVerified:
    if book.log.gone:
        return SiteVerified(site=site, state=DRIFTED, why="it was deleted, and is there")
    names = [name_of_field(each) for each in fields if site in each.drifted]
    return SiteVerified(site=site, state=DRIFTED if names else EQUAL, why=", ".join(names))


def name_of_field(each: FieldVerified) -> str:
    """A field, for people."""
    return ":".join(filter(None, (each.facet, each.path))) or "its content"


def _facets(readings: Sequence[Reading]) -> list[str]:
    return sorted({facet for reading in readings for facet in reading.parts})


# What the log says


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the log says of one facet: `fields` by path, with the operation; `whole` is the last that wrote all of it.
    `unsure`: an action came after the operation, and nobody knows what it changed.
    """

    fields: Mapping[str, tuple[Any, Operation]]
    whole: Operation | None
    unsure: frozenset[str]


def said(book: Book, facet: str, rules: Resource | None) -> Said:
    """What the effective operations say of a facet, as far as their bodies are JSON."""
    fields: dict[str, tuple[Any, Operation]] = {}
    whole: Operation | None = None
    unsure: set[str] = set()
    for op in book.log.effective:
        if op.kind is Kind.ACTION and not op.commutes:
            unsure |= set(fields)
        if op.facet != facet or op.kind not in WRITES:
            continue
        if op.kind is not Kind.MERGE:
            fields, whole, unsure = {}, op, set()
        for path in [p for p in fields if _is_touched(p, op)]:
            del fields[path]
        new = dict(_written(op, rules))
        fields |= {path: (value, op) for path, value in new.items()}
        unsure -= set(new)
    return Said(fields=fields, whole=whole, unsure=frozenset(unsure))


def _is_touched(path: str, op: Operation) -> bool:
    """Whether the operation writes the field at a path, something in it, or what it is in."""
    if op.touches is None:
        return True
    return any(above in op.touches for above in ancestors(path)) or any(t.startswith(f"{path}.") for t in op.touches)


def _written(op: Operation, rules: Resource | None) -> Iterator[tuple[str, Any]]:
    inline = op.request.body.inline if op.request and op.request.body else None
    value = unwrapped(inline, op.facet, rules) if inline else None
    if isinstance(value, dict):
        yield from ((path, inner) for path, inner in leaves(value) if path)


def unwrapped(body: bytes, facet: str, rules: Resource | None) -> Any:
    """What of a body is compared; None if it is no JSON. A type that isn't described has no wrapper: what looks like
    one in a merge may be a field.
    """
    if facet:
        return parsed(body)
    return comparable(body, rules) if rules else without(parsed(body), _IDS)


def content_said(book: Book, facet: str) -> tuple[str, Operation] | None:
    """The bytes of a facet, as the last operation that wrote all of it has them."""
    for op in reversed(book.log.effective):
        if op.facet == facet and op.kind in WRITES:
            if op.kind is Kind.MERGE or op.request is None or op.request.body is None:
                return None
            body = op.request.body
            sha256 = body.sha256 or hashlib.sha256(body.inline or b"").hexdigest()
            return bytes_shown(sha256, body.size), op
    return None


def bytes_shown(sha256: str, size: int) -> str:
    return f"{size:,} bytes, SHA-256 {sha256}"


# What the sites have


def _differing(book: Book, facet: str, there: Sequence[Reading], rules: Resource | None) -> Iterator[FieldVerified]:
    parts = {r.site: part for r in there if (part := r.parts.get(facet))}
    readable = {site: part for site, part in parts.items() if part.status < 300}
    if is_content(facet, rules) or not all(part.json for part in readable.values()):
        yield from _content(book, facet, parts)
        return
    has = {site: dict(leaves(part.value)) for site, part in readable.items()}
    has |= {site: {} for site in parts if site not in readable}
    replies = {r.site: r.replies for r in there}
    yield from _JsonOf(book, facet, has, replies, rules).differing()


def is_content(facet: str, rules: Resource | None) -> bool:
    """Whether the description says that these are bytes."""
    return bool(facet and rules and rules.content and rules.content.path.endswith(f"{{id}}/{facet}"))


def _content(book: Book, facet: str, parts: Mapping[str, Part]) -> Iterator[FieldVerified]:
    values = {site: bytes_shown(p.sha256, p.size) if p.status < 300 else _MISSING for site, p in parts.items()}
    says, op = content_said(book, facet) or (None, None)
    alike = len(set(values.values())) == 1
    wrong = [site for site, value in values.items() if value != says] if op else list(values)
    if wrong and not (alike and len(values) > 1) and (op or not alike):
        yield FieldVerified(
            facet=facet,
            path="",
            says=says,
            operation=name_of(op.dot) if op else "",
            values={site: value for site, value in values.items() if value is not _MISSING},
            drifted=wrong,
        )


@dataclass(frozen=True)
class _JsonOf:
    """The JSON that sites have of one facet, by field."""

    book: Book
    facet: str
    has: Mapping[str, Mapping[str, Any]]
    replies: Mapping[str, Mapping[str, Any]]
    rules: Resource | None

    def differing(self) -> Iterator[FieldVerified]:
        log = said(self.book, self.facet, self.rules)
        own = self._set_by_sites()
        unsaid = {path for fields in self.has.values() for path in fields if path}
        unsaid = {path for path in unsaid if not any(above in log.fields for above in ancestors(path))}
        for path in sorted({*log.fields, *unsaid}):
            values = {site: _at(fields, path) for site, fields in self.has.items()}
            alike = all(value == next(iter(values.values())) for value in values.values())
            if alike and (len(values) > 1 or path not in log.fields):
                continue
            ignored = any(above in own for above in ancestors(path))
            found = self._said(path, values, log, ignored) or self._unsaid(path, values, log, ignored or alike)
            if found and found.drifted:
                yield found

    def _said(self, path: str, values: Mapping[str, Any], log: Said, ignored: bool) -> FieldVerified | None:
        """None if the log says nothing of it, or nothing that is sure."""
        if path not in log.fields:
            return None
        says, op = log.fields[path]
        wrong = [site for site, value in values.items() if value not in (says, self._replied(site, op, path, says))]
        if len(wrong) == len(values) and (path in log.unsure or ignored):
            return None
        return self._field(path, values, wrong, op, says)

    def _replied(self, site: str, op: Operation, path: str, says: Any) -> Any:
        """What the site's service made of it; if its reply doesn't tell, what was said. A service of another version
        may not have the field at all.
        """
        reply = self.replies.get(site, {}).get(name_of(op.dot))
        return _at(dict(leaves(reply)), path) if isinstance(reply, dict) and reply else says

    def _unsaid(self, path: str, values: Mapping[str, Any], log: Said, ignored: bool) -> FieldVerified | None:
        """What replaces all of it is the log's last word on it, also if it leaves it out; what came of that at a site,
        its reply says.
        """
        if ignored:
            return None
        whole = log.whole
        if whole is None or whole.kind is not Kind.REPLACE or path in log.fields or not self._represented(whole, log):
            return self._field(path, values, list(values), None, None)
        wrong = [site for site, value in values.items() if value != self._replied(site, whole, path, None)]
        return self._field(path, values, wrong, whole, None)

    def _represented(self, op: Operation, log: Said) -> bool:
        """Whether all sites have answered to the operation with all that they had then."""
        says = {path for path, (_, by) in log.fields.items() if by is op}
        replies = [self.replies.get(site, {}).get(name_of(op.dot)) for site in self.has]
        told = [dict(leaves(reply)) if isinstance(reply, dict) else {} for reply in replies]
        return all(fields and all(path in fields for path in says) for fields in told)

    def _field(
        self, path: str, values: Mapping[str, Any], drifted: list[str], op: Operation | None, says: Any
    ) -> FieldVerified:
        return FieldVerified(
            facet=self.facet,
            path=path,
            says=says,
            operation=name_of(op.dot) if op else "",
            values={site: value for site, value in values.items() if value is not _MISSING},
            drifted=drifted,
        )

    def _set_by_sites(self) -> frozenset[str]:
        """What the replies to one creation show that each site sets itself, and of parts what only comes together."""
        own = set(self.rules.span.aggregate if self.book.log.prime and self.rules and self.rules.span else ())
        for op in self.book.log.effective:
            if op.birth and not self.facet:
                replies = [reply for told in self.replies.values() if (reply := told.get(name_of(op.dot)))]
                own |= learned((json.dumps(reply).encode() for reply in replies), PLAIN)
        return frozenset(own)


def _at(fields: Mapping[str, Any], path: str) -> Any:
    """The value at a path, given the leaves."""
    if path in fields:
        return fields[path]
    inside = {inner[len(path) + 1 :]: value for inner, value in fields.items() if inner.startswith(f"{path}.")}
    return inside or _MISSING


# What is to be executed again


def to_repeat(verified: Verified, site: str) -> list[str]:
    """The operations that say the fields which a site doesn't have as the log says, in no order."""
    found = (each.operation for each in verified.fields if site in each.drifted and each.operation)
    return list(dict.fromkeys(found))


def repeated(book: Book, here: str, names: Sequence[str]) -> tuple[Operation, ...]:
    """Those operations, and what comes after them and overlaps; without what this site didn't execute."""
    chosen: list[Operation] = []
    for op in book.log.effective:
        outcome = book.outcome(op.dot, here)
        if op.kind not in WRITES or outcome is None or outcome.state is not State.DONE or op.request is None:
            continue
        if name_of(op.dot) in names or any(op.facet == one.facet and _overlap(one, op) for one in chosen):
            chosen.append(op)
    return tuple(chosen)


def _overlap(a: Operation, b: Operation) -> bool:
    if a.touches is None or b.touches is None or Kind.MERGE not in (a.kind, b.kind):
        return True
    whole = a.kind is not Kind.MERGE or b.kind is not Kind.MERGE
    return whole or any(_is_touched(path, b) for path in a.touches)


def plays_again(book: Book, op: Operation) -> bool:
    """Whether it can be executed where the resource is: a creation only if it may take the place of it."""
    return op.kind is not Kind.CREATE or op.repeats
