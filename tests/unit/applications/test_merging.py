"""A page of a list that several sites hold, sorted together."""

from typing import Any

import pytest

from cheops.applications.merging import chosen_of, limit_of, merged, order_of, with_chosen
from cheops.applications.resources import Paging, Resource
from unit.applications.spanning import RECORD, SUBNET


def page(order: str, limit: int | None, **items: list[Any]) -> tuple[list[Any], dict[str, int]]:
    found, taken = merged(items, order, limit)
    return [item for _, item in found], taken


def records(*at: int) -> list[dict[str, Any]]:
    return [{"id": f"r{one}", "last_modified": one} for one in at]


def test_the_newest_of_all_come_first() -> None:
    found, taken = page("-last_modified", 4, A=records(90, 50, 10), B=records(80, 70, 60))
    assert found == records(90, 80, 70, 60)
    assert taken == {"A": 1, "B": 3}


def test_without_an_order_site_by_site() -> None:
    assert page("", 3, B=[3, 1], A=[2, 0]) == ([3, 1, 2], {"B": 2, "A": 1})
    assert page("", None, A=[1], B=[], C=[2]) == ([1, 2], {"A": 1, "B": 0, "C": 1})
    assert page("x", 0, A=[1]) == ([], {"A": 0})
    assert page("x", 5) == ([], {})


def test_several_fields_and_ties_by_site() -> None:
    def item(at: int, name: str, n: int) -> dict[str, Any]:
        return {"at": at, "metadata": {"name": name}, "n": n}

    one = [item(2, "a", 1), item(2, "c", 2), item(1, "a", 3)]
    two = [item(2, "a", 4), item(2, "b", 5), item(1, "a", 6)]
    found, _ = page("-at, metadata.name", None, A=one, B=two)
    assert [one["n"] for one in found] == [1, 4, 5, 2, 3, 6]


@pytest.mark.parametrize("order", ["x", "-x"])
def test_missing_values_are_last_either_way(order: str) -> None:
    found, _ = page(order, None, A=[{"x": 1}, {}], B=[{"x": 1}, {"x": None}, 5])
    assert found == [{"x": 1}, {"x": 1}, {}, {"x": None}, 5]


def test_values_of_unlike_types_compare() -> None:
    a: list[Any] = [{"x": True}, {"x": 2}, {"x": "b"}]
    b: list[Any] = [{"x": {"k": 1}}, {"x": [1]}, {"x": 1.5}, {"x": "a"}]
    found, _ = page("x", None, A=a, B=b)
    assert [one["x"] for one in found] == [True, {"k": 1}, [1], 1.5, 2, "a", "b"]
    found, _ = page("-x", None, A=a[::-1], B=b[::-1])
    assert [one["x"] for one in found] == ["b", "a", 2, 1.5, [1], {"k": 1}, True]


def test_what_is_taken_of_a_site_is_the_beginning_of_its_page() -> None:
    found, taken = merged({"A": records(3, 9, 1), "B": records(5)}, "-last_modified", 2)
    assert found == [("B", records(5)[0]), ("A", records(3)[0])]
    assert taken == {"A": 1, "B": 1}


@pytest.mark.parametrize(("going_on", "found"), [("", [1, 2, 3, 9]), ("A", [1, 2, 3]), ("AB", [1, 2, 3]), ("C", [])])
def test_nothing_is_taken_that_may_come_after_what_a_site_has_yet_to_give(going_on: str, found: list[int]) -> None:
    sites = {"A": records(1, 3), "B": records(2, 9), "C": []}
    page, _ = merged(sites, "last_modified", 10, set(going_on))
    assert [item["last_modified"] for _, item in page] == found
    assert merged(sites, "", 10, set(going_on)) == merged(sites, "", 10)


@pytest.mark.parametrize(
    ("query", "order", "limit"),
    [
        ("", "-last_modified", None),
        ("?_sort=name", "name", None),
        ("?_sort=-at%2Cname&_limit=20", "-at,name", 20),
        ("?%5Fsort=a&_sort=b&_limit=5&_limit=7", "a,b", 7),
        ("?_sort=&_limit=", "-last_modified", None),
        ("?_limit=ten", "-last_modified", None),
        ("?_limit=-1", "-last_modified", None),
        ("?_limit=0", "-last_modified", None),
        ("?_limit=" + "9" * 5000, "-last_modified", None),
        ("?limit=3&sort=x#_limit=4", "-last_modified", None),
    ],
)
def test_what_the_query_asks_for(query: str, order: str, limit: int | None) -> None:
    target = f"/v1/buckets/shop/collections/lamps/records{query}"
    assert (order_of(target, RECORD), limit_of(target, RECORD)) == (order, limit)


@pytest.mark.parametrize("rules", [None, SUBNET])
def test_a_list_whose_pages_arent_described(rules: Resource | None) -> None:
    assert order_of("/v2.0/subnets?limit=3&None=2", rules) == ""
    assert limit_of("/v2.0/subnets?limit=3&None=2", rules) is None


CHOOSING = Resource(collection="/ports", paging=Paging(fields="fields"))


@pytest.mark.parametrize(
    ("target", "asked", "chosen"),
    [
        ("/ports?fields=id&net=a%20b&fields=name", "/ports?net=a%20b", {"id", "name"}),
        ("/ports?fields=id,name", "/ports", {"id", "name"}),
        ("/ports?fields=&net=a", "/ports?fields=&net=a", set()),
        ("/ports", "/ports", set()),
    ],
)
def test_a_choice_of_fields_is_taken_out_of_the_query(target: str, asked: str, chosen: set[str]) -> None:
    assert chosen_of(target, CHOOSING) == (asked, chosen)
    assert chosen_of(target, None) == (target, frozenset())


def test_what_was_chosen_is_told() -> None:
    assert with_chosen({"id": "a", "name": "b"}, frozenset({"id", "size"})) == {"id": "a"}
    assert with_chosen({"id": "a"}, frozenset()) == {"id": "a"}
    assert with_chosen("a", frozenset({"id"})) == "a"
