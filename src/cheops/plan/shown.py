"""A plan in plain words and as JSON: what would be sent where, what can't be reached, and what a loss would mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cheops.applications.credentials import SECRET
from cheops.model import PeerState, Request, View
from cheops.plan.steps import Each, Forward, Plan

_LOST = {
    "replicas": "A site that is lost executes it once it is back; Cheops-Outcome says 'pending' for it.",
    "cross": "Nothing is sent if a site can't be reached. If one is lost before it has made its part, the others delete"
    " theirs again, and the answer is 503.",
    "whole": "A site that is lost changes its part once it is back; Cheops-Outcome says 'pending' for it.",
    "each": "What a site that is lost holds is missing in the list, and Cheops-Outcome says so.",
    "one": "If {sites} is lost before it has the request, the answer is 503 and nothing was executed. If it is lost "
    "later, the answer is 503 and says that it may have been executed.",
    "several": "If a site is lost before it can have executed the request, the next one is asked. If it is lost later, "
    "a read goes on to the next; a write is answered 504, and nobody else is asked.",
}


class Sent(NamedTuple):
    """What one site would be asked, with this body; None: with the one that comes."""

    site: str
    request: Request
    body: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Writes:
    """A write that goes to several sites: of copies ("replication") or of the parts of one resource ("cross")."""

    collaboration: str
    sent: Sequence[Sent]
    makes: bool = False


def show_each(service: str, writes: Writes, view: View) -> dict[str, Any]:
    """What each site would be asked."""
    states = {site: _state(site, view) for site, _, _ in writes.sent}
    lost = "replicas" if writes.collaboration == "replication" else "cross" if writes.makes else "whole"
    return {
        "service": service,
        "at": view.site,
        "collaboration": writes.collaboration,
        "steps": [
            {"site": site, "state": states[site], "request": _request(request, body)}
            for site, request, body in writes.sent
        ],
        "unreachable": [site for site, state in states.items() if state == PeerState.DOWN.value],
        "around": [],
        "if_lost": _LOST[lost],
    }


def show(plan: Plan, requests: Sequence[Request], view: View) -> dict[str, Any]:
    """The plan as a JSON document. `requests` are those of the plan's forwards, in their order."""
    sites = [forward.site for forward in plan.forwards]
    states = {site: _state(site, view) for site in sites}
    several = "each" if isinstance(plan.step, Each) else "several"
    lost = _LOST[several if not isinstance(plan.step, Forward) and sites[1:] else "one"]
    return {
        "service": plan.forwards[0].service,
        "at": view.site,
        "collaboration": plan.kind,
        "steps": [
            {"site": site, "state": states[site], "request": _request(request)}
            for site, request in zip(sites, requests, strict=True)
        ],
        "unreachable": [site for site in sites if states[site] == PeerState.DOWN.value],
        "around": [
            {"site": near.site, "ms": round(near.round_trip.us / 1000, 3), "age": round(near.round_trip.age, 1)}
            for near in plan.near
        ],
        "if_lost": lost.format(sites=sites[0]),
    }


def _state(site: str, view: View) -> str:
    if site == view.site:
        return "here"
    return view.peers[site].state.value if site in view.peers else PeerState.SUSPECT.value


def _request(request: Request, body: bytes | None = None) -> dict[str, Any]:
    """A request in JSON; a body that is known is shown as it is."""
    known = None if body is None else body.decode("utf-8", "replace")
    return {
        "method": request.method,
        "target": request.target.decode("utf-8", "replace"),
        "headers": [[name.decode(), _shown(name, value)] for name, value in request.headers],
        "body": "as it comes" if known is None and request.body else known,
    }


def _shown(name: bytes, value: bytes) -> str:
    """A header's value; a credential isn't for screens."""
    return "…" if SECRET.search(name) else value.decode("utf-8", "replace")
