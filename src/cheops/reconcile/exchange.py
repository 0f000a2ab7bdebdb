"""What sites tell each other of their logs: pushed at once, pulled after a break.

Each site has a feed for each peer, whose positions have no gaps. A push says what stood before it; a peer that has
missed something leaves the push aside and pulls: what may be forgotten once all have reported, and which body is needed
no more, rests on items that are taken in in their order. Only a pull or the answer to a push
moves what is kept for a peer, so nothing is forgotten that it hasn't written down.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from cheops.errors import BadMessage, CheopsError, Refused, SiteUnreachable
from cheops.model import Headers, PeerState
from cheops.ports import LOG, Cursor, Peers, Transport
from cheops.reconcile.backoff import pause
from cheops.reconcile.engine import LEND_SECONDS, Engine
from cheops.reconcile.fresh import Fed, Fresh
from cheops.reconcile.ledger import Ledger
from cheops.reconcile.wire import (
    Heard,
    Lent,
    Page,
    Push,
    packed_heard,
    packed_page,
    packed_push,
    read_heard,
    read_page,
    read_push,
)
from cheops.record.operation import Dot, Item, State

log = structlog.get_logger("exchange")
LONGEST_WAIT = 3600.0  # of a caller, who is then told what came of it
LATER_SECONDS = 0.3  # what nobody waits for
LOST_SECONDS = 3600.0  # for so long a peer is told that it has lost its store
BATCH = 500  # items
FIRST = 50  # items of the first page after a break, so that something is done soon
BACKLOG = 1000  # resources that something is to be done for; then the next page waits
BACKLOG_SECONDS = 0.05
ANSWER_SECONDS = 10.0
SAFETY_SECONDS = 30.0  # between two looks whether a partner has something that nobody told of
NOTE_SECONDS = 1.0
RELAY_SECONDS = 5.0  # until an operation is passed on in place of its author


@dataclass(kw_only=True)
class _Partner:
    """A peer that is told something. `sent` is the last position that it was told of, None: nothing yet; `heard` is
    the last one that it has written down in its `store`, and `noted` what of that is known to our store.
    """

    more: asyncio.Event = field(default_factory=asyncio.Event)
    fresh: Fresh = field(default_factory=Fresh)
    later: asyncio.TimerHandle | None = None
    sent: int | None = None
    store: str = ""
    heard: int = 0
    noted: int = 0
    lost_until: float = 0.0
    failures: int = 0
    pulling: asyncio.Task[None] | None = None
    teller: asyncio.Task[None] | None = None


@dataclass(kw_only=True, slots=True)
class _Lent:
    """A caller's credentials, and the peers that are still to get them; `tried` are those that may have got them, as
    long as the caller is `waiting`.
    """

    callers: Headers
    until: float
    to: set[str]
    waiting: bool
    tried: set[str] = field(default_factory=set)


class Exchange:
    """One site's end. `drawn` gives a number from 0 to 1."""

    def __init__(
        self, ledger: Ledger, engine: Engine, transport: Transport, peers: Peers, drawn: Callable[[], float]
    ) -> None:
        self._ledger, self._engine, self._transport, self._peers, self._drawn = ledger, engine, transport, peers, drawn
        self._partners: dict[str, _Partner] = {}
        self._lent: dict[tuple[str, Dot], _Lent] = {}
        self._to_lend: dict[str, dict[tuple[str, Dot], None]] = {}
        self._seen: dict[str, PeerState] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        ledger.fed = self._fed

    def lend(self, rid: str, dot: Dot, callers: Headers, to: Collection[str], *, waiting: bool = False) -> None:
        """Sends these credentials along with an operation for a while; `waiting`: what was tried is kept until the
        caller has his answer.
        """
        self._expire()
        self._lent.pop((rid, dot), None)
        until = self._ledger.now() + LEND_SECONDS
        self._lent[rid, dot] = _Lent(callers=callers, until=until, to=set(to), waiting=waiting)
        for peer in to:
            self._to_lend.setdefault(peer, {})[rid, dot] = None

    def take_back(self, rid: str, dot: Dot) -> frozenset[str]:
        """Lends nothing more for an operation; the peers that may have got something, and so may have executed it."""
        lent = self._lent.pop((rid, dot), None)
        return frozenset(lent.tried) if lent else frozenset()

    def answered(self, rid: str, dot: Dot) -> None:
        """The caller waits no longer."""
        if lent := self._lent.get((rid, dot)):
            lent.waiting = False

    def tell(self, peers: Collection[str]) -> None:
        """There may be something new in the feeds of these peers."""
        for peer in peers:
            self._partner(peer).fresh.lose()
            self._wake(peer)

    def _fed(self, fed: Fed) -> None:
        """There is something new in the feeds of these peers. What nobody waits for may come along with other news."""
        for peer, news in fed.items():
            partner = self._partner(peer)
            partner.fresh.add(news)
            if news.awaited:
                self._wake(peer)
            elif partner.later is None:
                partner.later = asyncio.get_running_loop().call_later(LATER_SECONDS, self._wake, peer)

    def _wake(self, peer: str) -> None:
        partner = self._partner(peer)
        if partner.later:
            partner.later.cancel()
            partner.later = None
        partner.more.set()
        if partner.teller is None and not self._stopping:
            partner.teller = self._task(self._tell(peer, partner))

    def _partner(self, peer: str) -> _Partner:
        return self._partners.setdefault(peer, _Partner())

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Telling

    async def _tell(self, peer: str, partner: _Partner) -> None:
        """Keeps a peer informed for as long as this agent lives."""
        while True:
            await partner.more.wait()
            partner.more.clear()
            try:
                await self._tell_all(peer, partner)
                partner.failures = 0
                continue
            except SiteUnreachable:
                pass
            except (Refused, BadMessage) as error:
                log.warning("a peer doesn't take what it is told", peer=peer, detail=error.detail)
            except CheopsError as error:
                log.error("a peer can't be told", peer=peer, detail=error.detail)
            partner.failures += 1
            partner.fresh.lose()
            partner.more.set()
            await self._until_up(peer, pause(partner.failures, self._drawn()))

    async def _until_up(self, peer: str, seconds: float) -> None:
        """Waits, but no longer than until the peer is found to be up again."""
        loop = asyncio.get_running_loop()
        end, was = loop.time() + seconds, self._state(peer)
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, 0.2))
            if was is not PeerState.UP and self._state(peer) is PeerState.UP:
                return

    def _state(self, peer: str) -> PeerState | None:
        view = self._peers.peers().get(peer)
        return view.state if view else None

    async def _tell_all(self, peer: str, partner: _Partner) -> None:
        """Pushes what there is. After a break the peer is only told how far it goes, and pulls at its own pace."""
        if partner.sent is None or partner.failures:
            head = (await self._ledger.store.heads([peer])).get(peer, 0)
            await self._push(peer, partner, head, head, ())
            partner.sent, partner.failures = head, 0
        while found := partner.fresh.after(partner.sent) or await self._read(peer, partner):
            position = found[-1][0]
            await self._push(peer, partner, found[0][0] - 1, position, tuple(item for _, item in found))
            partner.sent = position

    async def _read(self, peer: str, partner: _Partner) -> Sequence[tuple[int, Item]]:
        """What the store has for a peer, unless all of that was seen to be written."""
        if not partner.fresh.lost:
            return ()
        partner.fresh.begin()
        fed = await self._ledger.store.feed(peer, partner.sent or 0, BATCH)
        if fed.more:
            partner.fresh.lose()
        return fed.items

    async def _push(self, peer: str, partner: _Partner, previous: int, position: int, items: tuple[Item, ...]) -> None:
        lent = self._lent_to(peer)
        push = Push(
            store=self._ledger.store.store,
            previous=previous,
            position=position,
            lost=self._has_lost(partner),
            items=items,
            lent=tuple(lent),
        )
        answer = await self._transport.ask(LOG, site=peer, body=packed_push(push), seconds=ANSWER_SECONDS)
        heard = read_heard(answer)
        for each in lent:
            if known := self._lent.get((each.rid, each.dot)):
                known.to.discard(peer)
        if heard.store != partner.store:
            await self._heard(peer, heard.position, heard.store)
            partner.store, partner.noted = heard.store, heard.position
        partner.heard = heard.position

    async def _heard(self, peer: str, position: int, store: str) -> None:
        if not await self._ledger.store.heard(peer, position, store):
            log.warning("a peer has lost its store; it is told all again", peer=peer)
            self._partner(peer).lost_until = self._ledger.now() + LOST_SECONDS
            await self._ledger.feed_again(peer)

    def _has_lost(self, partner: _Partner) -> bool:
        return self._ledger.now() < partner.lost_until

    def _lent_to(self, peer: str) -> list[Lent]:
        self._expire()
        now, lends = self._ledger.now(), []
        for rid, dot in list(self._to_lend.get(peer, ())):
            lent = self._lent.get((rid, dot))
            if lent is None or peer not in lent.to or lent.until <= now:
                del self._to_lend[peer][rid, dot]
                continue
            lent.tried.add(peer)
            headers = tuple((a.decode("latin1"), b.decode("latin1")) for a, b in lent.callers)
            lends.append(Lent(rid=rid, dot=dot, headers=headers))
        return lends

    def _expire(self) -> None:
        """Forgets what was lent, the oldest first. The one whose caller still waits is looked at again later."""
        now = self._ledger.now()
        while self._lent and (first := next(iter(self._lent.items())))[1].until <= now:
            key, lent = first
            del self._lent[key]
            if lent.waiting and lent.until + LONGEST_WAIT > now:
                self._lent[key] = lent
                break

    # Hearing

    async def receive(self, wire: bytes, sender: str) -> bytes:
        """The answer to a push of a peer. Raises BadMessage, StoreFailed."""
        push = read_push(wire)
        self._ledger.lost |= push.lost
        cursor = await self._ledger.cursor(sender)
        at = cursor.position if cursor and cursor.store == push.store else 0
        for lent in push.lent:
            headers = tuple((name.encode("latin1"), value.encode("latin1")) for name, value in lent.headers)
            self._engine.lend(lent.rid, lent.dot, headers)
        if push.previous <= at:
            to = max(at, push.position)
            if push.items or to > at:
                await self._ledger.ingest(push.items, Cursor(peer=sender, store=push.store, position=to))
            at = to
        else:  # in order, or an outcome would say that all is here which the sender had done before it
            self.pull(sender)
        return packed_heard(Heard(store=self._ledger.store.store, position=at))

    async def give(self, sender: str, after: int, of: str, store: str, limit: int = BATCH) -> bytes:
        """A page of the feed for a peer, which has written down all up to `after` in its store of this name. `of` is
        the store here that it has read so far: positions of one that was lost say nothing.
        """
        after = after if of == self._ledger.store.store else 0
        await self._heard(sender, after, store)
        fed = await self._ledger.store.feed(sender, after, limit)
        position = fed.items[-1][0] if fed.items else after
        items = tuple(item for _, item in fed.items)
        lost = self._has_lost(self._partner(sender))
        return packed_page(
            Page(store=self._ledger.store.store, position=position, items=items, more=fed.more, lost=lost)
        )

    def pull(self, peer: str) -> None:
        """Reads what a peer has to tell, if that isn't being done already."""
        partner = self._partner(peer)
        if partner.pulling is None or partner.pulling.done():
            partner.pulling = self._task(self._pull(peer))

    async def _pull(self, peer: str) -> None:
        try:
            more = await self._pull_page(peer, FIRST)
            while more:
                while self._engine.behind > BACKLOG:  # what is read long before it is executed is read twice
                    await asyncio.sleep(BACKLOG_SECONDS)
                more = await self._pull_page(peer, BATCH)
        except CheopsError as error:
            log.info("a peer can't be read", peer=peer, detail=error.detail)

    async def _pull_page(self, peer: str, limit: int) -> bool:
        """Whether there is more."""
        store = self._ledger.store
        cursor = await self._ledger.cursor(peer)
        after, named = (cursor.position, cursor.store) if cursor else (0, "")
        path = f"{LOG}?after={after}&of={named}&store={store.store}&limit={limit}"
        page = read_page(await self._transport.ask(path, site=peer, seconds=ANSWER_SECONDS))
        self._ledger.lost |= page.lost
        if named and page.store != named and after:  # the peer has another store now: its positions begin anew
            await self._ledger.ingest((), Cursor(peer=peer, store=page.store, position=0))
            return True
        if page.items or not cursor or cursor.store != page.store:
            await self._ledger.ingest(page.items, Cursor(peer=peer, store=page.store, position=page.position))
        return page.more

    # From time to time

    async def run(self) -> None:
        """Until it is cancelled: pulls from peers that come up, and passes on what their authors can't."""
        loop = asyncio.get_running_loop()
        safety = relay = noted = loop.time()
        try:
            await self._begin()
            while True:
                self._look_at_peers()
                if loop.time() - safety > SAFETY_SECONDS * (0.5 + self._drawn()):
                    safety = loop.time()
                    for peer, partner in list(self._partners.items()):
                        if self._state(peer) is PeerState.UP and partner.sent is not None:
                            self.pull(peer)
                    self._ledger.doubts = True
                try:
                    if loop.time() - noted > NOTE_SECONDS:
                        noted = loop.time()
                        await self._note_heard()
                        if self._ledger.shared or self._ledger.doubts:
                            await self._look_at_feeds()
                    if loop.time() - relay > RELAY_SECONDS:
                        relay = loop.time()
                        await self._relay()
                except CheopsError as error:  # a full disk isn't the end
                    log.error("the store can't be used", detail=error.detail)
                await asyncio.sleep(0.2)
        finally:
            self._stopping = True
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _begin(self) -> None:
        """After a restart: whoever has something in its feed is told, as soon as the store can be read."""
        while True:
            try:
                heads = await self._ledger.store.heads(list(self._peers.peers()))
                return self.tell([peer for peer, head in heads.items() if head])
            except CheopsError as error:  # a database that is away just now isn't the end
                log.error("the store can't be used", detail=error.detail)
                await asyncio.sleep(NOTE_SECONDS)

    def _look_at_peers(self) -> None:
        for peer, view in self._peers.peers().items():
            if view.state is PeerState.UP and self._seen.get(peer) is not PeerState.UP:
                self.pull(peer)
                if peer in self._partners:
                    self.tell([peer])
            self._seen[peer] = view.state

    async def _look_at_feeds(self) -> None:
        """Other agents of this site may have something to tell too, and so may a write of which nobody knows whether
        it was done.
        """
        self._ledger.doubts = False
        if self._ledger.shared:
            await self._ledger.look_for_wholes()
        heads = await self._ledger.store.heads(list(self._peers.peers()))
        self.tell([peer for peer, head in heads.items() if head > (self._partner(peer).sent or 0)])

    async def _note_heard(self) -> None:
        """What peers have written down needn't be kept for them."""
        for peer, partner in list(self._partners.items()):
            if (heard := partner.heard) > partner.noted:
                await self._heard(peer, heard, partner.store)
                partner.noted = heard

    async def _relay(self) -> None:
        """Operations that a holder hasn't reported and whose author it may not hear from are told by this site too."""
        waiting = await self._ledger.store.outcomes([State.PENDING, State.BEGUN], limit=1000)
        for outcome in waiting:
            author = outcome.dot.author.rpartition(".")[0]
            if outcome.version or outcome.site in (self._ledger.here, author) or author == self._ledger.here:
                continue
            if self._state(author) is PeerState.UP or self._state(outcome.site) is not PeerState.UP:
                continue
            await self._ledger.pass_on(outcome.rid, outcome.dot, outcome.site)
