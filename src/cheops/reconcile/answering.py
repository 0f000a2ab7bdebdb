"""What the caller of a write hears: how long he waits for it, and the reply of what has come of it where. Pure.

A reply's headers say what came of it at each site; nothing is promised for later that the log doesn't hold.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace

from cheops.errors import BadRequest
from cheops.execute import OUTCOME
from cheops.model import Headers, Reply, Request
from cheops.reconcile.book import Book
from cheops.reconcile.outcomes import UNHEARD, WAITS_FOR_TURN, Applied
from cheops.record.operation import WITHDRAWN, Operation, Outcome, State

RESOURCE = b"cheops-resource"
EXECUTED = b"cheops-executed"  # what it says of one holder isn't said of all
PREFER = b"prefer"
WAIT_SECONDS = 10.0
LONGEST_WAIT = 3600.0
_STILL_AT_IT = frozenset({"waits-for-body"})
_MAY_STILL = _STILL_AT_IT | {UNHEARD}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What the caller prefers (RFC 7240): how long to wait, in seconds, or not at all. `said`: he has said so; else
    the service here is waited for as long as it takes, if no other site has done it.
    """

    wait: float = WAIT_SECONDS
    said: bool = False
    asynchronous: bool = False


def outcomes_of(book: Book, op: Operation) -> dict[str, Outcome]:
    """What has come of it, by holder."""
    return {site: outcome for site in book.holders if (outcome := book.outcome(op.dot, site))}


def wish_of(request: Request) -> Wish:
    """What the Prefer headers say. Raises BadRequest for a wait that isn't a number of seconds."""
    said = b",".join(request.values(PREFER)).decode("latin1").lower()
    wait = re.search(r'(?:^|[,;\s])wait\s*=\s*"?([^",;\s]*)', said)
    if wait and not re.fullmatch(r"\d{1,6}", wait[1]):
        raise BadRequest(f"Prefer: wait={wait[1]} isn't a number of seconds", hint="Write Prefer: wait=30.")
    seconds = min(float(wait[1]), LONGEST_WAIT) if wait else WAIT_SECONDS
    asynchronous = re.search(r"(?:^|[,;\s])respond-async(?:$|[,;\s])", said)
    return Wish(wait=seconds, said=bool(wait), asynchronous=bool(asynchronous))


def has_answered(outcome: Outcome | None) -> bool:
    if outcome is None or outcome.version == 0:
        return False
    return outcome.state is not State.PENDING or outcome.code not in (*_STILL_AT_IT, WAITS_FOR_TURN)


def is_paused(book: Book, op: Operation) -> bool:
    """Whether the sites that wait for their turn wait for an operator, since one before them has refused it."""
    return op.in_turn and any(outcome.state is State.REFUSED for outcome in outcomes_of(book, op).values())


def may_still(outcome: Outcome) -> bool:
    """Whether it may have been executed, or may be by somebody who has it now."""
    if outcome.state in (State.BEGUN, State.ASKS):
        return outcome.version > 0 or outcome.code != ""
    return outcome.state is State.PENDING and outcome.code in _MAY_STILL


def own_reply(own: "asyncio.Future[Applied] | None") -> Reply | None:
    if own is None or not own.done() or own.cancelled():
        return None
    return own.result().reply


def done_reply(own: "asyncio.Future[Applied] | None") -> Reply | None:
    """The reply of the service here, if it was done with it; what it answered before it was tried again isn't."""
    reply = own_reply(own)
    return reply if own and reply and own.result().outcome.state is State.DONE else None


def told_reply(outcome: Outcome) -> Reply:
    """Another site's reply, as far as it was told."""
    headers: Headers = ((b"content-length", str(len(outcome.body)).encode()),)
    for name, value in ((b"content-type", outcome.media_type), (b"location", outcome.location)):
        headers = (*headers, (name, value.encode("latin1"))) if value else headers
    return Reply(status=outcome.status or 200, headers=headers, body=_once(outcome.body))


def nothing_left() -> Reply:
    """A deletion of what no service has (any more): it is in the log, and done."""
    return Reply(status=204, headers=(), body=_once(b""))


def accepted(rid: str) -> Reply:
    """It is written down, and will be done."""
    document = {"resource": rid, "status": "accepted", "ask": f"cheops resource show {rid}"}
    body = json.dumps(document).encode() + b"\n"
    headers = (
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"preference-applied", b"respond-async"),
    )
    return with_outcomes(Reply(status=202, headers=headers, body=_once(body)), rid, {})


def with_outcomes(reply: Reply, rid: str, outcomes: Mapping[str, Outcome]) -> Reply:
    """The reply, and what came of it where: a list of RFC 9651."""
    added: Headers = ((RESOURCE, rid.encode()),)
    if outcomes:
        words = ", ".join(f"{site}={_word(outcome)}" for site, outcome in outcomes.items())
        added = (*added, (OUTCOME, words.encode()))
    kept = tuple(pair for pair in reply.headers if pair[0] not in (RESOURCE, OUTCOME, EXECUTED))
    return replace(reply, headers=(*kept, *added))


def _word(outcome: Outcome) -> str:
    match outcome.state:
        case State.DONE | State.REFUSED:
            return str(outcome.status) if outcome.status else str(outcome.state.value)
        case State.PENDING if outcome.code == "needs-credentials":
            return str(outcome.code)
        case State.PENDING if outcome.code == "unauthorized":
            return str(outcome.status)
        case State.PENDING | State.BEGUN:
            return "pending"
        case State.DROPPED if outcome.code == WITHDRAWN:
            return str(outcome.status) if outcome.status else WITHDRAWN
        case _:
            return str(outcome.state.value)


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
