"""What of a request each site executes, when its resource spans several."""

import json
from ipaddress import ip_network
from typing import Any

import pytest

from cheops.applications.divide import Parts, divided, divides, overlapping, range_of
from cheops.applications.resources import Division, Resource, Span
from cheops.errors import CantDivide
from unit.applications.known import OPENSTACK
from unit.applications.spanning import DEPLOYMENT, NETWORK, RECORD, SUBNET, THREE, parts

SERVER = OPENSTACK.services["compute"].resources["server"]
APPLIED = b"""{"apiVersion": "apps/v1", "kind": "Deployment",
  "metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "web"}},
  "spec": {"replicas": 10, "template": {"spec": {"cpu": 1.50, "replicas": 7}}}}"""


def pools(body: dict[str, Any], whole: Parts, site: str) -> list[tuple[str, str]]:
    part = json.loads(divided(json.dumps({"subnet": body}).encode(), SUBNET, whole, site))["subnet"]
    return [(one["start"], one["end"]) for one in part["allocation_pools"]]


def shares(whole: int, of: Parts, rules: Resource = RECORD) -> list[int]:
    body = json.dumps({"data": {"stock": whole}}).encode()
    return [json.loads(divided(body, rules, of, site))["data"]["stock"] for site in of.sites]


def weighed(**weights: int) -> Resource:
    return Resource(collection="/r", one="data", span=Span(divide={"stock": Division(by="share", weights=weights)}))


def test_what_divides() -> None:
    assert divides(SUBNET)
    assert divides(DEPLOYMENT)
    assert not divides(NETWORK)
    assert not divides(SERVER)


def test_the_rest_goes_to_the_prime() -> None:
    assert shares(10, parts("A", "B", "C")) == [4, 3, 3]
    assert shares(11, parts("A", "B", "C", prime="B")) == [3, 5, 3]
    assert shares(0, parts("A", "B")) == [0, 0]
    assert shares(7, parts("A")) == [7]


def test_shares_by_weight() -> None:
    assert shares(10, parts("A", "B", "C"), weighed(B=2)) == [3, 5, 2]
    assert shares(11, parts("A", "B", "C"), weighed(A=0)) == [0, 6, 5]  # who weighs nothing gets no remainder either
    with pytest.raises(CantDivide, match="the weights of A, B are all 0"):
        shares(10, parts("A", "B"), weighed(A=0, B=0))


def test_a_deployment_keeps_every_other_byte() -> None:
    assert divided(APPLIED, DEPLOYMENT, THREE, "Site1") == APPLIED.replace(b'"replicas": 10', b'"replicas": 3')
    assert divided(APPLIED, DEPLOYMENT, THREE, "Site2") == APPLIED.replace(b'"replicas": 10', b'"replicas": 2')
    assert divided(APPLIED, DEPLOYMENT, THREE, "Site3") == APPLIED.replace(b'"replicas": 10', b'"replicas": 5')


def test_a_site_that_has_left_has_no_share() -> None:
    left = parts("Site1", "Site2", slots=("Site1", "Site4", "Site2"), born=3)
    assert json.loads(divided(APPLIED, DEPLOYMENT, left, "Site4"))["spec"]["replicas"] == 0


def test_a_merge_patch_is_divided_with_or_without_its_wrapper() -> None:
    assert divided(b'{"data":{"stock":9}}', RECORD, THREE, "Site2") == b'{"data":{"stock":3}}'
    assert divided(b'{"stock":9}', RECORD, THREE, "Site2") == b'{"stock":3}'


@pytest.mark.parametrize("said", ["null", "-1", "1.5", "10.0", "true", '"10"', "[10]", '{"a": 1}'])
def test_what_is_no_number_of_things(said: str) -> None:
    with pytest.raises(CantDivide, match=r"stock is .* can't be divided among Site1, Site2, Site3") as error:
        divided(f'{{"data": {{"stock": {said}}}}}'.encode(), RECORD, THREE, "Site1")
    assert (error.value.status, error.value.retry, error.value.hint[:18]) == (400, False, "Say a whole number")


LARGE = b'{"data": {"stock": 5, "text": "' + b"x" * 1_000_000 + b'"}}'
UNTOUCHED = [
    b"",
    b"{",
    b"null",
    b"5",
    b"[]",
    b"[1]",
    b"{}",
    b"\xff",
    b"[" * 100_000,
    b'{"data": {"title": "lamp"}}',
    LARGE,
]


@pytest.mark.parametrize("body", UNTOUCHED)
def test_what_stays_as_it_is(body: bytes) -> None:
    assert divided(body, RECORD, THREE, "Site2") == body


def test_what_has_no_division_stays_as_it_is() -> None:
    assert divided(APPLIED, SERVER, THREE, "Site2") == APPLIED
    assert divided(b'[{"op": "remove", "path": ""}]', NETWORK, THREE, "Site2") == b'[{"op": "remove", "path": ""}]'


@pytest.mark.parametrize("path", ["/spec/replicas", "/spec", ""])
def test_a_json_patch_of_what_is_divided(path: str) -> None:
    patch = json.dumps([{"op": "replace", "path": "/metadata/x", "value": 1}, {"op": "test", "path": path}]).encode()
    with pytest.raises(CantDivide, match=r"a JSON patch can't change spec\.replicas") as error:
        divided(patch, DEPLOYMENT, THREE, "Site1")
    assert "merge patch" in error.value.hint


def test_a_json_patch_of_something_else() -> None:
    patch = b'[{"op": "replace", "path": "/spec/template/replicas", "value": 3}]'
    assert divided(patch, DEPLOYMENT, THREE, "Site1") == patch
    with pytest.raises(CantDivide, match="cidr"):
        divided(b'[{"op": "copy", "from": "/subnet/cidr", "path": "/subnet/name"}]', SUBNET, THREE, "Site1")


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": {"stock": 5, "stock": 6}}',
        b'{"data": {"stock": 5}, "data.stock": 6}',
    ],
)
def test_what_could_be_read_in_two_ways(body: bytes) -> None:
    with pytest.raises(CantDivide, match="twice"):
        divided(body, RECORD, THREE, "Site1")


CREATION = {"network_id": "22222222-0000-4000-8000-000000000002", "cidr": "10.0.0.0/24", "ip_version": 4}


def test_the_pools_of_a_subnet() -> None:
    whole = parts("A", "B")
    assert pools(CREATION, whole, "A") == [("10.0.0.2", "10.0.0.64")]
    assert pools(CREATION, whole, "B") == [("10.0.0.65", "10.0.0.127")]
    body = json.dumps({"subnet": CREATION}).encode()
    told = b'{"subnet": {"allocation_pools": [{"start": "10.0.0.2", "end": "10.0.0.64"}], '
    assert divided(body, SUBNET, whole, "A") == body.replace(b'{"subnet": {', told)


def test_who_joins_later_gets_the_next_slot_and_who_left_keeps_his() -> None:
    later = parts("A", "C", slots=("A", "B", "C"), born=2)
    assert pools(CREATION, later, "A") == [("10.0.0.2", "10.0.0.64")]
    assert pools(CREATION, later, "B") == [("10.0.0.65", "10.0.0.127")]
    assert pools(CREATION, later, "C") == [("10.0.0.128", "10.0.0.190")]


def test_three_sites_have_six_slots_and_the_seventh_gets_none() -> None:
    seven = parts(*"ABCDEFG", born=3)
    assert pools(CREATION, seven, "F") == [("10.0.0.212", "10.0.0.253")]
    with pytest.raises(CantDivide, match="no slot left for G: allocation_pools was divided into 6") as error:
        pools(CREATION, seven, "G")
    assert "keeps its slot" in error.value.hint
    with pytest.raises(CantDivide, match="no part for Z"):
        pools(CREATION, seven, "Z")


def test_the_gateway_is_nobodys() -> None:
    inside = {**CREATION, "cidr": "10.0.0.0/28", "gateway_ip": "10.0.0.5"}
    whole = parts("A", "B", "C", "D", born=2)
    assert [pools(inside, whole, site) for site in "ABCD"] == [
        [("10.0.0.1", "10.0.0.3")],
        [("10.0.0.4", "10.0.0.4"), ("10.0.0.6", "10.0.0.7")],
        [("10.0.0.8", "10.0.0.10")],
        [("10.0.0.11", "10.0.0.13")],
    ]
    assert pools({**CREATION, "gateway_ip": None}, whole, "A") == [("10.0.0.2", "10.0.0.64")]
    assert pools({**CREATION, "gateway_ip": "192.0.2.1"}, whole, "A") == [("10.0.0.1", "10.0.0.63")]
    with pytest.raises(CantDivide, match='gateway_ip is "first", which is no address'):
        pools({**CREATION, "gateway_ip": "first"}, whole, "A")


def test_pools_that_are_said_are_divided_themselves() -> None:
    said = [{"start": "10.0.0.100", "end": "10.0.0.101"}, {"start": "10.0.0.10", "end": "10.0.0.15"}]
    body, whole = {**CREATION, "allocation_pools": said}, parts("A", "B", "C", "D", born=2)
    assert [pools(body, whole, site) for site in "ABCD"] == [
        [("10.0.0.10", "10.0.0.11")],
        [("10.0.0.12", "10.0.0.13")],
        [("10.0.0.14", "10.0.0.15")],
        [("10.0.0.100", "10.0.0.101")],
    ]
    body["allocation_pools"] = [{"start": "10.0.0.10", "end": "10.0.0.12"}, {"start": "10.0.0.13", "end": "10.0.0.17"}]
    assert pools(body, whole, "B") == [("10.0.0.12", "10.0.0.13")]  # adjacent ones are one


def test_large_ranges_and_small_ones() -> None:
    assert pools({"cidr": "10.0.0.0/8"}, parts("A", "B"), "B") == [("10.64.0.1", "10.127.255.255")]
    assert pools({"cidr": "2001:db8::/64"}, parts("A", "B"), "B") == [
        ("2001:db8::4000:0:0:1", "2001:db8::7fff:ffff:ffff:ffff"),
    ]
    assert pools({"cidr": "10.0.0.0/29"}, parts("A", "B"), "B") == [("10.0.0.3", "10.0.0.3")]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"cidr": "10.0.0.0/30"}, r"cidr 10\.0\.0\.0/30 has too few addresses: allocation_pools is divided into 6"),
        ({"cidr": "10.0.0.0/32"}, "too few"),
        ({"cidr": "10.0.0.0"}, 'cidr is "10.0.0.0", which is no range'),
        ({"cidr": "10.0.0.7/24"}, "which is no range"),
        ({"cidr": None}, "cidr is null, which is no range"),
        ({"cidr": 5}, "cidr is 5, which is no range"),
        ({"cidr": ["10.0.0.0/24"]}, "cidr is a list, which is no range"),
        ({"allocation_pools": []}, "too few"),
        ({"allocation_pools": "10.0.0.2-10.0.0.9"}, "isn't a list of ranges"),
        ({"allocation_pools": [{"start": "10.0.0.9", "end": "10.0.0.2"}]}, "isn't a list of ranges"),
        ({"allocation_pools": [{"start": "10.0.0.2", "end": "10.0.1.9"}]}, r"isn't all inside of 10\.0\.0\.0/24"),
        ({"allocation_pools": [{"start": "2001:db8::2", "end": "2001:db8::9"}]}, "isn't all inside of"),
        ({"allocation_pools": [{"start": "10.0.0.2", "end": "10.0.0.9"}] * 2}, "has ranges that overlap"),
    ],
)
def test_ranges_that_cant_be_divided(said: dict[str, Any], message: str) -> None:
    with pytest.raises(CantDivide, match=message):
        pools({**CREATION, **said}, THREE, "Site1")


def test_an_update_leaves_the_pools_alone() -> None:
    renamed = b'{"subnet": {"name": "front", "gateway_ip": "10.0.0.1"}}'
    assert divided(renamed, SUBNET, THREE, "Site1") == renamed
    with pytest.raises(CantDivide, match="allocation_pools can't be changed"):
        divided(b'{"subnet": {"allocation_pools": []}}', SUBNET, THREE, "Site1")


def test_several_at_once_are_refused() -> None:
    with pytest.raises(CantDivide, match="several at once"):
        divided(json.dumps({"subnets": [CREATION, CREATION]}).encode(), SUBNET, THREE, "Site1")


def test_the_range_of_a_body_and_what_overlaps() -> None:
    small, large = ip_network("10.0.0.64/26"), ip_network("10.0.0.0/24")
    assert range_of(json.dumps({"subnet": CREATION}).encode(), SUBNET) == large
    assert range_of(json.dumps(CREATION).encode(), SUBNET) == large
    assert range_of(b'{"subnet": {"cidr": 5}}', SUBNET) is range_of(b"[]", SUBNET) is range_of(b"", SUBNET) is None
    assert range_of(APPLIED, DEPLOYMENT) is None
    assert overlapping(small, large)
    assert overlapping(large, small)
    assert not overlapping(small, ip_network("10.0.1.0/24"))
    assert not overlapping(small, ip_network("::/0"))
