"""A service that tells byte for byte what reached it, and answers byte for byte what a test wants.

It is written on bare sockets, so that no HTTP library mends anything on the way. Every request is told as a JSON line
in the file named by --seen. The path says what is answered:

    /echo…            200 and the request as JSON: {"head": latin-1 text, "bytes": n, "sha256": …}
    /answer?HEX       the bytes that HEX stands for, after the request is read
    /early?HEX        the same, before any of the body is read; then the connection is closed
    /break            nothing: once the request is read, the connection is closed
    /mute?N           the same as /echo, after N seconds
    /download?N       N bytes, with Content-Length
    /lines?N          N lines, chunked, one each 0.2 s, each with the time it was sent
    /events           the same as server-sent events, headers first and nothing for 0.3 s
    /upgrade          101, and then every byte comes back; the end of input is answered by "bye" and an end
    /call?URL         calls URL with the X-Call headers of this request as they are, and passes the answer on
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import time
from pathlib import Path

CHUNK = 1 << 16


class Request:
    def __init__(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head, self.reader, self.writer = head, reader, writer
        first, *lines = head.split(b"\r\n")
        self.method, self.target, _ = first.split(b" ", 2)
        self.headers = [tuple(part.strip() for part in line.split(b":", 1)) for line in lines if line]
        self.bytes, self.digest, self.done = 0, hashlib.sha256(), False

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    async def read(self) -> None:
        if (self.header(b"expect") or b"").lower() == b"100-continue":
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if (self.header(b"transfer-encoding") or b"").lower() == b"chunked":
            while size := int((await self.reader.readline()).split(b";")[0], 16):
                await self._take(size)
                await self.reader.readexactly(2)
            while (await self.reader.readline()).strip():
                pass
        else:
            await self._take(int(self.header(b"content-length") or 0))
        self.done = True

    async def _take(self, left: int) -> None:
        while left:
            data = await self.reader.read(min(left, CHUNK))
            if not data:
                raise ConnectionError("the body broke off")
            left -= len(data)
            self.bytes += len(data)
            self.digest.update(data)

    def told(self) -> dict[str, object]:
        return {
            "head": self.head.decode("latin-1"),
            "bytes": self.bytes,
            "sha256": self.digest.hexdigest(),
            "complete": self.done,
        }


async def answer(request: Request) -> bool:
    """Answers; true if the connection goes on."""
    writer, (path, _, query) = request.writer, request.target.partition(b"?")
    if path == b"/early":
        writer.write(bytes.fromhex(query.decode()))
        await writer.drain()
        return False
    if path == b"/upgrade":
        await upgraded(request)
        return False
    await request.read()
    if path == b"/break":
        return False
    if path == b"/mute":
        await asyncio.sleep(int(query))
    if path == b"/answer":
        writer.write(bytes.fromhex(query.decode()))
    elif path == b"/download":
        await download(writer, int(query))
    elif path in (b"/lines", b"/events"):
        await slowly(writer, events=path == b"/events", count=int(query or b"3"))
    elif path == b"/call":
        writer.write(await call(query, [value for key, value in request.headers if key.lower() == b"x-call"]))
    else:
        body = json.dumps(request.told()).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        writer.write(head + (b"" if request.method == b"HEAD" else body))
    await writer.drain()
    return True


async def download(writer: asyncio.StreamWriter, left: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % left)
    block = bytes(range(256)) * (CHUNK // 256)
    while left:
        part = block[: min(left, CHUNK)]
        writer.write(part)
        await writer.drain()
        left -= len(part)


async def slowly(writer: asyncio.StreamWriter, *, events: bool, count: int) -> None:
    kind = b"text/event-stream" if events else b"application/json"
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    await writer.drain()
    for _ in range(count):
        await asyncio.sleep(0.3 if events else 0.2)
        line = json.dumps({"sent": time.time()}).encode()
        line = b"data: " + line + b"\n\n" if events else line + b"\n"
        writer.write(b"%x\r\n%s\r\n" % (len(line), line))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


async def upgraded(request: Request) -> None:
    kind = request.header(b"upgrade") or b"?"
    request.writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + kind + b"\r\n\r\n")
    while data := await request.reader.read(CHUNK):
        request.writer.write(data)
        await request.writer.drain()
    request.writer.write(b"bye")
    await request.writer.drain()


async def call(url: bytes, headers: list[bytes]) -> bytes:
    """What another service answers, as a service would pass it on."""
    authority, _, path = url.removeprefix(b"http://").partition(b"/")
    host, _, port = authority.decode().rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [b"GET /" + path + b" HTTP/1.1", b"Host: " + authority, b"Connection: close", *headers]
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
    reply = await reader.read()
    writer.close()
    return reply


def tell(request: Request, seen: str) -> None:
    with Path(seen).open("a") as file:
        file.write(json.dumps(request.told()) + "\n")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: str) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        goes_on = True
        while goes_on:
            request = Request((await reader.readuntil(b"\r\n\r\n"))[:-4], reader, writer)
            try:
                goes_on = await answer(request)
            finally:
                tell(request, seen)
    with contextlib.suppress(ConnectionError):
        writer.close()
        await writer.wait_closed()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bind")
    parser.add_argument("--seen", required=True)
    args = parser.parse_args()
    host, _, port = args.bind.rpartition(":")
    server = await asyncio.start_server(lambda r, w: serve(r, w, args.seen), host, int(port), limit=1 << 20)
    await server.serve_forever()


asyncio.run(main())
