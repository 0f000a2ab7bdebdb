"""What operators see of a resource: where it is, what was done to it, and for all that waits: what for, since when, and
what to do about it. Pure. Nothing secret is in it: recorded requests hold none, and bodies are told by size and hash.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cheops.model import PeerState, PeerView
from cheops.reconcile.book import Book
from cheops.reconcile.outcomes import UNDER_WAY
from cheops.reconcile.steps import steps
from cheops.record.conflicts import Conflict
from cheops.record.operation import FINAL, Dot, Kind, Operation, Outcome, State, Vector
from cheops.record.paths import common
from cheops.record.resource import Summary

WAITING = frozenset({State.PENDING, State.BEGUN})
FAILED = frozenset({State.REFUSED, State.ASKS})
BLOCKED = "blocked"
BY_COMMAND = "by-command"
_RETRY = "cheops retry {rid} {op} --on {site}"
_DROP = "cheops drop {rid} {op} --on {site}"
_DONE = "cheops done {rid} {op} --on {site}"
_TODO = {
    "unable": "Nothing, if the service comes back: it is tried again. Look whether it runs.",
    "unheard": "Nothing: it may have been executed, and is the same if it is done again, which is tried.",
    "needs-credentials": f"Give the site credentials for the service in its site.yaml, then: {_RETRY}",
    "unauthorized": f"Mend the site's credentials for the service in its site.yaml, then: {_RETRY}",
    "waits-for-acceptance": f"Nothing, if another site accepts it; else send the request again, and: {_DROP}",
    "waits-for-body": "Nothing, once a site that has its body can be reached: cheops sites",
    "waits-for-reference": "Nothing, once that is there; look at it: cheops resource show",
    "waits-for-children": "Nothing, once these have left as well; look at what holds them up: cheops resource show",
    "store-failed": "Make room on the disk of the site, or mend its database; it is tried again.",
    UNDER_WAY: "Nothing: the service has accepted it, and is asked until it is at its end.",
    "unclear": f"If it was executed: {_DONE}. If it wasn't: {_RETRY}",
    BLOCKED: "Look at what comes before it: cheops resource show {rid}",
}
_FAILED = f"Mend what the service complains of, then: {_RETRY}; or give it up: {_DROP}"


@dataclass(frozen=True, kw_only=True)
class ConflictShown:
    """`winner` and `loser` are operations, `fields` what the loser said and isn't in force. `settled`: a later
    operation that knew both has said the same fields anew. `apply` is the command that makes one.
    """

    resource: str
    winner: str
    loser: str
    fields: list[str]
    settled: bool
    winner_site: str
    loser_site: str
    winner_kind: str
    loser_kind: str
    loser_since: float
    apply: str


@dataclass(frozen=True, kw_only=True)
class OutcomeShown:
    """How far a site is with an operation. `since`: seconds since 1970, since when it waits, or when it ended. `todo`
    says what to do, "" if nothing is needed.
    """

    site: str
    state: str
    since: float
    status: int | None = None
    code: str = ""
    why: str = ""
    todo: str = ""
    attempts: int = 0
    local_id: str = ""


@dataclass(frozen=True, kw_only=True)
class OperationShown:
    """`operation` is its name, AUTHOR/N. `superseded_by` is another's; `withdrawn`: nobody has accepted it, and who
    asked knows; `held`: what it comes after hasn't arrived here yet. `body` says size and SHA-256, never what is in it.
    """

    operation: str
    site: str
    kind: str
    at: float
    method: str = ""
    target: str = ""
    facet: str = ""
    body: str = ""
    placement: list[str] = field(default_factory=list)
    touches: list[str] | None = None
    again: str = ""
    superseded_by: str = ""
    withdrawn: bool = False
    held: bool = False
    outcomes: list[OutcomeShown] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ResourceListed:
    """A resource in a list. `rid` names it on every site; with a `prime` it spans those that hold it."""

    rid: str
    service: str
    type: str
    name: str
    placement: list[str]
    parent: str = ""
    gone: bool = False
    prime: str = ""


@dataclass(frozen=True, kw_only=True)
class SiteOfResource:
    """How a site is with a resource as a whole: `state` is equal, pending, failed, leaving, or dropped: through with
    all but what was dropped there by command. `todo` as above.
    """

    site: str
    state: str
    local_id: str
    why: str = ""
    todo: str = ""


@dataclass(frozen=True, kw_only=True)
class ResourceShown:
    """A resource, as the site `seen_from` knows it. `refers` are rids; operations are in the order that counts."""

    resource: ResourceListed
    seen_from: str
    refers: list[str]
    sites: list[SiteOfResource]
    operations: list[OperationShown]
    conflicts: list[ConflictShown]


@dataclass(frozen=True, kw_only=True)
class Left:
    """What is still to be done at a site until all that is known is done everywhere. `ends`: without a command, once
    what it waits for is there.
    """

    site: str
    operation: str
    state: str
    since: float
    why: str
    todo: str
    ends: bool


def name_of(dot: Dot) -> str:
    """The name of an operation as commands have it: AUTHOR/N."""
    return f"{dot.author}/{dot.n}"


def listed(summary: Summary) -> ResourceListed:
    return ResourceListed(
        rid=summary.rid,
        service=summary.service,
        type=summary.type,
        name=summary.name,
        placement=list(summary.placement),
        parent=summary.parent,
        gone=summary.gone,
        prime=summary.prime,
    )


def resource_shown(book: Book, here: str, peers: Mapping[str, PeerView]) -> ResourceShown:
    """All that is known here."""
    operations = [*book.log.order, *book.log.held]
    return ResourceShown(
        resource=listed(book.summary),
        seen_from=here,
        refers=list(book.summary.refers),
        sites=[site_shown(book, site, peers) for site in book.concerned()],
        operations=[operation_shown(book, op, peers) for op in operations],
        conflicts=list(conflicts_shown(book)),
    )


def operation_shown(book: Book, op: Operation, peers: Mapping[str, PeerView]) -> OperationShown:
    void = None if op.dot in book.log.withdrawn else book.log.superseded.get(op.dot)
    sites = dict.fromkeys((*book.concerned(), *book.outcomes.get(op.dot, {})))
    known = [outcome for site in sites if (outcome := book.outcome(op.dot, site))]
    return OperationShown(
        operation=name_of(op.dot),
        site=op.site,
        kind=op.kind.value,
        at=op.stamp.ms / 1000,
        method=op.request.method if op.request else "",
        target=op.request.target if op.request else "",
        facet=op.facet,
        body=_body(op),
        placement=list(op.placement),
        touches=None if op.touches is None else sorted(op.touches),
        again=name_of(op.again) if op.again else "",
        superseded_by=name_of(void) if void else "",
        withdrawn=op.dot in book.log.withdrawn,
        held=any(op.dot == other.dot for other in book.log.held),
        outcomes=[outcome_shown(outcome, peers) for outcome in known],
    )


def _body(op: Operation) -> str:
    body = op.request.body if op.request else None
    if body is None:
        return ""
    sha256 = hashlib.sha256(body.inline).hexdigest() if body.inline is not None else body.sha256
    return f"{body.size:,} bytes, SHA-256 {sha256}"


def outcome_shown(outcome: Outcome, peers: Mapping[str, PeerView]) -> OutcomeShown:
    """What has come of an operation on a site, and what it waits for."""
    why, todo = _told(outcome, peers)
    waits = outcome.state in WAITING or outcome.code == UNDER_WAY
    return OutcomeShown(
        site=outcome.site,
        state=outcome.state.value,
        since=(outcome.since if waits else outcome.at) or outcome.at,
        status=outcome.status,
        code=outcome.code,
        why=why,
        todo=todo,
        attempts=outcome.attempts,
        local_id=outcome.local_id,
    )


def _told(outcome: Outcome, peers: Mapping[str, PeerView]) -> tuple[str, str]:
    """Why it isn't done, and what to do."""
    names = {"rid": outcome.rid, "op": name_of(outcome.dot), "site": outcome.site}
    if outcome.code == UNDER_WAY:
        return f"the service has accepted it and is still at it: {outcome.why}", _TODO[UNDER_WAY]
    if outcome.state in FINAL:
        return outcome.why, ""
    if outcome.state in FAILED:
        return outcome.why, (_TODO["unclear"] if outcome.state is State.ASKS else _FAILED).format(**names)
    if outcome.version == 0 and outcome.site in peers:
        return _unheard(outcome.site, peers[outcome.site])
    if outcome.version == 0 or not outcome.code or outcome.code == BY_COMMAND:
        return outcome.why or "its turn hasn't come yet", ""
    return outcome.why, _TODO.get(outcome.code, "").format(**names)


def _unheard(site: str, view: PeerView) -> tuple[str, str]:
    if view.state is PeerState.UP and not view.agent_away:
        return f"{site} hasn't reported yet", ""
    how = "its agent doesn't run" if view.agent_away else f"it is {view.state.value} for {view.since:.0f} s"
    return f"{site} hasn't reported yet: {how}", "Nothing, once it can be reached again: cheops sites"


def site_shown(book: Book, site: str, peers: Mapping[str, PeerView]) -> SiteOfResource:
    """How a site is with all that is known of a resource."""
    waits = list(left_at(book, site, peers))
    failed = [each for each in waits if not each.ends]
    dropped = [name_of(op.dot) for op in book.log.effective if _was_dropped(book, op, site)]
    first = next(iter(failed or waits), None)
    state = "failed" if failed else "pending" if waits else "dropped" if dropped else "equal"
    why = f"{first.operation}: {first.why}" if first else f"without {', '.join(dropped)}" if dropped else ""
    return SiteOfResource(
        site=site,
        state=state if site in book.holders else "leaving",
        local_id=book.local_id(site) if book.has(site) or site not in book.holders else "",
        why=why,
        todo=first.todo if first else "",
    )


def _was_dropped(book: Book, op: Operation, site: str) -> bool:
    outcome = book.outcome(op.dot, site)
    return outcome is not None and outcome.state is State.DROPPED


def left(book: Book, here: str, peers: Mapping[str, PeerView]) -> list[Left]:
    """What is left to be done on all sites; nothing if they are equal, as far as is known here. Nobody waits for a site
    that is to hold it no longer and isn't a member any more.
    """
    held = [
        Left(
            site=op.site,
            operation=name_of(op.dot),
            state="held",
            since=op.stamp.ms / 1000,
            why="what it comes after hasn't arrived here yet",
            todo="Nothing, once the sites that know can be reached: cheops sites",
            ends=True,
        )
        for op in book.log.held
    ]
    sites = [site for site in book.concerned() if site in book.holders or site == here or site in peers]
    return [*held, *(each for site in sites for each in left_at(book, site, peers))]


def unheard(vector: Vector, here: str, known: Vector) -> list[Left]:
    """What somebody else knows of, who asks, and this site doesn't yet."""
    return [
        Left(
            site=here,
            operation=name_of(Dot(author, n)),
            state="unknown",
            since=0.0,
            why=f"{here} hasn't heard of it yet",
            todo="",
            ends=True,
        )
        for author, n in known.items()
        if vector.get(author, 0) < n
    ]


def left_at(book: Book, site: str, peers: Mapping[str, PeerView]) -> Iterator[Left]:
    """What is left to be done at one."""
    plan = steps(book.log, book.own(site), site)
    again = {step.operation.dot for step in plan.todo if step.again}
    for op in book.log.order:
        outcome = book.outcome(op.dot, site)
        if outcome is None or op.dot in book.log.withdrawn:
            continue
        repeated = op.dot in again
        if not repeated and _is_through(book, op, outcome):
            continue
        shown = outcome_shown(outcome, peers)
        yield Left(
            site=site,
            operation=name_of(op.dot),
            state="again" if repeated else shown.state,
            since=shown.since,
            why="it is to be executed again, after one that came late" if repeated else shown.why,
            todo=shown.todo,
            ends=outcome.state not in FAILED and not _never(book, site, outcome),
        )


def _is_through(book: Book, op: Operation, outcome: Outcome) -> bool:
    void = op.dot in book.log.superseded
    return outcome.code != UNDER_WAY and (outcome.state in FINAL or (void and outcome.state in FAILED))


def _never(book: Book, site: str, outcome: Outcome) -> bool:
    """Whether it is blocked by something that only a command ends."""
    return outcome.code == BLOCKED and any(other.state in FAILED for other in book.own(site).values())


def conflicts_shown(book: Book) -> Iterator[ConflictShown]:
    """All conflicts of a resource."""
    known = book.log.operations
    for conflict in book.log.conflicts:
        winner, loser = known[conflict.winner], known[conflict.loser]
        yield ConflictShown(
            resource=book.rid,
            winner=name_of(winner.dot),
            loser=name_of(loser.dot),
            fields=["all"] if conflict.fields == "all" else sorted(conflict.fields),
            settled=_is_settled(book, conflict, known),
            winner_site=winner.site,
            loser_site=loser.site,
            winner_kind=winner.kind.value,
            loser_kind=loser.kind.value,
            loser_since=loser.stamp.ms / 1000,
            apply=f"cheops conflict apply {book.rid} {name_of(loser.dot)}",
        )


def _is_settled(book: Book, conflict: Conflict, known: Mapping[Dot, Operation]) -> bool:
    winner, loser = known[conflict.winner], known[conflict.loser]
    return any(
        op.again == loser.dot or (op.knew(winner) and op.knew(loser) and _says_anew(op, loser, conflict))
        for op in book.log.standing
    )


def _says_anew(op: Operation, loser: Operation, conflict: Conflict) -> bool:
    """Whether an operation writes what a conflict was about, or ends it all."""
    if op.kind not in (Kind.REPLACE, Kind.MERGE):
        return op.kind is Kind.DELETE
    if op.facet != loser.facet or op.kind is Kind.REPLACE or op.touches is None:
        return op.facet == loser.facet
    return conflict.fields != "all" and bool(common(op.touches, conflict.fields))
