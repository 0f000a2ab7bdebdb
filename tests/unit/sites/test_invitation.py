"""Tokens: whole, damaged, or anything else; and the site that is made of one."""

import base64
import datetime
import json
import stat
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from cheops.config import read_site
from cheops.errors import BadSettings
from cheops.sites.invitation import Invitation, invite_site, join_site, read_token
from cheops.sites.making import Wanted, make_site

NOW = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)
SERVICES = {"catalog": ("127.0.0.1:8888", "127.0.0.1:18888")}
INVITATION = Invitation.model_validate(
    {
        "name": "Site2",
        "number": 2,
        "deployment": "cheops",
        "certificate": "CERTIFICATE\n",
        "key": "KEY\n",
        "authority": "AUTHORITY\n",
        "sites": {"Site1": {"number": 1, "mesh": "[::1]:7443"}, "Site3": {"number": 3}},
    }
)
TOKEN = INVITATION.token()


def wanted(under: Path, name: str, **fields: Any) -> Wanted:
    usual: dict[str, Any] = {
        "name": name,
        "folder": under / name,
        "deployment": under / "deployment",
        "mesh": "127.0.0.1:7443",
        "admin": "127.0.0.1:7480",
        "services": SERVICES,
    }
    return Wanted(**usual | fields)


def invite(under: Path, name: str = "Site2", number: int | None = None, *, again: bool = False) -> Invitation:
    return invite_site(under / "deployment", name, number, NOW, again=again)


def join(under: Path, invitation: Invitation, **fields: Any) -> Path:
    return join_site(invitation, wanted(under, invitation.name, **fields))


def known(under: Path) -> dict[str, Any]:
    sites: dict[str, Any] = yaml.safe_load((under / "deployment/sites.yaml").read_text())["sites"]
    return sites


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Tokens.


def packed(document: object) -> str:
    """A token of any document."""
    content = zlib.compress(json.dumps(document).encode())
    return "cheops1." + base64.urlsafe_b64encode(content).decode().rstrip("=")


def test_a_token_is_one_word_and_says_all_of_it() -> None:
    assert TOKEN.split() == [TOKEN]
    assert read_token(TOKEN) == INVITATION


@pytest.mark.parametrize("width", [5, 40])
@pytest.mark.parametrize("between", ["\n", "\r\n", " \n ", "\t"])
def test_terminals_break_long_lines(between: str, width: int) -> None:
    lines = [TOKEN[at : at + width] for at in range(0, len(TOKEN), width)]
    assert read_token(f"  {between.join(lines)}{between}") == INVITATION


@pytest.mark.parametrize("end", range(0, len(TOKEN) - 1, 7))
def test_a_part_of_a_token_is_none(end: int) -> None:
    with pytest.raises(BadSettings, match="or a part of it is missing") as caught:
        read_token(TOKEN[:end])
    assert caught.value.hint == "Copy the whole of it; it is one word."


@pytest.mark.parametrize("at", range(8, len(TOKEN), 5))
def test_a_token_with_another_letter_in_it_is_none(at: int) -> None:
    other = "A" if TOKEN[at] != "A" else "B"
    with pytest.raises(BadSettings):
        read_token(TOKEN[:at] + other + TOKEN[at + 1 :])


def changed(**fields: Any) -> str:
    return packed({**INVITATION.model_dump(mode="json"), **fields})


@pytest.mark.parametrize(
    "token",
    [
        "",
        "cheops1.",
        "cheops2." + TOKEN.removeprefix("cheops1."),
        "Cheops1." + TOKEN.removeprefix("cheops1."),
        "cheops1.é",
        "cheops1.\ud800",
        "cheops1.\0",
        "cheops1.====",
        packed(None),
        packed([]),
        packed("Site2"),
        packed({}),
        packed({"a": 1}),
        changed(name="../Site2"),
        changed(name="Site 2"),
        changed(number=0),
        changed(number=1024),
        changed(number=None),
        changed(sites={"Site 1": {"number": 1}}),
        changed(sites={"Site1": {"number": 1, "mesh": "nowhere"}}),
        changed(sites=None),
        changed(deployment="a\nadmin: {listen: '0.0.0.0:1'}"),
        changed(more=1),
        packed(INVITATION.model_dump(mode="json")).replace("cheops1.", "cheops1.eJ"),
    ],
)
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(BadSettings, match="no token of `cheops site invite`"):
        read_token(token)


def test_a_token_that_unpacks_to_gigabytes_is_none() -> None:
    bomb = zlib.compress(b" " * (64 << 20), 9)
    token = "cheops1." + base64.urlsafe_b64encode(bomb).decode()
    assert len(token) < 100_000
    with pytest.raises(BadSettings, match="it isn't whole"):
        read_token(token)


@settings(max_examples=300, deadline=None)
@given(text=st.text() | st.text("ABCDabcd0123-_=.").map("cheops1.".__add__))
def test_any_text_is_a_token_or_told_to_be_none(text: str) -> None:
    with pytest.raises(BadSettings):
        read_token(text)


@settings(max_examples=300, deadline=None)
@given(content=st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr).map(str.encode))
def test_so_is_whatever_is_packed_like_one(content: bytes) -> None:
    with pytest.raises(BadSettings):
        read_token("cheops1." + base64.urlsafe_b64encode(zlib.compress(content)).decode())


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8"))
meshes = st.none() | st.sampled_from(["10.0.0.5:7443", "[fd00::5]:1", "a.example:65535"])
invitations = st.fixed_dictionaries(
    {
        "name": names,
        "number": st.integers(1, 1023),
        "deployment": st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True),
        "certificate": texts,
        "key": texts,
        "authority": texts,
        "sites": st.dictionaries(names, st.fixed_dictionaries({"number": st.integers(1, 1023), "mesh": meshes})),
    }
)


@settings(max_examples=100, deadline=None)
@given(invitations)
def test_every_invitation_comes_back_as_it_was(fields: dict[str, Any]) -> None:
    invitation = Invitation.model_validate(fields)
    assert read_token(invitation.token()) == invitation


# Inviting.


def test_an_invited_site_is_on_the_list_without_an_address(tmp_path: Path) -> None:
    make_site(wanted(tmp_path, "Site1"), NOW)
    invitation = invite(tmp_path)
    assert (invitation.name, invitation.number, invitation.deployment) == ("Site2", 2, "cheops")
    assert {name: str(site.mesh) for name, site in invitation.sites.items()} == {"Site1": "127.0.0.1:7443"}
    assert known(tmp_path) == {"Site1": {"number": 1, "mesh": "127.0.0.1:7443"}, "Site2": {"number": 2}}
    assert invite(tmp_path, "Site7", 7).number == 7


def test_its_certificate_is_its_key_s_and_the_authority_s(tmp_path: Path) -> None:
    invitation = invite(tmp_path)
    certificate = x509.load_pem_x509_certificate(invitation.certificate.encode())
    key = serialization.load_pem_private_key(invitation.key.encode(), None)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(invitation.authority.encode()))
    assert key.public_key() == certificate.public_key()
    uris = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert uris.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://cheops/site/Site2"]


def test_the_deployment_keeps_nothing_of_its_key(tmp_path: Path) -> None:
    secret = invite(tmp_path).key.splitlines()[1]
    files = [path for path in (tmp_path / "deployment").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {".lock", "authority.key", "authority.pem", "sites.yaml"}
    assert all(secret not in path.read_text() for path in files)
    assert mode(tmp_path / "deployment/authority.key") == 0o600


def test_a_site_is_invited_again_only_on_demand(tmp_path: Path) -> None:
    first = invite(tmp_path, number=5)
    with pytest.raises(BadSettings, match="Site2 is a site of this deployment already, with number 5"):
        invite(tmp_path)
    again = invite(tmp_path, again=True)
    assert (again.number, again.sites) == (5, {})
    assert (again.certificate != first.certificate, again.key != first.key) == (True, True)
    assert again.authority == first.authority


def test_being_invited_again_keeps_what_is_known_of_it(tmp_path: Path) -> None:
    make_site(wanted(tmp_path, "Site1"), NOW)
    assert invite(tmp_path, "Site1", again=True).number == 1
    assert known(tmp_path) == {"Site1": {"number": 1, "mesh": "127.0.0.1:7443"}}


@pytest.mark.parametrize("name", ["", "Site 2", "../Site2", "-a", "a" * 64, "é", "a\n", "a\0"])
def test_a_name_that_is_none_leaves_no_trace(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadSettings, match="is no name of a site"):
        invite(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [1024, 9])
def test_nor_does_a_number_that_cannot_be_had(tmp_path: Path, number: int) -> None:
    invite(tmp_path, "Site9", 9)
    with pytest.raises(BadSettings):
        invite(tmp_path, "Site2", number)
    assert list(known(tmp_path)) == ["Site9"]


# Joining.


def test_a_joined_site_can_be_read(tmp_path: Path) -> None:
    make_site(wanted(tmp_path, "Site1"), NOW)
    invite(tmp_path, "Site9", 9)  # nobody knows yet where it is
    invitation = invite(tmp_path, "Site2", 2)
    site = read_site(join(tmp_path, read_token(invitation.token()), mesh="[::1]:7443"))
    assert (site.name, site.settings.number, str(site.settings.mesh.listen)) == ("Site2", 2, "[::1]:7443")
    assert {name: str(peer.mesh) for name, peer in site.settings.peers.items()} == {"Site1": "127.0.0.1:7443"}
    mesh = site.settings.mesh
    files = (mesh.certificate, mesh.key, mesh.authority)
    said = [invitation.certificate, invitation.key, invitation.authority]
    assert [site.file(file).read_text() for file in files] == said


def test_only_its_owner_reads_its_key(tmp_path: Path) -> None:
    settings = join(tmp_path, INVITATION)
    assert mode(settings.parent / "tls/site.key") == 0o600


def test_a_site_is_never_overwritten(tmp_path: Path) -> None:
    before = join(tmp_path, INVITATION).read_bytes()
    key = (tmp_path / "Site2/tls/site.key").read_bytes()
    with pytest.raises(BadSettings, match="there is a site already"):
        join(tmp_path, INVITATION.model_copy(update={"number": 5, "key": "another"}))
    assert ((tmp_path / "Site2/site.yaml").read_bytes(), (tmp_path / "Site2/tls/site.key").read_bytes()) == (
        before,
        key,
    )


def test_mistakes_leave_no_trace(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"mesh\.listen: an address"):
        join(tmp_path, INVITATION, mesh="7443")
    assert list(tmp_path.iterdir()) == []
