"""Where a resolved scope is put, and what of the request stays as it was."""

from dataclasses import replace

import pytest

from cheops.applications import Application
from cheops.carry import carry
from cheops.carry.request_id import Bindings, KeptBy, decode, encode
from cheops.carry.write import Carrying
from cheops.model import Request, Resolved
from values import OPENSTACK, PLAIN, SHOP, digits, headers_of, request, site_of, view_of

TWO = {"compute": "Site1", "image": "Site2"}
MANY = {"compute": "Site1", "image": "Site2", "network": "Site2", "placement": "Site3", "volume": "Site1"}


def carried(before: Request, site_of_: dict[str, str], described: Application = OPENSTACK) -> Carrying:
    return carry(before, Resolved.to(site_of_), described, view_of(site_of(described)), digits())


def values(carrying: Carrying) -> dict[str, list[str]]:
    headers = carrying.request.headers
    return {name.decode(): [v.decode() for n, v in headers if n == name] for name, _ in headers}


def sent(*headers: tuple[str, str], service: str = "compute") -> Request:
    return replace(request(service), headers=headers_of(headers))


def test_each_carrier_of_the_application_has_it() -> None:
    found = values(carried(sent(("accept", "a"), ("x-auth-token", "t")), TWO))
    assert found == {
        "accept": ["a"],
        "x-auth-token": ["t!{compute: Site1, image: Site2}"],
        "x-scope": ["{compute: Site1, image: Site2}"],
        "x-openstack-request-id": [f"req-{encode([(1, 1), (2, 2)], digits())}"],
        "baggage": ["scope=%7Bcompute%3A%20Site1%2C%20image%3A%20Site2%7D"],
    }


def test_and_no_other() -> None:
    assert set(values(carried(sent(), {"catalog": "Site2"}, SHOP))) == {"x-scope", "x-request-id"}
    assert set(values(carried(sent(), {"catalog": "Site2"}, PLAIN))) == {"x-scope", "baggage"}


def test_what_the_client_wrote_is_replaced_by_what_it_means() -> None:
    found = values(carried(sent(("x-scope", "{Nova:Site1}"), ("x-scope", "again")), {"compute": "Site1"}))
    assert found["x-scope"] == ["{compute: Site1}"]


def test_everything_else_stays() -> None:
    before = replace(sent(("accept", "a"), ("accept", "b")), method="PUT", target=b"/a%2f?b={c}")
    after = carried(before, TWO).request
    assert (after.method, after.target, after.values(b"accept")) == ("PUT", b"/a%2f?b={c}", [b"a", b"b"])


def test_an_id_that_says_the_same_is_kept() -> None:
    mine = f"req-{encode([(1, 1), (2, 2)], digits('f'))}"
    found = carried(sent(("x-openstack-request-id", mine)), TWO)
    assert values(found)["x-openstack-request-id"] == [mine]


@pytest.mark.parametrize(
    "ids",
    [
        [f"req-{encode([(2, 2), (1, 1)], digits('f'))}"],  # the same in another order is another text
        [f"req-{encode([(1, 2)], digits('f'))}"],
        [f"no--{encode([(1, 1), (2, 2)], digits('f'))}"],
        ["req-3f2b8a4c-9d1e-4f60-8a7b-2c3d4e5f6a7b"],
        [f"req-{encode([(1, 1), (2, 2)], digits('f'))}"] * 2,
    ],
)
def test_any_other_is_replaced(ids: list[str]) -> None:
    found = values(carried(sent(*(("x-openstack-request-id", value) for value in ids)), TWO))
    assert found["x-openstack-request-id"] == [f"req-{encode([(1, 1), (2, 2)], digits())}"]


def test_more_bindings_than_an_id_carries_have_to_be_kept() -> None:
    carrying = carried(sent(), MANY)
    assert decode(carrying.keep_under) == KeptBy(site=1)
    assert values(carrying)["x-openstack-request-id"] == [f"req-{carrying.keep_under}"]


def test_four_bindings_have_not() -> None:
    four = dict(list(MANY.items())[:4])
    carrying = carried(sent(), four)
    (found,) = values(carrying)["x-openstack-request-id"]
    assert carrying.keep_under == ""
    assert decode(found.removeprefix("req-")) == Bindings(numbers=((1, 1), (2, 2), (3, 2), (5, 3)))


def test_an_application_without_ids_never_keeps() -> None:
    assert carried(sent(), dict.fromkeys(PLAIN.services, "Site1"), PLAIN).keep_under == ""


@pytest.mark.parametrize(
    "before",
    [
        ["a=1, b=2;p"],
        ["a=1", "b=2;p"],
        ["a=1,scope=%7B%7D , b=2;p"],
        ["scope;x=1,a=1", "b=2;p"],
        [" scope = a, ,a=1,b=2;p"],
    ],
)
def test_other_members_of_baggage_stay_and_an_older_scope_goes(before: list[str]) -> None:
    found = values(carried(sent(*(("baggage", value) for value in before)), {"compute": "Site2"}))
    assert found["baggage"] == ["a=1,b=2;p,scope=%7Bcompute%3A%20Site2%7D"]


@pytest.mark.parametrize("token", ["t", "t!{compute: Site3}", "t!{}"])
def test_a_token_has_one_suffix(token: str) -> None:
    found = values(carried(sent(("x-auth-token", token), ("x-subject-token", "s")), {"compute": "Site2"}))
    assert (found["x-auth-token"], found["x-subject-token"]) == (["t!{compute: Site2}"], ["s!{compute: Site2}"])


def test_a_token_that_looks_like_one_with_a_suffix_is_still_whole() -> None:
    assert values(carried(sent(("x-auth-token", "t!{}x")), {"compute": "Site2"}))["x-auth-token"] == [
        "t!{}x!{compute: Site2}"
    ]


def test_where_suffixes_are_cut_none_is_put_on() -> None:
    found = values(carried(sent(("x-auth-token", "t"), service="identity"), {"identity": "Site2"}))
    assert found["x-auth-token"] == ["t"]


def test_no_token_no_suffix_and_of_two_tokens_neither() -> None:
    assert "x-auth-token" not in values(carried(sent(), TWO))
    assert values(carried(sent(("x-auth-token", "t"), ("x-auth-token", "u")), TWO))["x-auth-token"] == ["t", "u"]


def test_an_empty_scope_has_no_id() -> None:
    found = values(carried(sent(), {}))
    assert (found["x-scope"], "x-openstack-request-id" in found) == (["{}"], False)


def test_an_empty_scope_takes_the_mark_off_an_id() -> None:
    marked = f"req-{encode([(2, 2)], digits())}"
    (left,) = values(carried(sent(("x-openstack-request-id", marked)), {}))["x-openstack-request-id"]
    assert left.startswith("req-")
    assert decode(left.removeprefix("req-")) is None
