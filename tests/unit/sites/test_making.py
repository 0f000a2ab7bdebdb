"""Making sites: numbers, certificates, and a site.yaml that can be read and is worth reading."""

import datetime
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from cheops.applications import read_application
from cheops.config import read_site
from cheops.errors import BadSettings
from cheops.sites.making import KnownSite, Made, Wanted, make_site, services_of
from values import application

PEER = KnownSite.model_validate({"number": 9, "mesh": "127.0.0.1:9"})
NOW = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)
SHOP = Path(__file__).parents[3] / "examples/shop/application.yaml"
SERVICES = {"catalog": ("127.0.0.1:8888", "127.0.0.1:18888"), "orders": ("127.0.0.1:8080", "127.0.0.1:18080")}


def make(under: Path, name: str, **fields: Any) -> Made:
    wanted: dict[str, Any] = {
        "name": name,
        "folder": under / name,
        "deployment": under / "deployment",
        "mesh": "127.0.0.1:7443",
        "admin": "127.0.0.1:7480",
        "services": SERVICES,
    }
    return make_site(Wanted(**wanted | fields), NOW)


def known(folder: Path) -> dict[str, dict[str, Any]]:
    sites: dict[str, dict[str, Any]] = yaml.safe_load((folder / "deployment/sites.yaml").read_text())["sites"]
    return sites


def test_the_first_site_makes_the_deployment(tmp_path: Path) -> None:
    made = make(tmp_path, "Site1")
    assert (made.settings, made.number, made.peers) == (tmp_path / "Site1/site.yaml", 1, ())
    assert made.until == NOW + datetime.timedelta(days=825)
    assert {path.name for path in (tmp_path / "deployment").iterdir()} == {
        ".lock",
        "authority.key",
        "authority.pem",
        "sites.yaml",
    }
    assert {path.name for path in (tmp_path / "Site1/tls").iterdir()} == {"authority.pem", "site.key", "site.pem"}
    assert known(tmp_path) == {"Site1": {"number": 1, "mesh": "127.0.0.1:7443"}}


def test_the_settings_can_be_read(tmp_path: Path) -> None:
    made = make(tmp_path, "Site1", application=str(SHOP), workers=3)
    site = read_site(made.settings)
    assert (site.name, site.settings.number, site.settings.envoy.workers) == ("Site1", 1, 3)
    assert {name: (str(f.front), str(f.backend)) for name, f in site.settings.services.items()} == SERVICES
    assert site.application == read_application(SHOP)
    assert site.file(site.settings.mesh.certificate).exists()
    assert (site.settings.mesh.deployment, str(site.settings.admin.listen)) == ("cheops", "127.0.0.1:7480")


def test_they_say_what_the_site_shows_to_its_services(tmp_path: Path) -> None:
    own = {"kind": "header", "header": "X-Key", "value": "a: {b} # c"}
    site = read_site(make(tmp_path, "Site1", credentials={"catalog": own}).settings)
    assert {name: each.model_dump(exclude_none=True) for name, each in site.settings.credentials.items()} == {
        "catalog": own | {"value": SecretStr("a: {b} # c")}
    }
    assert read_site(make(tmp_path, "Site2").settings).settings.credentials == {}


def test_they_explain_themselves(tmp_path: Path) -> None:
    lines = make(tmp_path, "Site1").settings.read_text().splitlines()
    assert lines[0].startswith("# A site of Cheops.")
    assert any(line.startswith("# application: ") for line in lines)
    assert sum("#" in line for line in lines) >= 10
    assert max(map(len, lines)) <= 120


def test_later_sites_know_the_earlier_ones(tmp_path: Path) -> None:
    make(tmp_path, "Site1", mesh="127.0.0.1:1")
    make(tmp_path, "Site2", mesh="[::1]:2")
    made = make(tmp_path, "Site3")
    assert (made.number, made.peers) == (3, ("Site1", "Site2"))
    peers = read_site(made.settings).settings.peers
    assert {name: (peer.number, str(peer.mesh)) for name, peer in peers.items()} == {
        "Site1": (1, "127.0.0.1:1"),
        "Site2": (2, "[::1]:2"),
    }


def test_or_the_peers_that_are_named(tmp_path: Path) -> None:
    make(tmp_path, "Site1")
    made = make(tmp_path, "Site2", peers={"Site9": PEER})
    assert (made.peers, list(read_site(made.settings).settings.peers)) == (("Site9",), ["Site9"])


@pytest.mark.parametrize("name", ["no", "On", "1", "1e5", "null", "0x1F", "2026-11-25", "a.b_c-d", "a" * 63])
def test_a_name_is_a_name_whatever_yaml_thinks(tmp_path: Path, name: str) -> None:
    services = {"no": SERVICES["catalog"], "12": SERVICES["orders"]}
    first = read_site(make(tmp_path, name, folder=tmp_path / "first", services=services).settings)
    last = read_site(make(tmp_path, "Last").settings)
    assert (first.name, list(first.settings.services), list(last.settings.peers)) == (name, ["no", "12"], [name])


def test_addresses_may_be_of_version_6(tmp_path: Path) -> None:
    services = {"catalog": ("[::1]:8888", "[fd00::5]:18888")}
    site = read_site(make(tmp_path, "Site1", mesh="[::1]:7443", admin="[::1]:7480", services=services).settings)
    assert [str(a) for a in (site.settings.mesh.listen, site.settings.admin.listen)] == ["[::1]:7443", "[::1]:7480"]


def test_a_description_may_lie_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "my shop: #1" / "é.yaml"
    path.parent.mkdir()
    path.write_bytes(SHOP.read_bytes())
    assert read_site(make(tmp_path, "Site1", application=str(path)).settings).application.application == "shop"


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("Site 1", {}, "site: a site's name is made of letters"),
        ("-a", {}, "site: a site's name is made of letters"),
        ("a" * 64, {}, "site: a site's name is made of letters"),
        ("Site1", {"mesh": "7443"}, "mesh.listen: an address is written host:port"),
        ("Site1", {"admin": "10.0.0.1:7480"}, "admin.listen: the admin API listens on loopback only"),
        ("Site1", {"services": {"a b": SERVICES["catalog"]}}, "services.a b: a service's name is made of"),
        (
            "Site1",
            {"services": {"a": ("127.0.0.1:1", "127.0.0.1:1")}},
            "services.a.backend: this is the address",
        ),
        ("Site1", {"services": {}}, "services: Input should be a valid dictionary"),
        ("Site1", {"number": 1024}, "a site's number is at most 1023"),
        ("Site1", {"peers": {"Site1": PEER}}, "this is the site itself"),
    ],
)
def test_mistakes_leave_no_trace(tmp_path: Path, name: str, fields: dict[str, Any], sentence: str) -> None:
    """Else a name that can't be read would stand in sites.yaml, and no other site could be made."""
    make(tmp_path, "Before")
    with pytest.raises(BadSettings, match=sentence):
        make(tmp_path, name, **fields)
    assert list(known(tmp_path)) == ["Before"]
    assert not (tmp_path / name).exists()
    assert make(tmp_path, "After").number == 2


def test_a_site_is_never_overwritten(tmp_path: Path) -> None:
    before = make(tmp_path, "Site1").settings.read_bytes()
    with pytest.raises(BadSettings, match="there is a site already"):
        make(tmp_path, "Site1")
    with pytest.raises(BadSettings, match="Site1 is a site of this deployment already, with number 1"):
        make(tmp_path, "Site1", folder=tmp_path / "elsewhere")
    assert (tmp_path / "Site1/site.yaml").read_bytes() == before
    assert not (tmp_path / "elsewhere").exists()


def test_numbers_are_given_once(tmp_path: Path) -> None:
    assert make(tmp_path, "A", number=5).number == 5
    assert make(tmp_path, "B").number == 6
    with pytest.raises(BadSettings, match="A has the number 5 already"):
        make(tmp_path, "C", number=5)
    assert make(tmp_path, "C", number=2).number == 2
    assert make(tmp_path, "D").number == 7


def test_when_the_last_number_is_given_another_has_to_be_named(tmp_path: Path) -> None:
    make(tmp_path, "A", number=1023)
    with pytest.raises(BadSettings, match="at most 1023") as caught:
        make(tmp_path, "B")
    assert caught.value.hint == "Name one that is free: --number N."
    assert make(tmp_path, "B", number=4).number == 4


def test_sites_made_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    make(tmp_path, "Site0")
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda i: make(tmp_path, f"Site{i}").number, range(1, 9)))
    assert sorted(numbers) == list(range(2, 10))
    assert len(known(tmp_path)) == 9


def test_a_list_of_sites_that_is_damaged_is_told(tmp_path: Path) -> None:
    make(tmp_path, "Site1")
    (tmp_path / "deployment/sites.yaml").write_text("sites:\n  Site1: {mesh: 'a:1'}\n")
    with pytest.raises(BadSettings, match=r"sites\.yaml:2: sites\.Site1\.number: 'number' is missing"):
        make(tmp_path, "Site2")


def test_the_ports_of_a_description() -> None:
    shop = read_application(SHOP)
    assert services_of(shop, "10.0.0.5", "127.0.0.1") == {
        "catalog": ("10.0.0.5:8888", "127.0.0.1:18888"),
        "orders": ("10.0.0.5:8080", "127.0.0.1:18080"),
    }
    with pytest.raises(BadSettings, match="gives no ports for 'a'") as caught:
        services_of(application("services: {a: {port: 1}}"), "10.0.0.5", "127.0.0.1")
    assert caught.value.hint == "Name them: --service a=FRONT,BACKEND"
