"""The mesh API: what agents of other sites may ask this one. Envoy has checked their certificates, and says whose."""

import re
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Annotated, Protocol

from fastapi import APIRouter, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cheops import __version__
from cheops.errors import CheopsError
from cheops.intercept.envoy.names import PEER, PEER_ISSUED
from cheops.ports import BLOBS, COMMAND, CONTENT, DISTANCES, HEARTBEAT, HOLDERS, LOG, Blobs, KeptScopes
from cheops.record.operation import Dot


class Membership(Protocol):
    """Whoever answers heartbeats."""

    def receive(self, wire: bytes, sender: str, generation: int) -> bytes:
        """The reply. Raises BadHeartbeat, NotAMember."""
        ...

    def distances_told(self) -> bytes:
        """How far the sites are from this one."""
        ...


class Logs(Protocol):
    """Whoever exchanges logs with the peers."""

    async def receive(self, wire: bytes, sender: str) -> bytes:
        """The answer to a push. Raises BadMessage, StoreFailed."""
        ...

    async def give(self, sender: str, after: int, of: str, store: str, limit: int) -> bytes:
        """A page of what the peer is to be told."""
        ...

    def content(self, rid: str, dot: Dot) -> AsyncGenerator[bytes, None]:
        """What the service here has where an operation has put a body. Raises CheopsError."""
        ...

    async def holders_told(self, wire: bytes) -> bytes:
        """Who holds what a request concerns."""
        ...

    async def commanded(self, wire: bytes) -> bytes:
        """What comes of a command of another site's operator. Raises BadMessage."""
        ...


def mesh_api(kept: KeptScopes, membership: Membership, blobs: Blobs | None = None, logs: Logs | None = None) -> ASGIApp:
    """The ASGI application of the mesh API."""
    app = _seldom(kept, membership, blobs, logs)
    return _PushesFirst(logs, app) if logs else app


class _PushesFirst:
    """Takes pushes itself: they come with every operation and outcome, and the way through FastAPI costs as much again
    as what is done with one.
    """

    def __init__(self, logs: Logs, rest: ASGIApp) -> None:
        self._logs, self._rest = logs, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != LOG or scope["method"] != "POST":
            return await self._rest(scope, receive, send)
        request = Request(scope, receive)
        certificate = request.headers.get(PEER)
        if certificate is None:
            return await Response(f"{PEER} is missing", status_code=400)(scope, receive, send)
        answer = await _told(self._logs.receive(await request.body(), certificate.rpartition("/")[2]))
        return await answer(scope, receive, send)


def _seldom(kept: KeptScopes, membership: Membership, blobs: Blobs | None, logs: Logs | None) -> FastAPI:
    app = FastAPI(title="Cheops mesh API", version=__version__, docs_url=None, redoc_url=None)

    @app.get("/kept/{uuid}", response_class=PlainTextResponse)
    async def recall(uuid: str) -> str:
        """The scope that is kept under a request id."""
        text = kept.recall(uuid)
        if text is None:
            raise HTTPException(404, "no scope is kept under this id")
        return text

    @app.post(HEARTBEAT)
    async def beat(
        request: Request,
        certificate: Annotated[str, Header(alias=PEER)],
        issued: Annotated[int, Header(alias=PEER_ISSUED)],
    ) -> Response:
        """A heartbeat of the site whose certificate this is."""
        wire = await request.body()
        try:
            reply = membership.receive(wire, certificate.rpartition("/")[2], issued)
        except CheopsError as error:
            return Response(error.body(), status_code=error.status, media_type="application/problem+json")
        return Response(reply, media_type="application/json")

    @app.get(DISTANCES)
    async def distances() -> Response:
        """How far the sites are that are up, as this one has measured: {site: [us, spread in us, age in s]}."""
        return Response(membership.distances_told(), media_type="application/json")

    @app.get(BLOBS + "{sha256}")
    async def blob(sha256: str, wanted: Annotated[str, Header(alias="range")] = "") -> Response:
        """A large body, from any byte on; of what `Range` may say, `bytes=N-` alone is heeded (RFC 9110, 14.2)."""
        size = blobs.size(sha256) if blobs else None
        if blobs is None or size is None:
            raise HTTPException(404, "no body with this SHA-256 is kept")
        asked = re.fullmatch(r"bytes=([0-9]{1,18})-", wanted)
        begin = int(asked[1]) if asked else 0
        if asked and begin >= size:
            raise HTTPException(416, f"the body has {size} bytes", {"content-range": f"bytes */{size}"})
        headers = {"content-length": str(size - begin), "accept-ranges": "bytes"}
        if asked:
            headers["content-range"] = f"bytes {begin}-{size - 1}/{size}"
        return _Streamed(blobs.read(sha256, begin), 206 if asked else 200, headers)

    if logs:
        app.include_router(_log_routes(logs))
    return app


def _log_routes(logs: Logs) -> APIRouter:
    router = APIRouter()

    @router.get(LOG)
    async def pull(
        certificate: Annotated[str, Header(alias=PEER)], after: int, of: str, store: str, limit: int = 500
    ) -> Response:
        """What this site has to tell, after a position."""
        return await _told(logs.give(certificate.rpartition("/")[2], after, of, store, min(limit, 2000)))

    @router.get(CONTENT)
    async def content(rid: str, author: str, n: int) -> Response:
        """What the service here has where an operation has put a body."""
        body = logs.content(rid, Dot(author, n))
        try:
            first = await anext(body, b"")
        except CheopsError as error:
            return Response(error.body(), status_code=error.status, media_type="application/problem+json")
        return _Streamed(_after(first, body), 200, {})

    @router.post(HOLDERS)
    async def holders(request: Request) -> Response:
        """Who holds what a request concerns."""
        return await _told(logs.holders_told(await request.body()))

    @router.post(COMMAND)
    async def command(request: Request) -> Response:
        """What an operator at the site whose certificate this is wants done here."""
        return await _told(logs.commanded(await request.body()))

    return router


async def _told(work: Awaitable[bytes]) -> Response:
    try:
        return Response(await work, media_type="application/octet-stream")
    except CheopsError as error:
        return Response(error.body(), status_code=error.status, media_type="application/problem+json")


async def _after(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk


class _Streamed(StreamingResponse):
    """Closes its body also when the peer has left in the middle."""

    def __init__(self, body: AsyncGenerator[bytes, None], status: int, headers: dict[str, str]) -> None:
        super().__init__(body, status, headers, "application/octet-stream")
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._body):
            await super().__call__(scope, receive, send)
