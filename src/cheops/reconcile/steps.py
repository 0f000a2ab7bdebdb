"""What a site has to do next for a resource: a function of the log and of what it has done. Pure.

It goes through the order. What wasn't executed is; what was, but before something that overlaps it and comes earlier,
is executed again; at what nobody can say, it stops.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from cheops.record.log import Log
from cheops.record.operation import WAS_REFUSED, Dot, Kind, Operation, Outcome, State
from cheops.record.paths import ancestors
from cheops.record.superseding import makes, same_request

NOW = 1 << 62
"""The run of what is about to be executed: after all that was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """To be executed: `again` if it was already; a creation `as_replacement` of what is there; a PLACE that `leaves`
    makes this site delete its copy.
    """

    operation: Operation
    again: bool = False
    as_replacement: bool = False
    leaves: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """`todo` in order; the next one may be tried only when the one before is DONE or REFUSED. `skip` are to be marked
    SKIPPED. `blocked` says why nothing goes on after that; `probe` was begun, and nobody knows whether it was executed.
    """

    todo: tuple[Step, ...] = ()
    skip: tuple[Operation, ...] = ()
    blocked: str = ""
    probe: Operation | None = None


class Verdict(Enum):
    """What is to become of an operation here."""

    NOTHING = "nothing"
    SKIP = "skip"
    PROBE = "probe"
    ASK = "waits until an operator says whether it was executed"
    UNBORN = "waits for its creation, which was {state}"


UNDECIDED = {State.BEGUN: Verdict.PROBE, State.ASKS: Verdict.ASK}
SETTLED = frozenset({State.REFUSED, State.DROPPED})
AGAIN = frozenset({Kind.REPLACE, Kind.MERGE, Kind.CREATE, Kind.DELETE})


def steps(log: Log, outcomes: Mapping[Dot, Outcome], site: str) -> Steps:
    """What `site` has to do, given its own outcomes."""
    return _Sweep(log, outcomes, site).steps()


class _Sweep:
    """One way through the order."""

    def __init__(self, log: Log, outcomes: Mapping[Dot, Outcome], site: str) -> None:
        self.log, self.outcomes = log, outcomes
        self.here = site in log.placement
        self.wiped = max((self._ever_run(op) for op in log.order if op.kind is Kind.PLACE), default=0)
        self.makers = [op for op in log.standing if makes(op)]
        self.made = [op for op in self.makers if op.dot not in log.dead and self._executed(op)]
        self.unmade_by = max((self._ever_run(op) for op in log.order if op.dot in log.dead), default=0)
        self.runs = _Runs()

    def steps(self) -> Steps:
        """Whether there is something that is to be replaced or deleted must be known before all else."""
        doubtful = next((op for op in self.makers if self._undecided(op)), None)
        if doubtful:
            return self._stopped(doubtful, UNDECIDED[self._state(doubtful)], [], [])
        return self._swept()

    def _swept(self) -> Steps:
        todo: list[Step] = []
        skip: list[Operation] = []
        for op in self.log.order:
            verdict = self._superseded(op) if op.dot in self.log.superseded else self._effective(op)
            if isinstance(verdict, Step):
                todo.append(verdict)
            elif verdict is Verdict.SKIP:
                skip.extend([op] if self._state(op) is not State.SKIPPED else [])
            elif verdict is not Verdict.NOTHING:
                return self._stopped(op, verdict, todo, skip)
            self.runs.add(op, NOW if isinstance(verdict, Step) else self._stood(op))
        return Steps(todo=tuple(todo), skip=tuple(skip))

    def _stopped(self, op: Operation, verdict: Verdict, todo: list[Step], skip: list[Operation]) -> Steps:
        probe = op if verdict is Verdict.PROBE else None
        why = "" if probe else verdict.value.format(state=self._state(op).value)
        return Steps(todo=tuple(todo), skip=tuple(skip), blocked=why, probe=probe)

    def _superseded(self, op: Operation) -> Step | Verdict:
        if self._state(op) in (State.DONE, State.DROPPED):
            return Verdict.NOTHING
        return self._first(op) if self._is_needed(op) else Verdict.SKIP

    def _is_needed(self, op: Operation) -> bool:
        """Whether something is still to be done to what it makes, before another one takes its place."""
        in_vain = op.dot in self.log.dead or op.dot in self.log.withdrawn or self._state(op) in SETTLED
        if not makes(op) or op.request is None or self.made or not self.here or in_vain:
            return False
        after = self.log.order[self.log.position[op.dot] + 1 :]
        effective = (one for one in after if one.dot not in self.log.superseded and one.kind is not Kind.PLACE)
        first = next(effective, None)
        return first is not None and not makes(first) and first.kind is not Kind.DELETE

    def _effective(self, op: Operation) -> Step | Verdict:
        if op.kind is Kind.PLACE:
            return self._placed(op)
        if op.kind is Kind.DELETE:
            return self._deleted(op)
        return self._written(op) if self.here else Verdict.NOTHING

    def _placed(self, op: Operation) -> Step | Verdict:
        if self._state(op) in (State.DONE, *SETTLED):
            return Verdict.NOTHING
        leaves = not self.here and op.leave == "delete" and any(self._executed(one) for one in self.log.living)
        return Step(operation=op, leaves=True) if leaves else Verdict.SKIP

    def _deleted(self, op: Operation) -> Step | Verdict:
        """Once it was made again here, a delete that comes before that would hit the new one."""
        state = self._state(op)
        if state in SETTLED or (state is State.DONE and (self.made or self._ever_run(op) >= self.unmade_by)):
            return Verdict.NOTHING
        if self.made or not self._may_be_there():
            return Verdict.SKIP
        return Step(operation=op, again=state is State.DONE)

    def _may_be_there(self) -> bool:
        """Whether there is something to delete. Without an intent nothing is known of what may be repeated."""
        older = [op for op in self.makers if op.dot in self.log.dead and not self._was_refused(op)]
        return not self.makers or any(op.kind is Kind.REPLACE or self._last_run(op) for op in older)

    def _was_refused(self, op: Operation) -> bool:
        """What is there then is somebody else's."""
        outcome = self.outcomes.get(op.dot)
        return outcome is not None and (outcome.state is State.REFUSED or outcome.code == WAS_REFUSED)

    def _written(self, op: Operation) -> Step | Verdict:
        state = self._state(op)
        if self._executed(op):
            return self._repeated(op)
        if state in SETTLED:
            unborn = makes(op) and not self.made
            return Verdict.UNBORN if unborn else Verdict.NOTHING
        if self._undecided(op):
            return UNDECIDED[state]
        return self._created(op) if op.kind is Kind.CREATE else self._first(op)

    def _first(self, op: Operation, as_replacement: bool = False) -> Step:
        if makes(op):
            self.made.append(op)
        return Step(operation=op, as_replacement=as_replacement)

    def _created(self, op: Operation) -> Step | Verdict:
        """A creation isn't sent where another one has made the resource already: there it replaces that."""
        stood = self._stood(op)
        if (stood and self.runs.newest(op) <= stood) or (self.made and not op.repeats):
            return Verdict.SKIP
        return self._first(op, as_replacement=bool(self.made))

    def _repeated(self, op: Operation) -> Step | Verdict:
        replaces = op.kind is not Kind.CREATE or op.repeats
        if op.kind not in AGAIN or not replaces or self.runs.newest(op) <= self._last_run(op):
            return Verdict.NOTHING
        return Step(operation=op, again=True, as_replacement=op.kind is Kind.CREATE)

    def _state(self, op: Operation) -> State:
        outcome = self.outcomes.get(op.dot)
        return outcome.state if outcome else State.PENDING

    def _last_run(self, op: Operation) -> int:
        """0 if it was before this site left and deleted its copy."""
        run = self._ever_run(op)
        return run if run > self.wiped else 0

    def _ever_run(self, op: Operation) -> int:
        outcome = self.outcomes.get(op.dot)
        return outcome.run if outcome else 0

    def _stood(self, op: Operation) -> int:
        """When it was last executed, or another creation was that asks for the same."""
        if op is not self.log.creation:
            return self._last_run(op)
        twins = (one for one in self.made if self.log.superseded.get(one.dot) == op.dot and same_request(op, one))
        return max((self._last_run(op), *(self._last_run(twin) for twin in twins)))

    def _undecided(self, op: Operation) -> bool:
        """Whether it may have been executed; a creation is sent once only, even if it can be replaced later."""
        once = op.kind is Kind.CREATE or not op.repeats
        state = self._state(op)
        return state is State.ASKS or (state is State.BEGUN and once)

    def _executed(self, op: Operation) -> bool:
        """Whether the copy that is here now has it: not what was executed before this site left and came back."""
        return self._state(op) is State.DONE and (not self.wiped or self._last_run(op) > 0)


class _Runs:
    """When what was met so far was last executed, by the fields that it touched. A path "" stands for all fields."""

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], int] = defaultdict(int)
        self._under: dict[tuple[str, str], int] = defaultdict(int)

    def add(self, op: Operation, run: int) -> None:
        for path in _touched(op):
            _raise(self._exact, (op.facet, path), run)
            for above in {"", *ancestors(path)}:
                _raise(self._under, (op.facet, above), run)

    def newest(self, op: Operation) -> int:
        """When the newest was executed of those that overlap `op`."""
        paths = list(_touched(op))
        under = (self._under.get((op.facet, path), 0) for path in paths)
        exact = (self._exact.get((op.facet, above), 0) for path in paths for above in ("", *ancestors(path)))
        return max((*under, *exact), default=0)


def _touched(op: Operation) -> Iterator[str]:
    silent = op.kind in (Kind.PLACE, Kind.DELETE) or (op.kind is Kind.ACTION and op.commutes)
    if silent:
        return
    whole = op.touches is None or op.kind in (Kind.CREATE, Kind.REPLACE)
    yield from ("",) if whole or op.touches is None else op.touches


def _raise(runs: dict[tuple[str, str], int], key: tuple[str, str], run: int) -> None:
    runs[key] = max(runs[key], run)
