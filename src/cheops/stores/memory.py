"""The operation log of a site that forgets with its process: the twin of the one in SQL. Not promised: any disk."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cheops.errors import StoreFailed, Taken
from cheops.ports import Changes, Claim, Cursor, Dossier, Fed
from cheops.record.operation import Dot, Item, Operation, Outcome, State
from cheops.record.resource import Named, Summary
from cheops.record.stamp import NEVER, Stamp


@dataclass(kw_only=True, slots=True)
class _Resource:
    """A resource, and who works on it."""

    summary: Summary
    operations: dict[Dot, Operation] = field(default_factory=dict)
    outcomes: dict[tuple[Dot, str], Outcome] = field(default_factory=dict)
    names: dict[tuple[str, str], None] = field(default_factory=dict)
    revision: int = 0
    due: float | None = None
    owner: str = ""
    until: float = 0.0


@dataclass(kw_only=True, slots=True)
class _Feed:
    """What a peer is told: items by position, as (rid, dot, site of the outcome or "")."""

    items: dict[int, tuple[str, Dot, str]] = field(default_factory=dict)
    head: int = 0
    store: str = ""


class LogInMemory:
    """Keeps everything in dictionaries. While `full`, nothing can be written, as on a full disk."""

    def __init__(self, store: str, born: float = 0.0) -> None:
        self.store, self.born, self.full = store, born, False
        self._resources: dict[str, _Resource] = {}
        self._feeds: dict[str, _Feed] = {}
        self._cursors: dict[str, Cursor] = {}
        self._released: set[tuple[str, Dot]] = set()

    async def write(self, changes: Changes) -> Mapping[str, int]:
        """Raises StoreFailed while the disk is full, and Taken."""
        if self.full:
            raise StoreFailed("the disk is full", hint="Make room.")
        for rid, dot in changes.fresh:
            if rid in self._resources and dot in self._resources[rid].operations:
                raise Taken(f"{dot.author} has written operation {dot.n} of {rid} already")
        grown = set(changes.due)
        for told in changes.told:
            if self._take(told.item):
                grown.add(told.item.rid)
            for peer in told.peers:
                feed = self._feeds.setdefault(peer, _Feed())
                feed.head += 1
                site = told.item.site if isinstance(told.item, Outcome) else ""
                feed.items[feed.head] = (told.item.rid, told.item.dot, site)
        for summary in changes.summaries:
            resource = self._resource(summary.rid)
            resource.summary = summary
            if summary.chosen:
                resource.names[summary.chosen, ""] = None
        for rid, due in changes.due.items():
            self._resource(rid).due = due
        for rid in grown:
            self._resource(rid).revision += 1
        if changes.cursor:
            self._cursors[changes.cursor.peer] = changes.cursor
        return {peer: self._feeds[peer].head for told in changes.told for peer in told.peers}

    def _resource(self, rid: str) -> _Resource:
        nothing = Summary(rid=rid, service="", type="", collection="")
        return self._resources.setdefault(rid, _Resource(summary=nothing, names={(rid, ""): None}))

    def _take(self, item: Item) -> bool:
        """Whether it is an operation that wasn't there."""
        resource = self._resource(item.rid)
        if isinstance(item, Operation):
            if item.dot in resource.operations:
                return False
            resource.operations[item.dot] = item
            return True
        if item.local_id:
            resource.names[item.local_id, item.site] = None
        known = resource.outcomes.get((item.dot, item.site))
        if known is None or item.version > known.version:
            resource.outcomes[item.dot, item.site] = item
        return False

    async def read_all(self, rids: Collection[str]) -> Mapping[str, Dossier]:
        return {rid: dossier for rid in rids if (dossier := await self.read(rid))}

    async def read(self, rid: str) -> Dossier | None:
        resource = self._resources.get(rid)
        if resource is None:
            return None
        return Dossier(
            summary=resource.summary,
            operations=tuple(resource.operations.values()),
            outcomes=tuple(resource.outcomes.values()),
            revision=resource.revision,
        )

    async def find(self, values: Collection[str], service: str | None = None) -> Sequence[Named]:
        wanted = set(values)
        return [
            Named(value=value, site=site, summary=resource.summary)
            for resource in self._resources.values()
            if service in (None, resource.summary.service)
            for value, site in resource.names
            if value in wanted
        ]

    async def names(self, most: int) -> frozenset[str] | None:
        found = frozenset(value for resource in self._resources.values() for value, _ in resource.names)
        return found if len(found) <= most else None

    async def referring(self, rid: str) -> Sequence[Summary]:
        summaries = [resource.summary for resource in self._resources.values()]
        return [s for s in summaries if (rid in s.refers or s.parent == rid) and not s.gone]

    async def claim(self, owner: str, now: float, until: float, limit: int) -> Sequence[Claim]:
        due = [(r.due, rid) for rid, r in self._resources.items() if r.due is not None and r.due <= now]
        free = [rid for _, rid in sorted(due) if self._resources[rid].until <= now]
        return [claim for rid in free[:limit] if (claim := await self.claim_one(rid, owner, now, until))]

    async def claim_one(self, rid: str, owner: str, now: float, until: float) -> Claim | None:
        resource = self._resources.get(rid)
        if resource is None or (resource.until > now and resource.owner != owner):
            return None
        resource.owner, resource.until = owner, until
        return Claim(rid=rid, owner=owner, until=until, revision=resource.revision)

    async def renew(self, claim: Claim, until: float) -> bool:
        resource = self._resources.get(claim.rid)
        if resource is None or resource.owner != claim.owner:
            return False
        resource.until = until
        return True

    async def release(self, claim: Claim, due: float | None) -> None:
        resource = self._resources.get(claim.rid)
        if resource and resource.owner == claim.owner:
            resource.owner, resource.until = "", 0.0
            if resource.revision == claim.revision:
                resource.due = due
            elif resource.due is None:
                resource.due = 0.0

    async def feed(self, peer: str, after: int, limit: int) -> Fed:
        items = self._feeds.get(peer, _Feed()).items
        places = [place for place in items if place > after][: limit + 1]
        return Fed(items=tuple((place, self._item(items[place])) for place in places[:limit]), more=len(places) > limit)

    def _item(self, place: tuple[str, Dot, str]) -> Item:
        rid, dot, site = place
        resource = self._resources[rid]
        return resource.outcomes[dot, site] if site else resource.operations[dot]

    async def heads(self, peers: Collection[str]) -> Mapping[str, int]:
        return {peer: self._feeds[peer].head if peer in self._feeds else 0 for peer in peers}

    async def heard(self, peer: str, position: int, store: str) -> bool:
        feed = self._feeds.setdefault(peer, _Feed())
        known, feed.store = feed.store, store
        if known not in ("", store):
            return False
        for place in [place for place in feed.items if place <= position]:
            del feed.items[place]
        return True

    async def cursor(self, peer: str) -> Cursor | None:
        return self._cursors.get(peer)

    async def summaries(self, *, after: str = "", limit: int = 100, service: str | None = None) -> Sequence[Summary]:
        rids = sorted(rid for rid in self._resources if rid > after)
        summaries = [self._resources[rid].summary for rid in rids]
        return [s for s in summaries if service in (None, s.service)][:limit]

    async def wholes(self) -> Sequence[Summary]:
        summaries = sorted((resource.summary for resource in self._resources.values()), key=lambda s: s.rid)
        return [summary for summary in summaries if summary.prime and not summary.gone]

    async def outcomes(
        self, states: Collection[State], *, after: tuple[str, Dot, str] | None = None, limit: int = 100
    ) -> Sequence[Outcome]:
        found = [o for r in self._resources.values() for o in r.outcomes.values() if o.state in states]
        ordered = sorted(found, key=lambda o: (o.rid, o.dot, o.site))
        return [o for o in ordered if after is None or (o.rid, o.dot, o.site) > after][:limit]

    async def counts(self) -> Mapping[tuple[str, State], tuple[int, float]]:
        found: dict[tuple[str, State], tuple[int, float]] = {}
        for resource in self._resources.values():
            for outcome in resource.outcomes.values():
                since = outcome.since or outcome.at
                count, oldest = found.get((outcome.site, outcome.state), (0, since))
                found[outcome.site, outcome.state] = (count + 1, min(oldest, since))
        return found

    async def newest_stamp(self) -> Stamp:
        own = [op.stamp for r in self._resources.values() for op in r.operations.values() if self._is_own(op)]
        return max(own, default=NEVER)

    def _is_own(self, op: Operation) -> bool:
        return op.author.endswith(f".{self.store}")

    async def prune(self, rid: str, dots: Collection[Dot]) -> None:
        operations = self._resources[rid].operations if rid in self._resources else {}
        for dot in operations.keys() & set(dots):
            operations[dot] = replace(operations[dot], request=None)

    async def blob_users(self, sha256: str) -> int:
        return sum(
            1
            for rid, resource in self._resources.items()
            for dot, op in resource.operations.items()
            if op.request and op.request.body and op.request.body.sha256 == sha256 and (rid, dot) not in self._released
        )

    async def release_blob(self, rid: str, dot: Dot) -> None:
        if rid in self._resources and dot in self._resources[rid].operations:
            self._released.add((rid, dot))

    async def services(self) -> frozenset[str]:
        return frozenset(r.summary.service for r in self._resources.values() if not r.summary.gone) - {""}
