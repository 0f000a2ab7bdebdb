"""What a service's answer to an operation means: done, refused, to be tried again, or unclear. Pure; one table."""

from dataclasses import dataclass
from enum import Enum, auto

from cheops.record.operation import Kind, Operation


class Verdict(Enum):
    """What came of executing an operation once."""

    DONE = auto()
    REFUSED = auto()
    LATER = auto()  # nothing was executed; it may be the next time
    UNCLEAR = auto()  # it may have been executed
    CREDENTIALS = auto()  # they weren't accepted


LATER = frozenset({408, 425, 429})
UNABLE = frozenset({500, 502, 503, 504})


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the service answered. `executed` is what Envoy says in its place ("no" or "unknown"), "" if it didn't;
    `inside` is an error that stands inside a 200.
    """

    status: int
    executed: str = ""
    inside: str = ""


def judge(op: Operation, answer: Answer) -> Verdict:
    """What the answer means for an operation that repeats or doesn't."""
    if answer.executed == "no":
        return Verdict.LATER
    if answer.executed:
        return _again(op)
    if answer.status == 401:
        return Verdict.CREDENTIALS
    if answer.inside:
        return Verdict.REFUSED
    if 200 <= answer.status < 300 or (answer.status in (404, 410) and op.kind is Kind.DELETE):
        return Verdict.DONE
    if answer.status in LATER:
        return Verdict.LATER
    return _again(op) if answer.status in UNABLE else Verdict.REFUSED


def _again(op: Operation) -> Verdict:
    """What may have been executed is simply done again, if that is the same."""
    return Verdict.LATER if repeats(op) else Verdict.UNCLEAR


def repeats(op: Operation) -> bool:
    """Whether executing it twice is the same as executing it once (RFC 9110, 9.2.2), and a merge is one."""
    match op.kind:
        case Kind.REPLACE | Kind.MERGE | Kind.DELETE | Kind.PLACE:
            return True
        case Kind.CREATE:
            return False
        case _:
            return op.repeats
