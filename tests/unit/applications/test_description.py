"""The description of an application: what it may say, and what is said of a mistake in it."""

from pathlib import Path

import pytest

from cheops.applications import Application, RequestIdCarrier, TokenSuffixCarrier, read_application
from cheops.errors import BadSettings
from values import OPENSTACK, SHOP, application

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_least_is_the_names_of_services() -> None:
    least = application("services: {Catalog: {}, orders: {}}")
    assert least.aliases == {"catalog": (), "orders": ()}
    assert [carrier.kind for carrier in least.carriers] == ["header", "baggage"]
    assert (least.request_id, least.token_suffix, least.adds_baggage) == (None, None, True)


def test_all_of_it() -> None:
    assert OPENSTACK.request_id == RequestIdCarrier(
        kind="request-id", header="X-OpenStack-Request-ID", format="req-{uuid}"
    )
    assert OPENSTACK.request_id.around == ("req-", "")
    assert OPENSTACK.token_suffix == TokenSuffixCarrier(
        kind="token-suffix", headers=("X-Auth-Token", "X-Subject-Token"), separator="!", cut_at=("identity",)
    )
    assert (SHOP.adds_baggage, OPENSTACK.adds_baggage) == (False, True)
    assert OPENSTACK.aliases["volume"] == ("cinder", "block-storage")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/application.yaml")), ids=lambda path: path.parent.name)
def test_the_examples_can_be_read(path: Path) -> None:
    assert read_application(path).services


def test_names_are_read_in_any_case_and_kept_in_lower() -> None:
    read = application("""
        carriers: [{kind: token-suffix, headers: [A], cut_at: [Identity]}]
        services: {Identity: {aliases: [KeyStone]}}
    """)
    assert read.aliases == {"identity": ("keystone",)}
    assert read.token_suffix == TokenSuffixCarrier(kind="token-suffix", headers=("A",), cut_at=("identity",))


REQUEST_ID = "carriers:\n- kind: request-id\n  header: X-ID\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("services: {}", "1: services: Dictionary should have at least 1 item after validation, not 0"),
        ("application: a", "1: services: 'services' is missing"),
        ("services:\n  a b: {}", "2: services.a b: a service's name is made of letters, digits, '_', '.' and '-'"),
        ("services:\n  _a: {}", "2: services._a: a service's name is made of"),
        ("services:\n  é: {}", "2: services.é: a service's name is made of"),
        ("services:\n  '': {}", "2: services.: a service's name is made of"),
        (
            "services:\n  Prime: {}",
            "2: services.Prime: 'prime' means something else in a scope; give the service another",
        ),
        ("services:\n  cheops: {}", "2: services.cheops: 'cheops' is the agent itself; give the service another name"),
        ("services:\n  a: {}\n  A: {}", "3: services.A: this is the service 'a' again; names have no case"),
        ("services: [a]", "1: services: Input should be a valid dictionary"),
        ("services:\n  a:\n    aliases: [prime]", "3: services.a.aliases.0: 'prime' means something else in a scope"),
        ("services:\n  a: {aliases: [x]}\n  b:\n    aliases: [X]", "3: services.b: 'x' names both a and b"),
        ("services:\n  a: {aliases: [b]}\n  b: {}", "3: services.b: 'b' names both a and b; a name has one meaning"),
        ("services:\n  a: {number: 0}", "2: services.a.number: Input should be greater than or equal to 1 (it is 0)"),
        ("services:\n  a: {number: 63}", "2: services.a.number: Input should be less than or equal to 62 (it is 63)"),
        (
            "services:\n  a: {number: 7}\n  b:\n    number: 7",
            "4: services.b.number: a has the number 7 already",
        ),
        ("services:\n  a: {port: 65536}", "2: services.a.port: Input should be less than or equal to 65535"),
        ("services:\n  a: {backend-port: 1}", "2: services.a.backend-port: 'backend-port' isn't a setting here; did"),
        (
            REQUEST_ID + "services:\n  a: {number: 1}\n  b: {}",
            "6: services.b: a request id carries numbers, so each service needs a `number`, from 1 to 62",
        ),
        (
            REQUEST_ID + "  format: req\nservices: {a: {number: 1}}",
            "4: carriers.0.format: the format needs '{uuid}' once, such as 'req-{uuid}'",
        ),
        (
            REQUEST_ID + "  format: '{uuid}{uuid}'\nservices: {a: {number: 1}}",
            "4: carriers.0.format: the format needs '{uuid}' once",
        ),
        (
            REQUEST_ID + "  format: 'é{uuid}'\nservices: {a: {number: 1}}",
            "4: carriers.0.format: String should match pattern '^[!-~]+$' (it is 'é{uuid}')",
        ),
        (
            "carriers:\n- kind: request-id\n  header: 'X ID'\nservices: {a: {number: 1}}",
            "3: carriers.0.header: String should match pattern",
        ),
        ("carriers:\n- kind: token\nservices: {a: {}}", "2: carriers.0: Input tag 'token' found using 'kind' does not"),
        ("carriers:\n- {}\nservices: {a: {}}", "2: carriers.0: Unable to extract tag using discriminator 'kind'"),
        (
            "carriers:\n- kind: token-suffix\n  headers: []\nservices: {a: {}}",
            "3: carriers.0.headers: Tuple should have at least 1 item",
        ),
        (
            "carriers:\n- kind: token-suffix\n  headers: [A]\n  separator: '{'\nservices: {a: {}}",
            "4: carriers.0.separator: String should match pattern",
        ),
        (
            "carriers:\n- kind: token-suffix\n  headers: [A]\n  cut_at: [identity]\nservices: {a: {}, b: {}}",
            "4: carriers.0.cut_at: 'identity' isn't a service here; there are: a, b",
        ),
        (
            "carriers:\n- kind: token-suffix\n  headers: [A]\n  cut-at: [a]\nservices: {a: {}}",
            "4: carriers.0.cut-at: 'cut-at' isn't a setting here; did you mean 'cut_at'?",
        ),
        (
            "carriers:\n- kind: header\n- kind: baggage\n- kind: header\nservices: {a: {}}",
            "4: carriers.2: a carrier of the kind 'header' may stand here once",
        ),
    ],
)
def test_mistakes(text: str, sentence: str) -> None:
    with pytest.raises(BadSettings) as caught:
        application(text)
    assert caught.value.detail.startswith(f"application.yaml:{sentence}"), caught.value.detail


def test_a_description_is_a_value() -> None:
    text = "services: {a: {number: 1, upgrades: [spdy]}}"
    assert application(text) == application(text)
    assert application(text) != application("services: {a: {number: 2, upgrades: [spdy]}}")
    assert isinstance(application(text), Application)
