"""scope.lua in LuaJIT: the plain forms that Envoy must decide alone, what it writes, and what it leaves to the agent.

That it never decides otherwise than the agent would is a law of tests/property/test_lua_agrees.py.
"""

import re
import uuid
from dataclasses import replace
from functools import cache
from urllib.parse import quote

import pytest

from cheops.carry.request_id import Bindings, decode, encode, encode_kept
from cheops.intercept.envoy.lua import scope_script
from cheops.model import Request
from envoy_lua import Chosen, Script
from values import OPENSTACK, PLAIN, SHOP, digits, headers_of, request, site_of

ID = "x-openstack-request-id"
DESCRIBED = {"shop": SHOP, "openstack": OPENSTACK, "plain": PLAIN}


@cache
def script(described: str, service: str, at: str = "Site1") -> Script:
    return Script(scope_script(site_of(DESCRIBED[described], at), service))


def choose(
    *headers: tuple[str, str], service: str = "compute", target: str = "/v2/x", described: str = "openstack"
) -> Chosen:
    return script(described, service).choose(replace(request(service, target), headers=headers_of(headers)))


def values(chosen: Chosen) -> dict[str, str]:
    assert len({name for name, _ in chosen.request.headers}) == len(chosen.request.headers)
    return {name.decode(): value.decode() for name, value in chosen.request.headers}


def bound(chosen: Chosen) -> Bindings:
    """What the request id carries."""
    found = re.fullmatch("req-(.{36})", values(chosen)[ID])
    assert found
    carried = decode(found[1])
    assert isinstance(carried, Bindings)
    return carried


@pytest.mark.parametrize(
    ("text", "to"),
    [
        ("{compute: Site2}", "site/Site2"),
        ("{compute: Site1}", "local"),
        ("{compute:Site2}", "site/Site2"),
        ("  { compute :\tSite2 }  ", "site/Site2"),
        ("{nova: Site2}", "site/Site2"),
        ("{NOVA: Site2}", "site/Site2"),
        ("{Compute: Site2}", "site/Site2"),
        ("{cOmPuTe: Site2}", "site/Site2"),
        ("{'compute': 'Site2'}", "site/Site2"),
        ('{"compute": "Site2"}', "site/Site2"),
        ("{\"nova\": 'Site2'}", "site/Site2"),
        ('{"compute": Site2}', "site/Site2"),
        ('{"image": "Site2", "compute": "Site3"}', "site/Site3"),
        ("{image: Site2}", "local"),
        ("{image: Site2, network: Site3}", "local"),
        ("{image: Site1, compute: Site2}", "site/Site2"),
        ("{image: Site1, compute: Site2, network: Site3, placement: Site1}", "site/Site2"),
        ("{volume: Site2, block-storage: Site2}", "agent"),
        ("Site2", "site/Site2"),
        ("{Site2}", "site/Site2"),
        (" { Site1 } ", "local"),
    ],
)
def test_plain_scopes(text: str, to: str) -> None:
    assert choose(("x-scope", text)).to == to


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{}",
        "{compute: Site2 & Site3}",
        "{compute: Site2 % Site3}",
        "{compute: Site2 ; Site3}",
        "{compute: Site2 || Site3}",
        "{compute: around(Site2, 10ms)}",
        "{compute: (Site2)}",
        "{compute: Site2, prime: Site2}",
        "{image: Site2 & Site3}",  # of another service, but an operator
        "{compute: Site2, image: Site2 & Site3}",
        "{compute: Nowhere}",
        "{compute: site2}",
        "{unknown: Site2}",
        "{compute: Site2, compute: Site2}",
        "{compute: Site2, Nova: Site3}",
        "{compute: Site2,}",
        "{compute: Site2",
        "compute: Site2",
        "{compute Site2}",
        "{compute: 'Site2}",
        "{compute: Site2}}",
        "{{compute: Site2}}",
        "{compute: Site2} {image: Site2}",
        "{compute: Site2\x00}",
        "{compute: Sité2}",
        "Nowhere",
        "Site1 Site2",
        "{image: Site1, compute: Site2, network: Site3, placement: Site1, volume: Site2}",  # more than an id carries
        "{compute: Site2" + " " * 1024 + "}",
    ],
)
def test_doubt_goes_to_the_agent(text: str) -> None:
    chosen = choose(("x-scope", text), ("x-auth-token", "t"))
    assert (chosen.to, values(chosen)) == ("agent", {"x-scope": text, "x-auth-token": "t"})


def test_two_scopes_are_doubt_too() -> None:
    assert choose(("x-scope", "{compute: Site2}"), ("x-scope", "{compute: Site2}")).to == "agent"


def test_the_same_front_at_another_site() -> None:
    at = script("openstack", "compute", "Site2")
    assert at.choose(request("compute", x_scope="{compute: Site2}")).to == "local"
    assert at.choose(request("compute", x_scope="{compute: Site1}")).to == "site/Site1"


ONE = quote("{compute: Site2}", safe="")


@pytest.mark.parametrize(
    ("headers", "to"),
    [
        ([f"scope={ONE}"], "site/Site2"),
        ([f"a=1, scope = {ONE} ;p=1 , b=2"], "site/Site2"),
        ([f"a=1,scope={ONE.lower()}"], "agent"),  # of another case is another site
        ([f"scope={ONE.replace('%3A', '%3a')}"], "site/Site2"),
        ([f"scope={quote('{image: Site2}')}"], "local"),
        (["a=1", f"scope={ONE}"], "site/Site2"),
        ([f"scope={ONE}", "scope=x"], "agent"),
        ([f"scope={ONE},scope={ONE}"], "agent"),
        (["scope={compute:Site2}"], "site/Site2"),
        (["scope={compute: Site2}"], "agent"),
        ([f"scope={ONE} x"], "agent"),
        (["scope"], "agent"),
        (["scope="], "agent"),
        (["scope;a=1"], "agent"),
        (["scope=%7Bcompute%3A%20Site2%20%26%20Site3%7D"], "agent"),
        (["scopes=1,a=scope,myscope=1"], "local"),
        ([f"x;scope={ONE}"], "local"),
    ],
)
def test_baggage(headers: list[str], to: str) -> None:
    assert choose(*(("baggage", value) for value in headers)).to == to


@pytest.mark.parametrize(
    ("numbers", "to"),
    [
        ([(1, 2)], "site/Site2"),
        ([(1, 1)], "local"),
        ([(2, 2)], "local"),
        ([(2, 1), (3, 1), (62, 3), (1, 3)], "site/Site3"),
        ([(1, 2), (1, 2)], "agent"),
        ([(1, 2), (2, 1), (2, 1)], "agent"),
        ([(1, 2), (7, 1)], "agent"),
        ([(1, 2), (2, 900)], "agent"),
        ([(1, 0)], "agent"),
    ],
)
def test_marked_ids(numbers: list[tuple[int, int]], to: str) -> None:
    chosen = choose((ID, f"req-{encode(numbers, digits())}"))
    assert (chosen.to, values(chosen)) == (to, {ID: f"req-{encode(numbers, digits())}"})


def test_a_kept_scope_is_the_agents() -> None:
    assert choose((ID, f"req-{encode_kept(1, digits())}")).to == "agent"


MARKED = encode([(1, 2)], digits())


@pytest.mark.parametrize(
    "value",
    [
        "req-3f2b8a4c-9d1e-4f60-8a7b-2c3d4e5f6a7b",
        "anything",
        "",
        MARKED,
        f"req-{MARKED}0",
        f"xreq-{MARKED}",
        f"req-{MARKED.upper()}",
        f"req-{MARKED[:14]}4{MARKED[15:]}",
        f"req-{MARKED[:19]}7{MARKED[20:]}",
        f"req-c4e05{MARKED[5:]}",
        f"req-c4e00{MARKED[5:]}",
        f"req-{MARKED.replace('-', '0')}",
    ],
)
def test_other_ids_say_nothing(value: str) -> None:
    chosen = choose((ID, value))
    assert (chosen.to, values(chosen)) == ("local", {ID: value})


def test_nor_do_two_ids() -> None:
    assert choose((ID, f"req-{MARKED}"), (ID, f"req-{MARKED}")).to == "local"


@pytest.mark.parametrize(
    ("token", "to"),
    [
        ("t!{compute: Site2}", "site/Site2"),
        ("a!b!{}c!{nova: Site2}", "site/Site2"),
        ("!{image: Site2}", "local"),
        ("t!{compute: Site1 & Site2}", "agent"),
        ("t!{}", "agent"),
        ("t!{compute: Site2}x", "local"),
        ("t", "local"),
        ("", "local"),
    ],
)
@pytest.mark.parametrize("header", ["x-auth-token", "x-subject-token"])
def test_tokens(header: str, token: str, to: str) -> None:
    chosen = choose((header, token))
    assert (chosen.to, values(chosen)) == (to, {header: token})


@pytest.mark.parametrize(
    ("also", "to"),
    [
        ([], "site/Site2"),
        ([("x-scope", "{identity: Site3}")], "site/Site3"),
        ([(ID, f"req-{encode([(4, 3)], digits())}")], "site/Site3"),
        ([("baggage", "scope=%7Bimage%3ASite2%7D")], "local"),
    ],
)
def test_identity_never_sees_a_suffix(also: list[tuple[str, str]], to: str) -> None:
    tokens = [("x-auth-token", "t!{identity: Site2}"), ("x-subject-token", "a!b!{image: Site1}")]
    chosen = choose(*tokens, *also, service="identity")
    assert (chosen.to, values(chosen)["x-auth-token"], values(chosen)["x-subject-token"]) == (to, "t", "a!b")


def test_the_agent_sees_the_suffix_wherever_it_decides() -> None:
    chosen = choose(("x-auth-token", "t!{identity: Site1 & Site2}"), service="identity")
    assert (chosen.to, values(chosen)) == ("agent", {"x-auth-token": "t!{identity: Site1 & Site2}"})


def test_a_prefix_becomes_x_scope() -> None:
    chosen = choose(target="/~scope/%7Bnova%3A%20Site2%7D/v2//a%2Fb?x={a}")
    assert (chosen.to, chosen.path, chosen.request.target) == ("site/Site2", *[b"/v2//a%2Fb?x={a}"] * 2)
    assert values(chosen)["x-scope"] == "{nova: Site2}"
    assert chosen.prefix == "/~scope/%7Bnova%3A%20Site2%7D"


@pytest.mark.parametrize("target", ["/~scope/{compute:Site2}/x", "/~scope/Site2/x", "/~scope/%7Bcompute:Site2%7D/x"])
def test_a_prefix_may_be_less_escaped(target: str) -> None:
    assert choose(target=target).to == "site/Site2"


@pytest.mark.parametrize(
    "target",
    [
        "/~scope/",
        "/~scope/Site2",
        "/~scope//x",
        "/~scope/Site2?a/b",
        "/~scope/%7Bcompute%3ASite1%26Site2%7D/x",
        "/~scope/%7Bcompute%3A%09Site2%7D/x",  # a tab would not be a header
        "/~scope/%0AX-Evil%3A1/x",
        "/~scope/%zz/x",
    ],
)
def test_an_unclear_prefix_is_the_agents(target: str) -> None:
    chosen = choose(target=target)
    assert (chosen.to, chosen.request) == ("agent", replace(request("compute", target), headers=()))


def test_and_one_beside_x_scope() -> None:
    chosen = choose(("x-scope", "{compute: Site2}"), target="/~scope/Site2/x")
    assert (chosen.to, chosen.request.target, chosen.path[:8]) == ("agent", b"/~scope/Site2/x", b"/~scope/")


@pytest.mark.parametrize("target", ["/~scopes/Site2/x", "/v2/~scope/Site2/x", "/", "*"])
def test_other_paths_are_paths(target: str) -> None:
    plain = Request(service="compute", method="OPTIONS", target=target.encode(), headers=())
    chosen = script("openstack", "compute").choose(plain)
    assert (chosen.to, chosen.path, chosen.prefix) == ("local", target.encode(), None)


def test_the_first_carrier_counts() -> None:
    each = [
        ("x-scope", "{compute: Site1}"),
        ("baggage", f"scope={ONE}"),
        (ID, f"req-{encode([(1, 3)], digits())}"),
        ("x-auth-token", "t!{compute: Site1}"),
    ]
    assert [choose(*each[i:]).to for i in range(4)] == ["local", "site/Site2", "site/Site3", "local"]


def test_what_is_written() -> None:
    chosen = choose(("x-scope", "{Nova: Site2, 'image': Site1}"), ("baggage", "a=1"), ("x-auth-token", "t"))
    assert bound(chosen) == Bindings(numbers=((1, 2), (2, 1)))
    assert {name: value for name, value in values(chosen).items() if name != ID} == {
        "x-scope": "{Nova: Site2, 'image': Site1}",
        "baggage": "a=1,scope=%7Bcompute%3A%20Site2%2C%20image%3A%20Site1%7D",
        "x-auth-token": "t!{compute: Site2, image: Site1}",
    }


def test_an_older_scope_is_replaced_everywhere() -> None:
    chosen = choose(
        ("x-scope", "{compute: Site2}"),
        ("baggage", "scope=%7Bcompute%3ASite1%7D , a=1"),
        ("baggage", "b=2"),
        (ID, f"req-{encode([(1, 1)], digits())}"),
        ("x-auth-token", "t!{compute: Site1}"),
    )
    assert bound(chosen) == Bindings(numbers=((1, 2),))
    assert values(chosen)["baggage"] == f" a=1,b=2,scope={ONE}"
    assert values(chosen)["x-auth-token"] == "t!{compute: Site2}"


def test_an_id_that_says_the_same_is_kept_so_that_a_workflow_has_one() -> None:
    mine = f"req-{encode([(1, 2)], digits('f'))}"
    assert values(choose(("x-scope", "{compute: Site2}"), (ID, mine)))[ID] == mine


def test_an_application_gets_the_carriers_that_it_has() -> None:
    catalog = choose(("x-scope", "{catalog: Site2}"), described="shop", service="catalog")
    assert set(values(catalog)) == {"x-scope", "x-request-id"}
    catalog = choose(("x-scope", "{catalog: Site2}"), described="plain", service="catalog")
    assert set(values(catalog)) == {"x-scope", "baggage"}


def made(script: Script, count: int) -> list[str]:
    answers = (script.choose(request("compute", x_scope="{compute: Site2}")) for _ in range(count))
    return [values(chosen)[ID] for chosen in answers]


def test_ids_are_uuids_of_version_8_in_the_applications_format() -> None:
    for text in made(script("openstack", "compute"), 200):
        assert text.startswith("req-")
        read = uuid.UUID(text[4:])
        assert (str(read), read.version, read.variant) == (text[4:], 8, uuid.RFC_4122)
        assert decode(text[4:]) == Bindings(numbers=((1, 2),))


def test_two_workers_never_draw_the_same_ids() -> None:
    """Each has its own Lua state, and a seed of its own."""
    text = scope_script(site_of(OPENSTACK), "compute")
    workers = [made(Script(text), 20) for _ in range(10)]
    everything = [uuid for ids in workers for uuid in ids]
    assert len(set(everything)) == len(everything)
    assert {text[4 + 19] for text in everything} == set("89ab")


def test_many_scopes_are_remembered_only_so_far() -> None:
    worker = Script(scope_script(site_of(OPENSTACK), "compute"))
    for spaces in range(2100):
        assert worker.choose(request("compute", x_scope="{compute: Site2" + " " * (spaces % 1000) + "}")).to
    for end in range(2500):
        assert worker.choose(request("compute", x_scope=f"{{compute: Site{end}}}")).to
    assert worker.choose(request("compute", x_scope="{compute: Site2}")).to == "site/Site2"


@pytest.mark.parametrize("value", ["only", "", "anything"])
@pytest.mark.parametrize("scope", ["{compute: Site2}", "{compute: Site1}", "{compute: Site2 ; Site1}", None])
def test_who_asks_for_a_plan_asks_the_agent_and_with_what_was_said(value: str, scope: str | None) -> None:
    said = (*([("x-scope", scope)] if scope else []), ("cheops-plan", value))
    chosen = choose(*said, target="/~scope/Site2/v2/x")
    assert (chosen.to, chosen.request.target) == ("agent", b"/~scope/Site2/v2/x")
    assert chosen.request.headers == headers_of(said)
