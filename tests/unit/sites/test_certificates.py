"""The authority and the certificates of sites: what stands in them, and that two sites shake hands with them."""

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cheops.errors import BadSettings
from cheops.sites.certificates import Authority, issue, make_authority, read_authority, write_secret

NOW = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment `shop` with its sites Site1 and my_Site, and another deployment with a Site1."""
    folder = tmp_path_factory.mktemp("certificates")
    now = datetime.datetime.now(datetime.UTC)
    for deployment, sites in {"shop": ("Site1", "my_Site"), "other": ("Site1",)}.items():
        authority = make_authority(folder / deployment, deployment, now)
        for site in sites:
            issue(authority, site, folder / deployment / site, now)
    return folder


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(read: x509.Certificate) -> tuple[list[str], list[str]]:
    found = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.UniformResourceIdentifier), found.get_values_for_type(x509.DNSName)


def common_name(name: x509.Name) -> str | bytes:
    return name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


def test_the_authority_signs_and_does_nothing_else(tmp_path: Path) -> None:
    authority = make_authority(tmp_path, "shop", NOW)
    read = certificate(tmp_path / "authority.pem")
    assert read == authority.certificate
    constraints = read.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value) == (True, x509.BasicConstraints(ca=True, path_length=0))
    usage = read.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert names(read) == (["spiffe://shop"], [])
    assert read.not_valid_after_utc - NOW == datetime.timedelta(days=3650)


def test_a_sites_certificate_says_who_it_is(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "deployment", "shop", NOW)
    until = issue(authority, "my_Site", tmp_path / "tls", NOW)
    read = certificate(tmp_path / "tls/site.pem")
    assert names(read) == (["spiffe://shop/site/my_Site"], ["my-site.shop"])
    assert common_name(read.subject) == "my_Site"
    read.verify_directly_issued_by(authority.certificate)
    assert not read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = list(read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert usage == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert until == read.not_valid_after_utc == NOW + datetime.timedelta(days=825)
    assert read.not_valid_before_utc == NOW - datetime.timedelta(hours=1)  # the peers' clocks may be behind


def test_the_key_is_the_certificates(folder: Path) -> None:
    key = serialization.load_pem_private_key((folder / "shop/Site1/site.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == certificate(folder / "shop/Site1/site.pem").public_key()
    assert (folder / "shop/Site1/authority.pem").read_bytes() == (folder / "shop/authority.pem").read_bytes()


def test_keys_are_their_owners_alone(folder: Path) -> None:
    for path in folder.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_secret_takes_the_place_of_an_open_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("old")
    (tmp_path / "key").chmod(0o644)
    with (tmp_path / "key").open() as open_still:
        write_secret(tmp_path / "key", b"new")
        assert open_still.read() == "old"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_an_authority_is_read_back(tmp_path: Path) -> None:
    made = make_authority(tmp_path, "shop", NOW)
    read = read_authority(tmp_path)
    assert (read.deployment, read.certificate) == ("shop", made.certificate)
    assert read.key.private_numbers() == made.key.private_numbers()


def test_an_authority_is_never_overwritten(tmp_path: Path) -> None:
    make_authority(tmp_path, "shop", NOW)
    before = (tmp_path / "authority.key").read_bytes()
    with pytest.raises(BadSettings, match="an authority is there already"):
        make_authority(tmp_path, "shop", NOW)
    assert (tmp_path / "authority.key").read_bytes() == before


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def test_what_is_no_authority_is_told(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BadSettings, match=r"holds no certificate authority that can be used: .*No such file"):
        read_authority(tmp_path)
    authority = make_authority(tmp_path, "shop", NOW)
    (tmp_path / "authority.key").write_bytes(pem(authority.key, b"secret"))
    with pytest.raises(BadSettings, match="private key is encrypted"):
        read_authority(tmp_path)
    (tmp_path / "authority.key").write_text("nonsense")
    with pytest.raises(BadSettings, match="that can be used"):
        read_authority(tmp_path)
    (tmp_path / "authority.key").write_bytes(pem(rsa.generate_private_key(65537, 2048)))
    with pytest.raises(BadSettings, match="isn't the key of an authority made by Cheops"):
        read_authority(tmp_path)
    (tmp_path / "authority.pem").write_bytes((folder / "shop/Site1/site.pem").read_bytes()[:100])
    with pytest.raises(BadSettings, match="that can be used"):
        read_authority(tmp_path)


def end(tls: Path, *, server: bool) -> ssl.SSLContext:
    """One end of the mesh, as Envoy is configured: TLS 1.3, and a certificate of the authority on both sides."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version, context.verify_mode = ssl.TLSVersion.TLSv1_3, ssl.CERT_REQUIRED
    context.load_cert_chain(tls / "site.pem", tls / "site.key")
    context.load_verify_locations(tls / "authority.pem")
    return context


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake in memory. Raises ssl.SSLError."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True)
    for _ in range(3):
        for one in ends:
            try:
                one.do_handshake()
            except ssl.SSLWantReadError:
                continue
    for one in ends:
        try:
            one.read()  # in TLS 1.3 a client hears only now that its certificate was refused
        except ssl.SSLWantReadError:
            continue
    return ends


def uris(peer: ssl.SSLObject) -> list[str]:
    shown = peer.getpeercert()
    assert shown
    return [value for kind, value in shown["subjectAltName"] if kind == "URI"]  # type: ignore[misc, str-unpack]


def test_two_sites_shake_hands_and_know_each_other(folder: Path) -> None:
    one, two = folder / "shop/Site1", folder / "shop/my_Site"
    client, server = handshake(end(one, server=False), end(two, server=True), "my-site.shop")
    assert (uris(client), uris(server)) == (["spiffe://shop/site/my_Site"], ["spiffe://shop/site/Site1"])


@pytest.mark.parametrize("stranger", ["client", "server"])
def test_a_site_of_another_deployment_is_refused(folder: Path, stranger: str) -> None:
    ours, theirs = folder / "shop/Site1", folder / "other/Site1"
    client, server = (theirs, ours) if stranger == "client" else (ours, theirs)
    client_end = end(client, server=False)
    client_end.check_hostname = False
    if stranger == "client":  # it would take anybody's word
        client_end.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match=r"certificate verify failed|CERTIFICATE_VERIFY_FAILED|unknown ca"):
        handshake(client_end, end(server, server=True), "site1.shop")


def test_a_deployment_may_be_called_anything(tmp_path: Path) -> None:
    authority: Authority = make_authority(tmp_path, "edge.example-1", NOW)
    issue(authority, "a.b", tmp_path / "tls", NOW)
    assert names(certificate(tmp_path / "tls/site.pem")) == (
        ["spiffe://edge.example-1/site/a.b"],
        ["a.b.edge.example-1"],
    )
