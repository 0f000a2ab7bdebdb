"""What a site has to do next for a resource, from its log and from what came of its operations here so far. Pure.

Not promised: that a step succeeds; what comes after one that doesn't is held back, but for what was refused for good.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cheops.record.log import Log, overlap
from cheops.record.operation import Dot, Kind, Operation, Outcome, State

_THROUGH = frozenset({State.DONE, State.REFUSED, State.DROPPED, State.SKIPPED})
_AGAIN = frozenset({Kind.REPLACE, Kind.MERGE})


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """An operation that is to be executed. `again`: it was, but something that comes before it came later.

    `as_replacement`: a creation whose body is put in the place of what is there. `leaves`: the site gives up its copy.
    """

    operation: Operation
    again: bool = False
    as_replacement: bool = False
    leaves: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """What is to be done, in order. `skip` is never to be executed; `probe` may have been; `blocked` says what all that
    follows waits for.
    """

    todo: tuple[Step, ...] = ()
    skip: tuple[Operation, ...] = ()
    probe: Operation | None = None
    blocked: str = ""


def steps(log: Log, outcomes: Mapping[Dot, Outcome], site: str) -> Steps:
    """What the site has to do; `outcomes` are its own."""
    skip = tuple(op for op in log.order if _is_void(op, log) and _state(op, outcomes) is State.PENDING)
    if site not in log.placement:
        return _leaving(log, outcomes, site, skip)
    todo: list[Step] = []
    runs = {op.dot: outcomes[op.dot].run for op in log.order if op.dot in outcomes}
    latest = _Latest(log, runs)
    created: Operation | None = None
    for op in log.effective:
        state = _state(op, outcomes)
        born_before, created = created, (op if op.birth and not op.facet and created is None else created)
        if op.kind is Kind.DELETE:
            created = None
        if state in (State.BEGUN, State.ASKS):
            probe = op if state is State.BEGUN else None
            why = "" if probe else "it must be said whether an operation was executed: cheops operations --failed"
            return Steps(todo=tuple(todo), skip=skip, probe=probe if not todo else None, blocked=why)
        if state is State.PENDING:
            second = op.kind is Kind.CREATE and born_before is not None
            todo.append(Step(operation=op, as_replacement=second and op.repeats))
            latest.ran(op)
        elif state in (State.REFUSED, State.DROPPED):
            if op.birth and not op.facet and born_before is None:
                return Steps(todo=tuple(todo), skip=skip, blocked="its creation was refused here, or dropped")
        elif op.kind in _AGAIN and latest.came_after(op):
            todo.append(Step(operation=op, again=True))
            latest.ran(op)
    return Steps(todo=tuple(todo), skip=skip)


def _state(op: Operation, outcomes: Mapping[Dot, Outcome]) -> State:
    return outcomes[op.dot].state if op.dot in outcomes else State.PENDING


def _is_void(op: Operation, log: Log) -> bool:
    return op.dot in log.superseded or op.dot in log.withdrawn


def _leaving(log: Log, outcomes: Mapping[Dot, Outcome], site: str, skip: tuple[Operation, ...]) -> Steps:
    """A site that isn't to hold it any more gives up its copy if that was asked for, and does nothing else."""
    moves = [op for op in log.effective if op.kind is Kind.PLACE and site not in op.placement]
    there = any(op.birth and not op.facet and _state(op, outcomes) is State.DONE for op in log.effective)
    pending = [op for op in moves if _state(op, outcomes) is State.PENDING]
    todo = [Step(operation=op, leaves=op.leave == "delete" and there and not log.gone) for op in pending[-1:]]
    rest = tuple(op for op in log.effective if op not in moves[-1:] and _state(op, outcomes) is State.PENDING)
    return Steps(todo=tuple(todo), skip=(*skip, *rest) if not todo else skip)


class _Latest:
    """When the operations that stand before one in the order were last executed here, as far as they overlap it."""

    def __init__(self, log: Log, runs: Mapping[Dot, int]) -> None:
        self._runs = dict(runs)
        self._next = max(runs.values(), default=0)
        self._before: list[Operation] = []
        self._order = {op.dot: at for at, op in enumerate(log.order)}
        self._executed = sorted((op for op in log.order if runs.get(op.dot)), key=lambda op: -runs[op.dot])

    def ran(self, op: Operation) -> None:
        self._next += 1
        self._runs[op.dot] = self._next
        self._executed.insert(0, op)

    def came_after(self, op: Operation) -> bool:
        """Whether something that stands before it and overlaps it was executed after it."""
        own, place = self._runs.get(op.dot, 0), self._order[op.dot]
        for other in self._executed:
            if self._runs[other.dot] <= own:
                return False
            if self._order[other.dot] < place and overlap(other, op):
                return True
        return False
