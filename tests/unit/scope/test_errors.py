"""The caret stands under the mistake, whatever the text."""

import pickle

import pytest

from cheops.scope import ScopeError, parse


def mistake(text: str) -> ScopeError:
    with pytest.raises(ScopeError) as caught:
        parse(text)
    return caught.value


def test_the_three_lines() -> None:
    error = mistake("{compute: Site1 & }")
    assert str(error) == error.caret()
    assert error.caret().splitlines() == [
        "{compute: Site1 & }",
        "                  ^",
        "column 19: a site is expected here, not `}`: write a name like Site1, or around(Site1, 10ms)",
    ]


def test_an_empty_text_needs_no_caret() -> None:
    assert str(mistake(" ")).startswith("column 1: the scope is empty: ")


def test_without_a_hint() -> None:
    assert str(ScopeError("A", 0, "no")) == "A\n^\ncolumn 1: no"


@pytest.mark.parametrize(
    ("text", "line", "caret"),
    [
        ("A\t&\n\x00B", "A &  B", "    ^"),
        ("{'漢字'}", "{'漢字'}", "  ^"),
        ("A & B漢, 字 | C", "A & B漢, 字 | C", "            ^"),
        ("A e\u0301 | B", "A e\u0301 | B", "    ^"),
        ("\ud800 & A", "  & A", "^"),
        ("A &", "A &", "   ^"),
    ],
)
def test_odd_text_stays_on_one_line(text: str, line: str, caret: str) -> None:
    assert mistake(text).caret().splitlines()[:2] == [line, caret]


@pytest.mark.parametrize("before", [0, 10, 38, 60, 100, 200])
@pytest.mark.parametrize("after", [0, 10, 38, 60, 100, 200])
def test_a_window_on_a_long_text(before: int, after: int) -> None:
    line, caret = mistake("A" * before + "|" + "B" * after).caret().splitlines()[:2]
    assert line[len(caret) - 1] == "|"
    assert len(line) <= 78
    assert len(line) >= min(before + 1 + after, 76)


def test_a_long_or_odd_word_is_shortened_in_the_message() -> None:
    assert mistake("A " + "B" * 100).message == f"the text should end here, not go on with '{'B' * 39}…'"
    assert mistake("A \x1b[31m").message == r"the text should end here, not go on with '\x1b[31m'"


def test_braces_of_the_user_are_not_blanks_of_the_message() -> None:
    assert "'{0}'" in mistake("A '{0}'").message


def test_it_can_be_pickled() -> None:
    error = mistake("A |")
    again = pickle.loads(pickle.dumps(error))
    assert (again.position, again.code, str(again)) == (2, "lone-bar", str(error))
