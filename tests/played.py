"""A small HTTP server that plays an admin API, or a front, for the commands."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answers = dict[str, tuple[int, Any]]
"""By "METHOD /path": the status, and a document, or bytes as they are."""


@dataclass
class Playing:
    """The server at `address`, and what it was asked: (method and path, headers in lower case, body)."""

    address: str
    answers: Answers
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]


@contextmanager
def playing(answers: Answers) -> Iterator[Playing]:
    """Serves while the context is open; what isn't among the answers is a 404 as FastAPI writes it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    host, port = server.server_address[:2]
    server.played = Playing(address=f"{host!s}:{port}", answers=answers)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.played  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        played: Playing = self.server.played  # type: ignore[attr-defined]
        asked = f"{self.command} {self.path}"
        headers = {name.lower(): value for name, value in self.headers.items()}
        played.asked.append((asked, headers, self._body(headers)))
        status, said = played.answers.get(asked, (404, {"detail": "Not Found"}))
        content = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(headers.get("content-length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def log_message(self, *_: Any) -> None:
        """Says nothing."""
