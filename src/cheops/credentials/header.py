"""A header that is always the same: a password of HTTP's Basic, a token that doesn't end, an API key."""

from collections.abc import Callable

from cheops.model import Headers


class StaticHeader:
    """`secret` raises CredentialsFailed."""

    def __init__(self, name: str, secret: Callable[[], str]) -> None:
        self._name, self._secret = name.lower().encode(), secret

    async def headers(self) -> Headers:
        return ((self._name, self._secret().encode()),)

    def refused(self) -> None:
        """There is no other; it is read anew each time."""
