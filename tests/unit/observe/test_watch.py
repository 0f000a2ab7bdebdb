"""What observers are told of an exchange."""

import asyncio
import itertools
from collections.abc import Awaitable
from dataclasses import dataclass, field

import pytest

from cheops.errors import BadScope, SiteUnreachable
from cheops.model import Reply, Request
from cheops.observe.watch import Exchange, Told, Watch
from values import at_once, headers_of, reply, request


@dataclass
class Notes:
    """An observer that marks the request, and notes what it is told."""

    mark: str = "first"
    told: list[Exchange] = field(default_factory=list)

    def begin(self, request: Request) -> tuple[Request, Told]:
        return request.with_header(b"x-mark", self.mark.encode()), self.told.append


def watched(outcome: Reply | BaseException, kind: str | None = "sharing") -> Exchange:
    """What is told of one request that a pipeline answers so, having planned it first."""
    notes = Notes()
    seconds = itertools.count()  # one passes between two looks at the clock
    watch = Watch([notes], lambda: next(seconds))

    async def serve(_: Request) -> Reply:
        if kind:
            watch.planned(kind)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    serving = watch.on(serve)
    if isinstance(outcome, BaseException):
        with pytest.raises(type(outcome)) as raised:
            at_once(serving(request("image")))
        assert raised.value is outcome
    else:
        assert at_once(serving(request("image"))) is outcome
    (told,) = notes.told
    return told


def served_by(status: int, **headers: str) -> Reply:
    return reply(status, headers=headers_of((name.replace("_", "-"), value) for name, value in headers.items()))


@pytest.mark.parametrize(
    ("answer", "site", "outcome"),
    [
        (served_by(201, cheops_served_by="Site2"), "Site2", "answered_2xx"),
        (served_by(404, cheops_served_by="Site1"), "Site1", "answered_4xx"),
        (served_by(200), "", "answered_2xx"),
        (served_by(503, cheops_executed="no"), "", "refused:unreachable"),
        (served_by(503, cheops_executed="unknown"), "", "refused:broken-off"),
    ],
)
def test_who_served_and_how(answer: Reply, site: str, outcome: str) -> None:
    told = watched(answer)
    assert (told.service, told.kind, told.site, told.status, told.outcome, told.seconds) == (
        "image",
        "sharing",
        site,
        answer.status,
        outcome,
        1.0,
    )


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (BadScope("column 1"), 400, "refused:bad-scope"),
        (SiteUnreachable("Site2", site="Site2"), 503, "refused:site-unreachable"),
        (ZeroDivisionError(), 500, "failed"),
        (asyncio.CancelledError(), 499, "left"),
    ],
)
def test_why_there_was_no_reply(error: BaseException, status: int, outcome: str) -> None:
    told = watched(error, kind=None)
    assert (told.kind, told.site, told.status, told.outcome) == ("none", "", status, outcome)


def test_the_plan_of_a_request_says_nothing_of_the_next() -> None:
    assert watched(served_by(200), "otherwise").kind == "otherwise"
    assert watched(BadScope("column 1"), None).kind == "none"


def _task(exchange: Awaitable[Reply]) -> "asyncio.Future[Reply]":
    return asyncio.ensure_future(exchange)


def test_requests_at_the_same_time_keep_their_kinds_apart() -> None:
    notes = Notes()
    watch = Watch([notes], lambda: 0.0)

    async def both() -> None:
        met = asyncio.Event()

        async def serve(request: Request) -> Reply:
            watch.planned(request.service)
            met.set() if request.service == "around" else await met.wait()
            return reply()

        serving = watch.on(serve)
        await asyncio.gather(*(_task(serving(request(kind))) for kind in ("sharing", "around")))

    asyncio.run(both())
    assert sorted(told.kind for told in notes.told) == ["around", "sharing"]
    assert all(told.kind == told.service for told in notes.told)


def test_each_observer_gets_the_request_of_the_one_before() -> None:
    first, second = Notes("first"), Notes("second")
    seen: list[Request] = []

    async def serve(request: Request) -> Reply:
        seen.append(request)
        return reply()

    at_once(Watch([first, second], lambda: 0.0).on(serve)(request("image")))
    assert seen[0].values(b"x-mark") == [b"second"]
    assert first.told == second.told
