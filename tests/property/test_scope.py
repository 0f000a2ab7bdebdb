"""Laws of scope-lang, for any tree and any text."""

import json
import re
from collections.abc import Callable
from time import process_time
from typing import cast

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cheops.scope import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    Around,
    Binding,
    Cross,
    Location,
    Names,
    Otherwise,
    Replicas,
    Scope,
    ScopeError,
    SiteName,
    Spread,
    canonical,
    parse,
    sites_of,
)

LONGEST_SECONDS = 0.2
unhurried = settings(deadline=None)  # time is measured once, on hostile text, below

names = st.one_of(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,6}", fullmatch=True),
    st.sampled_from(["around", "prime", "Prime", "10ms", "5", "1e5", "true", "null", "A", "B", "C"]),
)
services = names.filter(lambda name: name.lower() != "prime")
sites = st.builds(SiteName, name=names)
durations = st.one_of(
    st.integers(1, 3_600_000_000),
    st.integers(1, 3_600_000).map(lambda n: n * 1_000),
    st.integers(1, 3_600).map(lambda n: n * 1_000_000),
)
OPERATORS: dict[type, str] = {Replicas: "places", Cross: "parts", Otherwise: "choices"}
SPREAD_OF: dict[type, Spread] = {Replicas: Spread.EACH, Cross: Spread.ACROSS}
OPPOSITE: dict[type, type] = {Replicas: Cross, Cross: Replicas}


@st.composite
def locations(draw: st.DrawFn, allowed: frozenset[type] = frozenset(OPERATORS), depth: int = 3) -> Location:
    """Any location of at most 27 sites that uses only the operators `allowed` and has a clear meaning."""
    operators = sorted(allowed, key=lambda kind: kind.__name__) if depth else []
    kind = draw(st.sampled_from([SiteName, Around, *operators]))
    if kind is SiteName:
        return draw(sites)
    if kind is Around:
        spreads = [Spread.FIRST, *(SPREAD_OF[kind] for kind in SPREAD_OF if kind in allowed)]
        return draw(st.builds(Around, centre=names, within_us=durations, spread=st.sampled_from(spreads)))
    return draw(joined(kind, allowed, depth))


@st.composite
def joined(draw: st.DrawFn, kind: type, allowed: frozenset[type], depth: int) -> Location:
    refused = {OPPOSITE[kind]} if kind in OPPOSITE else set()
    inside = st.deferred(lambda: locations(frozenset(allowed - refused), depth - 1))
    parts = draw(st.lists(inside.filter(lambda part: not isinstance(part, kind)), min_size=2, max_size=3, unique=True))
    return cast(Location, kind(**{OPERATORS[kind]: tuple(parts)}))


bindings = st.lists(
    st.builds(Binding, service=services, location=locations()),
    max_size=3,  # with 27 sites each, still within the limits
    unique_by=lambda binding: binding.service.lower(),
)
bound = st.builds(Scope, bindings=bindings.map(tuple), prime=st.none() | sites)
scopes = bound | st.builds(Scope, bare=locations())
TOKENS = ["{", "}", "(", ")", ",", ":", ";", "||", "&", "%", "|", "'", '"', "\\", " ", "\n", "[", "]"]
WORDS = ["A", "B", "C", "around", "around(A,1ms)", "prime", "compute", "10ms", "1.5s", "0us", "\\u0041", "5", "ü", "\0"]
texts_like_scopes = st.lists(st.sampled_from(TOKENS + WORDS), max_size=60).map("".join)
any_text = st.text() | st.text(st.characters(codec=None, exclude_categories=())) | texts_like_scopes


@unhurried
@given(scopes)
def test_the_canonical_text_is_the_same_tree(scope: Scope) -> None:
    assert parse(canonical(scope)) == scope


@unhurried
@given(locations())
def test_so_is_that_of_a_location(location: Location) -> None:
    assert parse(canonical(location)).bare == location


def read(text: str) -> Scope | ScopeError:
    try:
        return parse(text)
    except ScopeError as error:
        return error


def check_reading(text: str) -> None:
    result = read(text)
    if isinstance(result, ScopeError):
        assert 0 <= result.position <= len(text)
        assert result.message
        assert str(result).count("\n") == (2 if text.strip() else 0)
        str(result).encode()
    else:
        assert parse(canonical(result)) == result
        assert canonical(parse(canonical(result))) == canonical(result)


@unhurried
@given(any_text)
@example("{compute: A & B")
@example("")
def test_any_text_is_a_tree_or_a_mistake_in_it(text: str) -> None:
    check_reading(text)


@unhurried
@given(scopes, st.data())
def test_so_is_a_text_with_a_slip_of_the_pen(scope: Scope, data: st.DataObject) -> None:
    text = canonical(scope)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 3, len(text))))
    check_reading(text[:start] + data.draw(st.sampled_from(["", *TOKENS, *WORDS])) + text[end:])


@unhurried
@given(scopes, st.data())
def test_white_space_between_tokens_changes_nothing(scope: Scope, data: st.DataObject) -> None:
    tokens = re.findall(r"[A-Za-z0-9_.\-]+|[^\sA-Za-z0-9_.\-]", canonical(scope))
    space = st.text(" \t\r\n\u00a0", max_size=3)
    assert parse("".join(token + data.draw(space) for token in tokens)) == scope


@unhurried
@given(scopes, st.sampled_from("'\""))
def test_quotes_around_sites_change_nothing(scope: Scope, quote: str) -> None:
    text = re.sub(r"(?<![\w.\-])(?!around\(|prime:)([\w.\-]+)(?![\w.\-])(?!\))", rf"{quote}\1{quote}", canonical(scope))
    assert parse(text) == scope


def escaped(text: str) -> str:
    return '"' + "".join(f"\\u{ord(character):04x}" for character in text) + '"'


@unhurried
@given(bound, st.sampled_from([json.dumps, escaped]))
def test_the_json_form_is_the_same_tree(scope: Scope, written: Callable[[str], str]) -> None:
    entries = [(binding.service, canonical(binding.location)) for binding in scope.bindings]
    if scope.prime:
        entries.append(("prime", scope.prime.name))
    text = "{" + ", ".join(f"{written(key)}: {written(value)}" for key, value in entries) + "}"
    assume(len(text) <= MAX_CHARACTERS)
    assert parse(text) == scope


@unhurried
@given(locations())
def test_every_site_is_known_or_pointed_at(location: Location) -> None:
    text = f"{{ image: {canonical(location)} }}"
    named = list(sites_of(parse(text).bindings[0].location))
    known = Names(services={"image": ()}, sites=tuple(site.name for site in named))
    assert known.resolve(parse(text)) == parse(text)
    with pytest.raises(ScopeError) as caught:
        Names(services={"image": ()}, sites=()).resolve(parse(text))
    assert text.startswith(named[0].name, caught.value.position)


def hostile(unit: str, end: str = "") -> str:
    return (unit * MAX_CHARACTERS)[: MAX_CHARACTERS - len(end)] + end


NUMBERED = [f"{number:x}" for number in range(1000)]
HOSTILE = {
    "opening parentheses": hostile("("),
    "closing parentheses": hostile("(" * MAX_DEPTH + "A" + ")" * MAX_DEPTH),
    "groups": hostile("(A;", "B"),
    "as deep as allowed": ("(" * MAX_DEPTH + "A" + "".join(f"{'&;'[n % 2]}{n})" for n in range(MAX_DEPTH))),
    "wide and deep": "(" * MAX_DEPTH
    + "&".join(NUMBERED[:200])
    + "".join(f"{';&'[n % 2]}x{n})" for n in range(MAX_DEPTH)),
    "many names": "&".join(NUMBERED),
    "many services": "{" + ",".join(f"{name}:A" for name in NUMBERED[:700]) + "}",
    "many alike": hostile("A&"),
    "one name": hostile("A"),
    "white space": hostile(" ", "A"),
    "white space, then a bar": hostile(" ", "|"),
    "quotes": hostile('"'),
    "an open quote": '"' + hostile("A")[1:],
    "backslashes": '"' + hostile("\\")[1:],
    "escapes": '{"a":"' + hostile("\\u0041")[8:] + '"}',
    "a long number": "around(A," + "9" * (MAX_CHARACTERS - 12) + "ms)",
    "a long fraction": "around(A,0." + "9" * (MAX_CHARACTERS - 14) + "ms)",
    "dots": "around(A," + "1." * 2000 + "ms)",
    "bars": hostile("|"),
    "ampersands": hostile("&"),
    "JSON in JSON": hostile('{"a":'),
    "lists in JSON": '{"a":' + hostile("[")[5:],
    "a megabyte": "A & " * 250_000,
    "a megabyte of nothing": " " * 1_000_000,
}


def seconds_to_read(text: str) -> float:
    started = process_time()
    check_reading(text)
    return process_time() - started


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_takes_no_time(text: str) -> None:
    assert min(seconds_to_read(text) for _ in range(3)) < LONGEST_SECONDS
