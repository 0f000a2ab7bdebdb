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
from cheops.record.operation import Dot, Operation, Outcome, to_json
from cheops.record.resource import Summary
from cheops.stores.sql.tables import feeds, names, operations, outcomes, peers, refers, resources

Row = dict[str, Any]


def apply(connection: Connection, writes: Sequence[Changes], again: bool) -> list[dict[str, int] | Taken]:
    """Does several writes as one, in their order, but for those that write anew what is there already. `again`: they
    may have been done before. Gives for each of them where the feeds of the peers that it tells end.
    """
    refusals = _refusals(connection, writes, again=again)
    done = [one for one, refusal in zip(writes, refusals, strict=True) if refusal is None]
    heads = _apply(connection, _as_one(done), done) if done else {}
    for cursor in {one.cursor.peer: one.cursor for one in done if one.cursor}.values():
        _move(connection, cursor)
    return [refusal or _heads(one, heads) for one, refusal in zip(writes, refusals, strict=True)]


def _as_one(writes: Sequence[Changes]) -> Changes:
    """What they come to together; what a later one says of a resource holds. Cursors are left out."""
    summaries = {summary.rid: summary for one in writes for summary in one.summaries}
    return Changes(
        told=tuple(told for one in writes for told in one.told),
        summaries=tuple(summaries[rid] for rid in sorted(summaries)),
        due={rid: at for one in writes for rid, at in one.due.items()},
    )


def _heads(write: Changes, before: dict[str, int]) -> dict[str, int]:
    """Where the feeds of its peers end after a write; `before` it, and then that is moved on."""
    counts = Counter(peer for told in write.told for peer in told.peers)
    before |= {peer: before[peer] + count for peer, count in counts.items()}
    return {peer: before[peer] for peer in counts}


def _apply(connection: Connection, changes: Changes, parts: Sequence[Changes]) -> dict[str, int]:
    """All of it, which some writes come to. Gives where the feeds of the peers that it tells ended before."""
    items = [told.item for told in changes.told]
    ops = [item for item in items if isinstance(item, Operation)]
    rids = sorted({item.rid for item in items} | {s.rid for s in changes.summaries} | set(changes.due))
    insert_missing(connection, resources, [_stub(rid) for rid in rids])
    if changes.summaries:
        connection.execute(_RESTATE, [_summary(summary) for summary in changes.summaries])
    grown = _grown(parts, _add(connection, ops))
    if grown:
        connection.execute(_GROW, [{"of": rid, "by": grown[rid]} for rid in sorted(grown)])
    if changes.due:
        connection.execute(_DUE, [{"of": rid, "at": changes.due[rid]} for rid in sorted(changes.due)])
    _upsert_outcomes(connection, [item for item in items if isinstance(item, Outcome)])
    insert_missing(connection, names, _names(changes, rids))
    insert_missing(connection, refers, [row for summary in changes.summaries for row in _refers(summary)])
    return _feed(connection, changes.told)


def insert_missing(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Inserts those that aren't there yet."""
    if rows:
        connection.execute(_inserts_missing(connection.dialect.name, table), rows)


def _add(connection: Connection, ops: Sequence[Operation]) -> set[tuple[str, Dot]]:
    """Those operations that weren't there."""
    if not ops:
        return set()
    added = connection.execute(_adds(connection.dialect.name), [_operation(op) for op in ops])
    return {(rid, Dot(author, n)) for rid, author, n in added}


def _grown(writes: Sequence[Changes], added: set[tuple[str, Dot]]) -> Counter[str]:
    """By how much the revision of each resource counts up."""
    grown: Counter[str] = Counter()
    for write in writes:
        told = {(told.item.rid, told.item.dot) for told in write.told if isinstance(told.item, Operation)}
        new = told & added
        added = added - new
        grown.update({rid for rid, _ in new} | set(write.due))
    return grown


def _insert(dialect: str, table: Table) -> Any:
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


@cache
def _inserts_missing(dialect: str, table: Table) -> Any:
    return _insert(dialect, table).on_conflict_do_nothing()


@cache
def _adds(dialect: str) -> Any:
    return _inserts_missing(dialect, operations).returning(operations.c.rid, operations.c.author, operations.c.n)


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


def _refusals(connection: Connection, writes: Sequence[Changes], *, again: bool) -> list[Taken | None]:
    """Which of them write anew what is there, or what one before them writes."""
    refusals: list[Taken | None] = []
    before: set[tuple[str, Dot]] = set()
    for one in writes:
        taken = next(
            (key for key in sorted(one.fresh) if key in before or _is_there(connection, one, key, again)), None
        )
        refusals.append(_taken(*taken) if taken else None)
        if taken is None:
            before |= {(told.item.rid, told.item.dot) for told in one.told if isinstance(told.item, Operation)}
    return refusals


def _is_there(connection: Connection, write: Changes, key: tuple[str, Dot], again: bool) -> bool:
    """What is there already is our own doing if it is the same, and we may have done it before."""
    rid, dot = key
    same = and_(operations.c.rid == rid, operations.c.author == dot.author, operations.c.n == dot.n)
    document = connection.execute(select(operations.c.document).where(same)).scalar()
    ours = {_json(told.item) for told in write.told} if again else set()
    return document is not None and document not in ours


def _taken(rid: str, dot: Dot) -> Taken:
    return Taken(f"{dot.author} has written operation {dot.n} of {rid} already")


_RESTATE = (
    update(resources)
    .where(resources.c.rid == bindparam("of"))
    .values(service=bindparam("of_service"), gone=bindparam("is_gone"), document=bindparam("text"))
)
_GROW = (
    update(resources).where(resources.c.rid == bindparam("of")).values(revision=resources.c.revision + bindparam("by"))
)
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
            "prime": summary.prime,
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


def _feed(connection: Connection, told: Sequence[Told]) -> dict[str, int]:
    """Positions are given while the peer's row is locked, so they become visible in their order. Gives where the feeds
    of these peers ended before.
    """
    counts = Counter(peer for each in told for peer in each.peers)
    if not counts:
        return {}
    insert_missing(connection, peers, [{"peer": peer} for peer in sorted(counts)])
    heads = {}
    for peer in sorted(counts):
        head = connection.execute(_FED, {"of": peer, "more": counts[peer]}).scalar_one()
        heads[peer] = head - counts[peer]
    before = dict(heads)
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
    return before


def _move(connection: Connection, cursor: Cursor) -> None:
    insert_missing(connection, peers, [{"peer": cursor.peer}])
    moved = {"cursor_store": cursor.store, "cursor_position": cursor.position}
    connection.execute(update(peers).where(peers.c.peer == cursor.peer).values(**moved))
