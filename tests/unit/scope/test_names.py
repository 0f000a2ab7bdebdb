"""Scopes against what a deployment knows."""

import pytest

from cheops.scope import Names, Scope, ScopeError, parse

NAMES = Names(
    services={"compute": ("nova",), "image": ("glance",), "Network": ("neutron", "Quantum")},
    sites=("Site1", "Site2", "Berlin", "paris", "Paris"),
)


def resolve(text: str, for_service: str | None = None) -> Scope:
    return NAMES.resolve(parse(text), for_service)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("{Nova: Site1, GLANCE: Site2}", "{compute: Site1, image: Site2}"),
        ("{quantum: Site1 % Site2, prime: Site2}", "{network: Site1 % Site2, prime: Site2}"),
        ("{}", "{}"),
    ],
)
def test_services_get_their_type(text: str, same: str) -> None:
    assert resolve(text) == parse(same)
    assert resolve(text).text == text


def test_resolving_again_changes_nothing() -> None:
    once = resolve("{Nova: around(Site1, 1ms) & Berlin}")
    assert NAMES.resolve(once) == once


def test_a_bare_location_binds_the_service_of_the_request() -> None:
    assert resolve("{Berlin & Paris}", "Nova") == parse("{compute: Berlin & Paris}")


def test_a_bare_location_needs_a_request() -> None:
    with pytest.raises(ScopeError, match="binds the service of a request") as caught:
        resolve("{ Berlin }")
    assert (caught.value.code, caught.value.position) == ("which-service", 2)


@pytest.mark.parametrize(
    ("text", "column", "sentence"),
    [
        ("{compute: Site4}", 11, "unknown site 'Site4': near names are Site1, Site2"),
        ("{compute: site1}", 11, "unknown site 'site1': site names are exact: did you mean Site1?"),
        ("{compute: PARIS}", 11, "unknown site 'PARIS': site names are exact: did you mean paris or Paris?"),
        ("{compute: BERLN}", 11, "unknown site 'BERLN': did you mean Berlin?"),
        ("{compute: Oz}", 11, "unknown site 'Oz': known sites are Berlin, Paris, Site1, Site2, paris"),
        ("{compute: Site1 & around(Berlim, 1ms)}", 26, "unknown site 'Berlim': did you mean Berlin?"),
        ("{prime: Berlim, compute: Site1}", 9, "unknown site 'Berlim': did you mean Berlin?"),
        ('{"compute": "Site1 & Berlim"}', 22, "unknown site 'Berlim': did you mean Berlin?"),
        ("{compute: Site1, Glanze: Oz}", 18, "unknown service 'Glanze': did you mean glance?"),
        ("{x: Site1}", 2, "unknown service 'x': known services are compute, image, network"),
        (
            "{Nova: Site1, compute: Site2}",
            15,
            "'compute' is the service 'compute', which is bound already: bind it once",
        ),
    ],
)
def test_mistakes(text: str, column: int, sentence: str) -> None:
    with pytest.raises(ScopeError) as caught:
        resolve(text)
    assert str(caught.value).splitlines()[-1] == f"column {column}: {sentence}"


def test_at_most_ten_names_are_listed() -> None:
    many = Names(services={"web": ()}, sites=tuple(f"Site{number:02}" for number in range(12)))
    with pytest.raises(ScopeError, match=r"known sites are Site00, .*, Site09 and 2 more$"):
        many.resolve(parse("{web: Oz}"))


def test_nothing_is_known() -> None:
    with pytest.raises(ScopeError, match="no services are known here"):
        Names(services={}, sites=()).resolve(parse("{web: Oz}"))


@pytest.mark.parametrize(("service", "site"), [("a b", "A"), ("Prime", "A"), ("web", ""), ("web", "é")])
def test_names_that_no_scope_could_name(service: str, site: str) -> None:
    with pytest.raises(ValueError, match=r"not a name|prime"):
        Names(services={"image": (service,)}, sites=(site,))


def test_an_alias_means_one_service() -> None:
    with pytest.raises(ValueError, match="both image and volume"):
        Names(services={"image": ("store",), "volume": ("Store",)}, sites=())
