"""The operation log of a site in a database: SQLite beside the agent, or PostgreSQL, which several agents may share.

All writes that wait are committed together: one flush of the disk serves many. Not promised: that a write that was
cancelled isn't done; it may be.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, and_, create_engine, delete, event, func, or_, select, tuple_, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from cheops.errors import CheopsError, StoreFailed
from cheops.ports import Changes, Claim, Cursor, Dossier, Fed
from cheops.record.operation import Dot, Item, Operation, Outcome, State, from_json
from cheops.record.resource import Named, Summary
from cheops.record.stamp import NEVER, Stamp
from cheops.stores.sql.schema import migrate
from cheops.stores.sql.tables import feeds, names, operations, outcomes, peers, refers, resources, store
from cheops.stores.sql.writing import apply
from cheops.stores.sql.writing import together as joined

T = TypeVar("T")
READERS = 4
TOGETHER = 256  # writes in one commit
TRIES = 3
MOST_VALUES = 500  # in one statement


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


@asynccontextmanager
async def open_log(url: str, *, name: Callable[[], str], now: Callable[[], float]) -> AsyncIterator["SqlLog"]:
    """The log in the database at `url`, made or migrated if need be; `name` gives a new store its name.

    Raises StoreFailed, StoreTooNew.
    """
    log = await asyncio.to_thread(SqlLog, url, name, now)
    try:
        yield log
    finally:
        await asyncio.to_thread(log.close)


@dataclass(slots=True)
class _Work:
    """Something to be done inside a transaction, and who waits for it; changes can be made together with others."""

    do: Callable[[Connection], Any]
    done: "Future[Any]"
    changes: Changes | None = None


class SqlLog:
    """A LogStore. Its threads end with `close`."""

    def __init__(self, url: str, name: Callable[[], str], now: Callable[[], float]) -> None:
        self._engine = _engine(url)
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        try:
            with self._engine.begin() as connection:
                migrate(connection)
                self.store, self.born = _named(connection, name, now)
        except BaseException as error:
            self._engine.dispose()
            if isinstance(error, SQLAlchemyError):
                raise _failed("opened", error) from error
            raise
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="log")
        self._writer = threading.Thread(target=self._write_all, name="log writer", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Ends the threads once all that waits is written."""
        self._queue.put(None)
        self._writer.join()
        self._readers.shutdown()
        self._engine.dispose()

    # Threads

    def _write_all(self) -> None:
        while (first := self._queue.get()) is not None:
            together = [first]
            last = False
            while len(together) < TOGETHER and not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    last = True
                    break
                together.append(more)
            self._commit(together)
            if last:
                return

    def _commit(self, together: list[_Work]) -> None:
        """All of them in one transaction; if that fails, each in one of its own, so that none suffers from another."""
        try:
            results = self._in_one(together)
        except Exception as error:
            if len(together) == 1:
                _settle(together[0].done, error=error)
            else:
                for work in together:
                    self._commit_one(work)
            return
        for work, result in zip(together, results, strict=True):
            _settle(work.done, result=result)

    def _in_one(self, together: list[_Work]) -> list[Any]:
        if len(together) == 1:
            return [self._patiently(together[0])]
        with self._engine.begin() as connection:
            results: list[Any] = []
            for writes, some in groupby(together, lambda work: work.changes is not None):
                works = list(some)
                results += _written_together(connection, works) if writes else [each.do(connection) for each in works]
            return results

    def _commit_one(self, work: _Work) -> None:
        try:
            _settle(work.done, result=self._patiently(work))
        except Exception as error:
            _settle(work.done, error=error)

    def _patiently(self, work: _Work) -> Any:
        """What another writer was in the way of, or a connection that was lost, is tried again: twice does no harm."""
        for attempt in range(TRIES):
            try:
                with self._engine.begin() as connection:
                    return work.do(connection)
            except DBAPIError as error:
                if attempt == TRIES - 1 or not _is_passing(error):
                    raise
        raise AssertionError("unreachable")

    async def _written(self, do: Callable[[Connection], T], changes: Changes | None = None) -> T:
        work = _Work(do, Future(), changes)
        self._queue.put(work)
        try:
            result: T = await asyncio.wrap_future(work.done)
        except SQLAlchemyError as error:
            raise _failed("written", error) from error
        return result

    async def _read(self, do: Callable[[Connection], T]) -> T:
        def reading() -> T:
            with self._engine.connect() as connection:
                return do(connection)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, reading)
        except SQLAlchemyError as error:
            raise _failed("read", error) from error

    # Writing

    async def write(self, changes: Changes) -> None:
        await self._written(lambda connection: apply(connection, changes), changes)

    async def claim(self, owner: str, now: float, until: float, limit: int) -> Sequence[Claim]:
        def claiming(connection: Connection) -> list[Claim]:
            free = and_(resources.c.due <= now, resources.c.until <= now)
            found = select(resources.c.rid).where(free).order_by(resources.c.due).limit(limit)
            rids = connection.execute(found.with_for_update(skip_locked=True)).scalars().all()
            return [claim for rid in rids if (claim := _claim(connection, rid, owner, now, until))]

        return await self._written(claiming)

    async def claim_one(self, rid: str, owner: str, now: float, until: float) -> Claim | None:
        return await self._written(lambda connection: _claim(connection, rid, owner, now, until))

    async def renew(self, claim: Claim, until: float) -> bool:
        held = and_(resources.c.rid == claim.rid, resources.c.owner == claim.owner)
        statement = update(resources).where(held).values(until=until)
        return await self._written(lambda connection: connection.execute(statement).rowcount == 1)

    async def release(self, claim: Claim, due: float | None) -> None:
        held = and_(resources.c.rid == claim.rid, resources.c.owner == claim.owner)

        def releasing(connection: Connection) -> None:
            same = and_(held, resources.c.revision == claim.revision)
            connection.execute(update(resources).where(same).values(due=due))
            connection.execute(update(resources).where(held).values(owner="", until=0.0))

        await self._written(releasing)

    async def heard(self, peer: str, position: int, store: str) -> bool:
        def hearing(connection: Connection) -> bool:
            known = connection.execute(select(peers.c.store).where(peers.c.peer == peer).with_for_update()).scalar()
            if known is None:
                connection.execute(peers.insert().values(peer=peer, store=store))
                return True
            if known != store:
                connection.execute(update(peers).where(peers.c.peer == peer).values(store=store))
                if known:
                    return False
            connection.execute(delete(feeds).where(feeds.c.peer == peer, feeds.c.position <= position))
            return True

        return await self._written(hearing)

    async def prune(self, rid: str, dots: Collection[Dot]) -> None:
        def pruning(connection: Connection) -> None:
            for dot in dots:
                this = _this_operation(rid, dot)
                document = connection.execute(select(operations.c.document).where(this)).scalar()
                if document:
                    told = json.loads(document)
                    told["operation"].pop("request", None)
                    values = {"document": json.dumps(told, sort_keys=True), "sha256": None}
                    connection.execute(update(operations).where(this).values(**values))

        await self._written(pruning)

    async def release_blob(self, rid: str, dot: Dot) -> None:
        statement = update(operations).where(_this_operation(rid, dot)).values(sha256=None)
        await self._written(lambda connection: connection.execute(statement).rowcount)

    # Reading

    async def read(self, rid: str) -> Dossier | None:
        return (await self.read_all([rid])).get(rid)

    async def read_all(self, rids: Collection[str]) -> Mapping[str, Dossier]:
        wanted = sorted(set(rids))

        def reading(connection: Connection) -> dict[str, Dossier]:
            found: dict[str, Dossier] = {}
            for at in range(0, len(wanted), MOST_VALUES):
                found |= _dossiers(connection, wanted[at : at + MOST_VALUES])
            return found

        return await self._read(reading)

    async def find(self, values: Collection[str], service: str | None = None) -> Sequence[Named]:
        wanted = sorted(set(values))

        def finding(connection: Connection) -> list[Named]:
            found = []
            for at in range(0, len(wanted), MOST_VALUES):
                joined = names.join(resources, names.c.rid == resources.c.rid)
                query = select(names.c.value, names.c.site, resources.c.rid, resources.c.document).select_from(joined)
                query = query.where(names.c.value.in_(wanted[at : at + MOST_VALUES]))
                query = query if service is None else query.where(resources.c.service == service)
                found += [
                    Named(value=value, site=site, summary=_summary(rid, document))
                    for value, site, rid, document in connection.execute(query)
                ]
            return found

        return await self._read(finding) if wanted else []

    async def names(self, most: int) -> frozenset[str] | None:
        query = select(names.c.value).distinct().limit(most + 1)
        found = await self._read(lambda connection: frozenset(connection.execute(query).scalars()))
        return found if len(found) <= most else None

    async def referring(self, rid: str) -> Sequence[Summary]:
        query = select(resources.c.rid, resources.c.document).join(refers, refers.c.rid == resources.c.rid)
        query = query.where(refers.c.other == rid, resources.c.gone.is_(False)).order_by(resources.c.rid)

        def reading(connection: Connection) -> list[Summary]:
            found = [_summary(*row) for row in connection.execute(query)]
            return [summary for summary in found if rid in summary.refers or summary.parent == rid]

        return await self._read(reading)

    async def feed(self, peer: str, after: int, limit: int) -> Fed:
        def feeding(connection: Connection) -> Fed:
            query = select(feeds).where(feeds.c.peer == peer, feeds.c.position > after)
            rows = connection.execute(query.order_by(feeds.c.position).limit(limit + 1)).all()
            items = _items(connection, rows[:limit])
            return Fed(
                items=tuple((row.position, items[row.rid, row.author, row.n, row.site]) for row in rows[:limit]),
                more=len(rows) > limit,
            )

        return await self._read(feeding)

    async def heads(self, peers_: Collection[str]) -> Mapping[str, int]:
        query = select(peers.c.peer, peers.c.head).where(peers.c.peer.in_(list(peers_)))

        def reading(connection: Connection) -> dict[str, int]:
            found = {row.peer: row.head for row in connection.execute(query)}
            return {peer: found.get(peer, 0) for peer in peers_}

        return await self._read(reading)

    async def cursor(self, peer: str) -> Cursor | None:
        query = select(peers.c.cursor_store, peers.c.cursor_position).where(peers.c.peer == peer)

        def reading(connection: Connection) -> Cursor | None:
            row = connection.execute(query).first()
            return Cursor(peer=peer, store=row[0], position=row[1]) if row and row[0] is not None else None

        return await self._read(reading)

    async def summaries(self, *, after: str = "", limit: int = 100, service: str | None = None) -> Sequence[Summary]:
        query = select(resources.c.rid, resources.c.document).where(resources.c.rid > after)
        query = query if service is None else query.where(resources.c.service == service)
        query = query.order_by(resources.c.rid).limit(limit)
        return await self._read(lambda connection: [_summary(*row) for row in connection.execute(query)])

    async def outcomes(
        self, states: Collection[State], *, after: tuple[str, Dot, str] | None = None, limit: int = 100
    ) -> Sequence[Outcome]:
        c = outcomes.c
        query = select(c.document).where(c.state.in_([state.value for state in states]))
        if after is not None:
            rid, (author, n), site = after
            query = query.where(tuple_(c.rid, c.author, c.n, c.site) > tuple_(rid, author, n, site))
        query = query.order_by(c.rid, c.author, c.n, c.site).limit(limit)
        return await self._read(lambda connection: [_outcome(text) for text in connection.execute(query).scalars()])

    async def counts(self) -> Mapping[tuple[str, State], tuple[int, float]]:
        c = outcomes.c
        query = select(c.site, c.state, func.count(), func.min(c.at)).group_by(c.site, c.state)

        def reading(connection: Connection) -> dict[tuple[str, State], tuple[int, float]]:
            return {(site, State(state)): (count, at) for site, state, count, at in connection.execute(query)}

        return await self._read(reading)

    async def newest_stamp(self) -> Stamp:
        c = operations.c
        query = select(c.ms, c.counter).where(c.author.like(f"%.{self.store}")).order_by(c.ms.desc(), c.counter.desc())

        def reading(connection: Connection) -> Stamp:
            row = connection.execute(query.limit(1)).first()
            return Stamp(*row) if row else NEVER

        return await self._read(reading)

    async def blob_users(self, sha256: str) -> int:
        query = select(func.count()).select_from(operations).where(operations.c.sha256 == sha256)
        return await self._read(lambda connection: connection.execute(query).scalar_one())

    async def services(self) -> frozenset[str]:
        query = select(resources.c.service).where(resources.c.gone.is_(False), resources.c.service != "").distinct()
        return await self._read(lambda connection: frozenset(connection.execute(query).scalars()))


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, pool_size=READERS + 1, max_overflow=0)
    engine = create_engine(url, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours to say
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reads = threading.current_thread().name.startswith("log_")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _named(connection: Connection, name: Callable[[], str], now: Callable[[], float]) -> tuple[str, float]:
    row = connection.execute(select(store.c.name, store.c.born)).first()
    if row is not None:
        return str(row.name), float(row.born)
    made = (name(), now())
    connection.execute(store.insert().values(name=made[0], born=made[1]))
    return made


def _written_together(connection: Connection, some: Iterable[_Work]) -> list[None]:
    changes = [work.changes for work in some if work.changes]
    for each in joined(changes):
        apply(connection, each)
    return [None] * len(changes)


def _settle(done: "Future[Any]", *, result: Any = None, error: BaseException | None = None) -> None:
    if not done.set_running_or_notify_cancel():
        return
    if error:
        done.set_exception(error)
    else:
        done.set_result(result)


def _is_passing(error: DBAPIError) -> bool:
    """Whether another try may help: a lock, a deadlock, a connection that was lost."""
    code = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or code in ("40001", "40P01") or code.startswith(("08", "57P"))


def _failed(what: str, error: SQLAlchemyError) -> CheopsError:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    full = "full" in reason or "No space" in reason
    hint = "Make room on the disk." if full else "Look whether the database is there; it is tried again."
    return StoreFailed(f"the operation log can't be {what}: {reason}", hint=hint)


def _claim(connection: Connection, rid: str, owner: str, now: float, until: float) -> Claim | None:
    free = or_(resources.c.until <= now, resources.c.owner == owner)
    statement = update(resources).where(resources.c.rid == rid, free).values(owner=owner, until=until)
    revision = connection.execute(statement.returning(resources.c.revision)).scalar()
    return None if revision is None else Claim(rid=rid, owner=owner, until=until, revision=revision)


def _this_operation(rid: str, dot: Dot) -> Any:
    return and_(operations.c.rid == rid, operations.c.author == dot.author, operations.c.n == dot.n)


def _dossiers(connection: Connection, rids: Sequence[str]) -> dict[str, Dossier]:
    c = resources.c
    rows = connection.execute(select(c.rid, c.document, c.revision).where(c.rid.in_(rids))).all()
    if not rows:
        return {}
    known: dict[str, list[Operation]] = {row.rid: [] for row in rows}
    came: dict[str, list[Outcome]] = {row.rid: [] for row in rows}
    there = list(known)
    for table in (operations, outcomes):
        query = select(table.c.rid, table.c.document).where(table.c.rid.in_(there))
        for rid, document in connection.execute(query):
            if table is operations:
                known[rid].append(_operation(document))
            else:
                came[rid].append(_outcome(document))
    return {
        row.rid: Dossier(
            summary=_summary(row.rid, row.document),
            operations=tuple(known[row.rid]),
            outcomes=tuple(came[row.rid]),
            revision=row.revision,
        )
        for row in rows
    }


def _items(connection: Connection, rows: Sequence[Any]) -> dict[tuple[str, str, int, str], Item]:
    """The items that rows of a feed stand for."""
    found: dict[tuple[str, str, int, str], Item] = {}
    rids = sorted({row.rid for row in rows})
    wanted = {(row.rid, row.author, row.n, row.site) for row in rows}
    for at in range(0, len(rids), MOST_VALUES):
        some = rids[at : at + MOST_VALUES]
        for table, read in ((operations, _operation), (outcomes, _outcome)):
            columns = [table.c.rid, table.c.author, table.c.n, table.c.document]
            columns += [outcomes.c.site] if table is outcomes else []
            for row in connection.execute(select(*columns).where(table.c.rid.in_(some))):
                key = (row.rid, row.author, row.n, row.site if table is outcomes else "")
                if key in wanted:
                    found[key] = read(row.document)
    return found


def _operation(text: str) -> Operation:
    item = from_json(json.loads(text))
    assert isinstance(item, Operation)
    return item


def _outcome(text: str) -> Outcome:
    item = from_json(json.loads(text))
    assert isinstance(item, Outcome)
    return item


def _summary(rid: str, document: str) -> Summary:
    told = json.loads(document)
    return Summary(
        rid=rid,
        service=told.get("service", ""),
        type=told.get("type", ""),
        collection=told.get("collection", ""),
        chosen=told.get("chosen", ""),
        name=told.get("name", ""),
        parent=told.get("parent", ""),
        placement=tuple(told.get("placement", ())),
        refers=tuple(told.get("refers", ())),
        gone=told.get("gone", False),
    )
