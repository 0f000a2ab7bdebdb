"""Waits for what other processes do: they are asked again and again, until they answer or have ended."""

import http.client
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from cheops.lab.errors import LabFailed

ASK_EVERY = 0.05
LAST_LINES = 15


class GivenUp(Exception):
    """Something else that was waited for has failed already."""


class Hope:
    """Shared by all who wait at the same time; once one of them has failed, the others need not go on."""

    def __init__(self) -> None:
        self._lost = threading.Event()

    def lose(self) -> None:
        self._lost.set()

    def until(self, missing: Callable[[], str], what: str, *, seconds: float, log: Path) -> None:
        """Returns once nothing is missing. Raises LabFailed with the end of the log, or GivenUp."""
        end = time.monotonic() + seconds
        while why := missing():
            if time.monotonic() > end:
                raise LabFailed(f"{what} wasn't ready in {seconds:g} s: {why}", hint=end_of_log(log))
            if self._lost.wait(ASK_EVERY):
                raise GivenUp


def answer(url: str, *, timeout: float = 2, at_most: int = 1 << 20) -> tuple[int, bytes] | None:
    """Status and body, to so many bytes, of GET on an http:// URL; nothing if there is no answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}")
        reply = connection.getresponse()
        return reply.status, reply.read(at_most)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def accepts(url: str, *, timeout: float = 2) -> bool:
    """Whether somebody accepts connections at tcp://host:port."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname, parts.port or 0), timeout):
            return True
    except OSError:
        return False


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file; none if it can't be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 1000 * count))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def end_of_log(path: Path) -> str:
    lines = last_lines(path, LAST_LINES)
    if not lines:
        return f"Its log is empty: {path}"
    return "\n".join([f"The end of its log, {path}:", *(f"  | {line[:500]}" for line in lines)])
