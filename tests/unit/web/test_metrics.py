"""The routes of /metrics: the agent's own, and Envoy's as Envoy writes them."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from aiohttp import web
from fastapi import FastAPI

from asgi import Answer, call
from cheops.errors import DataPlaneFailed
from cheops.intercept.envoy.statistics import statistics
from cheops.model import Reply
from cheops.web.metrics import metrics_routes
from values import chunks, reply, whole


async def no_statistics(query: str) -> Reply:
    raise DataPlaneFailed(f"nobody answers to '{query}'")


def answer(target: str, statistics: Callable[[str], Awaitable[Reply]] = no_statistics) -> Answer:
    app = FastAPI()
    app.include_router(metrics_routes(lambda accept: (b"up 1\n", "text/plain; version=1"), statistics))
    return call(app, target)


def test_the_agent_s_own() -> None:
    said = answer("/metrics")
    assert (said.status, said.body, said.headers["content-type"]) == (200, b"up 1\n", "text/plain; version=1")


def test_envoy_s_as_they_come() -> None:
    asked: list[str] = []

    async def two_parts(query: str) -> Reply:
        asked.append(query)
        return reply(200, b"a 1\n", b"b 2\n", headers=((b"content-type", b"text/plain; charset=UTF-8"),))

    said = answer("/metrics/envoy?usedonly&filter=%5Ehttp", two_parts)
    assert (said.status, said.body, said.headers["content-type"]) == (200, b"a 1\nb 2\n", "text/plain; charset=UTF-8")
    assert asked == ["usedonly&filter=%5Ehttp"]


def test_an_envoy_that_doesn_t_answer_is_told() -> None:
    said = answer("/metrics/envoy")
    assert (said.status, said.json["code"], said.headers["content-type"]) == (
        503,
        "data-plane",
        "application/problem+json",
    )


def asked_at_a_socket(folder: Path, query: str, status: int = 200) -> tuple[int, bytes, str]:
    """What is had of an admin interface that tells how it was asked, in two parts."""

    async def admin(request: web.Request) -> web.StreamResponse:
        told = web.StreamResponse(status=status, headers={"content-type": "text/plain"})
        await told.prepare(request)
        async for part in chunks(b"asked ", request.raw_path.encode()):
            await told.write(part)
        return told

    async def exchange() -> tuple[int, bytes, str]:
        app = web.Application()
        app.router.add_get("/stats/prometheus", admin)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(folder / "envoy.sock")).start()
        try:
            had = await statistics(folder / "envoy.sock", query)
            return had.status, await whole(had.body), dict(had.headers)[b"content-type"].decode()
        finally:
            await runner.cleanup()

    return asyncio.run(exchange())


def test_the_admin_socket_is_asked_with_the_query_byte_for_byte(tmp_path: Path) -> None:
    query = "usedonly&filter=%5Ehttp%5C."
    assert asked_at_a_socket(tmp_path, query) == (200, f"asked /stats/prometheus?{query}".encode(), "text/plain")


def test_what_envoy_refuses_is_passed_on(tmp_path: Path) -> None:
    assert asked_at_a_socket(tmp_path, "filter=(", 400)[0] == 400


def test_no_socket_is_no_envoy(tmp_path: Path) -> None:
    assert answer("/metrics/envoy", partial(statistics, tmp_path / "envoy.sock")).status == 503
