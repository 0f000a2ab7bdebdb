"""What an operator may say of an operation at a site, and what its outcome is then. Pure; one table.

said     REFUSED   ASKS      PENDING   BEGUN         DROPPED   DONE, SKIPPED
retry    PENDING   PENDING   PENDING   looked for    PENDING   -
drop     DROPPED   DROPPED   DROPPED   DROPPED       -         -
done     -         DONE      -         DONE          -         -
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cheops.errors import BadRequest, NothingToDo, NotThere
from cheops.reconcile.book import Book
from cheops.reconcile.outcomes import version_after
from cheops.reconcile.showing import BY_COMMAND, name_of
from cheops.record.operation import Dot, Kind, Operation, Outcome, State

_BECOMES: Mapping[str, Mapping[State, State]] = {
    "retry": {
        State.REFUSED: State.PENDING,
        State.ASKS: State.PENDING,
        State.PENDING: State.PENDING,
        State.BEGUN: State.BEGUN,
        State.DROPPED: State.PENDING,
    },
    "drop": {
        State.REFUSED: State.DROPPED,
        State.ASKS: State.DROPPED,
        State.PENDING: State.DROPPED,
        State.BEGUN: State.DROPPED,
    },
    "done": {State.ASKS: State.DONE, State.BEGUN: State.DONE},
}
_TELLS = {
    "retry": "{op} is tried again at {site}",
    "drop": "{op} is dropped at {site}: it won't be executed there",
    "done": "{op} counts as executed at {site}",
}


@dataclass(frozen=True, kw_only=True)
class Command:
    """What one agent asks of another on behalf of an operator. `operation` is AUTHOR/N, as are `operations`; `sites`,
    `leave` and `prime` are of a placement; `seconds` is how long to wait, `known` what the asker knows of the log.
    """

    what: str
    resource: str = ""
    operation: str = ""
    operations: tuple[str, ...] = ()
    local_id: str = ""
    sites: tuple[str, ...] = ()
    leave: str = "keep"
    prime: str = ""
    seconds: float = 0.0
    known: Mapping[str, int] = field(default_factory=dict)


def dot_of(text: str) -> Dot:
    """The dot of an operation's name. Raises BadRequest."""
    author, _, n = text.rpartition("/")
    if not author or not n.isdecimal():
        raise BadRequest(f"'{text}' doesn't name an operation", hint="It is AUTHOR/N, as `cheops operations` tells it.")
    return Dot(author, int(n))


def operation_of(book: Book, text: str) -> Operation:
    """The operation of this name. Raises BadRequest, NotThere."""
    if op := book.log.operations.get(dot_of(text)):
        return op
    raise NotThere(
        f"{book.rid} has no operation {text}", hint=f"Its operations are listed by: cheops resource show {book.rid}"
    )


def commanded(book: Book, site: str, command: Command, now: float) -> tuple[Outcome, str]:
    """The outcome at a site after a command, and a sentence of it. Raises NothingToDo, BadRequest, NotThere."""
    op = operation_of(book, command.operation)
    before = book.outcome(op.dot, site)
    if before is None:
        raise NotThere(f"{site} isn't concerned by {command.operation} of {book.rid}")
    if op.dot in book.log.superseded or op.dot in book.log.withdrawn:
        raise NothingToDo(f"{command.operation} isn't in force any more, so it isn't executed anywhere")
    if (state := _BECOMES[command.what].get(before.state)) is None:
        what = f"{command.operation} is {before.state.value} at {site}, which {command.what} doesn't change"
        raise NothingToDo(what, hint=f"Look at it: cheops resource show {book.rid}")
    after = _after(before, state, now)
    if command.what == "done":
        after = _executed(book, op, site, after, command.local_id)
    return after, _TELLS[command.what].format(op=name_of(op.dot), site=site)


def _after(before: Outcome, state: State, now: float) -> Outcome:
    return replace(
        before,
        state=state,
        attempts=0,
        version=version_after(before, now),
        code=BY_COMMAND,
        why={State.DROPPED: "dropped by command", State.DONE: "said to be executed, by command"}.get(state, ""),
        at=now,
        since=now,
    )


def _executed(book: Book, op: Operation, site: str, after: Outcome, local_id: str) -> Outcome:
    makes = op.kind is Kind.CREATE and not book.summary.chosen
    if makes and not local_id:
        raise BadRequest(
            f"{site} made something by {name_of(op.dot)}, and its id there isn't known",
            hint=f"Say it: cheops done {book.rid} {name_of(op.dot)} --on {site} --id ID",
        )
    run = 1 + max((outcome.run for outcome in book.own(site).values()), default=0)
    return replace(after, run=run, local_id=local_id if makes else after.local_id)
