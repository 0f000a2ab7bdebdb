"""HTTP by hand: bytes out, bytes in, so that no library mends what a test is about."""

import socket
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A reply as it stood on the wire; names of headers in lower case, in their order."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    interim: list[int]

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


class Wire:
    """One connection."""

    def __init__(self, address: tuple[str, int], timeout: float = 20) -> None:
        self.socket = socket.create_connection(address, timeout=timeout)
        self._buffer = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def more(self) -> bool:
        data = self.socket.recv(1 << 16)
        self._buffer += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            if not self.more():
                raise ConnectionError(f"ended before {mark!r}: {self._buffer[:300]!r}")
        before, _, self._buffer = self._buffer.partition(mark)
        return before

    def take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self.more():
                raise ConnectionError(f"ended {size - len(self._buffer)} bytes early")
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def rest(self) -> bytes:
        while self.more():
            pass
        taken, self._buffer = self._buffer, b""
        return taken

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return int(first.split(" ")[1]), headers

    def chunk(self) -> bytes:
        size = int(self.until(b"\r\n"), 16)
        data = self.take(size)
        self.take(2)
        return data

    def answer(self, method: str = "GET") -> Answer:
        interim = []
        status, headers = self.head()
        while 100 <= status < 200 and status != 101:
            interim.append(status)
            status, headers = self.head()
        return Answer(status=status, headers=headers, body=self._body(method, status, headers), interim=interim)

    def _body(self, method: str, status: int, headers: list[tuple[str, str]]) -> bytes:
        stated = dict(headers)
        if method == "HEAD" or status in (101, 204, 304):
            return b""
        if stated.get("transfer-encoding") == "chunked":
            chunks = []
            while chunk := self.chunk():
                chunks.append(chunk)
            return b"".join(chunks)
        if "content-length" in stated:
            return self.take(int(stated["content-length"]))
        return self.rest()


def request(method: str, target: bytes, *headers: str | bytes, body: bytes | None = None, host: str = "front") -> bytes:
    """The bytes of a request; a header is `Name: value`."""
    lines = [method.encode() + b" " + target + b" HTTP/1.1", b"Host: " + host.encode()]
    lines += [header.encode() if isinstance(header, str) else header for header in headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")
