"""What one write does to the tables. Statements with many rows are sent as one."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cheops.errors import Taken
from cheops.ports import Changes, Cursor, Told
from cheops.record.operation import Operation, Outcome, to_json
from cheops.record.resource import Summary
from cheops.stores.sql.tables import feeds, names, operations, outcomes, peers, refers, resources

Row = dict[str, Any]


def apply(connection: Connection, changes: Changes, *, again: bool) -> None:
    """All of it. `again`: it may have been done before. Raises Taken, before it has changed anything."""
    _check_fresh(connection, changes, again=again)
    items = [told.item for told in changes.told]
    ops = [item for item in items if isinstance(item, Operation)]
    rids = sorted({item.rid for item in items} | {s.rid for s in changes.summaries} | set(changes.due))
    insert_missing(connection, resources, [_stub(rid) for rid in rids])
    if changes.summaries:
        rows = [_summary(summary) for summary in sorted(changes.summaries, key=lambda s: s.rid)]
        connection.execute(_RESTATE, rows)
    grown = sorted(_add(connection, ops) | set(changes.due))
    if grown:
        connection.execute(_GROW, [{"of": rid} for rid in grown])
    if changes.due:
        connection.execute(_DUE, [{"of": rid, "at": changes.due[rid]} for rid in sorted(changes.due)])
    _upsert_outcomes(connection, [item for item in items if isinstance(item, Outcome)])
    insert_missing(connection, names, _names(changes, rids))
    insert_missing(connection, refers, [row for summary in changes.summaries for row in _refers(summary)])
    _feed(connection, changes.told)
    if changes.cursor:
        _move(connection, changes.cursor)


def insert_missing(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Inserts those that aren't there yet."""
    if rows:
        connection.execute(_inserts_missing(connection.dialect.name, table), rows)


def _add(connection: Connection, ops: Sequence[Operation]) -> set[str]:
    """The resources that have got an operation which wasn't there."""
    if not ops:
        return set()
    return set(connection.execute(_adds(connection.dialect.name), [_operation(op) for op in ops]).scalars())


def _insert(dialect: str, table: Table) -> Any:
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


@cache
def _inserts_missing(dialect: str, table: Table) -> Any:
    return _insert(dialect, table).on_conflict_do_nothing()


@cache
def _adds(dialect: str) -> Any:
    return _inserts_missing(dialect, operations).returning(operations.c.rid)


@cache
def _reports(dialect: str) -> Any:
    """An outcome takes the place of an older one."""
    insert = _insert(dialect, outcomes)
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=["rid", "author", "n", "site"],
        set_={"version": new.version, "state": new.state, "at": new.at, "document": new.document},
        where=new.version > outcomes.c.version,
    )


def _check_fresh(connection: Connection, changes: Changes, *, again: bool) -> None:
    """What is there already is our own doing if it is the same, and we may have done it before."""
    for rid, dot in changes.fresh:
        same = and_(operations.c.rid == rid, operations.c.author == dot.author, operations.c.n == dot.n)
        document = connection.execute(select(operations.c.document).where(same)).scalar()
        ours = {_json(told.item) for told in changes.told} if again else set()
        if document is not None and document not in ours:
            raise Taken(f"{dot.author} has written operation {dot.n} of {rid} already")


_RESTATE = (
    update(resources)
    .where(resources.c.rid == bindparam("of"))
    .values(service=bindparam("of_service"), gone=bindparam("is_gone"), document=bindparam("text"))
)
_GROW = update(resources).where(resources.c.rid == bindparam("of")).values(revision=resources.c.revision + 1)
_FED = (
    update(peers)
    .where(peers.c.peer == bindparam("of"))
    .values(head=peers.c.head + bindparam("more"))
    .returning(peers.c.head)
)
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
    connection.execute(_reports(connection.dialect.name), [_outcome(newest[key]) for key in sorted(newest)])


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


LONGEST_NAME = 512  # characters; an index of PostgreSQL takes 2704 bytes
_HASHED = "sha256:"


def key(value: str) -> str:
    """What stands for a name in the table: it may be longer than an index can hold, or be no text that it takes."""
    if len(value) <= LONGEST_NAME and value.isprintable() and not value.startswith(_HASHED):
        return value
    return _HASHED + hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()


def is_hashed(found: str) -> bool:
    """Whether it stands for a name that can't be told from it."""
    return found.startswith(_HASHED)


def _names(changes: Changes, rids: Sequence[str]) -> list[Row]:
    found = {(rid, "", rid) for rid in rids}
    found |= {(summary.chosen, "", summary.rid) for summary in changes.summaries if summary.chosen}
    outcomes_ = (told.item for told in changes.told if isinstance(told.item, Outcome))
    found |= {(outcome.local_id, outcome.site, outcome.rid) for outcome in outcomes_ if outcome.local_id}
    return [{"value": key(value), "site": site, "rid": rid} for value, site, rid in sorted(found)]


def _refers(summary: Summary) -> list[Row]:
    others = {*summary.refers, *([summary.parent] if summary.parent else [])}
    return [{"other": other, "rid": summary.rid} for other in sorted(others)]


def _feed(connection: Connection, told: Sequence[Told]) -> None:
    """Positions are given while the peer's row is locked, so they become visible in their order."""
    counts = Counter(peer for each in told for peer in each.peers)
    if not counts:
        return
    insert_missing(connection, peers, [{"peer": peer} for peer in sorted(counts)])
    heads = {}
    for peer in sorted(counts):
        head = connection.execute(_FED, {"of": peer, "more": counts[peer]}).scalar_one()
        heads[peer] = head - counts[peer]
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
    insert_missing(connection, peers, [{"peer": cursor.peer}])
    moved = {"cursor_store": cursor.store, "cursor_position": cursor.position}
    connection.execute(update(peers).where(peers.c.peer == cursor.peer).values(**moved))
