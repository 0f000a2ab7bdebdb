"""The mesh API: what agents of other sites may ask this one. Envoy has checked their certificates, and says whose."""

import re
from collections.abc import AsyncGenerator, Awaitable
from typing import Annotated, Protocol

from fastapi import APIRouter, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from cheops import __version__
from cheops.errors import CheopsError
from cheops.intercept.envoy.names import PEER, PEER_ISSUED
from cheops.ports import BLOBS, DISTANCES, HEARTBEAT, HOLDERS, LOG, KeptScopes


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

    async def give(self, sender: str, after: int, store: str, limit: int) -> bytes:
        """A page of what the peer is to be told."""
        ...

    async def holders_told(self, wire: bytes) -> bytes:
        """Who holds what a request concerns."""
        ...

    def body(self, sha256: str, offset: int) -> AsyncGenerator[bytes, None] | None:
        """The bytes of a body from an offset on; None if it isn't kept here."""
        ...


def mesh_api(kept: KeptScopes, membership: Membership, logs: Logs | None = None) -> FastAPI:
    """The ASGI application of the mesh API."""
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

    if logs:
        app.include_router(_log_routes(logs))
    return app


def _log_routes(logs: Logs) -> APIRouter:
    router = APIRouter()

    @router.post(LOG)
    async def push(request: Request, certificate: Annotated[str, Header(alias=PEER)]) -> Response:
        """Items of the log of the site whose certificate this is."""
        return await _told(logs.receive(await request.body(), certificate.rpartition("/")[2]))

    @router.get(LOG)
    async def pull(
        certificate: Annotated[str, Header(alias=PEER)], after: int, store: str, limit: int = 500
    ) -> Response:
        """What this site has to tell, after a position."""
        return await _told(logs.give(certificate.rpartition("/")[2], after, store, min(limit, 2000)))

    @router.post(HOLDERS)
    async def holders(request: Request) -> Response:
        """Who holds what a request concerns."""
        return await _told(logs.holders_told(await request.body()))

    @router.get(f"{BLOBS}/{{sha256}}")
    async def body(sha256: str, range_: Annotated[str, Header(alias="range")] = "bytes=0-") -> Response:
        """The body of an operation, from an offset on (RFC 9110, 14.2)."""
        begins = re.fullmatch(r"bytes=(\d{1,15})-", range_)
        content = logs.body(sha256, int(begins[1])) if begins else None
        if content is None:
            raise HTTPException(404 if begins else 416, "no such body is kept here")
        return StreamingResponse(content, status_code=206, media_type="application/octet-stream")

    return router


async def _told(work: Awaitable[bytes]) -> Response:
    try:
        return Response(await work, media_type="application/octet-stream")
    except CheopsError as error:
        return Response(error.body(), status_code=error.status, media_type="application/problem+json")
