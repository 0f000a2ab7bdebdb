"""Where a resource is to be held, as a scope says it."""

import pytest

from cheops.errors import BadScope, NotYet
from cheops.plan.placement import Placement, placement_of
from values import SHOP, site_of, view_of


@pytest.mark.parametrize(
    ("text", "placement"),
    [
        ("{catalog: Site1 & Site3}", Placement(sites=("Site1", "Site3"), spans=False)),
        ("{Kinto: Site3}", Placement(sites=("Site3",))),
        ("Site2 & Site1", Placement(sites=("Site2", "Site1"), spans=False)),
        ("Site1", Placement(sites=("Site1",))),
        ("Site2 % Site1", Placement(sites=("Site2", "Site1"), spans=True)),
        ("{catalog: Site2 % Site1, prime: Site1}", Placement(sites=("Site2", "Site1"), prime="Site1", spans=True)),
        ("{catalog: Site2, prime: Site2}", Placement(sites=("Site2",), prime="Site2")),
    ],
)
def test_sites(text: str, placement: Placement) -> None:
    assert placement_of(text, "catalog", view_of(site_of(SHOP))) == placement


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{catalog: Site1 & Site9}", "unknown site 'Site9'"),
        ("{orders: Site1}", "the resource is of 'catalog', and the scope binds orders"),
        ("{catalog: Site1, orders: Site2}", "the resource is of 'catalog', and the scope binds orders"),
        ("{}", "the resource is of 'catalog', and the scope binds nothing"),
        ("{catalog: Site1 ; Site2}", "'Site1 ; Site2' isn't a place to be at"),
        (
            "{catalog: Site1 % Site2, prime: Site3}",
            "the prime is Site3, which isn't one of the sites that 'Site1 % Site2' stands for",
        ),
        ("{catalog: Site1", "`,` or `}` is expected here, not the end"),
    ],
)
def test_what_is_no_place(text: str, said: str) -> None:
    with pytest.raises(BadScope) as raised:
        placement_of(text, "catalog", view_of(site_of(SHOP)))
    assert raised.value.detail == said
    assert raised.value.hint


def test_a_nesting_that_isn_t_carried_out() -> None:
    with pytest.raises(NotYet):
        placement_of("{catalog: Site1 & (Site2 ; Site3)}", "catalog", view_of(site_of(SHOP)))
