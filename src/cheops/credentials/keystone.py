"""Tokens of OpenStack's identity service, by its API v3: POST /v3/auth/tokens.

A token is used until shortly before its end. How long it lasts is what Keystone says by its own clock, measured here by
ours, so a wrong clock does no harm. After a failure Keystone is left alone for some seconds: many operations may want a
token at once, and Keystone may lock a user out who tries a wrong password often. No reply of its is ever shown: who
answers may be somebody else, who sends back what it got.
"""

import asyncio
import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from cheops.credential_settings import KeystoneApplicationCredential, KeystonePassword
from cheops.errors import CredentialsFailed
from cheops.model import Headers

MARGIN_SECONDS = 60.0  # before its end; of a short life it is a fifth
AGAIN_SECONDS = 5.0  # after a failure
FRESH_SECONDS = 1.0  # a token so young is kept: what was refused is the one before
_HINTS = {
    300: "auth_url must end in /v3.",
    401: "Check the user, its domain and project, and the password or secret.",
    404: "auth_url must end in /v3.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Token:
    text: bytes = field(repr=False)
    since: float
    until: float


class KeystoneTokens:
    """`url` is where Keystone is, up to /v3; `identity` says who logs in, as the API wants it, and may raise
    CredentialsFailed; `clock` counts seconds.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        identity: Callable[[], dict[str, Any]],
        clock: Callable[[], float],
    ) -> None:
        self._session, self._url, self._identity, self._clock = session, url.rstrip("/"), identity, clock
        self._token: _Token | None = None
        self._failed: tuple[float, CredentialsFailed] | None = None
        self._alone = asyncio.Lock()

    async def headers(self) -> Headers:
        """Raises CredentialsFailed."""
        async with self._alone:
            if self._token is None or self._clock() >= self._token.until:
                self._token = await self._log_in()
            return ((b"x-auth-token", self._token.text),)

    def refused(self) -> None:
        """The token is thrown away; several operations may say so of one."""
        if self._token and self._clock() >= self._token.since + FRESH_SECONDS:
            self._token = None

    async def _log_in(self) -> _Token:
        if self._failed and self._clock() < self._failed[0]:
            raise CredentialsFailed(self._failed[1].detail, hint=self._failed[1].hint)
        try:
            return await self._ask()
        except CredentialsFailed as error:
            self._failed = (self._clock() + AGAIN_SECONDS, error)
            raise

    async def _ask(self) -> _Token:
        began, url = self._clock(), f"{self._url}/auth/tokens"
        try:
            async with self._session.post(url, json={"auth": self._identity()}, allow_redirects=False) as reply:
                content, status, token = await reply.read(), reply.status, reply.headers.get("X-Subject-Token", "")
        except TimeoutError as error:
            raise CredentialsFailed(f"{url} didn't answer in time", hint="Does Keystone run there?") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CredentialsFailed(f"{url} can't be asked: {error}", hint="Does Keystone run there?") from error
        if status != 201:
            raise CredentialsFailed(f"{url} answered {status}", hint=_HINTS.get(status, ""))
        lasts = _lasts(content)
        if not token or lasts is None:
            raise CredentialsFailed(f"{url} doesn't answer as Keystone does", hint="Check auth_url.")
        return _Token(text=token.encode(), since=began, until=began + lasts - min(MARGIN_SECONDS, lasts / 5))


def _lasts(content: bytes) -> float | None:
    """How many seconds the token lasts; None if this isn't Keystone's."""
    try:
        token = json.loads(content)["token"]
        begin, end = (datetime.datetime.fromisoformat(token[name]) for name in ("issued_at", "expires_at"))
        return (end - begin).total_seconds()
    except (ValueError, KeyError, TypeError):
        return None


def by_password(settings: KeystonePassword, password: str) -> dict[str, Any]:
    """Who logs in, as POST /v3/auth/tokens has it under `auth`."""
    user = {"name": settings.username, "domain": {"name": settings.user_domain}, "password": password}
    return {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"name": settings.project, "domain": {"name": settings.project_domain}}},
    }


def by_application_credential(settings: KeystoneApplicationCredential, secret: str) -> dict[str, Any]:
    """The same; its project is that of the credential."""
    method = "application_credential"
    return {"identity": {"methods": [method], method: {"id": settings.id, "secret": secret}}}
