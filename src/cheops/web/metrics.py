"""What Prometheus scrapes, on the admin API: the agent's own metrics, and Envoy's statistics as Envoy writes them."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from cheops.errors import CheopsError
from cheops.model import Reply

Text = Callable[[str], tuple[bytes, str]]
"""The agent's metrics and their media type, given what the scraper accepts."""
Statistics = Callable[[str], Awaitable[Reply]]
"""Envoy's statistics, given the query. Raises CheopsError."""


async def _nothing() -> None:
    """There is nothing to look at before a scrape."""


def metrics_routes(text: Text, statistics: Statistics, before: Callable[[], Awaitable[None]] = _nothing) -> APIRouter:
    """The routes of `/metrics` and `/metrics/envoy`; `before` is awaited before the agent's own are told."""
    router = APIRouter()

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """What the agent has served, and how the peers are; what Envoy serves alone is at /metrics/envoy."""
        await before()
        body, media_type = text(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": media_type})

    @router.get("/metrics/envoy", response_class=PlainTextResponse)
    async def envoy(request: Request) -> Response:
        """Envoy's statistics; the query is Envoy's own, such as `usedonly` or `filter=REGEX`."""
        try:
            reply = await statistics(request.url.query)
        except CheopsError as error:
            return Response(error.body(), 503, media_type="application/problem+json")
        headers = {name.decode(): value.decode() for name, value in reply.headers}
        return StreamingResponse(reply.body, reply.status, headers=headers)

    return router
