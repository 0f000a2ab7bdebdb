"""One large upload: PUT over a blocking socket, to a service that says how much it has read."""

import socket
import time
from dataclasses import dataclass

from bench.errors import BenchFailed
from bench.machine import cpu_seconds
from bench.variants import Variant

BYTES = 64 << 20
_BODY = memoryview(bytes(BYTES))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """MB are millions of bytes; `cpu_ms` is what the proxies used for the whole upload."""

    mb_per_second: float
    cpu_ms: float


def measure(variant: Variant) -> Sample:
    """One upload. Raises BenchFailed unless the service has read all of it."""
    end = variant.sink
    assert end, "only ways with a sink are measured"
    head = variant.head("PUT /blob", "sink", end, BYTES)
    with socket.create_connection(end.address, timeout=60) as connection:
        before, began = cpu_seconds(end.pids), time.perf_counter()
        connection.sendall(head)
        connection.sendall(_BODY)
        reply = _reply(connection)
        seconds, used = time.perf_counter() - began, cpu_seconds(end.pids) - before
    if not reply.startswith(b"HTTP/1.1 204 ") or b"\r\nx-received: %d\r\n" % BYTES not in reply.lower():
        raise BenchFailed(f"{variant.name}: the upload was answered with {reply[:300]!r}")
    return Sample(mb_per_second=BYTES / seconds / 1e6, cpu_ms=used * 1e3)


def _reply(connection: socket.socket) -> bytes:
    reply = b""
    while b"\r\n\r\n" not in reply and (got := connection.recv(1 << 16)):
        reply += got
    return reply
