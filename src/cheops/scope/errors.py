"""What can be wrong with a scope, said so that its writer can mend it.

Every mistake has a code for machines, a sentence for people and the place where it stands. Promises nothing about the
wording: programs test `code`, never `message`.
"""

import unicodedata
from typing import Final

_WINDOW: Final = 76  # with an ellipsis on either side, a long text still fits a terminal of 80 columns
_LONGEST_WORD: Final = 40

# code: (what happened, what to do)
_MISTAKES: Final[dict[str, tuple[str, str]]] = {
    "blank": ("the scope is empty", "write {{}} for everything local, or name a site: {{compute: Site1}}"),
    "too-long": ("a scope has at most {limit} characters", "name fewer places, or shorter ones"),
    "too-many-names": ("a scope has at most {limit} names", "write around(…) for many sites at once"),
    "too-deep": ("parentheses nest at most {limit} deep", "take out those that change nothing"),
    "open-quote": ("this quote is never closed", "close it, or leave it out: names need no quotes"),
    "lone-bar": ("a single `|` means nothing", "write `||` or `;` for otherwise"),
    "empty-name": ("a name is expected between these quotes", "write the name of a site or a service"),
    "name-start": ("a name can't begin with {found}", "it begins with one of A-Z a-z 0-9"),
    "name-character": ("a name can't contain {found}", "it is made of A-Z a-z 0-9 _ . -"),
    "site-expected": ("a site is expected here, not {found}", "write a name like Site1, or around(Site1, 10ms)"),
    "service-expected": ("a service is expected here, not {found}", "write a binding like compute: Site1"),
    "colon-expected": ("`:` is expected here, not {found}", "write a binding like compute: Site1"),
    "comma-or-brace": ("`,` or `}}` is expected here, not {found}", "join sites with `&`, `%` or `;`"),
    "brace-expected": ("`}}` is expected here, not {found}", "join sites with `&`, `%` or `;`, or bind services"),
    "parenthesis-expected": ("`)` is expected here, not {found}", "close the `(` of column {opened}"),
    "end-expected": (
        "the text should end here, not go on with {found}",
        "join sites with `&`, `%` or `;`; bindings need braces: {{compute: Site1}}",
    ),
    "around-expected": (
        "{found} may stand here only before around(…)",
        "write it once between two places, or before around(Site1, 10ms)",
    ),
    "around-comma": ("`,` is expected here, not {found}", "around takes one site and a duration: around(Site1, 10ms)"),
    "around-end": ("`)` is expected here, not {found}", "around takes one site and a duration: around(Site1, 10ms)"),
    "duration-expected": ("a duration is expected here, not {found}", "write it without a space: 10ms, 1.5s or 800us"),
    "duration-zero": ("a duration is more than zero", "write the longest round trip allowed, like 10ms"),
    "duration-too-long": ("a duration is at most one hour", "write the longest round trip allowed, like 10ms"),
    "duration-too-fine": ("a duration is a whole number of microseconds", "round it"),
    "repeated": ("{found} stands here a second time", "take it out"),
    "replicas-in-cross": ("a cross of replicas has no clear meaning", "use only `%` or only `&` here"),
    "cross-in-replicas": ("replicas of a cross have no clear meaning", "use only `&` or only `%` here"),
    "service-twice": (
        "the service {found} is bound a second time",
        "bind it once; join its sites with `&`, `%` or `;`",
    ),
    "same-service": ("{found} is the service {service}, which is bound already", "bind it once"),
    "prime-twice": ("prime is named a second time", "a scope has one prime"),
    "prime-not-a-site": ("prime is exactly one site, not {found}", "write prime: Site1"),
    "json-value": ("a JSON scope has only strings, not {found}", 'write a location in quotes, like "Site1 & Site2"'),
    "which-service": (
        "a location alone binds the service of a request, and here is none",
        "name the service: {{compute: {found}}}",
    ),
    "unknown-service": ("unknown service {found}", "{near}"),
    "unknown-site": ("unknown site {found}", "{near}"),
}


class ScopeError(Exception):
    """A mistake in the text of a scope.

    text: what was read; position: offset of the mistake in it, 0 to len(text); message: what happened; hint: what to
    do (may be empty); code: the same for machines.
    """

    def __init__(self, text: str, position: int, message: str, hint: str = "", code: str = "scope") -> None:
        super().__init__(text, position, message, hint, code)
        self.text, self.position, self.message, self.hint, self.code = text, position, message, hint, code

    @property
    def column(self) -> int:
        """Where the mistake stands, counted in characters from 1."""
        return self.position + 1

    def caret(self) -> str:
        """Three lines: the text, or as much of it as fits, a caret under the mistake, and what to do about it."""
        sentence = ": ".join(filter(None, (f"column {self.column}", self.message, self.hint)))
        if not self.text.strip():
            return sentence
        before, after = self._window()
        return f"{(before + after).rstrip()}\n{' ' * _width(before)}^\n{sentence}"

    def _window(self) -> tuple[str, str]:
        start = max(0, min(self.position - _WINDOW // 2, len(self.text) - _WINDOW))
        end = start + _WINDOW
        before = "…" * (start > 0) + _on_one_line(self.text[start : self.position])
        return before, _on_one_line(self.text[self.position : end]) + "…" * (end < len(self.text))

    __str__ = caret


def mistake(code: str, text: str, position: int, **words: object) -> ScopeError:
    """The error of the table with this code, its blanks filled with `words`."""
    message, hint = (sentence.format(**words) for sentence in _MISTAKES[code])
    return ScopeError(text, position, message, hint, code)


def quoted(text: str) -> str:
    """Anything a user wrote, short and printable, in quotes."""
    short = text if len(text) <= _LONGEST_WORD else text[: _LONGEST_WORD - 1] + "…"
    return "'" + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short) + "'"


def _on_one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _width(text: str) -> int:
    """Columns that a terminal uses: two for a wide character, none for an accent that joins the one before."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
