"""The token of a Kubernetes service account. Kubernetes renews the file long before the token ends, so it is read each
time. The cluster's certificate authority is the business of whoever connects.
"""

from pathlib import Path

from cheops.credentials.secret import secret_in
from cheops.model import Headers


class ServiceAccount:
    def __init__(self, token: Path) -> None:
        self._token = token

    async def headers(self) -> Headers:
        """Raises CredentialsFailed."""
        return ((b"authorization", b"Bearer " + secret_in(self._token).encode()),)

    def refused(self) -> None:
        """What the file says is all there is."""
