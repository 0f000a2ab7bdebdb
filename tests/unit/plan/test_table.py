"""Scopes become plans; operators that aren't carried out yet say so, and what to write instead."""

import pytest

from cheops.errors import NotYet
from cheops.model import Resolved
from cheops.plan import Each, Forward, Plan, centres_of, make_plan
from cheops.plan.table import PLANNED_BY, SPREAD_BY
from cheops.scope import Around, Cross, Otherwise, Replicas, Scope, SiteName, Spread, parse
from values import SHOP, site_of, view_of

VIEW = view_of(site_of(SHOP))


def plan(text: str, service: str = "orders") -> Plan:
    return make_plan(VIEW.names.resolve(parse(text), for_service=service), service, VIEW)


@pytest.mark.parametrize(
    ("text", "site"),
    [
        ("{orders: Site2}", "Site2"),
        ("{orders: Site1}", "Site1"),
        ("Site3", "Site3"),
        ("{Site3}", "Site3"),
        ("{catalog: Site2}", "Site1"),  # not named: where the call is made
        ("{catalog: Site2 ; Site3}", "Site1"),
        ("{}", "Site1"),
        ("{orders: Site2, prime: Site3}", "Site2"),
    ],
)
def test_sharing_is_one_step_to_one_site(text: str, site: str) -> None:
    step = plan(text).step
    assert isinstance(step, Forward)
    assert (step.service, step.site) == ("orders", site)


def test_the_whole_scope_follows_under_its_types_and_in_its_order() -> None:
    (forward,) = plan("{Kinto: Site2, order: Site1}").forwards
    assert forward.resolved == Resolved.to({"catalog": "Site2", "orders": "Site1"})
    assert forward.resolved.text() == "{catalog: Site2, orders: Site1}"


def test_without_a_scope_it_is_here() -> None:
    here = Forward(service="catalog", site="Site1", resolved=Resolved.to({}))
    assert make_plan(Scope(), "catalog", VIEW) == Plan(step=here)


def test_what_is_decided_later_follows_as_it_is() -> None:
    (forward,) = plan("{orders: Site2, kinto: Site3 || Site1}").forwards
    assert forward.resolved.text() == "{orders: Site2, catalog: Site3 ; Site1}"
    assert forward.resolved.site_of is None


@pytest.mark.parametrize(
    ("text", "asks", "hint"),
    [
        ("{orders: Site2 % Site3 ; Site1}", "asks for replication (&) or parts (%)", "{orders: Site2}"),
        ("{orders: &around(Site2, 10ms) ; Site1}", "asks for replication (&)", "{orders: Site2}"),
        ("{orders: (Site3 ; Site1) & Site2}", "asks for replication", "{orders: Site3}"),
        ("{orders: Site1, kinto: Site2 ; &around(Site3, 1s)}", "asks for replication", "{catalog: Site2}"),
    ],
)
def test_operators_that_are_not_carried_out_yet(text: str, asks: str, hint: str) -> None:
    with pytest.raises(NotYet) as caught:
        plan(text)
    assert asks in caught.value.detail
    assert "nothing was sent anywhere" in caught.value.detail
    assert caught.value.hint == f"Name one site for each service, such as {hint}."
    assert caught.value.status == 501


def test_the_tables_know_every_operator() -> None:
    assert set(PLANNED_BY) | {Around} == {SiteName, Around, Replicas, Cross, Otherwise}
    assert set(SPREAD_BY) == set(Spread)


@pytest.mark.parametrize("text", ["Site2 & Site3", "{kinto: Site1, orders: Site2 & Site3}"])
def test_a_list_on_several_sites_is_read_on_each(text: str) -> None:
    planned = plan(text)
    assert isinstance(planned.step, Each)
    assert [forward.site for forward in planned.forwards] == ["Site2", "Site3"]


def test_only_the_distances_of_this_service_are_asked_for() -> None:
    scope = VIEW.names.resolve(parse("{orders: Site3 ; around(Site2, 1ms), kinto: around(Site1, 1ms)}"))
    assert centres_of(scope, "orders") == {"Site2"}
