"""A client of the shop and of other labs, and how to wait for what isn't ours to time."""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What was answered, and how long it took; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(url: str, method: str = "GET", *, scope: str | None = None, send: Any = None, **headers: str) -> Reply:
    """One request on a connection of its own; `send` becomes JSON, and header names are written with underscores."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named |= {} if scope is None else {"X-Scope": scope}
    began = time.monotonic()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, None if send is None else json.dumps(send), named)
        answer = connection.getresponse()
        given = {name.lower(): value for name, value in answer.getheaders()}
        body = answer.read()
        return Reply(status=answer.status, headers=given, body=body, seconds=time.monotonic() - began)
    finally:
        connection.close()


def wait_for(condition: Callable[[], T], what: str, seconds: float = 30) -> T:
    """What the condition answers, once that is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return found
