"""Which sites are asked, in which order, under `;` and `around`."""

from dataclasses import replace

import pytest

from cheops.errors import CantSay, NobodyNear
from cheops.model import Distances, PeerState, PeerView, RoundTrip, View
from cheops.plan import FirstAble, Plan, make_plan, show
from cheops.scope import parse
from values import SHOP, request, site_of, view_of

VIEW = view_of(site_of(SHOP))


def seen(**states: str) -> View:
    return replace(VIEW, peers={name: PeerView(state=PeerState(state), since=9.0) for name, state in states.items()})


def far(centre: str, age: float = 0.0, /, **us: float) -> View:
    trips = {site: RoundTrip(us=time, spread_us=10.0, age=1.0) for site, time in us.items()}
    return replace(VIEW, distances={centre: Distances(of=trips, age=age)})


def plan(text: str, view: View = VIEW, service: str = "orders") -> Plan:
    return make_plan(view.names.resolve(parse(text), for_service=service), service, view)


def sites(found: Plan) -> list[str]:
    assert isinstance(found.step, FirstAble)
    return [forward.site for forward in found.forwards]


@pytest.mark.parametrize(
    ("text", "states", "order"),
    [
        ("{orders: Site2 ; Site1}", {}, ["Site2", "Site1"]),
        ("{orders: Site3 ; Site2 ; Site1}", {}, ["Site3", "Site2", "Site1"]),
        ("{orders: Site3 ; Site2}", {"Site3": "suspect"}, ["Site3", "Site2"]),  # it may well be there
        ("{orders: Site3 ; Site2 ; Site1}", {"Site3": "down"}, ["Site2", "Site1", "Site3"]),
        ("{orders: Site3 ; Site2}", {"Site3": "down", "Site2": "down"}, ["Site3", "Site2"]),
        ("Site3 || Site2", {}, ["Site3", "Site2"]),
    ],
)
def test_the_choices_stand_in_their_order_and_those_that_are_down_last(
    text: str, states: dict[str, str], order: list[str]
) -> None:
    found = plan(text, seen(**states))
    assert (sites(found), found.kind, found.near) == (order, "otherwise", ())


def test_each_choice_carries_the_scope_as_it_is_resolved_there() -> None:
    texts = [forward.resolved.text() for forward in plan("{orders: Site2 ; Site1, catalog: Site3}").forwards]
    assert texts == ["{orders: Site2, catalog: Site3}", "{orders: Site1, catalog: Site3}"]


def test_around_goes_to_the_nearest_first() -> None:
    found = plan("{orders: around(Site1, 10ms)}", far("Site1", Site1=0, Site2=9_000, Site3=4_000))
    assert (sites(found), found.kind) == (["Site1", "Site3", "Site2"], "around")
    assert [(near.site, near.round_trip.us) for near in found.near] == [("Site1", 0), ("Site3", 4000), ("Site2", 9000)]


def test_the_limit_is_within() -> None:
    assert sites(plan("{orders: around(Site3, 4ms)}", far("Site3", Site3=0, Site2=4_000, Site1=4_001))) == [
        "Site3",
        "Site2",
    ]


def test_the_age_of_a_time_is_that_of_the_answer_too() -> None:
    found = plan("{orders: around(Site2, 10ms)}", far("Site2", 30.0, Site2=0, Site3=1_000))
    assert [near.round_trip.age for near in found.near] == [31.0, 31.0]


def test_a_near_site_that_is_down_for_us_is_not_meant() -> None:
    view = replace(far("Site2", Site2=0, Site3=1_000), peers=seen(Site2="down").peers)
    assert sites(plan("{orders: around(Site2, 10ms)}", view)) == ["Site3"]
    with pytest.raises(NobodyNear, match=r"the nearest: Site2 0\.0ms \(down\), Site3 1\.0ms"):
        plan("{orders: around(Site2, 1us)}", view)


def test_a_site_that_has_left_is_not_meant() -> None:
    assert sites(plan("{orders: around(Site2, 10ms)}", far("Site2", Site2=0, Site9=1))) == ["Site2"]


def test_nobody_is_near_enough() -> None:
    with pytest.raises(NobodyNear) as caught:
        plan("{orders: around(Site2, 1ms)}", far("Site2", Site3=1_500, Site1=4_000))
    assert "within 1ms of Site2; the nearest: Site3 1.5ms, Site1 4.0ms" in caught.value.detail
    assert caught.value.members["nearest"][0] == {"site": "Site3", "ms": 1.5, "age": 1.0}
    assert caught.value.status == 503


def test_nothing_is_known_of_the_centre() -> None:
    with pytest.raises(CantSay) as caught:
        plan("{orders: around(Site2, 1ms)}")
    assert "how far the sites are from Site2 isn't known on Site1" in caught.value.detail


def test_around_among_choices_stands_for_its_sites() -> None:
    found = plan("{orders: Site1 ; around(Site2, 5ms)}", far("Site2", Site2=0, Site1=100, Site3=9_000))
    assert (sites(found), found.kind) == (["Site1", "Site2"], "otherwise")
    assert [near.site for near in found.near] == ["Site2", "Site1"]


def test_an_around_that_finds_nobody_leaves_it_to_the_others() -> None:
    assert sites(plan("{orders: around(Site2, 1ms) ; Site3}", far("Site2", Site1=5_000))) == ["Site3"]
    with pytest.raises(NobodyNear, match=r"near enough for 'around\(Site2, 1ms\) ; around\(Site2, 2ms\)'"):
        plan("{orders: around(Site2, 1ms) ; around(Site2, 2ms)}", far("Site2", Site1=5_000))


def test_a_shown_plan_has_the_exact_requests_and_no_secrets() -> None:
    asked = request(
        "orders", "/orders?a=%2f", "POST", x_scope="{orders: Site2 ; Site1}", x_auth_token="s3cret", x_api_key="s3cret"
    )
    view = replace(seen(Site2="down"), distances=far("Site1", Site1=0).distances)
    found = plan("{orders: Site2 ; around(Site1, 5ms)}", view)
    shown = show(found, [asked, asked], view)
    assert [(step["site"], step["state"]) for step in shown["steps"]] == [("Site1", "here"), ("Site2", "down")]
    assert shown["steps"][0]["request"]["target"] == "/orders?a=%2f"
    assert ["x-scope", "{orders: Site2 ; Site1}"] in shown["steps"][0]["request"]["headers"]
    assert "s3cret" not in str(shown)
    assert shown["unreachable"] == ["Site2"]
    assert shown["around"] == [{"site": "Site1", "ms": 0.0, "age": 1.0}]
    assert "a write is answered 504" in shown["if_lost"]
