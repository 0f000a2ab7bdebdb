"""site.yaml: what it may say, and what is said of a mistake in it."""

import traceback
from pathlib import Path

import pytest
import yaml

from cheops.config import Address, Front, Site, parse_address, parse_collector, read_site
from cheops.credential_settings import SERVICE_ACCOUNT, KubernetesServiceAccount
from cheops.errors import BadSettings

GOOD = """\
site: Site1
number: 1
mesh:
  listen: 127.0.0.1:7443
  deployment: shop
admin:
  listen: 127.0.0.1:7480
services:
  catalog:
    front: 127.0.0.1:8888
    backend: localhost:18888
  orders:
    front: "[::1]:8080"
    backend: orders.example:18080
peers:
  Site2:
    number: 2
    mesh: site2.example:7443
"""


def read(folder: Path, text: str = GOOD, name: str = "site.yaml") -> Site:
    (folder / name).write_text(text, encoding="utf-8")
    return read_site(folder / name)


def told(folder: Path, text: str) -> str:
    """What is said of the mistake, from the line on."""
    with pytest.raises(BadSettings) as caught:
        read(folder, text)
    head, tail = str(folder / "site.yaml") + ":", caught.value.detail
    assert tail.startswith(head)
    return tail.removeprefix(head)


def test_a_good_one(tmp_path: Path) -> None:
    site = read(tmp_path)
    assert (site.name, site.site_numbers, site.site_names) == (
        "Site1",
        {"Site1": 1, "Site2": 2},
        ("Site1", "Site2"),
    )
    assert (site.data, site.run, site.file(site.settings.mesh.key)) == (
        tmp_path / "data",
        tmp_path / "data/run",
        tmp_path / "tls/site.key",
    )
    assert site.settings.services["orders"] == Front(
        front=Address(host="::1", port=8080), backend=Address(host="orders.example", port=18080)
    )
    assert (site.settings.envoy.workers, site.settings.envoy.drain_seconds) == (2, 10)


def test_a_file_named_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert read_site(Path("site.yaml")).data == tmp_path / "data"


def test_without_a_description_the_services_are_the_application(tmp_path: Path) -> None:
    added = GOOD.replace("  catalog:\n", "  Catalog:\n    aliases: [Kinto]\n    number: 7\n")
    application = read(tmp_path, added).application
    assert application.aliases == {"catalog": ("kinto",), "orders": ()}
    assert application.services["catalog"].number == 7


DESCRIPTION = "application: shop\nservices: {catalog: {aliases: [kinto]}, orders: {}, mail: {}}"


def test_a_description_stands_beside_it(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(DESCRIPTION)
    site = read(tmp_path, GOOD + "application: shop.yaml\n")
    assert (site.application.application, list(site.application.services)) == ("shop", ["catalog", "orders", "mail"])
    assert list(site.settings.services) == ["catalog", "orders"]  # a site needn't run all


def test_equal_files_are_equal_settings(tmp_path: Path) -> None:
    assert read(tmp_path) == read(tmp_path)
    assert read(tmp_path) != read(tmp_path, GOOD.replace("18888", "18889"))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "site: Site1",
            "site: 'Site 1'",
            "1: site: a site's name is made of letters, digits, '_', '.' and '-', at most",
        ),
        ("site: Site1", "site: -a", "1: site: a site's name is made of"),
        ("site: Site1", f"site: {'a' * 64}", "1: site: a site's name is made of letters"),
        ("site: Site1", "site: no", "1: site: Input should be a valid string (it is False)"),
        ("number: 1", "number: 0", "2: number: Input should be greater than or equal to 1 (it is 0)"),
        ("number: 1", "number: 1024", "2: number: Input should be less than or equal to 1023 (it is 1024)"),
        ("number: 1", "nummer: 1", "1: number: 'number' is missing"),
        ("listen: 127.0.0.1:7443", "listen: 7443", "4: mesh.listen: an address is written host:port, such as 10.0.0.5"),
        ("listen: 127.0.0.1:7443", "listen: a:0", "4: mesh.listen: an address is written host:port"),
        ("listen: 127.0.0.1:7443", "listen: a:65536", "4: mesh.listen: an address is written host:port"),
        ("listen: 127.0.0.1:7443", "listen: ::1:7443", "4: mesh.listen: an address is written host:port"),
        ("listen: 127.0.0.1:7443", "listen: 'http://a:1'", "4: mesh.listen: an address is written host:port"),
        (
            "listen: 127.0.0.1:7443",
            "listen: a.example:1",
            "4: mesh.listen: an address to listen on is a number, such as",
        ),
        ("deployment: shop", "deployment: Shop", "5: mesh.deployment: String should match pattern '^[a-z0-9.-]+$'"),
        ("deployment: shop", "deploiment: shop", "3: mesh.deployment: 'deployment' is missing"),
        ("listen: 127.0.0.1:7480", "listen: 10.0.0.1:7480", "7: admin.listen: the admin API listens on loopback only"),
        ("listen: 127.0.0.1:7480", "listen: 0.0.0.0:7480", "7: admin.listen: the admin API listens on loopback only"),
        (
            "front: 127.0.0.1:8888",
            "front: catalog:8888",
            "10: services.catalog.front: an address to listen on is a num",
        ),
        ("    front: 127.0.0.1:8888\n", "", "9: services.catalog.front: 'front' is missing"),
        (
            "backend: localhost:18888",
            "backend: 127.0.0.1:8888",
            "11: services.catalog.backend: this is the address of the front, so requests would go round in circles",
        ),
        ("  catalog:", "  cata log:", "9: services.cata log: a service's name is made of letters, digits"),
        (
            "    backend: localhost",
            "    number: 63\n    backend: localhost",
            "11: services.catalog.number: Input should be",
        ),
        (
            "    backend: localhost",
            "    open_to: [a b]\n    backend: localhost",
            "11: services.catalog.open_to.0: a site's",
        ),
        ("  Site2:", "  Site1:", "16: peers.Site1: this is the site itself; peers are the others"),
        (
            "    number: 2",
            "    number: 1",
            "17: peers.Site2.number: Site1 has the number 1 already; each site has its own",
        ),
        ("    mesh: site2", "    mash: site2", "16: peers.Site2.mesh: 'mesh' is missing"),
        ("7480", "7443", "7: admin.listen: mesh listens on 127.0.0.1:7443 already"),
        ('"[::1]:8080"', "127.0.0.1:7443", "13: services.orders.front: mesh listens on 127.0.0.1:7443 already"),
        ('"[::1]:8080"', "127.0.0.1:7480", "13: services.orders.front: admin listens on 127.0.0.1:7480 already"),
        ('"[::1]:8080"', "127.0.0.1:8888", "13: services.orders.front: catalog listens on 127.0.0.1:8888 already"),
        ("peers:", "envoy: {workers: 0}\npeers:", "15: envoy.workers: Input should be greater than or equal to 1"),
        ("peers:", "envoy: {log_level: loud}\npeers:", "15: envoy.log_level: String should match pattern"),
        ("peers:", "envoy: {drain_seconds: 0}\npeers:", "15: envoy.drain_seconds: Input should be greater"),
        ("peers:", "piers: {}\npeers:", "15: piers: 'piers' isn't a setting here; did you mean 'peers'?"),
        ("  orders:", "  catalog:", "12: 'catalog' stands here twice; keep one"),
        ("  orders:", "  Catalog:", "12: services.Catalog: this is the service 'catalog' again; names have no case"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert GOOD.count(old) == 1 or old in ("number: 1", "7480")
    assert told(tmp_path, GOOD.replace(old, new, 1)).startswith(sentence)


def test_services_that_contradict_each_other(tmp_path: Path) -> None:
    both = GOOD.replace("    backend", "    aliases: [shop]\n    number: 3\n    backend")
    assert told(tmp_path, both).startswith("14: services.orders: 'shop' names both catalog and orders")
    numbers = both.replace("aliases: [shop]", "aliases: [s]", 1)
    assert told(tmp_path, numbers).startswith("17: services.orders.number: catalog has the number 3 already")


def test_no_services(tmp_path: Path) -> None:
    bare = yaml.safe_dump({**yaml.safe_load(GOOD), "services": {}})
    assert "services: Dictionary should have at least 1 item" in told(tmp_path, bare)


def test_a_service_that_the_description_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("application: shop\nservices: {catalog: {}, mail: {}}")
    sentence = "12: services.orders: shop has no such service; it has: catalog, mail"
    assert told(tmp_path, GOOD + "application: a.yaml\n") == sentence


@pytest.mark.parametrize(("field", "value"), [("aliases", "[kinto]"), ("number", "4")])
def test_what_stands_in_the_description_stands_there_only(tmp_path: Path, field: str, value: str) -> None:
    (tmp_path / "shop.yaml").write_text(DESCRIPTION)
    text = GOOD.replace("    backend: localhost", f"    {field}: {value}\n    backend: localhost")
    sentence = f"11: services.catalog.{field}: this stands in the description, shop.yaml; take it out here"
    assert told(tmp_path, text + "application: shop.yaml\n") == sentence


def test_a_mistake_in_the_description_is_told_with_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("services: {}")
    with pytest.raises(BadSettings, match=r"shop\.yaml:1: services: Dictionary should have"):
        read(tmp_path, GOOD + "application: shop.yaml\n")
    with pytest.raises(BadSettings, match=r"none\.yaml: can't be read"):
        read(tmp_path, GOOD + "application: none.yaml\n")


def test_a_folder_too_deep_for_unix_sockets(tmp_path: Path) -> None:
    room = 107 - len(str(tmp_path / "x" / "run" / "egress.sock")) + 1
    assert read(tmp_path, GOOD + f"data: {'d' * room}\n").data.name == "d" * room
    sentence = "19: data: the folder's path is 1 bytes too long for unix sockets"
    assert told(tmp_path, GOOD + f"data: {'d' * (room + 1)}\n") == sentence


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.5:1", Address(host="10.0.0.5", port=1)),
        ("[fd00::5]:65535", Address(host="fd00::5", port=65535)),
        ("a-b.example:80", Address(host="a-b.example", port=80)),
    ],
)
def test_addresses_are_written_as_they_are_read(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text
    assert parse_address(address) is address


@pytest.mark.parametrize(
    "text", ["", "a", ":1", "a:", "a:b", "a:1:2", "[a]:1", "[::g]:1", "a b:1", "a/b:1", "a:123456", 80, None]
)
def test_what_is_no_address(text: object) -> None:
    with pytest.raises(ValueError, match="an address is written host:port"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "loops"),
    [("127.8.9.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("10.0.0.1:1", False), ("a:1", False)],
)
def test_loopback(text: str, loops: bool) -> None:
    assert parse_address(text).is_loopback is loops


def test_no_traces_unless_they_are_asked_for(tmp_path: Path) -> None:
    assert read(tmp_path).settings.traces is None


@pytest.mark.parametrize(
    ("endpoint", "whole"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
        ("http://collector.example", "http://collector.example:4318"),
        ("http://[::1]:80/otlp/", "http://[::1]:80/otlp"),
        ("http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318"),
    ],
)
def test_where_spans_go(tmp_path: Path, endpoint: str, whole: str) -> None:
    traces = read(tmp_path, f'{GOOD}traces: {{endpoint: "{endpoint}"}}\n').settings.traces
    assert traces
    assert (str(traces.endpoint), traces.sample) == (whole, 1.0)
    assert parse_collector(whole) == traces.endpoint


@pytest.mark.parametrize("endpoint", ["https://a", "a:4318", "http://", "http://a?b", "http://u@a", "http://a/b c"])
def test_what_is_no_collector(tmp_path: Path, endpoint: str) -> None:
    said = told(tmp_path, f'{GOOD}traces: {{endpoint: "{endpoint}"}}\n')
    assert "traces.endpoint" in said
    assert "http://127.0.0.1:4318" in said


@pytest.mark.parametrize("sample", ["0", "-0.1", "1.01", "all"])
def test_a_share_of_the_traces_is_more_than_none_and_at_most_all(tmp_path: Path, sample: str) -> None:
    assert "traces.sample" in told(tmp_path, f'{GOOD}traces: {{endpoint: "http://a", sample: {sample}}}\n')


CREDENTIALS = GOOD + "credentials:\n  catalog:\n"
LINE = CREDENTIALS.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{kind: header}", "value_file, value_env or value says the value; there must be one of them"),
        ("{kind: header, value: s3cret, value_env: X}", "value: value_file, value_env or value says the value"),
        ("{kind: header, value: 5123456}", "value: Input should be a valid string"),
        ("{kind: header, value: true}", "value: Input should be a valid string"),
        ("{kind: header, valeu: s3cret}", "'valeu' isn't a setting here; did you mean 'value'?"),
        ("{kind: header, value_env: s3cret-5123456}", "value_env: String should match pattern"),
        ("s3cret", "catalog: Input should be"),
        ("{kind: password}", "does not match any of the expected tags"),
        ("{kind: keystone-password, username: u, project: p, password: 5123456}", "should be a valid string"),
        ("{kind: keystone-password, username: u, project: p, password: s3cret}", "auth_url is needed, since the site"),
        ("{kind: keystone-application-credential, id: '', secret: s3cret}", "id: String should have at least 1"),
        ("{kind: keystone-application-credential, id: i, auth_url: 'http://u:s3cret@h/v3'}", "auth_url: String should"),
    ],
)
def test_mistakes_in_credentials_show_no_secret(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(BadSettings) as caught:
        read(tmp_path, CREDENTIALS.removesuffix("\n") + " " + text + "\n")
    shown = "".join(traceback.format_exception(caught.value))
    assert sentence in shown
    assert str(tmp_path / "site.yaml") + f":{LINE - 1}: credentials.catalog" in caught.value.detail
    assert "s3cret" not in shown
    assert "5123456" not in shown


def test_credentials_for_a_service_that_is_not_here(tmp_path: Path) -> None:
    text = GOOD + "credentials: {catalogue: {kind: header, value: s3cret}}\n"
    assert "the site runs no such service; it runs: catalog, orders" in told(tmp_path, text)


def test_the_service_account_is_where_kubernetes_puts_it(tmp_path: Path) -> None:
    site = read(tmp_path, CREDENTIALS + "    kind: kubernetes-service-account\n")
    assert site.settings.credentials["catalog"] == KubernetesServiceAccount(kind="kubernetes-service-account")
    assert site.file(SERVICE_ACCOUNT) == Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
