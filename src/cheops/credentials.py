"""What a site itself shows to its services, for what is executed later than it was requested.

Secrets stand in files or in the environment, or in site.yaml; they are read when they are needed, and never shown.
"""

import asyncio
import datetime
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import aiohttp
from pydantic import Field, SecretStr, model_validator

from cheops.documents import Document, Misplaced
from cheops.errors import CredentialsFailed
from cheops.model import Headers

LOGIN_SECONDS = 10.0
MARGIN_SECONDS = 30.0  # before a token ends it isn't used any more


class Secret(Document):
    """A secret: the name of a file, of a variable of the environment, or the text itself."""

    file: Path | None = None
    env: str | None = None
    text: SecretStr | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "Secret":
        if sum(value is not None for value in (self.file, self.env, self.text)) != 1:
            raise Misplaced("a secret is one of `file`, `env` and `text`")
        return self

    def read(self, folder: Path) -> str:
        """Raises CredentialsFailed."""
        if self.text is not None:
            return self.text.get_secret_value()
        if self.env is not None:
            if self.env not in os.environ:
                raise CredentialsFailed(f"the environment has no variable {self.env}", hint="Set it for the agent.")
            return os.environ[self.env]
        assert self.file is not None
        try:
            return (folder / self.file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialsFailed(f"{folder / self.file} can't be read: {error}") from error


class HeaderProvider(Document):
    """A header that is always the same, such as Authorization; `prefix` stands before the secret."""

    kind: Literal["header"]
    name: str = "Authorization"
    prefix: str = ""
    secret: Secret


class KeystonePassword(Document):
    """A token of Keystone, for a user and a password."""

    kind: Literal["keystone-password"]
    auth_url: str
    user: str
    password: Secret
    project: str
    user_domain: str = "Default"
    project_domain: str = "Default"


class KeystoneApplicationCredential(Document):
    """A token of Keystone, for an application credential."""

    kind: Literal["keystone-application-credential"]
    auth_url: str
    id: str
    secret: Secret


class KubernetesServiceAccount(Document):
    """The token that Kubernetes keeps in a file and makes anew from time to time."""

    kind: Literal["kubernetes-service-account"]
    token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


Provider = Annotated[
    HeaderProvider | KeystonePassword | KeystoneApplicationCredential | KubernetesServiceAccount,
    Field(discriminator="kind"),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Token:
    """A token of Keystone, and when it ends, in seconds since 1970."""

    text: str
    ends: float


class SiteCredentials:
    """What the settings say, by service. `providers` may change between two requests."""

    def __init__(self, providers: Mapping[str, Any], folder: Path, now: Callable[[], float]) -> None:
        self.providers = providers
        self._folder, self._now = folder, now
        self._tokens: dict[str, _Token] = {}
        self._logins: dict[str, asyncio.Lock] = {}

    async def headers(self, service: str) -> Headers | None:
        """None if nothing is configured. Raises CredentialsFailed."""
        match self.providers.get(service):
            case None:
                return None
            case HeaderProvider() as header:
                value = header.prefix + header.secret.read(self._folder)
                return ((header.name.lower().encode(), value.encode()),)
            case KubernetesServiceAccount(token_file=file):
                token = Secret(file=file).read(self._folder)
                return ((b"authorization", f"Bearer {token}".encode()),)
            case keystone:
                return ((b"x-auth-token", (await self._token(service, keystone)).encode()),)

    def refused(self, service: str) -> None:
        """They are to be made anew."""
        self._tokens.pop(service, None)

    async def _token(self, service: str, provider: KeystonePassword | KeystoneApplicationCredential) -> str:
        async with self._logins.setdefault(service, asyncio.Lock()):  # one login for all that wait
            token = self._tokens.get(service)
            if token is None or token.ends - MARGIN_SECONDS <= self._now():
                token = self._tokens[service] = await self._login(service, provider)
            return token.text

    async def _login(self, service: str, provider: KeystonePassword | KeystoneApplicationCredential) -> _Token:
        url = f"{provider.auth_url.rstrip('/')}/auth/tokens"
        what = f"Keystone at {provider.auth_url} gives no token for '{service}'"
        try:
            timeout = aiohttp.ClientTimeout(total=LOGIN_SECONDS)
            document = _login_document(provider, self._folder)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(url, json=document, allow_redirects=False) as reply,
            ):
                if reply.status != 201:
                    hint = "Look at `credentials` in site.yaml." if reply.status in (401, 403) else ""
                    raise CredentialsFailed(f"{what}: it answered {reply.status}", hint=hint)
                told = await reply.json()
                ends = datetime.datetime.fromisoformat(told["token"]["expires_at"])
                return _Token(text=reply.headers["X-Subject-Token"], ends=ends.timestamp())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise CredentialsFailed(f"{what}: {error or 'it does not answer'}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise CredentialsFailed(f"{what}: its answer can't be understood") from error


def _login_document(provider: KeystonePassword | KeystoneApplicationCredential, folder: Path) -> dict[str, Any]:
    if isinstance(provider, KeystoneApplicationCredential):
        own = {"id": provider.id, "secret": provider.secret.read(folder)}
        return {"auth": {"identity": {"methods": ["application_credential"], "application_credential": own}}}
    user = {"name": provider.user, "domain": {"name": provider.user_domain}, "password": provider.password.read(folder)}
    scope = {"project": {"name": provider.project, "domain": {"name": provider.project_domain}}}
    return {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
