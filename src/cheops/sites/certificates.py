"""The deployment's certificate authority, and the certificate by which a site's peers know it.

A site's name stands in its certificate as SPIFFE id spiffe://DEPLOYMENT/site/NAME. The authority's key only signs; keep
it away from the sites. Revocation is not promised: remove a lost site from its peers' site.yaml.
"""

import datetime
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cheops.errors import BadSettings

AUTHORITY_YEARS = 10
SITE_DAYS = 825  # the longest that common clients accept
_CLOCKS_DIFFER = datetime.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Authority:
    """The certificate authority of a deployment."""

    deployment: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_authority(folder: Path, deployment: str, now: datetime.datetime) -> Authority:
    """A new authority, written to `folder` as authority.pem and authority.key. Raises BadSettings if one is there."""
    if (folder / "authority.key").exists():
        raise BadSettings(
            f"{folder / 'authority.key'}: an authority is there already", hint="Use it, or name another folder."
        )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Cheops {deployment}")])
    certificate = (
        _builder(name, name, key, now, datetime.timedelta(days=365 * AUTHORITY_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{deployment}")]), False)
        .sign(key, hashes.SHA256())
    )
    write_secret(folder / "authority.key", _pem(key))
    _write(folder / "authority.pem", certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(deployment=deployment, certificate=certificate, key=key)


def read_authority(folder: Path) -> Authority:
    """The authority in `folder`. Raises BadSettings when there is none that can be used."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / "authority.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "authority.key").read_bytes(), None)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound) as error:  # TypeError: the key has a password
        raise BadSettings(f"{folder}: holds no certificate authority that can be used: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadSettings(f"{folder / 'authority.key'}: isn't the key of an authority made by Cheops")
    return Authority(deployment=uri.removeprefix("spiffe://"), certificate=certificate, key=key)


def issue(authority: Authority, site: str, folder: Path, now: datetime.datetime) -> datetime.datetime:
    """Writes site.pem, site.key and authority.pem for a site into `folder`; answers when the certificate ends.

    A site that runs there shows the new certificate at once.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    identity = [
        x509.UniformResourceIdentifier(f"spiffe://{authority.deployment}/site/{site}"),
        x509.DNSName(f"{site.lower().replace('_', '-')}.{authority.deployment}"),
    ]
    certificate = (
        _builder(name, authority.certificate.subject, key, now, datetime.timedelta(days=SITE_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        .add_extension(x509.SubjectAlternativeName(identity), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    write_secret(folder / "site.key", _pem(key))
    _write(folder / "authority.pem", authority.certificate.public_bytes(serialization.Encoding.PEM))
    _write(folder / "site.pem", certificate.public_bytes(serialization.Encoding.PEM))
    return certificate.not_valid_after_utc


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    lasting: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + lasting)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def write_secret(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read, from its first byte on."""
    _write(path, content, mode=0o600)


def _write(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Whole or not at all: a running Envoy reads a file again when another is renamed into its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.half")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    half.replace(path)
