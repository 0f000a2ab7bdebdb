"""A token that lets a new site into a deployment: its name and number, its certificate and key, and who is there.

The token is a secret: whoever has it can be that site. It is made where the authority's key is, and needs no site to
be up. Not promised: that it is used once; the certificate inside is good for as long as any.
"""

import base64
import binascii
import json
import zlib
from pathlib import Path

from pydantic import ValidationError

from cheops.config import SiteName, SiteNumber
from cheops.documents import Document
from cheops.errors import BadSettings
from cheops.sites.certificates import write_secret
from cheops.sites.making import KnownSite

_FORM = "cheops1."
_MOST_BYTES = 1 << 20  # unpacked: a thousand sites are a tenth of it


class Invitation(Document):
    """What a token says; certificates and keys are PEM."""

    name: SiteName
    number: SiteNumber
    deployment: str
    certificate: str
    key: str
    authority: str
    sites: dict[SiteName, KnownSite]

    def token(self) -> str:
        """The invitation as one word."""
        packed = zlib.compress(json.dumps(self.model_dump(mode="json")).encode(), 9)
        return _FORM + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_token(token: str) -> Invitation:
    """The invitation of a token. Raises BadSettings."""
    token = "".join(token.split())  # terminals break long lines
    try:
        if not token.startswith(_FORM):
            raise ValueError(f"it doesn't begin with '{_FORM}'")
        packed = base64.b64decode(token.removeprefix(_FORM) + "===", altchars=b"-_")
        return Invitation.model_validate_json(_unpacked(packed))
    except (ValueError, binascii.Error, zlib.error, ValidationError) as error:
        raise BadSettings(
            f"this is no token of `cheops site invite`, or a part of it is missing: {str(error).splitlines()[0]}",
            hint="Copy the whole of it; it is one word.",
        ) from error


def _unpacked(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    unpacked = unpacking.decompress(packed, _MOST_BYTES)
    if not unpacking.eof:
        raise ValueError("it isn't whole")
    return unpacked


def write_tls(invitation: Invitation, folder: Path) -> None:
    """Writes site.pem, site.key and authority.pem for the invited site."""
    write_secret(folder / "site.key", invitation.key.encode())
    (folder / "site.pem").write_text(invitation.certificate)
    (folder / "authority.pem").write_text(invitation.authority)
