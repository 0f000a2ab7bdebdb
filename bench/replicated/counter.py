"""A service that keeps nothing but when it was asked for what: whatever is written to it is answered with 201.

GET /seen gives {"METHOD /path": [seconds of the monotonic clock, …]} of all writes, DELETE /seen forgets them. What is
under /slow is answered after 100 ms, the rest at once. A body is read to its end; it needs a Content-Length.
"""

import asyncio
import json
import re
import sys
import time

SLOW_SECONDS = 0.1
seen: dict[str, list[float]] = {}


class Counter(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._head, self._left, self._asked = transport, b"", 0, ""

    def data_received(self, data: bytes) -> None:
        while data:
            if self._asked:
                used = min(self._left, len(data))
                self._left, data = self._left - used, data[used:]
            else:
                data = self._begin(data)
            if self._asked and not self._left:
                asked, self._asked = self._asked, ""
                self._answer(asked)

    def _begin(self, data: bytes) -> bytes:
        """What comes after the head, if that is whole."""
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return b""
        head, rest, self._head = self._head[:end], self._head[end + 4 :], b""
        length = re.search(rb"(?i)\r\ncontent-length:\s*(\d+)", head)
        self._left = int(length[1]) if length else 0
        self._asked = head.partition(b" HTTP/")[0].decode("latin1")
        if re.search(rb"(?i)\r\nexpect:\s*100-continue", head):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self._left and not rest:
            asked, self._asked = self._asked, ""
            self._answer(asked)
        return rest

    def _answer(self, asked: str) -> None:
        method, _, path = asked.partition(" ")
        if path == "/seen":
            found = json.dumps(seen).encode()
            if method == "DELETE":
                seen.clear()
            self._reply(b"200 OK", found)
        elif method in ("GET", "HEAD"):
            there = path == "/ready" or f"PUT {path}" in seen
            self._reply(b"200 OK" if there else b"404 Not Found", b"{}")
        else:
            seen.setdefault(asked, []).append(time.monotonic())
            body = json.dumps({"id": path.rpartition("/")[2]}).encode()
            if path.startswith("/slow"):
                asyncio.get_running_loop().call_later(SLOW_SECONDS, self._reply, b"201 Created", body)
            else:
                self._reply(b"201 Created", body)

    def _reply(self, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % (status, len(body)) + body)


async def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    server = await asyncio.get_running_loop().create_server(Counter, host, int(port), backlog=512)
    await server.serve_forever()


asyncio.run(main())
