"""A tree that can be built means something, and has one text."""

import pytest

from cheops.scope import (
    Around,
    Binding,
    Cross,
    Location,
    Otherwise,
    Replicas,
    Scope,
    SiteName,
    Spread,
    UnclearError,
    canonical,
    duration_text,
    is_single_site,
    joined,
    parse,
    parts_of,
    sites_of,
)

A, B, C = (SiteName(name=name) for name in "ABC")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{compute:Site1,image:Site2&Site3}", "{compute: Site1, image: Site2 & Site3}"),
        ("{prime:Site1,Nova:Site1%Site2,}", "{Nova: Site1 % Site2, prime: Site1}"),
        ("around( Site1 ,10ms )", "around(Site1, 10ms)"),
        ("& around(Site1,0.8ms)", "&around(Site1, 800us)"),
        ("A & & around(B, 1.5s)", "A & &around(B, 1500ms)"),
        ("A || B", "A ; B"),
        ("{A}", "A"),
        ("((A;(B&C)))", "A ; B & C"),
        ("(A;B)&C", "(A ; B) & C"),
        ("((A;B)%C;D)%E", "((A ; B) % C ; D) % E"),
        ("{ }", "{}"),
        ('{"compute": "A&B"}', "{compute: A & B}"),
    ],
)
def test_canonical(text: str, expected: str) -> None:
    assert canonical(parse(text)) == expected
    assert canonical(parse(expected)) == expected


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(800, "800us"), (1_000, "1ms"), (1_500_000, "1500ms"), (2_000_000, "2s"), (1_000_001, "1000001us")],
)
def test_duration_text(microseconds: int, text: str) -> None:
    assert duration_text(microseconds) == text


def test_equality_ignores_where_things_were_written() -> None:
    assert parse("{a:A}") == parse("{ a : A }")
    assert hash(parse("{a:A}")) == hash(parse("{ a : A }"))
    assert repr(parse("{a:A}")) == repr(parse("{ a : A }"))


def test_sites_of_names_every_site_with_its_place() -> None:
    text = "A & (B ; around(C, 1ms))"
    bare = parse(text).bare
    assert bare is not None
    assert [(site.name, text[slice(*site.span)]) for site in sites_of(bare)] == [("A", "A"), ("B", "B"), ("C", "C")]


def test_is_single_site() -> None:
    assert is_single_site(A)
    assert not is_single_site(Around(centre="A", within_us=1))
    assert not is_single_site(Replicas(places=(A, B)))


def test_joined_merges_its_own_kind_and_leaves_one_alone() -> None:
    assert joined(Cross, (A,)) is A
    assert joined(Replicas, (Replicas(places=(A, B)), C)) == Replicas(places=(A, B, C))
    assert joined(Otherwise, (Cross(parts=(A, B)), C)) == Otherwise(choices=(Cross(parts=(A, B)), C))
    assert parts_of(A) == ()


EACH_B = Around(centre="B", within_us=1, spread=Spread.EACH)
ACROSS_B = Around(centre="B", within_us=1, spread=Spread.ACROSS)


@pytest.mark.parametrize(
    ("kind", "parts", "culprit", "code"),
    [
        (Replicas, (A, A), A, "repeated"),
        (Otherwise, (A, B, A), A, "repeated"),
        (Cross, (A, EACH_B), EACH_B, "replicas-in-cross"),
        (Cross, (A, Replicas(places=(B, C))), Replicas(places=(B, C)), "replicas-in-cross"),
        (Replicas, (A, ACROSS_B), ACROSS_B, "cross-in-replicas"),
        (Replicas, (Otherwise(choices=(A, ACROSS_B)), C), ACROSS_B, "cross-in-replicas"),
    ],
)
def test_what_has_no_clear_meaning_cannot_be_built(
    kind: type[Replicas | Cross | Otherwise], parts: tuple[Location, ...], culprit: Location, code: str
) -> None:
    with pytest.raises(UnclearError) as caught:
        joined(kind, parts)
    assert (caught.value.part, caught.value.code) == (culprit, code)


def test_what_is_malformed_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="not a name"):
        SiteName(name="A B")
    with pytest.raises(ValueError, match="not a name"):
        SiteName(name="A\n")
    with pytest.raises(ValueError, match="within_us"):
        Around(centre="A", within_us=0)
    with pytest.raises(ValueError, match="at least two"):
        Replicas(places=(A,))
    with pytest.raises(ValueError, match="directly inside"):
        Replicas(places=(A, Replicas(places=(B, C))))
    with pytest.raises(ValueError, match="prime"):
        Binding(service="Prime", location=A)
    with pytest.raises(ValueError, match="stands alone"):
        Scope(bare=A, prime=B)
    with pytest.raises(UnclearError):
        Scope(bindings=(Binding(service="a", location=A), Binding(service="A", location=B)))
