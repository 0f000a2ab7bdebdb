"""A service as sites know them: a REST application that keeps documents, and whose owner can make it fail.

POST to a collection makes a document, with an id of the service's own if the client gives none; PUT makes or replaces
one; PATCH merges (RFC 7396); DELETE removes; GET reads one, or lists. Bytes below a document (PUT /notes/1/file) are
kept as they come.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from cheops.model import Headers, Reply, Request

_JSON = (b"content-type", b"application/json")


class BlackBox:
    """What stands behind the front of a service on a site; `ids` makes its ids.

    `wants`: a credential that it asks for; `before` and `after` may fail or answer in its place, before or after it has
    executed a request.
    """

    def __init__(self, site: str, ids: Callable[[], str]) -> None:
        self.site, self._ids = site, ids
        self.documents: dict[str, dict[str, Any]] = {}
        self.files: dict[str, str] = {}
        self.contents: dict[str, bytes] = {}
        self.executed: list[str] = []
        self.requests: list[Request] = []
        self.wants: bytes | None = None
        self.down = self.mute = False
        self.before: Callable[[Request], Reply | None] = lambda request: None
        self.after: Callable[[Request], Reply | None] = lambda request: None

    async def __call__(self, request: Request) -> Reply:
        await asyncio.sleep(0.002)
        if self.down:
            return reply(503, {"detail": "connection refused"}, (b"cheops-executed", b"no"))
        if self.mute:
            await asyncio.sleep(1_000_000)
        content = b"".join([chunk async for chunk in request.body]) if request.body else b""
        self.requests.append(request)
        if self.wants is not None and self.wants not in request.values(b"authorization"):
            return reply(401, {"error": "who are you?"})
        if instead := self.before(request):
            return instead
        answered = self._execute(request, content)
        if request.method != "GET":
            self.executed.append(f"{request.method} {request.target.decode()}")
        return self.after(request) or answered

    def forget(self, path: str) -> None:
        """A document isn't there any more, with all that is below it."""
        kept: list[dict[str, Any]] = [self.documents, self.files, self.contents]
        for things in kept:
            for key in [key for key in things if key == path or key.startswith(path + "/")]:
                del things[key]

    def _execute(self, request: Request, content: bytes) -> Reply:
        path = request.target.decode().partition("?")[0]
        match request.method:
            case "POST" if path in self.documents:
                self.documents[path]["count"] = self.documents[path].get("count", 0) + 1
                return reply(200, self.documents[path])
            case "POST":
                local = json.loads(content).get("id") or self._ids()
                self.documents[f"{path}/{local}"] = {**json.loads(content), "id": local, "made_by": self.site}
                return reply(201, self.documents[f"{path}/{local}"], (b"location", f"{path}/{local}".encode()))
            case "PUT" if (above := path.rpartition("/")[0]) in self.documents:
                self.files[path] = hashlib.sha256(content).hexdigest()
                self.contents[path] = content
                return reply(204, None) if above else reply(200, {})
            case "PUT":
                there = path in self.documents
                self.documents[path] = {**json.loads(content), "id": path.rpartition("/")[2]}
                return reply(200 if there else 201, self.documents[path])
            case "GET" if path in self.documents:
                return reply(200, self.documents[path])
            case "GET" if path in self.contents:
                return Reply(status=200, headers=(), body=once(self.contents[path]))
            case "GET" if any(key.startswith(path + "/") for key in self.documents):
                return reply(200, [doc for key, doc in self.documents.items() if key.rpartition("/")[0] == path])
            case "PATCH" if path in self.documents:
                _merge(self.documents[path], json.loads(content))
                return reply(200, self.documents[path])
            case "DELETE" if path in self.documents:
                self.forget(path)
                return reply(204, None)
        return (
            reply(404, {"error": "no such thing"}) if request.method != "GET" or path.count("/") > 1 else reply(200, [])
        )


def _merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        else:
            target[name] = value


def reply(status: int, document: Any, *headers: tuple[bytes, bytes]) -> Reply:
    content = b"" if document is None else json.dumps(document).encode()
    length = (b"content-length", str(len(content)).encode())
    return Reply(status=status, headers=(_JSON, length, *headers), body=once(content))


async def once(content: bytes) -> AsyncGenerator[bytes, None]:
    if content:
        yield content


def request(service: str, method: str, target: str, document: Any = None, *headers: tuple[str, str]) -> Request:
    """A client's request; bytes go as they are, anything else as JSON."""
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    pairs: Headers = tuple((name.encode(), value.encode()) for name, value in headers)
    if document is None:
        return Request(service=service, method=method, target=target.encode(), headers=pairs)
    kind = b"application/octet-stream" if isinstance(document, bytes) else b"application/json"
    pairs = (*pairs, (b"content-type", kind), (b"content-length", str(len(content)).encode()))
    return Request(service=service, method=method, target=target.encode(), headers=pairs, body=once(content))
