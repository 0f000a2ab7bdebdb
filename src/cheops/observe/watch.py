"""Looks on as the agent serves requests, and tells observers of each: what it was, who served it, what came of it.

Not promised: anything of a reply's body, which may go on for hours. What Envoy serves alone is never seen here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from cheops.errors import CheopsError
from cheops.intercept.envoy.names import EXECUTED, SERVED_BY
from cheops.model import Reply, Request

Serve = Callable[[Request], Awaitable[Reply]]
NO_PLAN = "none"
LEFT = 499  # what nginx logs of a client that didn't wait
_SERVED_BY, _EXECUTED = SERVED_BY.encode(), EXECUTED.encode()
_OF_ENVOY = {b"no": "refused:unreachable", b"unknown": "refused:broken-off"}
_kind: ContextVar[str] = ContextVar("kind", default=NO_PLAN)  # every exchange has a task of its own


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A request and what came of it.

    `kind` is that of its plan, or "none"; `site` is who served it, or ""; `outcome` is "answered_2xx" and the like,
    "refused:CODE", "failed" (a fault of ours) or "left" (the client did); `seconds` until the reply began.
    """

    service: str
    kind: str
    site: str
    status: int
    outcome: str
    seconds: float


Told = Callable[[Exchange], None]


class Observer(Protocol):
    """Whoever wants to know of exchanges. Raises nothing."""

    def begin(self, request: Request) -> tuple[Request, Told]:
        """The request as it shall go on, and what is told once its reply has begun, or there won't be one."""
        ...


class Watch:
    """Tells the observers of each exchange; `clock` counts seconds, from anywhere."""

    def __init__(self, observers: Sequence[Observer], clock: Callable[[], float]) -> None:
        self._observers, self._clock = tuple(observers), clock

    def planned(self, kind: str) -> None:
        """The exchange of this task has a plan."""
        _kind.set(kind)

    def on(self, serve: Serve) -> Serve:
        """The same as `serve`, looked at."""

        async def watched(request: Request) -> Reply:
            return await self._serve(serve, request)

        return watched

    async def _serve(self, serve: Serve, request: Request) -> Reply:
        began, service, told = self._clock(), request.service, []
        _kind.set(NO_PLAN)
        for observer in self._observers:
            request, tell = observer.begin(request)
            told.append(tell)

        def ends(site: str, status: int, outcome: str) -> None:
            exchange = Exchange(
                service=service,
                kind=_kind.get(),
                site=site,
                status=status,
                outcome=outcome,
                seconds=self._clock() - began,
            )
            for tell in told:
                tell(exchange)

        try:
            reply = await serve(request)
        except BaseException as error:
            ends("", *_came_of(error))
            raise
        headers = dict(reply.headers)
        answered = f"answered_{reply.status // 100}xx"
        ends(
            headers.get(_SERVED_BY, b"").decode("latin1"),
            reply.status,
            _OF_ENVOY.get(headers.get(_EXECUTED, b""), answered),
        )
        return reply


def _came_of(error: BaseException) -> tuple[int, str]:
    """The status that the client gets, and the outcome."""
    match error:
        case CheopsError():
            return error.status, f"refused:{error.code}"
        case asyncio.CancelledError():
            return LEFT, "left"
        case _:
            return CheopsError.status, "failed"
