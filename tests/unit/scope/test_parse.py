"""Text in, tree or mistake out: the grammar line by line, then everything that is refused."""

import pytest

from cheops.scope import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_NAMES,
    Around,
    Binding,
    Cross,
    Location,
    Otherwise,
    Replicas,
    Scope,
    ScopeError,
    SiteName,
    Spread,
    canonical,
    parse,
)

A, B, C, D = (SiteName(name=name) for name in "ABCD")
NEAR_A = Around(centre="A", within_us=10_000)


def location(text: str) -> Location:
    bare = parse(text).bare
    assert bare is not None
    return bare


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("A", A),
        ("(A)", A),
        ("((A))", A),
        ("A & B", Replicas(places=(A, B))),
        ("A % B", Cross(parts=(A, B))),
        ("A ; B", Otherwise(choices=(A, B))),
        ("A || B", Otherwise(choices=(A, B))),
        ("A&B;C", Otherwise(choices=(Replicas(places=(A, B)), C))),
        ("A ; B % C", Otherwise(choices=(A, Cross(parts=(B, C))))),
        ("(A ; B) & C", Replicas(places=(Otherwise(choices=(A, B)), C))),
        ("A & (A ; B)", Replicas(places=(A, Otherwise(choices=(A, B))))),
        ("(A ; B % C) % D", Cross(parts=(Otherwise(choices=(A, Cross(parts=(B, C)))), D))),
        ("(A & B) & C", Replicas(places=(A, B, C))),
        ("A & (B & (C & D))", Replicas(places=(A, B, C, D))),
        ("(A ; B) || C", Otherwise(choices=(A, B, C))),
        ("around(A, 10ms)", NEAR_A),
        ("&around(A, 10ms)", Around(centre="A", within_us=10_000, spread=Spread.EACH)),
        ("% around(A, 10ms)", Around(centre="A", within_us=10_000, spread=Spread.ACROSS)),
        ("B & around(A, 10ms)", Replicas(places=(B, NEAR_A))),
        (
            "B & &around(A, 10ms)",
            Replicas(places=(B, Around(centre="A", within_us=10_000, spread=Spread.EACH))),
        ),
        ("around", SiteName(name="around")),
        ("around & prime", Replicas(places=(SiteName(name="around"), SiteName(name="prime")))),
        ("around(around, 10ms)", Around(centre="around", within_us=10_000)),
        ("'A' & \"B\"", Replicas(places=(A, B))),
        ("1.eu_west-3", SiteName(name="1.eu_west-3")),
    ],
)
def test_locations(text: str, tree: Location) -> None:
    assert location(text) == tree


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("{}", Scope()),
        ("{compute: A}", Scope(bindings=(Binding(service="compute", location=A),))),
        ("{compute: A,}", Scope(bindings=(Binding(service="compute", location=A),))),
        ("\n{ 'compute'\t:\u00a0A }\r\n", Scope(bindings=(Binding(service="compute", location=A),))),
        ("{prime: A}", Scope(prime=A)),
        ("{PRIME: (A), net: A % B}", Scope(prime=A, bindings=(Binding(service="net", location=Cross(parts=(A, B))),))),
        ("{around: A}", Scope(bindings=(Binding(service="around", location=A),))),
        ("{compute: prime}", Scope(bindings=(Binding(service="compute", location=SiteName(name="prime")),))),
        ("{compute: 5}", Scope(bindings=(Binding(service="compute", location=SiteName(name="5")),))),
        ("{A & B}", Scope(bare=Replicas(places=(A, B)))),
        ("{A & B,}", Scope(bare=Replicas(places=(A, B)))),
        ("{prime}", Scope(bare=SiteName(name="prime"))),
    ],
)
def test_scopes(text: str, scope: Scope) -> None:
    assert parse(text) == scope


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('{"compute": "CloudOne", "prime": "Site1"}', "{compute: CloudOne, prime: Site1}"),
        ('{"compute": "A & B", "image": "around(A, 10ms) ; C"}', "{compute: A & B, image: around(A, 10ms) ; C}"),
        (r'{"compute": "A \u0026\t\u0042"}', "{compute: A & B}"),
        (r'{"compute": "\"A\" & B", "prime": " A "}', "{compute: A & B, prime: A}"),
        ('{"compute": A & B}', "{compute: A & B}"),
        ('{"compute": "A" & "B"}', "{compute: A & B}"),
        ("{'compute': 'A & B', image: C,}", "{compute: A & B, image: C}"),
    ],
)
def test_json_and_quoted_locations(text: str, same: str) -> None:
    assert parse(text) == parse(same)


@pytest.mark.parametrize(
    ("duration", "microseconds"),
    [
        ("800us", 800),
        ("10ms", 10_000),
        ("1.5s", 1_500_000),
        ("0.001ms", 1),
        ("2.50ms", 2_500),
        ("7\u00b5s", 7),
        ("7\u03bcs", 7),
        ("3600s", 3_600_000_000),
    ],
)
def test_durations(duration: str, microseconds: int) -> None:
    assert location(f"around(A, {duration})") == Around(centre="A", within_us=microseconds)


@pytest.mark.parametrize(
    ("text", "code", "column"),
    [
        ("", "blank", 1),
        (" \n ", "blank", 1),
        ("{compute: Site1 & }", "site-expected", 19),
        ("A &", "site-expected", 4),
        ("A ; ; B", "site-expected", 5),
        ("()", "site-expected", 2),
        ("{,}", "site-expected", 2),
        ("{compute: {A}}", "site-expected", 11),
        ("A & & B", "around-expected", 5),
        ("&A", "around-expected", 1),
        ("&'around'(A, 1ms)", "around-expected", 1),
        ("A B", "end-expected", 3),
        ("compute: A", "end-expected", 8),
        ("{A} B", "end-expected", 5),
        ("A)", "end-expected", 2),
        ("around A", "end-expected", 8),
        ("'around'(A, 1ms)", "end-expected", 9),
        ("{A", "brace-expected", 3),
        ("{A, B}", "brace-expected", 5),
        ("{compute: A", "comma-or-brace", 12),
        ("{compute: 'A & B'", "comma-or-brace", 18),
        ("{compute: A image: B}", "comma-or-brace", 13),
        ("{compute: A, B}", "colon-expected", 15),
        ("{compute: A,, image: B}", "service-expected", 13),
        ("(A & (B)", "parenthesis-expected", 9),
        ("A | B", "lone-bar", 3),
        ("{compute: 'A}", "open-quote", 11),
        ("{compute: ''}", "site-expected", 12),
        ("'' & A", "empty-name", 1),
        ("-A", "name-start", 1),
        ("Zürich", "name-character", 2),
        ("A & 'B C'", "name-character", 7),
        ("{comp\0ute: A}", "name-character", 6),
        ("\ud800", "name-start", 1),
        ("A & B ; C & A & (D & C)", "repeated", 22),
        ("A ; B ; (C ; A)", "repeated", 14),
        ("around(A, 1ms) % around(A, 1000us)", "repeated", 18),
        ("A & B % C", "replicas-in-cross", 1),
        ("(A & B) % C", "replicas-in-cross", 2),
        ("A % &around(B, 1ms)", "replicas-in-cross", 5),
        ("A % (B ; C & D)", "replicas-in-cross", 10),
        ("A & (B % C)", "cross-in-replicas", 6),
        ("A & %around(B, 1ms)", "cross-in-replicas", 5),
        ("A & (B ; %around(C, 1ms))", "cross-in-replicas", 10),
        ("{Nova: A, image: B, nova: C}", "service-twice", 21),
        ("{prime: A, Prime: B}", "prime-twice", 12),
        ("{prime: A & B}", "prime-not-a-site", 9),
        ("{prime: around(A, 1ms)}", "prime-not-a-site", 9),
        ("around(A)", "around-comma", 9),
        ("around(A & B, 1ms)", "around-comma", 10),
        ("around(, 1ms)", "site-expected", 8),
        ("around(A, 1ms", "around-end", 14),
        ("around(A, 10 ms)", "duration-expected", 11),
        ("around(A, 10)", "duration-expected", 11),
        ("around(A, '10ms')", "duration-expected", 11),
        ("around(A, ١ms)", "duration-expected", 11),
        ("around(A, .5s)", "duration-expected", 11),
        ("around(A, 0.0ms)", "duration-zero", 11),
        ("around(A, 3600.000001s)", "duration-too-long", 11),
        ("around(A, 0.0001ms)", "duration-too-fine", 11),
        ('{"compute": "A & ", "image": "B"}', "site-expected", 18),
        (r'{"compute": "\u0041 & \u0041"}', "repeated", 23),
        ('{"compute": "A, image: B"}', "end-expected", 15),
        ('{"compute": "A"B"}', "open-quote", 17),
        (r'{"compute": "A\q"}', "name-character", 15),
        ('{"compute": "A", "compute": "B"}', "service-twice", 18),
        ('{"compute": 5}', "json-value", 13),
        ('{"compute": -1.5e3 , "image": "A"}', "json-value", 13),
        ('{"compute": null}', "json-value", 13),
        ('{"compute": ["A"]}', "json-value", 13),
        ('{"compute": {"A": "B"}}', "json-value", 13),
    ],
)
def test_mistakes(text: str, code: str, column: int) -> None:
    with pytest.raises(ScopeError) as caught:
        parse(text)
    assert (caught.value.code, caught.value.column) == (code, column)
    assert caught.value.text == text


def refusal(text: str) -> tuple[str, int]:
    with pytest.raises(ScopeError) as caught:
        parse(text)
    return caught.value.code, caught.value.position


def test_the_longest_text() -> None:
    assert location("A" * MAX_CHARACTERS) == SiteName(name="A" * MAX_CHARACTERS)
    assert refusal("A" * (MAX_CHARACTERS + 1)) == ("too-long", MAX_CHARACTERS)


def test_a_text_whose_canonical_form_would_be_too_long() -> None:
    text = "A&" + "B" * (MAX_CHARACTERS - 2)
    assert refusal(text) == ("too-long", MAX_CHARACTERS)


def test_the_deepest_text() -> None:
    assert location("(" * MAX_DEPTH + "A" + ")" * MAX_DEPTH) == A
    assert refusal("(" * (MAX_DEPTH + 1) + "A" + ")" * (MAX_DEPTH + 1)) == ("too-deep", MAX_DEPTH)


def test_parentheses_side_by_side_are_not_deep() -> None:
    text = " ; ".join(f"(({number}))" for number in range(MAX_DEPTH * 2))
    assert canonical(parse(text)) == " ; ".join(map(str, range(MAX_DEPTH * 2)))


def test_the_most_names() -> None:
    names = [f"s{number}" for number in range(MAX_NAMES)]
    assert canonical(parse("&".join(names))) == " & ".join(names)
    text = "{image: " + "&".join(names) + "}"
    assert refusal(text) == ("too-many-names", text.index(names[-1]))


def test_spans_point_into_the_text() -> None:
    text = '{image: around(A, 1ms) & (B ; C), "net": "\\u0041 % D", prime: A}'
    scope = parse(text)
    image, net = scope.bindings
    assert scope.text == text
    assert [text[slice(*each.span)] for each in (image, image.location)] == ["image", "around(A, 1ms) & (B ; C)"]
    assert text[slice(*net.location.span)] == "\\u0041 % D"
    assert scope.prime is not None
    assert text[slice(*scope.prime.span)] == "A"
