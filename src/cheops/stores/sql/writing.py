"""What one write does to the tables, in an order in which no two writers wait for each other in a circle."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cheops.errors import Taken
from cheops.ports import Changes, Cursor, Told
from cheops.record.operation import Operation, Outcome, to_json
from cheops.record.resource import Summary
from cheops.stores.sql.tables import feeds, names, operations, outcomes, peers, refers, resources

Row = dict[str, Any]


def apply(connection: Connection, changes: Changes) -> None:
    """All of it. Raises Taken."""
    _check_fresh(connection, changes)
    items = [told.item for told in changes.told]
    ops = [item for item in items if isinstance(item, Operation)]
    rids = sorted({item.rid for item in items} | {s.rid for s in changes.summaries} | set(changes.due))
    _insert(connection, resources, [_stub(rid) for rid in rids])
    if changes.summaries:
        rows = [_summary(summary) for summary in sorted(changes.summaries, key=lambda s: s.rid)]
        connection.execute(_RESTATE, rows)
    grown = sorted({op.rid for op in ops} | set(changes.due))
    if grown:
        connection.execute(_GROW, [{"of": rid} for rid in grown])
    if changes.due:
        connection.execute(_DUE, [{"of": rid, "at": changes.due[rid]} for rid in sorted(changes.due)])
    _insert(connection, operations, [_operation(op) for op in ops])
    _upsert_outcomes(connection, [item for item in items if isinstance(item, Outcome)])
    _insert(connection, names, _names(changes))
    _insert(connection, refers, [row for summary in changes.summaries for row in _refers(summary)])
    _feed(connection, changes.told)
    if changes.cursor:
        _move(connection, changes.cursor)


def _insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Inserts those that aren't there yet."""
    if rows:
        connection.execute(_dialect(connection).insert(table).on_conflict_do_nothing(), rows)


def _dialect(connection: Connection) -> Any:
    return postgresql if connection.dialect.name == "postgresql" else sqlite


def _check_fresh(connection: Connection, changes: Changes) -> None:
    for rid, dot in changes.fresh:
        same = and_(operations.c.rid == rid, operations.c.author == dot.author, operations.c.n == dot.n)
        document = connection.execute(select(operations.c.document).where(same)).scalar()
        ours = next((t.item for t in changes.told if isinstance(t.item, Operation) and t.item.dot == dot), None)
        if document is not None and (ours is None or json.loads(document) != json.loads(_json(ours))):
            raise Taken(f"{dot.author} has written operation {dot.n} of {rid} already")


_RESTATE = (
    update(resources)
    .where(resources.c.rid == bindparam("of"))
    .values(service=bindparam("of_service"), gone=bindparam("is_gone"), document=bindparam("text"))
)
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


def _summary(summary: Summary) -> Row:
    return {
        "of": summary.rid,
        "of_service": summary.service,
        "is_gone": summary.gone,
        "text": summary_json(summary),
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
    insert = _dialect(connection).insert(outcomes)
    new = insert.excluded
    statement = insert.on_conflict_do_update(
        index_elements=["rid", "author", "n", "site"],
        set_={"version": new.version, "state": new.state, "at": new.at, "document": new.document},
        where=new.version > outcomes.c.version,
    )
    connection.execute(statement, [_outcome(newest[key]) for key in sorted(newest)])


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
    connection.execute(feeds.insert(), rows)


def _move(connection: Connection, cursor: Cursor) -> None:
    _insert(connection, peers, [{"peer": cursor.peer}])
    moved = {"cursor_store": cursor.store, "cursor_position": cursor.position}
    connection.execute(update(peers).where(peers.c.peer == cursor.peer).values(**moved))
