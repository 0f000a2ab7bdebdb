"""What of a log nobody needs to keep: the requests of operations that aren't in force anywhere any more. Pure.

That an operation was there, and what it came after, is kept: a copy of it that is late says nothing new then, and a
deleted resource stays deleted.
"""

from collections.abc import Collection, Mapping

from cheops.record.log import Log
from cheops.record.operation import FINAL, Dot, Kind, Operation, Outcome, State

_REPORTED = FINAL | {State.REFUSED}


def prunable(log: Log, outcomes: Mapping[Dot, Mapping[str, Outcome]], holders: Collection[str]) -> frozenset[Dot]:
    """The operations whose requests can be forgotten: every holder has reported them, and they aren't in force."""
    loses = {conflict.loser for conflict in log.conflicts}
    return frozenset(
        op.dot
        for op in log.order
        if op.request
        and op.dot not in loses
        and (op.dot in log.superseded or op.dot in log.withdrawn or (log.gone and op.kind is not Kind.DELETE))
        and all(_reported(op, outcomes, site) for site in holders)
    )


def _reported(op: Operation, outcomes: Mapping[Dot, Mapping[str, Outcome]], site: str) -> bool:
    outcome = outcomes.get(op.dot, {}).get(site)
    return outcome is not None and outcome.version > 0 and outcome.state in _REPORTED
