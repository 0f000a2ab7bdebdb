"""The table of scopes that a front resolves with one look-up: it must say what the agent would say."""

import datetime
import json
import re
from typing import Any

import pytest

from cheops.applications import Application
from cheops.carry.request_id import Bindings, decode
from cheops.config import Site
from cheops.intercept.envoy.fronts import TABLE_LIMIT, _table, front_routes
from cheops.plan import make_plan
from cheops.scope import parse
from values import OPENSTACK, PLAIN, SHOP, SITES, application, site_of, view_of

HEADER_ONLY = application("""
    carriers: [{kind: header}]
    services: {catalog: {aliases: [kinto, my.Catalog]}, orders: {}, 10ms: {}}
""")
IDS = application("""
    carriers: [{kind: request-id, header: X-ID, format: "%a%H-{uuid}%%"}]
    services: {catalog: {number: 62, aliases: [kinto]}}
""")
ODD_SITES = {"Site1": 1, "true": 2, "10ms": 3, "around": 4, "A.b_c-d": 1023}
CASES = [
    (described, sites, service)
    for described, sites in [(SHOP, SITES), (HEADER_ONLY, ODD_SITES), (IDS, ODD_SITES)]
    for service in described.services
]
names = [f"{described.application}-{service}" for described, _, service in CASES]


def of_case(case: tuple[Application, dict[str, int], str]) -> tuple[Site, str]:
    return site_of(case[0], "Site1", case[1]), case[2]


def route_of(entry: dict[str, Any]) -> dict[str, Any]:
    route: dict[str, Any] = entry["action"]["typed_config"]
    return route


@pytest.mark.parametrize("case", CASES, ids=names)
def test_every_text_goes_where_it_says(case: tuple[Application, dict[str, int], str]) -> None:
    site, service = of_case(case)
    view, table = view_of(site), dict(_table(site, service))
    assert {route_of(entry)["route"]["cluster"] for entry in table.values()} == {
        f"local/{service}" if name == site.name else f"site/{name}" for name in site.site_names
    }
    for text, entry in table.items():
        plan = make_plan(view.names.resolve(parse(text), for_service=service), service, view)
        (step,), cluster = plan.forwards, route_of(entry)["route"]["cluster"]
        assert cluster == (f"local/{service}" if step.site == site.name else f"site/{step.site}"), text
        assert step.resolved.site_of == {service: step.site}, text


def added(entry: dict[str, Any]) -> dict[str, str]:
    return {each["header"]["key"]: each["header"]["value"] for each in route_of(entry)["request_headers_to_add"]}


def as_envoy_formats(value: str, now: datetime.datetime) -> str:
    """%START_TIME(…)% and %%, as Envoy's formatter writes them (%8f are its hundred-millionths of a second)."""

    def time(found: re.Match[str]) -> str:
        return now.strftime(found[1].replace("%8f", f"{now.microsecond * 100:08}"))

    parts = re.split(r"(%START_TIME\(.*?\)%)", value)
    return "".join(
        re.sub(r"%START_TIME\((.*)\)%", time, p) if "START_TIME" in p else p.replace("%%", "%") for p in parts
    )


TIMES = [
    datetime.datetime(2026, 1, 1, 0, 0, 0, 0),
    datetime.datetime(2028, 12, 31, 23, 59, 59, 999_999),
]


@pytest.mark.parametrize("now", TIMES)
@pytest.mark.parametrize("case", [case for case in CASES if case[0].request_id])
def test_every_id_that_envoy_makes_says_the_same(
    case: tuple[Application, dict[str, int], str], now: datetime.datetime
) -> None:
    site, service = of_case(case)
    carrier = site.application.request_id
    assert carrier
    number = site.application.services[service].number
    for text, entry in _table(site, service):
        before, after = carrier.around
        value = as_envoy_formats(added(entry)[carrier.header], now)
        assert value.startswith(before)
        assert value.endswith(after)
        (bound,) = view_of(site).names.resolve(parse(text)).bindings
        found = decode(value[len(before) : len(value) - len(after)])
        assert found == Bindings(numbers=((number or 0, site.site_numbers[getattr(bound.location, "name", "")]),)), text


def test_an_application_without_ids_gets_none() -> None:
    passed = ["cheops-via", "x-forwarded-for"]
    for _, entry in _table(site_of(HEADER_ONLY), "catalog"):
        assert list(added(entry)) in (passed, [*passed, "cheops-service"])


def test_spellings() -> None:
    assert list(dict(_table(site_of(SHOP, "Site1", {"Site1": 1, "S": 2}), "orders"))) == [
        f"{{{word}:{space}{name}}}"
        for name in ("Site1", "S")
        for word in ("orders", "Orders", "order", "Order")
        for space in (" ", "")
    ]


@pytest.mark.parametrize("described", [OPENSTACK, PLAIN])
def test_there_is_no_table_where_only_lua_can_write_all_carriers(described: Application) -> None:
    service = next(iter(described.services))
    assert list(_table(site_of(described), service)) == []
    assert "exact_match_map" not in json.dumps(front_routes(site_of(described), service))


def test_a_long_table_is_cut() -> None:
    many = site_of(SHOP, "Site1", {"Site1": 1, **{f"Peer{n}": n for n in range(2, 1000)}})
    assert len(list(_table(many, "catalog"))) == TABLE_LIMIT


def test_a_table_never_says_what_its_words_do_not() -> None:
    """Each text once: a second route under the same text would silently take its place."""
    for case in CASES:
        texts = [text for text, _ in _table(*of_case(case))]
        assert len(texts) == len(set(texts))
