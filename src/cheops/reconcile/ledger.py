"""The books of a site: what is written into the log, who is told of it, and who waits for what comes of it.

All that changes a resource's book goes through here, one after the other for each resource. Not promised: that another
agent of the same site hears of a change at once; it finds out when it looks.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from cheops.errors import StoreFailed, Taken
from cheops.ports import Changes, Cursor, Dossier, LogStore, Told
from cheops.reconcile.book import Book, book_of, given_up, newer, news, summary_of, unreported
from cheops.reconcile.fresh import Fed, news_for
from cheops.reconcile.locks import Locks
from cheops.reconcile.names import MOST_NAMES, Names
from cheops.reconcile.waiting import Waiting
from cheops.record.operation import Dot, Item, Kind, Operation, Outcome, State, Vector
from cheops.record.pruning import prunable
from cheops.record.resource import Named, Summary
from cheops.record.stamp import Clock, Stamp, too_far_ahead

log = structlog.get_logger("ledger")
MOST_REMEMBERED = 5_000  # books
AGAIN = 10  # times that a faster agent is given way
REFILLED = "refilled"
"""The code of what this site may have executed before its store was lost."""
CLOCKS_SECONDS = 60.0  # that clocks of sites may differ without anybody's minding
SETTLING_SECONDS = 1.0  # until the peers have told what this site once reported
PASSED_SECONDS = 60.0
LOOK_SECONDS = 0.2  # between two looks whether a peer is down, or another agent of this site has done something


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """What a new operation is given by the ledger."""

    author: str
    n: int
    stamp: Stamp
    after: Vector


Entry = tuple[Dossier, Book]

Make = Callable[[Book | None, Draft], Operation]
"""Makes an operation of what is known of its resource, which may be nothing."""


class Ledger:
    """The books of the site `here`. `now` is in seconds since 1970; `shared`: other agents write to the store too."""

    def __init__(self, store: LogStore, here: str, now: Callable[[], float], *, shared: bool = False) -> None:
        self.store, self.here, self.now = store, here, now
        self.author = f"{here}.{store.store}"
        self.fed: Callable[[Fed], None] = lambda _: None
        self.due: Callable[[str, float], None] = lambda rid, at: None
        self.manage: Callable[[str, bool], Awaitable[None]] = _nothing
        """Sees to it that writes of a service come to this agent, and its reads too if it has what spans sites (True);
        nothing is executed for it before.
        """
        self.changed: Callable[[Book, Sequence[Outcome]], None] = lambda book, outcomes: None
        self.failed: Callable[[], None] = lambda: None
        self.complaint = ""
        self.lost = False
        """Whether peers say that there was another store before this one."""
        self.doubts = False
        """Whether something may have been written of which nobody was told."""
        self.shared = shared
        self._clock = Clock()
        self._names = Names(None)
        self.wholes: dict[str, Summary] = {}
        """The resources here that span sites."""
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._locked = Locks().of
        self._passed: dict[tuple[str, Dot, str], float] = {}
        self.unsent: set[tuple[str, Dot]] = set()
        self.keeping: Counter[str] = Counter()
        """Bodies, by their SHA-256, whose operations aren't written down yet."""
        self.idle: Callable[[Book], bool] = lambda _: False
        self._waiting = Waiting()
        self._cursors: dict[str, Cursor] = {}

    async def open(self) -> None:
        """Takes up where the store ended."""
        self._clock = Clock(await self.store.newest_stamp())
        names = None if self.shared else await self.store.names(MOST_NAMES)
        self._names = Names(names)
        await self.look_for_wholes()

    async def look_for_wholes(self) -> None:
        """Reads anew which resources span sites: other agents of this site may have made some."""
        self.wholes = {whole.rid: whole for whole in await self.store.wholes()}

    # Reading

    async def book(self, rid: str) -> Book | None:
        """What is known of a resource."""
        entry = await self._entry(rid)
        return entry[1] if entry else None

    async def local_ids(self, rids: Collection[str], site: str) -> dict[str, str]:
        """The ids by which a site knows these resources; those that it doesn't know are left out."""
        books = [book for rid in rids if (book := await self.book(rid))]
        return {book.rid: local for book in books if (local := book.local_id(site))}

    async def find(self, values: Collection[str], service: str | None = None) -> Sequence[Named]:
        """What these values name. Most requests name nothing that is replicated: then the store isn't asked."""
        values = [value for value in values if value in self._names]
        return await self.store.find(values, service) if values else []

    async def taken(self, ids: Collection[str], rid: str, service: str) -> frozenset[str]:
        """Those of these local ids of this site that belong to other resources."""
        named = await self.store.find(ids, service)
        return frozenset(n.value for n in named if n.site in (self.here, "") and n.summary.rid != rid)

    async def _entry(self, rid: str) -> Entry | None:
        if not self.shared and (entry := self._entries.get(rid)):
            self._entries.move_to_end(rid)
            return entry
        dossier = await self.store.read(rid) if rid in self._names else None
        return self._remember((dossier, book_of(dossier))) if dossier else None

    async def cursor(self, peer: str) -> Cursor | None:
        """How far the feed of a peer has been read."""
        if not self.shared and (known := self._cursors.get(peer)):
            return known
        return await self.store.cursor(peer)

    async def _known(self, rids: Collection[str]) -> dict[str, Entry]:
        """What is known of these, without those of which nothing is."""
        known = {} if self.shared else {rid: entry for rid in rids if (entry := self._entries.get(rid))}
        found = await self.store.read_all([rid for rid in rids if rid not in known and rid in self._names])
        return known | {rid: self._remember((dossier, book_of(dossier))) for rid, dossier in found.items()}

    def _remember(self, entry: Entry) -> Entry:
        if not self.shared:
            self._entries[entry[1].rid] = entry
            while len(self._entries) > MOST_REMEMBERED:
                self._entries.popitem(last=False)
        return entry

    async def until(self, rid: str, holds: Callable[[Book], bool], seconds: float) -> Book | None:
        """The book once something holds of it, which may depend on peers too, or as it is when time is up."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        with self._waiting.on(rid) as changed:
            while True:
                changed.clear()
                book = await self.book(rid)
                left = end - loop.time()
                if (book and holds(book)) or left <= 0:
                    return book
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK_SECONDS)):
                        await changed.wait()

    # Writing

    async def append(self, rid: str, make: Make, *, tell: bool = True) -> tuple[Book, Operation]:
        """Adds an operation of this site's own; once it is durable, the book with it. `tell`: the others are told.

        Raises StoreFailed, and what `make` raises.
        """
        for attempt in range(AGAIN):
            try:
                async with self._locked([rid]):
                    return await self._append(rid, make, tell=tell)
            except Taken:
                self._entries.pop(rid, None)
                if attempt == AGAIN - 1:
                    raise
        raise AssertionError("unreachable")

    async def _append(self, rid: str, make: Make, *, tell: bool) -> tuple[Book, Operation]:
        entry = await self._entry(rid)
        dossier, book = entry if entry else (None, None)
        self._clock = self._clock.tick(round(self.now() * 1000))
        after = dict(book.log.vector) if book else {}
        draft = Draft(author=self.author, n=after.get(self.author, 0) + 1, stamp=self._clock.last, after=after)
        op = make(book, draft)
        told = [op] if tell else []
        changed = self._with(rid, entry, [op])
        newcomers = set(changed[1].holders) - set(book.holders) if book else set()
        items: list[Told] = self._refill(dossier, newcomers) if dossier else []
        items += self._to_tell(changed[1], [op], told)
        if op.birth:
            await self.manage(op.birth.service, bool(op.prime))
        changes = Changes(
            told=tuple(items),
            summaries=(changed[0].summary,),
            due={rid: self.now()},
            fresh=frozenset({(rid, op.dot)}),
        )
        await self._write(changes, [changed])
        return changed[1], op

    async def tell(self, op: Operation) -> None:
        """Lets the others know of an operation that they weren't told of when it was added."""
        async with self._locked([op.rid]):
            entry = await self._entry(op.rid)
            if entry:
                peers = self._others(entry[1].concerned())
                own = entry[1].outcome(op.dot, self.here)
                items = [Told(item=op, peers=peers), *([Told(item=own, peers=peers)] if own else [])]
                await self._write(Changes(told=tuple(items)))

    async def report(self, *outcomes: Outcome, quiet: bool = False, due: bool = False) -> None:
        """Notes what has come of operations; `quiet`: the others need not know, `due`: there is something to do now."""
        rids = sorted({outcome.rid for outcome in outcomes})
        async with self._locked(rids):
            told: list[Told] = []
            entries: dict[str, Entry] = {}
            dues: dict[str, float | None] = dict.fromkeys(rids, self.now()) if due else {}
            for rid in rids:
                entry = await self._entry(rid)
                if entry is None:
                    continue
                mine = [outcome for outcome in outcomes if outcome.rid == rid]
                entries[rid] = self._with(rid, entry, mine)
                book = entries[rid][1]
                peers = () if quiet else self._others(entry[1].concerned())
                told += [Told(item=outcome, peers=peers) for outcome in mine]
                told += self._forsake(rid, entries)
                book = entries[rid][1]
                if not self.shared and self.idle(book):  # a restarted agent needn't look at it
                    dues[rid] = None
            summaries = tuple(dossier.summary for dossier, _ in entries.values())
            await self._write(Changes(told=tuple(told), summaries=summaries, due=dues), entries.values())

    async def ingest(self, items: Sequence[Item], cursor: Cursor | None) -> None:
        """Takes in what a peer has told, and how far that was, in one step. Raises StoreFailed."""
        by_rid = _by_rid(items)
        rids = sorted(by_rid)
        births = [(op.birth.service, bool(op.prime)) for op in items if isinstance(op, Operation) and op.birth]
        for service, spans in dict.fromkeys(births):
            await self.manage(service, spans)
        async with self._locked(rids):
            told: list[Told] = []
            entries: dict[str, Entry] = {}
            due: dict[str, float | None] = {}
            known = await self._known(rids)
            for rid in rids:
                entry = known.get(rid)
                new = news(entry[0] if entry else None, by_rid[rid])
                if not new:
                    continue
                before = entry[0] if entry else None
                operations = [item for item in new if isinstance(item, Operation)]
                self._watch_clocks(operations)
                entries[rid] = self._with(rid, entry, new)
                book = entries[rid][1]
                newcomers = set(book.holders) - set(entry[1].holders) if entry else set()
                told += self._refill(before, newcomers, mine=True) if before else []
                told += [Told(item=item) for item in new if isinstance(item, Outcome)]
                told += self._to_tell(book, operations, [])
                told += self._forsake(rid, entries)
                due[rid] = self.now() + (SETTLING_SECONDS if self._may_have(book, operations) else 0)
            summaries = tuple(dossier.summary for dossier, _ in entries.values())
            changes = Changes(told=tuple(told), summaries=summaries, due=due, cursor=cursor)
            await self._write(changes, entries.values())

    def _forsake(self, rid: str, entries: dict[str, Entry]) -> list[Told]:
        """What a site that has left waits for of others, it gives up: it hears no more of them."""
        book = entries[rid][1]
        if self.here in book.concerned():
            return []
        stale = given_up(book, self.here)
        entries[rid] = self._with(rid, entries[rid], stale)
        return [Told(item=outcome) for outcome in stale]

    def _with(self, rid: str, entry: Entry | None, items: Sequence[Item]) -> Entry:
        """The dossier and the book with these items, and with what isn't known yet of new operations."""
        dossier, before = entry if entry else (None, None)
        operations = [item for item in items if isinstance(item, Operation)]
        outcomes = {(o.dot, o.site): o for o in (dossier.outcomes if dossier else ())}
        for item in items:
            if isinstance(item, Outcome) and newer(item, outcomes.get((item.dot, item.site))):
                outcomes[item.dot, item.site] = item
        summary = dossier.summary if dossier else Summary(rid=rid, service="", type="", collection="")
        changed = Dossier(
            summary=summary,
            operations=(*(dossier.operations if dossier else ()), *operations),
            outcomes=tuple(outcomes.values()),
            revision=(dossier.revision if dossier else 0) + 1,
        )
        book = book_of(changed, before.log if before else None)
        missing = [
            outcome
            for op in changed.operations
            for outcome in self._unreported(book, op, [s for s in book.concerned() if (op.dot, s) not in outcomes])
        ]
        changed = replace(changed, summary=summary_of(rid, book.log, summary), outcomes=(*changed.outcomes, *missing))
        return changed, book_of(changed, book.log)

    def _unreported(self, book: Book, op: Operation, sites: Collection[str]) -> Sequence[Outcome]:
        """What is known of an operation before these sites have reported. A creation here counts as begun at once,
        which spares a write before it is sent.
        """
        rows = unreported(op, sites)
        if self.here not in sites:
            return rows
        own = unreported(op, [self.here])[0]
        if self._may_have(book, [op]):
            own = replace(own, state=State.BEGUN, code=REFILLED)
        elif op.kind is Kind.CREATE:
            self.unsent.add((op.rid, op.dot))
            own = replace(own, state=State.BEGUN)
        return [own if outcome.site == self.here else outcome for outcome in rows]

    def _to_tell(self, book: Book, operations: Sequence[Operation], told: Sequence[Operation]) -> list[Told]:
        peers = self._others(book.concerned())
        own = [o for op in operations for o in book.outcomes.get(op.dot, {}).values() if o.version == 0]
        return [
            *(Told(item=op, peers=peers if op in told else ()) for op in operations),
            *(Told(item=o) for o in own),
        ]

    def _refill(self, dossier: Dossier, peers: Collection[str], *, mine: bool = False) -> list[Told]:
        """All that there is, for those who didn't hold the resource; `mine`: what is of this site's own."""
        to = self._others(peers)
        if not to:
            return []
        items: list[Item] = [
            *(op for op in dossier.operations if not mine or op.site == self.here),
            *(o for o in dossier.outcomes if o.version and (not mine or o.site == self.here)),
        ]
        return [Told(item=item, peers=to) for item in items]

    async def feed_again(self, peer: str) -> None:
        """Tells a peer once more all that it should know: it has lost its store, or it may have missed something."""
        after = ""
        while summaries := await self.store.summaries(after=after, limit=200):
            after = summaries[-1].rid
            for summary in summaries:
                book = await self.book(summary.rid)
                if book and peer in book.concerned():
                    async with self._locked([summary.rid]):
                        dossier = await self.store.read(summary.rid)
                        if dossier:
                            await self._write(Changes(told=tuple(self._refill(dossier, [peer]))))

    async def prune(self, book: Book) -> None:
        """Forgets what every holder has reported and nobody needs to know any more."""
        if len(book.log.operations) < 2:
            return
        reported = [outcome for sites in book.outcomes.values() for outcome in sites.values()]
        loses = {conflict.loser for conflict in book.log.conflicts}
        done = prunable(book.log, reported, book.concerned()).dots
        found = [dot for dot in done if dot not in loses and book.log.operations[dot].request]
        if not found:
            return
        async with self._locked([book.rid]):
            entry = await self._entry(book.rid)
            if entry and entry[1].revision == book.revision:
                await self.store.prune(book.rid, found)
                self._entries.pop(book.rid, None)

    async def pass_on(self, rid: str, dot: Dot, site: str) -> None:
        """Tells a holder of another site's operation, once in a while, in case its author can't."""
        now = asyncio.get_running_loop().time()
        self._passed = {key: until for key, until in self._passed.items() if until > now}
        if (rid, dot, site) in self._passed:
            return
        self._passed[rid, dot, site] = now + PASSED_SECONDS
        async with self._locked([rid]):
            entry = await self._entry(rid)
            ops = [op for op in entry[0].operations if op.dot == dot] if entry else []
            await self._write(Changes(told=tuple(Told(item=op, peers=(site,)) for op in ops)))

    def _others(self, sites: Collection[str]) -> tuple[str, ...]:
        return tuple(site for site in sites if site != self.here)

    def _may_have(self, book: Book, operations: Sequence[Operation]) -> bool:
        """Whether this site may have executed any of these before its store was lost: they are older than the store,
        give or take what clocks may differ, and it held the resource then.
        """
        born = round((self.store.born + CLOCKS_SECONDS) * 1000)
        return self.lost and any(
            op.stamp.ms < born and op.author != self.author and self._held(book, op) for op in operations
        )

    def _held(self, book: Book, op: Operation) -> bool:
        places = [
            place for place in book.log.operations.values() if place.placement and (place == op or op.knew(place))
        ]
        return any(self.here in place.placement for place in places)

    def _watch_clocks(self, operations: Sequence[Operation]) -> None:
        now = round(self.now() * 1000)
        for op in operations:
            if too_far_ahead(op.stamp, now):
                ahead = (op.stamp.ms - now) / 1000
                self.complaint = f"the clock of {op.site} is {ahead:.0f} s ahead of this site's; look at both"
                log.warning("a clock is ahead", site=op.site, seconds=round(ahead))
            self._clock = self._clock.seen(op.stamp, now)

    async def _write(self, changes: Changes, entries: Collection[Entry] = ()) -> None:
        try:
            ends = await self.store.write(changes)
        except BaseException as error:
            self.doubts = True
            if isinstance(error, StoreFailed):
                self.failed()
            for _, book in entries:  # nobody knows whether it was written
                self._entries.pop(book.rid, None)
            if changes.cursor:
                self._cursors.pop(changes.cursor.peer, None)
            raise
        if changes.cursor:
            self._cursors[changes.cursor.peer] = changes.cursor
        items = _by_rid([told.item for told in changes.told])
        for entry in entries:
            rid = self._remember(entry)[1].rid
            self._names.note(entry[0])
            self._note_whole(entry[0].summary)
            self.changed(entry[1], [item for item in items.get(rid, ()) if isinstance(item, Outcome)])
        for rid in dict.fromkeys((*(book.rid for _, book in entries), *changes.due)):
            self._waiting.tell(rid)
        for rid, at in changes.due.items():
            if at is not None:
                self.due(rid, at)
        if ends:
            self.fed({peer: news_for(peer, changes.told, end) for peer, end in ends.items()})

    def _note_whole(self, summary: Summary) -> None:
        if summary.prime and not summary.gone:
            self.wholes[summary.rid] = summary
        else:
            self.wholes.pop(summary.rid, None)


async def _nothing(_: str, __: bool) -> None:
    return


def _by_rid(items: Sequence[Item]) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.rid, []).append(item)
    return found
