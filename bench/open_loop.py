"""Requests at a constant rate, whether the last one was answered or not, timed from when they should have been sent.

wrk and its like send the next request once the last one is answered: when a proxy halts, they wait with it, and hardly
anything of the halt is in their percentiles. Here a request whose time has come waits for a free connection, and the
waiting counts. select(2) is used since its time-out has microseconds, which epoll's and an event loop's timers lack.
"""

import gc
import select
import socket
import time
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchFailed
from bench.variants import Variant

CONNECTIONS = 32
BODY = b"x" * 1024
GRACE_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Sample:
    """In milliseconds, from the time at which a request was to be sent to the last byte of its reply."""

    p50_ms: float
    p99_ms: float
    p999_ms: float


def measure(variant: Variant, *, rate: int, seconds: float) -> Sample:
    """So many POSTs of 1 KB a second. Raises BenchFailed if one isn't answered with 200 and 1 KB."""
    with suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1000")  # else the kernel wakes us up to 50 µs late
    gc.collect()
    gc.disable()
    try:
        with ExitStack() as stack:
            loop = _Loop(variant, stack)
            times = sorted(loop.run(rate, round(rate * seconds)))
    finally:
        gc.enable()
    return Sample(**{name: value_at(times, share) * 1e3 for name, share in _SHARES.items()})


_SHARES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}


def value_at(times: list[float], share: float) -> float:
    """The value of a sorted list below or at which such a share of all are."""
    return times[max(0, -int(-len(times) * share // 1) - 1)]


class _Loop:
    def __init__(self, variant: Variant, stack: ExitStack) -> None:
        self._name, self._request = variant.name, variant.head("POST /read", "items", variant.items, len(BODY)) + BODY
        self._free: deque[socket.socket] = deque()
        self._busy: dict[socket.socket, tuple[float, bytes]] = {}  # when to be sent, what has come back
        self._times: list[float] = []
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(variant.items.address, timeout=5))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._free.append(connection)

    def run(self, rate: int, count: int) -> list[float]:
        """How long each took, in seconds."""
        start, planned, due = time.perf_counter() + 0.005, 0, deque[float]()
        deadline = start + count / rate + GRACE_SECONDS
        while len(self._times) < count:
            now = time.perf_counter()
            while planned < count and start + planned / rate <= now:
                due.append(start + planned / rate)
                planned += 1
            while due and self._free:
                self._send(due.popleft())
            until = start + planned / rate if planned < count else deadline
            for connection in select.select(list(self._busy), [], [], max(0.0, until - time.perf_counter()))[0]:
                self._receive(connection)
            if now > deadline:
                raise BenchFailed(f"{self._name}: {count - len(self._times)} of {count} requests had no answer")
        return self._times

    def _send(self, intended: float) -> None:
        connection = self._free.popleft()
        connection.sendall(self._request)
        self._busy[connection] = (intended, b"")

    def _receive(self, connection: socket.socket) -> None:
        intended, before = self._busy[connection]
        got = connection.recv(1 << 16)
        reply = before + got
        if not is_whole(reply):
            if not got:
                raise BenchFailed(f"{self._name}: the connection was closed after {reply[:300]!r}")
            self._busy[connection] = (intended, reply)
            return
        self._times.append(time.perf_counter() - intended)
        if not reply.startswith(b"HTTP/1.1 200 "):
            raise BenchFailed(f"{self._name}: {reply[:300]!r}")
        del self._busy[connection]
        self._free.append(connection)


def is_whole(reply: bytes) -> bool:
    """Whether a reply of 1 KB, with a Content-Length or in chunks, is there to its end."""
    _, _, body = reply.partition(b"\r\n\r\n")
    return len(body) == 1024 or (len(body) > 1024 and body.endswith(b"\r\n0\r\n\r\n"))
