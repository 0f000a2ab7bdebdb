"""Calls an ASGI application without a server: one request, the whole answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

Application = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    app: Application, target: str, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Answer:
    """What `app` answers to a request; `target` is escaped already, names of headers are in lower case."""
    return asyncio.run(answered(app, target, method, body, headers))


async def answered(
    app: Application, target: str, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Answer:
    """The same, inside of a loop that runs."""
    stated = {"host": "test", **({"content-type": "application/json"} if body else {}), **(headers or {})}
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in stated.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    return await _exchange(app, scope, body)


async def _exchange(app: Application, scope: dict[str, Any], body: bytes) -> Answer:
    heard: list[MutableMapping[str, Any]] = []

    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.Event().wait()  # the client stays until it is answered
        return parts.pop()

    async def send(message: MutableMapping[str, Any]) -> None:
        heard.append(message)

    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in heard[0]["headers"]}
    body = b"".join(message.get("body", b"") for message in heard[1:])
    return Answer(status=heard[0]["status"], headers=headers, body=body)
