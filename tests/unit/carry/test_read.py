"""Where the scope of a request is found, which of several counts, and what is said when it can't be read."""

from dataclasses import replace

import pytest

from cheops.carry import Carried, read_carried
from cheops.carry.read import split_token
from cheops.carry.request_id import Bindings, KeptBy, encode, encode_kept
from cheops.errors import BadRequest, BadScope
from values import OPENSTACK, SHOP, application, digits, headers_of, request

ID = encode([(1, 2), (2, 1)], digits())
SCOPE = "{compute: Site2}"


def read(*headers: tuple[str, str], service: str = "compute", target: str = "/v2/servers?x={a}") -> Carried:
    return read_carried(replace(request(service, target), headers=headers_of(headers)), OPENSTACK)


def test_nothing() -> None:
    carried = read(("accept", "*/*"), ("baggage", "a=1"), ("x-openstack-request-id", "req-1"), ("x-auth-token", "t"))
    assert (carried.text, carried.by_id, carried.uuid) == (None, None, "")
    assert carried.request == replace(
        request("compute", "/v2/servers?x={a}"),
        headers=headers_of(
            [("accept", "*/*"), ("baggage", "a=1"), ("x-openstack-request-id", "req-1"), ("x-auth-token", "t")]
        ),
    )


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-scope", SCOPE),
        ("baggage", "scope=%7Bcompute%3A%20Site2%7D"),
        ("baggage", "scope={compute: Site2}"),  # not what W3C says, but clear
        ("baggage", " a=1 ,\tscope = %7bcompute%3A%20Site2%7d ;p=1; q, b=2"),
        ("x-auth-token", f"gAAA!{SCOPE}"),
        ("x-subject-token", f"a!b!{{}}c!{SCOPE}"),
    ],
)
def test_each_carrier_of_text(header: str, value: str) -> None:
    assert read((header, value)).text == SCOPE


def test_baggage_may_be_spread_over_headers() -> None:
    assert read(("baggage", "a=1"), ("baggage", "scope=%7B%7D,b=2")).text == "{}"


def test_an_empty_scope_is_one_and_its_reader_will_say_so() -> None:
    assert read(("x-scope", "")).text == ""
    assert read(("baggage", "scope")).text == ""
    assert read(("baggage", "scope;x=1")).text == ""


@pytest.mark.parametrize("member", ["Scope=1", "scopes=1", "a=scope", "x;scope=1", "=scope", ""])
def test_other_members_of_baggage_are_not_the_scope(member: str) -> None:
    assert read(("baggage", member)).text is None


def test_the_prefix_is_taken_off_the_path_byte_for_byte() -> None:
    carried = read(target="/~scope/%7Bcompute:%20Site2%7D/v2//a%2Fb/~scope/?x={a}")
    assert (carried.text, carried.request.target) == (SCOPE, b"/v2//a%2Fb/~scope/?x={a}")


@pytest.mark.parametrize("target", ["/~scopes/a/b", "/~scope", "/v2/~scope/a/b", "/%7Escope/a/b"])
def test_what_only_looks_like_a_prefix_is_a_path(target: str) -> None:
    carried = read(target=target)
    assert (carried.text, carried.request.target) == (None, target.encode())


@pytest.mark.parametrize("target", ["/~scope/", "/~scope/abc", "/~scope//x"])
def test_half_a_prefix_is_a_mistake(target: str) -> None:
    with pytest.raises(BadRequest, match="a URL with a scope is written /~scope/SCOPE/…"):
        read(target=target)


def test_the_request_id_gives_numbers() -> None:
    carried = read(("x-openstack-request-id", f"req-{ID}"))
    assert (carried.text, carried.by_id, carried.uuid) == (None, Bindings(numbers=((1, 2), (2, 1))), ID)


def test_or_the_site_that_keeps_the_scope() -> None:
    uuid = encode_kept(3, digits())
    carried = read(("x-openstack-request-id", f"req-{uuid}"))
    assert (carried.by_id, carried.uuid) == (KeptBy(site=3), uuid)


@pytest.mark.parametrize("value", [ID, f"req-{ID}x", f"xreq-{ID}", "req-", "r", f"REQ-{ID}"])
def test_an_id_of_another_format_is_not_ours(value: str) -> None:
    assert read(("x-openstack-request-id", value)).by_id is None


def test_nor_is_one_of_two_ids() -> None:
    assert read(*[("x-openstack-request-id", f"req-{ID}")] * 2).by_id is None


def test_an_application_without_the_carrier_ignores_it() -> None:
    bare = application("services: {compute: {}}")
    marked = request("compute", x_openstack_request_id=f"req-{ID}", x_auth_token=f"t!{SCOPE}")
    assert read_carried(marked, bare) == Carried(request=marked)


EACH = {
    "x-scope": ("x-scope", "{compute: Site1}"),
    "baggage": ("baggage", "scope=%7Bcompute%3A%20Site2%7D"),
    "id": ("x-openstack-request-id", f"req-{ID}"),
    "token": ("x-auth-token", "t!{compute: Site3}"),
}


def test_the_first_of_them_counts() -> None:
    everything = list(EACH.values())[::-1]
    assert read(*everything).text == "{compute: Site1}"
    assert read(*everything[:3]).text == "{compute: Site2}"
    found = read(*everything[:2])
    assert (found.text, found.by_id) == (None, Bindings(numbers=((1, 2), (2, 1))))
    assert read(everything[0]).text == "{compute: Site3}"


def test_a_prefix_counts_before_baggage_but_not_beside_x_scope() -> None:
    assert read(EACH["baggage"], target="/~scope/Site3/x").text == "Site3"
    with pytest.raises(BadRequest, match="given twice, in the URL and in X-Scope"):
        read(EACH["x-scope"], target="/~scope/Site3/x")


@pytest.mark.parametrize("service", ["identity", "compute"])
@pytest.mark.parametrize("also", [[], [EACH["x-scope"]], [EACH["id"]]])
def test_the_suffix_is_cut_where_the_description_says_so(service: str, also: list[tuple[str, str]]) -> None:
    tokens = [("x-auth-token", f"t!{SCOPE}"), ("x-subject-token", f"s!{SCOPE}")]
    carried = read(*also, *tokens, service=service).request
    seen = [b"t", b"s"] if service == "identity" else [f"t!{SCOPE}".encode(), f"s!{SCOPE}".encode()]
    assert [carried.values(b"x-auth-token"), carried.values(b"x-subject-token")] == [[value] for value in seen]


def test_of_two_tokens_the_first_header_of_the_description_counts() -> None:
    assert read(("x-subject-token", "s!{a: B}"), ("x-auth-token", f"t!{SCOPE}")).text == SCOPE


def test_a_token_given_twice_is_left_alone() -> None:
    carried = read(("x-auth-token", f"t!{SCOPE}"), ("x-auth-token", "u"), service="identity")
    assert (carried.text, carried.request.values(b"x-auth-token")) == (None, [f"t!{SCOPE}".encode(), b"u"])


@pytest.mark.parametrize("token", [b"", b"t", b"t!", b"t!{", b"t!{a}x", b"t{a: B}", b"t!x{a}"])
def test_what_has_no_suffix(token: bytes) -> None:
    carrier = OPENSTACK.token_suffix
    assert carrier is not None
    assert split_token(token, carrier) is None


def test_headers_of_other_spelling_are_read_too() -> None:
    loud = application("""
        carriers: [{kind: request-id, header: X-REQUEST-ID}, {kind: token-suffix, headers: [AUTHORIZATION]}]
        services: {compute: {number: 1}}
    """)
    assert read_carried(request("compute", x_request_id=ID), loud).by_id == Bindings(numbers=((1, 2), (2, 1)))
    assert read_carried(request("compute", authorization=f"Bearer t!{SCOPE}"), loud).text == SCOPE


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ([("x-scope", "{}"), ("x-scope", "{}")], "the header X-Scope is given twice"),
        ([("baggage", "scope=a"), ("baggage", "scope=b")], "the baggage has the member 'scope' twice"),
        ([("baggage", "scope=a,scope;b")], "the baggage has the member 'scope' twice"),
    ],
)
def test_a_scope_given_twice_is_a_mistake(headers: list[tuple[str, str]], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        read(*headers)


BAD = b"{compute: \xff}"


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        (b"x-scope", BAD, "X-Scope"),
        (b"baggage", b"scope=%ff", "baggage"),
        (b"x-auth-token", b"t!" + BAD, "a token"),
    ],
)
def test_a_scope_is_text(name: bytes, value: bytes, where: str) -> None:
    with pytest.raises(BadScope, match=f"the scope in {where} isn't UTF-8 text"):
        read_carried(replace(request("compute"), headers=((name, value),)), OPENSTACK)


def test_a_scope_in_the_url_too() -> None:
    with pytest.raises(BadScope, match="the scope in the URL isn't UTF-8 text"):
        read(target="/~scope/%ff/")


def test_but_a_token_matters_only_where_its_scope_counts() -> None:
    headers = ((b"x-scope", b"{}"), (b"x-auth-token", b"t!" + BAD))
    assert read_carried(replace(request("compute"), headers=headers), OPENSTACK).text == "{}"


def test_errors_say_what_to_do() -> None:
    with pytest.raises(BadRequest) as caught:
        read_carried(replace(request("catalog"), headers=((b"x-scope", b"a"),) * 2), SHOP)
    assert caught.value.hint == "Put all bindings into one: {a: Site1, b: Site2}."
    assert (caught.value.status, caught.value.problem()["fault"]) == (400, "caller")
