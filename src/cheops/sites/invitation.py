"""A token that lets a new site into a deployment: its name and number, its certificate and key, and who is there.

The token is a secret: whoever has it can be that site. It is made where the authority's key is, and needs no site to
be up. Not promised: that it is used once; the certificate inside is good for as long as any.
"""

import base64
import binascii
import datetime
import json
import tempfile
import zlib
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from cheops.config import DEPLOYMENT, SiteName, SiteNumber
from cheops.documents import Document
from cheops.errors import BadSettings
from cheops.sites.certificates import issue, write_secret
from cheops.sites.making import SITE_YAML, KnownSite, Wanted, admitted, check_new, site_yaml

_FORM = "cheops1."
TLS_FILES = ("site.pem", "site.key", "authority.pem")
_MOST_BYTES = 1 << 20  # unpacked: a thousand sites are a tenth of it


class Invitation(Document):
    """What a token says; certificates and keys are PEM."""

    name: SiteName
    number: SiteNumber
    deployment: str = Field(pattern=DEPLOYMENT)
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


def invite_site(
    deployment: Path, name: str, number: int | None, now: datetime.datetime, *, again: bool = False
) -> Invitation:
    """Puts a site on the deployment's list, and issues its certificate. Raises BadSettings."""
    _check_name(name)
    with (
        admitted(deployment, name, number, None, now, again=again) as admission,
        tempfile.TemporaryDirectory(dir=deployment) as made,
    ):
        issue(admission.authority, name, Path(made), now)
        certificate, key, authority = ((Path(made) / file).read_text() for file in TLS_FILES)
        return Invitation(
            name=name,
            number=admission.number,
            deployment=admission.authority.deployment,
            certificate=certificate,
            key=key,
            authority=authority,
            sites=admission.others,
        )


def _check_name(name: str) -> None:
    try:
        TypeAdapter(SiteName).validate_python(name)
    except ValidationError as error:
        raise BadSettings(f"'{name}' is no name of a site: {error.errors()[0]['ctx']['error']}") from error


def join_site(invitation: Invitation, wanted: Wanted) -> Path:
    """Writes site.yaml and tls/ of the invited site; the path of the first. Raises BadSettings."""
    check_new(wanted.folder)
    peers = invitation.sites if wanted.peers is None else wanted.peers
    text = site_yaml(wanted, invitation.number, invitation.deployment, peers)
    tls = wanted.folder / "tls"
    write_secret(tls / "site.key", invitation.key.encode())
    (tls / "site.pem").write_text(invitation.certificate)
    (tls / "authority.pem").write_text(invitation.authority)
    settings = wanted.folder / SITE_YAML
    settings.write_text(text)
    return settings
