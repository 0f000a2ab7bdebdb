"""The agent's door: what Envoy leaves to the agent comes in here, as raw ASGI, and streams both ways.

Envoy says in headers for which service a request is and what its path was, byte for byte. Only Envoy can reach the
door, since its socket belongs to the agent's user alone.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from typing import Any

import structlog

from cheops.applications import Errors
from cheops.errors import CheopsError
from cheops.intercept.envoy.names import DOOR, PATH, SERVICE
from cheops.model import Reply, Request

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Serve = Callable[[Request], Awaitable[Reply]]

_INTERNAL = {SERVICE.encode(), PATH.encode(), DOOR.encode(), b"x-envoy-original-path", b"x-envoy-attempt-count"}
log = structlog.get_logger("door")


class Door:
    """An ASGI application that hands each request to `serve`, and tells errors as `errors` says.

    Both may be replaced between two requests.
    """

    def __init__(self, serve: Serve, errors: Errors | None = None) -> None:
        self.serve, self.errors = serve, errors or Errors()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the door takes HTTP only, not {scope['type']}")
        exchange = asyncio.current_task()
        assert exchange, "ASGI applications run in tasks"
        client = _Client(receive, exchange)
        answered = False
        try:
            reply = await self.serve(read_request(scope, client))
            answered = True
            await _pass_on(reply, send)
        except CheopsError as error:
            log.info("broken off" if answered else "refused", code=error.code, status=error.status, detail=error.detail)
            if not answered:  # else all we can do is end the connection, which the server does
                await _answer(error, self.errors, send)
        except asyncio.CancelledError:
            if not client.left:
                raise
        except Exception:
            log.exception("failed")  # a fault of ours; whoever asked shall not be left without an answer
            if not answered:
                await _answer(
                    CheopsError("the agent met a fault of its own", hint="Its log says more."), self.errors, send
                )
        finally:
            client.stop_watching()


async def _pass_on(reply: Reply, send: Send) -> None:
    async with aclosing(reply.body) as body:
        await send({"type": "http.response.start", "status": reply.status, "headers": list(reply.headers)})
        async for chunk in body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class _Client:
    """The client's side of an exchange: its body, and whether it has left, which ends whatever is done for it."""

    def __init__(self, receive: Receive, exchange: "asyncio.Task[Any]") -> None:
        self._receive, self._exchange = receive, exchange
        self._watcher: asyncio.Task[None] | None = None
        self.left = False

    async def body(self) -> AsyncGenerator[bytes, None]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._leave()
                await asyncio.sleep(0)  # should the exchange itself read here, it ends here
                raise ConnectionResetError("the client left in the middle of its request")
            if message["body"]:
                yield message["body"]
            more = message.get("more_body", False)
        self.watch()

    def watch(self) -> None:
        """From now on, a client that leaves cancels the exchange."""
        self._watcher = asyncio.create_task(self._until_it_leaves())

    async def _until_it_leaves(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self.left = True
        self._exchange.cancel()

    def stop_watching(self) -> None:
        if self._watcher:
            self._watcher.cancel()


def read_request(scope: Message, client: _Client) -> Request:
    """The request as the client wrote it."""
    headers = tuple((name, value) for name, value in scope["headers"])
    stated = dict(headers)
    has_body = b"transfer-encoding" in stated or stated.get(b"content-length", b"0") != b"0"
    if not has_body:
        client.watch()
    return Request(
        service=stated[SERVICE.encode()].decode(),
        method=scope["method"],
        target=stated.get(
            PATH.encode(), scope["raw_path"] + (b"?" if scope["query_string"] else b"") + scope["query_string"]
        ),
        headers=tuple((name, value) for name, value in headers if name not in _INTERNAL),
        body=client.body() if has_body else None,
    )


async def _answer(error: CheopsError, errors: Errors, send: Send) -> None:
    body = errors.body(error.problem())
    headers = [(b"content-type", errors.media_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
