"""HTTP servers of the tests: they listen on a port of their own until a block ends."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came: the target with its query, headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def __str__(self) -> str:
        return f"{self.method} {self.target.partition('?')[0]}"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """document: sent as JSON; a str is sent as it is."""

    status: int = 200
    document: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        if self.document is None:
            return b""
        return (self.document if isinstance(self.document, str) else json.dumps(self.document)).encode()


@dataclass(kw_only=True)
class Server:
    """answer: what it says to whom; asked: every request so far."""

    answer: Callable[["Server", Asked], Reply]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    handler = type("_Handler", (_Answering,), {"served": server})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        server.url = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Server

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(method=self.command, target=self.path, headers=headers, body=self._body())
        self.served.asked.append(asked)
        reply = self.served.answer(self.served, asked)
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    do_GET = do_POST = do_PUT = _answer  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, format: str, *args: object) -> None:
        pass
