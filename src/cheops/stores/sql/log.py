"""The operation log of a site in a database: SQLite beside the agent, or PostgreSQL, which several agents may share.

What a database can hold of a resource and doesn't look for is kept as JSON.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, literal_column, or_, select, tuple_, update
from sqlalchemy.exc import SQLAlchemyError

from cheops.ports import Changes, Claim, Cursor, Dossier, Fed
from cheops.record.operation import Dot, Item, Operation, Outcome, State, from_json
from cheops.record.resource import Named, Summary
from cheops.record.stamp import NEVER, Stamp
from cheops.stores.sql.database import Database, failed
from cheops.stores.sql.schema import migrate
from cheops.stores.sql.tables import feeds, names, operations, outcomes, peers, refers, resources, store
from cheops.stores.sql.writing import apply, insert_missing, is_hashed, key

T = TypeVar("T")
MOST_VALUES = 500  # in one statement


@asynccontextmanager
async def open_log(url: str, *, name: Callable[[], str], now: Callable[[], float]) -> AsyncIterator["SqlLog"]:
    """The log in the database at `url`, made or migrated if need be; `name` gives a new store its name.

    Raises StoreFailed, StoreTooNew, and BadSettings for a URL that can't be used.
    """
    log = await asyncio.to_thread(SqlLog, url, name, now)
    try:
        yield log
    finally:
        await asyncio.to_thread(log.close)


class SqlLog:
    """A LogStore. Its threads end with `close`."""

    def __init__(self, url: str, name: Callable[[], str], now: Callable[[], float]) -> None:
        self._database = Database(url)
        try:
            with self._database.begin() as connection:
                migrate(connection)
                self.store, self.born = _named(connection, name, now)
        except BaseException as error:
            self._database.close()
            if isinstance(error, SQLAlchemyError):
                raise failed("opened", error) from error
            raise
        self.close = self._database.close
        self._read = self._database.read

    async def _written(self, do: Callable[[Connection], T]) -> T:
        """Does what comes to the same when it is done twice."""
        result: T = await self._database.written(lambda connection, what, _: [do(connection) for _ in what])
        return result

    # Writing

    async def write(self, changes: Changes) -> Mapping[str, int]:
        heads: Mapping[str, int] = await self._database.written(apply, changes)
        return heads

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
            same = resources.c.revision == claim.revision
            when = case((same, due), else_=func.coalesce(resources.c.due, 0.0))
            connection.execute(update(resources).where(held).values(owner="", until=0.0, due=when))

        await self._written(releasing)

    async def heard(self, peer: str, position: int, store: str) -> bool:
        def hearing(connection: Connection) -> bool:
            insert_missing(connection, peers, [{"peer": peer}])
            known = connection.execute(select(peers.c.store).where(peers.c.peer == peer)).scalar_one()
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

        return await self._read(reading) if wanted else {}

    async def find(self, values: Collection[str], service: str | None = None) -> Sequence[Named]:
        keys = {key(value): value for value in values}
        wanted = sorted(keys)

        def finding(connection: Connection) -> list[Named]:
            found = []
            for at in range(0, len(wanted), MOST_VALUES):
                joined = names.join(resources, names.c.rid == resources.c.rid)
                query = select(names.c.value, names.c.site, resources.c.rid, resources.c.document).select_from(joined)
                query = query.where(names.c.value.in_(wanted[at : at + MOST_VALUES]))
                query = query if service is None else query.where(resources.c.service == service)
                found += [
                    Named(value=keys[found_key], site=site, summary=_summary(rid, document))
                    for found_key, site, rid, document in connection.execute(query)
                ]
            return found

        return await self._read(finding) if wanted else []

    async def names(self, most: int) -> frozenset[str] | None:
        query = select(names.c.value).distinct().limit(most + 1)
        found = await self._read(lambda connection: frozenset(connection.execute(query).scalars()))
        return None if len(found) > most or any(map(is_hashed, found)) else found

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

    async def wholes(self) -> Sequence[Summary]:
        document = resources.c.document
        query = select(resources.c.rid, document).where(resources.c.gone.is_(False), document.like('%"prime": "%'))
        query = query.where(document.not_like('%"prime": ""%')).order_by(resources.c.rid)
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


def _named(connection: Connection, name: Callable[[], str], now: Callable[[], float]) -> tuple[str, float]:
    row = connection.execute(select(store.c.name, store.c.born)).first()
    if row is not None:
        return str(row.name), float(row.born)
    made = (name(), now())
    connection.execute(store.insert().values(name=made[0], born=made[1]))
    return made


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
    known: dict[str, list[Operation]] = {row.rid: [] for row in rows}
    reported: dict[str, list[Outcome]] = {row.rid: [] for row in rows}
    if not rows:
        return {}
    came: ColumnElement[int] = literal_column("rowid" if connection.dialect.name == "sqlite" else "came")
    query = select(operations.c.rid, operations.c.document).where(operations.c.rid.in_(list(known))).order_by(came)
    for rid, document in connection.execute(query):
        known[rid].append(_operation(document))
    for rid, document in connection.execute(
        select(outcomes.c.rid, outcomes.c.document).where(outcomes.c.rid.in_(list(known)))
    ):
        reported[rid].append(_outcome(document))
    return {
        row.rid: Dossier(
            summary=_summary(row.rid, row.document),
            operations=tuple(known[row.rid]),
            outcomes=tuple(reported[row.rid]),
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
        prime=told.get("prime", ""),
    )
