"""One reply of those that the sites of a whole have given."""

import json
from typing import Any

import pytest

from cheops.applications.aggregate import whole_of, whole_value
from cheops.applications.resources import Resource, Span
from unit.applications.spanning import DEPLOYMENT, NETWORK, RECORD, SUBNET

SUM = Resource(collection="/r", span=Span(aggregate={"a.n": "sum"}))


def whole(rules: Resource | None, **parts: Any) -> Any:
    """Site1 is the prime, and Site2 here."""
    return json.loads(
        whole_of({site: json.dumps(part).encode() for site, part in parts.items()}, rules, "Site1", "Site2")
    )


def values(how: str, *said: Any) -> Any:
    rules = Resource(collection="/r", span=Span(aggregate={"x": how}))  # type: ignore[dict-item]
    return whole_value({f"Site{n}": {"x": one} for n, one in enumerate(said, 1)}, rules, "Site1", "Site1")["x"]


def test_a_deployments_replicas_are_added() -> None:
    one = {"metadata": {"name": "web", "uid": "u1"}, "spec": {"replicas": 4}, "status": {"readyReplicas": 3}}
    two = {"metadata": {"name": "web", "uid": "u2"}, "spec": {"replicas": 3}, "status": {}}
    assert whole(DEPLOYMENT, Site2=two, Site1=one) == {**one, "spec": {"replicas": 7}}


def test_a_subnets_pools_are_put_together_by_address() -> None:
    def part(*ranges: tuple[str, str]) -> Any:
        return {"subnet": {"id": ranges[0][0], "allocation_pools": [{"start": a, "end": b} for a, b in ranges]}}

    told = whole(SUBNET, Site1=part(("10.0.0.100", "10.0.0.120")), Site2=part(("10.0.0.2", "10.0.0.99")))
    assert told == part(("10.0.0.2", "10.0.0.120")) | {
        "subnet": {**part(("10.0.0.2", "10.0.0.120"))["subnet"], "id": "10.0.0.100"}
    }
    told = whole(SUBNET, Site1=part(("10.0.0.9", "10.0.0.9")), Site2=part(("10.0.0.2", "10.0.0.7")))
    assert [one["start"] for one in told["subnet"]["allocation_pools"]] == ["10.0.0.2", "10.0.0.9"]
    broken = {"subnet": {"allocation_pools": "none"}}
    assert whole(SUBNET, Site1=broken, Site2=part(("10.0.0.2", "10.0.0.7")))["subnet"]["allocation_pools"] == "none"


def test_a_network_is_aggregated_as_declared() -> None:
    one = {"id": "n1", "subnets": ["s1"], "admin_state_up": True, "shared": False, "mtu": 1500, "created": "2026-01-02"}
    two = {"id": "n2", "subnets": ["s2"], "admin_state_up": False, "shared": True, "mtu": 1450, "created": "2026-01-03"}
    assert whole(NETWORK, Site1={"network": one}, Site2={"network": two}) == {
        "network": {
            "id": "n1",
            "subnets": ["s1", "s2"],
            "admin_state_up": False,
            "shared": True,
            "mtu": 1450,
            "created": "2026-01-03",
        }
    }


@pytest.mark.parametrize(
    ("how", "said", "told"),
    [
        ("sum", (1, 2.5, None), 3.5),
        ("sum", (None, 2, 3), 5),
        ("sum", (None, 2), 2),
        ("sum", (None, None), None),
        ("sum", ("1", 2), "1"),
        ("sum", (True, 2), True),
        ("sum", (10**400, 1.5), 10**400),
        ("min", ("b", "a"), "a"),
        ("max", (1, "a"), 1),
        ("max", (1, 3, 2), 3),
        ("concat", ([1, 2], [1, True, {"a": 1, "b": 2}], [{"b": 2, "a": 1}, 3]), [1, 2, True, {"a": 1, "b": 2}, 3]),
        ("concat", ([1], "2"), [1]),
        ("all", (True, True), True),
        ("all", (True, 0), True),
        ("any", (False, False), False),
        ("any", ("no", True), "no"),
    ],
)
def test_ways_to_aggregate(how: str, said: tuple[Any, ...], told: Any) -> None:
    found = values(how, *said)
    assert (found, type(found)) == (told, type(told))


def test_here_stands_in_for_the_prime_and_the_first_for_both() -> None:
    parts = {"Site4": {"id": 4, "x": [4]}, "Site3": {"id": 3, "x": [3]}, "Site2": {"id": 2, "x": [2]}}
    rules = Resource(collection="/r", span=Span(aggregate={"x": "concat"}))
    assert whole_value(parts, rules, "Site1", "Site3") == {"id": 3, "x": [3, 4, 2]}
    assert whole_value(parts, rules, "Site2", "Site3") == {"id": 2, "x": [2, 3, 4]}
    assert whole_value(parts, rules, "Site1", "Site1")["id"] == 4
    assert whole_value({}, rules, "Site1", "Site1") is None


def test_what_only_another_part_has_is_kept() -> None:
    one, two = (
        {"data": {"id": "a", "at": {"x": 1}}},
        {"data": {"id": "b", "at": {"x": 2, "y": 2}, "stock": 5}, "permissions": {}},
    )
    kept = {"data": {"id": "a", "at": {"x": 1, "y": 2}, "stock": 5}, "permissions": {}}
    assert whole(RECORD, Site1=one, Site2=two) == kept
    assert whole(None, Site1=one, Site2=two) == kept


def test_what_is_in_the_way_stays() -> None:
    assert whole(SUM, Site1={"a": 5}, Site2={"a": {"n": 1}}, Site3={"a": {"n": 2}}) == {"a": 5}
    assert whole(SUM, Site1={}, Site2={"a": {"n": 1}}, Site3={"a": {"n": 2}}) == {"a": {"n": 3}}


@pytest.mark.parametrize("body", [b"", b"gone", b"[1]", b"null", b"\xff", b'{ "a": {"n":1.0} }'])
def test_one_part_and_what_is_no_object_stay_as_they_are(body: bytes) -> None:
    assert whole_of({"Site1": body}, SUM, "Site1", "Site1") == body
    assert whole_of({"Site2": b"{}", "Site1": body}, SUM, "Site1", "Site1") == body
    assert whole_of({"Site1": body, "Site2": b"oops"}, SUM, "Site1", "Site1") == body
    assert whole_of({}, SUM, "Site1", "Site1") == b""


def test_hostile_replies_do_no_harm() -> None:
    deep = b'{"a":' * 300 + b"1" + b"}" * 300
    assert json.loads(whole_of({"Site1": deep, "Site2": deep[:-2] + b',"b":1}}'}, None, "Site1", "Site1"))
    digits = b'{"a": {"n": ' + b"9" * 4300 + b"}}"
    assert whole_of({"Site1": digits, "Site2": digits}, SUM, "Site1", "Site1") == digits


def test_what_nests_beyond_all_reason_is_the_first_parts() -> None:
    one: Any = 1
    for _ in range(5000):
        one = {"a": one}
    assert whole_value({"Site1": one, "Site2": {"a": {"b": 2}}}, None, "Site1", "Site1")["a"]["b"] == 2
    whole_value({"Site1": one, "Site2": {**one}}, None, "Site1", "Site1")
