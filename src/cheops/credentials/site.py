"""What a site shows to its services when it executes an operation later than it was requested, as site.yaml says.

Secrets are in memory only, as long as they are needed.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import aiohttp

from cheops.config import Site
from cheops.credential_settings import (
    HeaderCredentials,
    Keystone,
    KeystoneApplicationCredential,
    KeystonePassword,
    KubernetesServiceAccount,
    ServiceCredentials,
    Whereabouts,
)
from cheops.credentials.header import StaticHeader
from cheops.credentials.keystone import KeystoneTokens, by_application_credential, by_password
from cheops.credentials.kubernetes import ServiceAccount
from cheops.credentials.secret import secret_at
from cheops.errors import CredentialsFailed
from cheops.model import Headers

LOGIN_SECONDS = 10.0


class Provider(Protocol):
    """Gives the credentials of one kind for one service."""

    async def headers(self) -> Headers:
        """Raises CredentialsFailed."""
        ...

    def refused(self) -> None: ...


_Wanted = tuple[ServiceCredentials, str, Path]
"""What makes a provider: its settings, Keystone's URL ("" if it isn't one of Keystone), the folder of site.yaml."""


class SiteCredentials:
    """The credentials of a site. Open it as an async context. `clock` counts seconds."""

    def __init__(
        self, site: Site, clock: Callable[[], float], environment: Mapping[str, str], seconds: float = LOGIN_SECONDS
    ) -> None:
        self._site, self._clock, self._environment, self._seconds = site, clock, environment, seconds
        self._providers: dict[str, tuple[_Wanted, Provider]] = {}

    async def __aenter__(self) -> "SiteCredentials":
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._seconds), cookie_jar=aiohttp.DummyCookieJar()
        )
        self.change(self._site)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def change(self, site: Site) -> None:
        """These settings are in force from now on; the tokens of those that are as before stay."""
        before, self._providers = self._providers, {}
        for service, settings in site.settings.credentials.items():
            wanted = (settings, _keystone(site, settings), site.folder)
            known = before.get(service)
            self._providers[service] = known if known and known[0] == wanted else (wanted, self._provider(*wanted))

    async def headers(self, service: str) -> Headers | None:
        """None if nothing is configured. Raises CredentialsFailed."""
        if service not in self._providers:
            return None
        try:
            return await self._providers[service][1].headers()
        except CredentialsFailed as error:
            what = f"the site's credentials for '{service}' can't be had: {error.detail}"
            raise CredentialsFailed(what, hint=error.hint, service=service) from error

    def refused(self, service: str) -> None:
        """The service has answered 401 to them: they are made anew."""
        if service in self._providers:
            self._providers[service][1].refused()

    def _provider(self, settings: ServiceCredentials, url: str, folder: Path) -> Provider:
        def secret(place: Whereabouts) -> str:
            return secret_at(place, folder, self._environment)

        match settings:
            case HeaderCredentials():
                return StaticHeader(settings.header, lambda: secret(settings.whereabouts))
            case KeystonePassword():
                return self._tokens(url, lambda: by_password(settings, secret(settings.whereabouts)))
            case KeystoneApplicationCredential():
                return self._tokens(url, lambda: by_application_credential(settings, secret(settings.whereabouts)))
            case KubernetesServiceAccount():
                return ServiceAccount(folder / settings.token_file)

    def _tokens(self, url: str, identity: Callable[[], dict[str, object]]) -> Provider:
        return KeystoneTokens(self._session, url, identity, self._clock)


def _keystone(site: Site, settings: ServiceCredentials) -> str:
    if not isinstance(settings, Keystone):
        return ""
    return settings.auth_url or f"http://{site.settings.services[settings.identity].backend}/v3"
