"""A small Keystone: logs in users and application credentials as API v3 does, by a clock that tests own."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

EPOCH = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)  # far from ours: nobody may trust it


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Keystone:
    """Its tokens live for `ttl` seconds; `mood` is "well", "mute", "broken", "echo" or "strange"."""

    def __init__(self, clock: Clock, ttl: float = 3600) -> None:
        self.clock, self.ttl, self.mood = clock, ttl, "well"
        self.passwords = {("cheops", "Default"): "right horse"}
        self.secrets = {"c0ffee": "battery staple"}
        self.logins: list[dict[str, Any]] = []
        self.ends: dict[str, float] = {}

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        auth = (await request.json())["auth"]
        self.logins.append(auth)
        match self.mood:
            case "mute":
                await asyncio.Event().wait()
            case "broken":
                return web.Response(status=500, text="Traceback: …")
            case "echo":
                return web.json_response({"error": {"message": str(auth)}}, status=400)
            case "strange":
                return web.json_response({"hello": "world"}, status=201, headers={"X-Subject-Token": "x"})
        return self._token() if self._right(auth["identity"]) else web.json_response(_UNAUTHORIZED, status=401)

    def _right(self, identity: dict[str, Any]) -> bool:
        if identity["methods"] == ["password"]:
            user = identity["password"]["user"]
            return self.passwords.get((user["name"], user["domain"]["name"])) == user["password"]
        credential = identity["application_credential"]
        return self.secrets.get(credential["id"]) == credential["secret"]

    def _token(self) -> web.Response:
        text = f"token-{len(self.logins)}"
        self.ends[text] = self.clock() + self.ttl
        token = {"issued_at": _time(self.clock()), "expires_at": _time(self.ends[text]), "methods": ["password"]}
        return web.json_response({"token": token}, status=201, headers={"X-Subject-Token": text})

    def accepts(self, token: str) -> bool:
        """Whether a service would take it now."""
        return self.clock() < self.ends[token]


_UNAUTHORIZED = {"error": {"code": 401, "title": "Unauthorized", "message": "The request requires authentication."}}


def _time(seconds: float) -> str:
    return (EPOCH + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@asynccontextmanager
async def serving(keystone: Keystone) -> AsyncIterator[str]:
    """Its address, host and port."""
    app = web.Application()
    app.router.add_post("/v3/auth/tokens", keystone.log_in)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()
