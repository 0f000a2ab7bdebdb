"""OpenStack's APIs for the scripts of the bed, with nothing but the standard library: at the services or at fronts."""

import json
import urllib.error
import urllib.request
from typing import Any

PASSWORD = "bed"


class Refused(Exception):
    """An answer of 400 or more; `status` and `body` say which."""

    def __init__(self, what: str, status: int, body: str) -> None:
        super().__init__(f"{what}: {status} {body[:500]}")
        self.status, self.body = status, body


class Api:
    """Sends requests as a user; addresses are host:port."""

    def __init__(self, identity: str, user: str = "admin") -> None:
        self._identity, self._user = identity, user
        self.token = ""

    def login(self) -> "Api":
        """Raises Refused or OSError."""
        user = {"name": self._user, "domain": {"id": "default"}, "password": PASSWORD}
        project = {"name": self._user, "domain": {"id": "default"}}
        auth = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": {"project": project}}
        headers, _ = self._send(self._identity, "POST", "/v3/auth/tokens", {"auth": auth}, {})
        self.token = headers["X-Subject-Token"]
        return self

    def __call__(
        self, address: str, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Any:
        """The JSON of the reply. Raises Refused or OSError."""
        _, reply = self._send(address, method, path, body, {"X-Auth-Token": self.token, **(headers or {})})
        return reply

    def _send(self, address: str, method: str, path: str, body: object, headers: dict[str, str]) -> tuple[Any, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        request = urllib.request.Request(f"http://{address}{path}", data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                content = reply.read()
                return reply.headers, json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(f"{method} {path}", error.code, error.read().decode(errors="replace")) from error
