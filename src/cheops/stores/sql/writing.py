"""What one write does to the tables, in an order in which no two writers wait for each other in a circle."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Table, bindparam, select, update

from cheops.errors import Taken
from cheops.ports import Changes, Cursor, Told
from cheops.record.operation import Dot, Operation, Outcome, to_json
from cheops.record.resource import Summary
from cheops.stores.sql.tables import feeds, names, operations, outcomes, peers, refers, resources

Row = dict[str, Any]


def apply(connection: Connection, changes: Changes) -> None:
    """All of it. Raises Taken."""
    _check_fresh(connection, changes)
    items = [told.item for told in changes.told]
    ops = [item for item in items if isinstance(item, Operation)]
    _resources(connection, changes, items)
    _insert(connection, operations, [_operation(op) for op in ops])
    _upsert_outcomes(connection, [item for item in items if isinstance(item, Outcome)])
    _insert(connection, names, _names(changes))
    _insert(connection, refers, [row for summary in changes.summaries for row in _refers(summary)])
    _feed(connection, changes.told)
    if changes.cursor:
        _move(connection, changes.cursor)


def together(some: Sequence[Changes]) -> list[Changes]:
    """As few as do the same, in this order: a statement with many rows costs little more than one with one row. What
    concerns a resource twice, or moves a second cursor, comes after.
    """
    joined: list[Changes] = []
    used: set[str] = set()
    for changes in some:
        rids = {told.item.rid for told in changes.told} | {s.rid for s in changes.summaries} | set(changes.due)
        if joined and used.isdisjoint(rids) and not (joined[-1].cursor and changes.cursor):
            joined[-1] = _joined(joined[-1], changes)
            used |= rids
        else:
            joined.append(changes)
            used = rids
    return joined


def _joined(one: Changes, other: Changes) -> Changes:
    return Changes(
        told=(*one.told, *other.told),
        summaries=(*one.summaries, *other.summaries),
        due={**one.due, **other.due},
        fresh=one.fresh | other.fresh,
        cursor=one.cursor or other.cursor,
    )


def _resources(connection: Connection, changes: Changes, items: Sequence[Operation | Outcome]) -> None:
    """The rows of the resources: how they are listed, whether they have changed, and when there is something to do."""
    summaries = {summary.rid: summary for summary in changes.summaries}
    grown = {item.rid for item in items if isinstance(item, Operation)} | set(changes.due)
    _insert(connection, resources, [_stub(rid) for rid in sorted(({i.rid for i in items} | grown) - set(summaries))])
    for dated, rids in groupby(sorted(summaries), lambda rid: rid in changes.due):
        due = {rid: {"due": changes.due[rid]} if dated else {} for rid in rids}
        rows = [_summary(summaries[rid], grows=rid in grown) | due[rid] for rid in due]
        _insert(connection, resources, rows, f"{RESTATE}, due = excluded.due" if dated else RESTATE)
    if more := sorted(grown - set(summaries)):
        connection.execute(_GROW, [{"of": rid} for rid in more])
    if alone := sorted(set(changes.due) - set(summaries)):
        connection.execute(_DUE, [{"of": rid, "at": changes.due[rid]} for rid in alone])


NOTHING = "ON CONFLICT DO NOTHING"
RESTATE = """ON CONFLICT (rid) DO UPDATE SET service = excluded.service, gone = excluded.gone,
    document = excluded.document, revision = resources.revision + excluded.revision"""
NEWER = """ON CONFLICT (rid, author, n, site) DO UPDATE SET version = excluded.version, state = excluded.state,
    at = excluded.at, document = excluded.document WHERE excluded.version > outcomes.version"""
ROWS = 64
"""In one statement. SQLite gives up Python's lock with every row that is inserted by itself, and waits for it again."""


def _insert(connection: Connection, table: Table, rows: Sequence[Row], conflict: str = NOTHING) -> None:
    """Inserts rows of the same columns; `conflict` is what is done with those that are there."""
    if not rows:
        return
    columns = tuple(rows[0])
    if connection.dialect.name == "postgresql":
        places = ", ".join(f"%({column})s" for column in columns)
        connection.exec_driver_sql(f"{_head(table.name, columns)} ({places}) {conflict}", list(rows))
        return
    for at in range(0, len(rows), ROWS):
        some = rows[at : at + ROWS]
        values = tuple(row[column] for row in some for column in columns)
        connection.exec_driver_sql(_many(table.name, columns, len(some), conflict), values)


@lru_cache(maxsize=1000)
def _many(table: str, columns: tuple[str, ...], rows: int, conflict: str) -> str:
    row = f"({', '.join('?' * len(columns))})"
    return f"{_head(table, columns)} {', '.join([row] * rows)} {conflict}"


def _head(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES"


def _check_fresh(connection: Connection, changes: Changes) -> None:
    if not changes.fresh:
        return
    ours = {(t.item.rid, t.item.dot): t.item for t in changes.told if isinstance(t.item, Operation)}
    c, rids = operations.c, sorted({rid for rid, _ in changes.fresh})
    query = select(c.rid, c.author, c.n, c.document).where(c.rid.in_(rids))
    for rid, author, n, document in connection.execute(query):
        key = (rid, Dot(author, n))
        if key in changes.fresh and (key not in ours or json.loads(document) != json.loads(_json(ours[key]))):
            raise Taken(f"{author} has written operation {n} of {rid} already")


_GROW = update(resources).where(resources.c.rid == bindparam("of")).values(revision=resources.c.revision + 1)
_DUE = update(resources).where(resources.c.rid == bindparam("of")).values(due=bindparam("at"))


def _stub(rid: str) -> Row:
    return {"rid": rid, "service": "", "gone": False, "document": "{}"}


def summary_json(summary: Summary) -> str:
    return json.dumps(
        {
            "service": summary.service,
            "type": summary.type,
            "collection": summary.collection,
            "chosen": summary.chosen,
            "name": summary.name,
            "parent": summary.parent,
            "placement": summary.placement,
            "refers": summary.refers,
            "gone": summary.gone,
        }
    )


def _summary(summary: Summary, *, grows: bool) -> Row:
    return {
        "rid": summary.rid,
        "service": summary.service,
        "gone": summary.gone,
        "document": summary_json(summary),
        "revision": 1 if grows else 0,
    }


def _json(item: Operation | Outcome) -> str:
    return json.dumps(to_json(item), separators=(",", ":"), sort_keys=True)


def _operation(op: Operation) -> Row:
    body = op.request.body if op.request else None
    return {
        "rid": op.rid,
        "author": op.author,
        "n": op.n,
        "ms": op.stamp.ms,
        "counter": op.stamp.counter,
        "sha256": body.sha256 or None if body else None,
        "document": _json(op),
    }


def _upsert_outcomes(connection: Connection, items: Sequence[Outcome]) -> None:
    if not items:
        return
    newest: dict[tuple[str, Any, str], Outcome] = {}
    for item in items:
        key = (item.rid, item.dot, item.site)
        if key not in newest or item.version > newest[key].version:
            newest[key] = item
    _insert(connection, outcomes, [_outcome(newest[key]) for key in sorted(newest)], NEWER)


def _outcome(outcome: Outcome) -> Row:
    return {
        "rid": outcome.rid,
        "author": outcome.dot.author,
        "n": outcome.dot.n,
        "site": outcome.site,
        "version": outcome.version,
        "state": outcome.state.value,
        "at": outcome.since or outcome.at,
        "document": _json(outcome),
    }


def _names(changes: Changes) -> list[Row]:
    found = {(summary.rid, "", summary.rid) for summary in changes.summaries}
    found |= {(summary.chosen, "", summary.rid) for summary in changes.summaries if summary.chosen}
    outcomes_ = (told.item for told in changes.told if isinstance(told.item, Outcome))
    found |= {(outcome.local_id, outcome.site, outcome.rid) for outcome in outcomes_ if outcome.local_id}
    return [{"value": value, "site": site, "rid": rid} for value, site, rid in sorted(found)]


def _refers(summary: Summary) -> list[Row]:
    others = {*summary.refers, *([summary.parent] if summary.parent else [])}
    return [{"other": other, "rid": summary.rid} for other in sorted(others)]


def _feed(connection: Connection, told: Sequence[Told]) -> None:
    """Positions are given while the peer's row is locked, so they become visible in their order."""
    counts = Counter(peer for each in told for peer in each.peers)
    if not counts:
        return
    _insert(connection, peers, [{"peer": peer} for peer in sorted(counts)])
    heads = {}
    for peer in sorted(counts):
        grown = update(peers).where(peers.c.peer == peer).values(head=peers.c.head + counts[peer])
        heads[peer] = connection.execute(grown.returning(peers.c.head)).scalar_one() - counts[peer]
    rows = []
    for each in told:
        for peer in each.peers:
            heads[peer] += 1
            rows.append(
                {
                    "peer": peer,
                    "position": heads[peer],
                    "rid": each.item.rid,
                    "author": each.item.dot.author,
                    "n": each.item.dot.n,
                    "site": each.item.site if isinstance(each.item, Outcome) else "",
                }
            )
    _insert(connection, feeds, rows, "")


def _move(connection: Connection, cursor: Cursor) -> None:
    _insert(connection, peers, [{"peer": cursor.peer}])
    moved = {"cursor_store": cursor.store, "cursor_position": cursor.position}
    connection.execute(update(peers).where(peers.c.peer == cursor.peer).values(**moved))
