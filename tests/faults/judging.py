"""What must be true at the end. Pure: of what clients have heard, and what sites and services say, it tells what is
wrong, in sentences that say where to begin.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from faults.history import Asked
from faults.looking import Looked, Shown
from faults.settling import mark_of

OWN = ("id", "made_by")  # what a site sets itself
ONCE = ("POST", "action")  # kinds of requests that nothing may do twice


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that there is to judge."""

    history: Sequence[Asked]
    looked: Looked

    @cached_property
    def asked(self) -> dict[str, Asked]:
        return {asked.mark: asked for asked in self.history}

    @cached_property
    def done(self) -> dict[str, Counter[str]]:
        """By site, how often each mark was executed."""
        return {site: Counter(done.mark for done in record) for site, record in self.looked.record.items()}

    @cached_property
    def operations(self) -> dict[str, list[tuple[str, str, Any]]]:
        """By mark: rid, site that knows it, operation as it is shown there."""
        found: dict[str, list[tuple[str, str, Any]]] = {}
        for rid, known in self.looked.shown.items():
            for site, shown in known.items():
                for operation in shown["operations"]:
                    found.setdefault(mark_of(operation), []).append((rid, site, operation))
        return found

    def known(self) -> Iterator[tuple[str, str, Shown]]:
        """Each resource at each site that knows it."""
        for rid, known in self.looked.shown.items():
            for site, shown in known.items():
                yield rid, site, shown


def holders(known: Mapping[str, Shown]) -> tuple[str, ...]:
    """As the one says that knows most; nobody holds what was never made, since its creation was withdrawn."""
    most = max(known.values(), key=lambda shown: len(shown["operations"]), default=None)
    return tuple(most["resource"]["placement"]) if most and in_force(most) else ()


def in_force(shown: Shown) -> list[Any]:
    return [op for op in shown["operations"] if not (op["superseded_by"] or op["withdrawn"] or op["held"])]


def wrongs(case: Case) -> list[str]:
    """Everything that is wrong."""
    return [wrong for each in (alike, as_the_log_says, nothing_else, explained) for wrong in each(case)]


def alike(case: Case) -> Iterator[str]:
    """Every holder knows the same log, and is through with it."""
    for rid, known in case.looked.shown.items():
        logs = {site: [op["operation"] for op in in_force(shown)] for site, shown in known.items()}
        if missing := set(holders(known)) - set(known):
            yield f"{rid} isn't known at {', '.join(sorted(missing))}, which should hold it"
        if len({tuple(log) for log in logs.values()}) > 1:
            yield f"{rid} has different logs: {logs}"
        for site, shown in known.items():
            for state in shown["sites"]:
                if state["state"] != ("equal" if holders(known) else "leaving"):
                    yield f"{rid} at {state['site']}, as {site} knows: {state['state']}: {state['why']}"


def as_the_log_says(case: Case) -> Iterator[str]:
    """Every holder's service has what the log makes, and has done each action once."""
    for rid, site, shown in case.known():
        operations, local = in_force(shown), local_id(shown, site)
        there = case.looked.notes[site].get(local)
        own = {key: value for key, value in there.items() if key not in OWN} if there is not None else None
        if own != (meant := document(case, operations)):
            yield f"{rid} ({local}) at {site} is {own}, and the log says {meant}"
        for op in operations:
            if op["kind"] == "action" and (mark := mark_of(op)) and (times := case.done[site][mark]) != 1:
                yield f"{rid} at {site}: action {op['operation']} ({mark}) was done {times} times"


def local_id(shown: Shown, site: str) -> str:
    return next((str(state["local_id"]) for state in shown["sites"] if state["site"] == site), "")


def document(case: Case, operations: Sequence[Any]) -> dict[str, Any] | None:
    """What these make, one after the other. Requests that are forgotten are overridden by those after them."""
    made: dict[str, Any] | None = None
    for op in operations:
        asked = case.asked.get(mark_of(op))
        said = asked.keeps if asked else {}
        match op["kind"]:
            case "create" | "replace":
                made = said
            case "merge":
                made = (made or {}) | said
            case "delete":
                made = None
    return made


def nothing_else(case: Case) -> Iterator[str]:
    """No service has or has done what isn't of a resource that it holds, and none has done twice what can't be."""
    for site, notes in case.looked.notes.items():
        local = {local_id(known[site], site) for known in case.looked.shown.values() if site in known}
        for name, note in notes.items():
            if name not in local:
                yield f"{site} has {name}, of which nothing is known: {note}"
        for mark, times in case.done[site].items():
            asked = case.asked.get(mark)
            if asked is None:
                yield f"{site} has done {mark}, which nobody has asked for"
            elif times > 1 and asked.kind in ONCE:
                yield f"{site} has done {times} times: {asked}"
            if asked and asked.holders and site not in asked.holders:
                yield f"{site} has done what is for {' and '.join(asked.holders)}: {asked}"


def explained(case: Case) -> Iterator[str]:
    """What a client heard is true."""
    for asked in case.history:
        known = case.operations.get(asked.mark, [])
        if asked.is_denied:
            yield from _denied(case, asked, known)
        if asked.is_acknowledged:
            yield from _acknowledged(case, asked, known)
        standing = {(rid, op["operation"]) for rid, _, op in known if not op["withdrawn"]}
        if len(standing) > 1 and asked.kind in ONCE:
            yield f"{asked} is in the log as {standing}"


def _denied(case: Case, asked: Asked, known: Sequence[tuple[str, str, Any]]) -> Iterator[str]:
    for site, done in case.done.items():
        if done[asked.mark]:
            yield f"{site} has done what was denied: {asked}"
    for rid, site, op in known:
        if not op["withdrawn"]:
            yield f"{asked} was denied, and {op['operation']} of {rid} is in the log of {site}"


def _acknowledged(case: Case, asked: Asked, known: Sequence[tuple[str, str, Any]]) -> Iterator[str]:
    if not asked.rid:
        yield f"{asked} was acknowledged, and isn't known to be of a resource"
        return
    shown = case.looked.shown.get(asked.rid, {})
    at = {site for _, site, op in known if not op["withdrawn"]}
    for site in holders(shown):
        if site not in at and not _may_be_forgotten(shown.get(site)):
            yield f"{asked} was acknowledged, and is lost at {site}"
    if not shown:
        yield f"{asked} was acknowledged, and nobody knows its resource"
    for site, word in asked.outcomes.items():
        if word.startswith("2") and site in case.done and not case.done[site][asked.mark]:
            yield f"{asked} is said to be done at {site}, whose service hasn't done it"


def _may_be_forgotten(shown: Shown | None) -> bool:
    """Whether a holder keeps the bare name of some operation, whose request is forgotten."""
    return shown is not None and any(not op["target"] and op["kind"] != "place" for op in shown["operations"])
