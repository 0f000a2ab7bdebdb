"""Text → tree: one small tokenizer, and one function for each line of the grammar.

    scope    = "{" [ bindings ] "}" | "{" location [ "," ] "}" | location
    bindings = binding { "," binding } [ "," ]
    binding  = SERVICE ":" value | "prime" ":" value            (* prime: exactly one site *)
    value    = location | QUOTE location QUOTE                  (* so a JSON object of strings is a scope *)
    location = cross { ( ";" | "||" ) cross }
    cross    = replicas { "%" replicas }
    replicas = place { "&" place }
    place    = SITE | around | ( "&" | "%" ) around | "(" location ")"
    around   = "around" "(" SITE "," DURATION ")"

Promises, for any text whatever, a tree or a ScopeError, in a time that grows with the length of the text. Doesn't know
which sites and services exist.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from .errors import ScopeError, mistake, quoted
from .tree import (
    LONGEST_US,
    NAME,
    Around,
    Binding,
    Cross,
    Joined,
    Location,
    Otherwise,
    Replicas,
    Scope,
    SiteName,
    Spread,
    UnclearError,
    canonical,
    joined,
    sites_of,
)

MAX_CHARACTERS: Final = 4096  # what W3C Baggage first set as the longest member; a scope may travel as one
MAX_DEPTH: Final = 16  # more than a reader can follow, far less than Python's stack
MAX_NAMES: Final = 256  # one request touches at most as many places

_TOKEN: Final = re.compile(
    r"""\s*+(?:
      (?P<sign>\|\||[{}(),:;&%])
    | (?P<quoted>"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+')
    | (?P<word>[^\s{}(),:;&%|'"]++)
    | (?P<end>\Z)
    | (?P<stray>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_LETTER: Final = re.compile(r'\\u[0-9A-Fa-f]{4}|\\["\\/bfnrt]|.', re.DOTALL)
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|µs|μs|ms|s)")  # both of Unicode's micro signs
_MICROSECONDS: Final = {"us": 1, "µs": 1, "μs": 1, "ms": 1_000, "s": 1_000_000}
_JSON_LITERAL: Final = re.compile(r"true|false|null|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def parse(text: str) -> Scope:
    """The tree of a scope in scope-lang or in JSON. Raises ScopeError, which points at the first mistake."""
    if not text.strip():
        raise mistake("blank", text, 0)
    if len(text) > MAX_CHARACTERS:
        raise mistake("too-long", text, MAX_CHARACTERS, limit=MAX_CHARACTERS)
    try:
        return _within_limits(_Parser(text, _tokens(text, text, range(len(text) + 1))).whole_scope())
    except UnclearError as unclear:
        raise _pointed(unclear, text) from unclear


def _pointed(unclear: UnclearError, text: str) -> ScopeError:
    part = unclear.part
    written = part.service if isinstance(part, Binding) else canonical(part)
    return mistake(unclear.code, text, part.span[0], found=quoted(written))


def _within_limits(scope: Scope) -> Scope:
    """What was accepted once must be accepted again in its canonical form, which other sites read."""
    locations = [binding.location for binding in scope.bindings] + [at for at in (scope.bare, scope.prime) if at]
    named = [binding.span for binding in scope.bindings] + [site.span for at in locations for site in sites_of(at)]
    if len(named) > MAX_NAMES:
        raise mistake("too-many-names", scope.text, sorted(named)[MAX_NAMES][0], limit=MAX_NAMES)
    if len(canonical(scope)) > MAX_CHARACTERS:
        raise mistake("too-long", scope.text, len(scope.text), limit=MAX_CHARACTERS)
    return scope


@dataclass(frozen=True, kw_only=True, slots=True)
class _Token:
    """kind: a sign itself, `word`, `quoted` or `end`; offsets: where each character of `text` was written, and its end.

    A quoted token's text is what stands between the quotes; its start and end are the quotes'.
    """

    kind: str
    text: str
    start: int
    end: int
    offsets: Sequence[int]

    @property
    def shown(self) -> str:
        if self.kind == "end":
            return "the end"
        return quoted(self.text) if self.kind in ("word", "quoted") else f"`{self.text}`"


def _tokens(text: str, written: str, offsets: Sequence[int]) -> list[_Token]:
    """All tokens of `written`, a stretch of `text` whose characters stand at `offsets`; the last is the end."""
    tokens = []
    for found in _TOKEN.finditer(written):
        if stray := found["stray"]:
            raise mistake("lone-bar" if stray == "|" else "open-quote", text, offsets[found.start("stray")])
        tokens.append(_token(found, offsets))
    return tokens


def _token(found: re.Match[str], offsets: Sequence[int]) -> _Token:
    group = found.lastgroup or ""
    start, end = found.span(group)
    kind, text, places = group, found[group], offsets[start : end + 1]
    if group == "sign":
        kind = ";" if text == "||" else text
    elif group == "quoted":
        letters = list(_LETTER.finditer(text, 1, len(text) - 1))
        places = [*(places[letter.start()] for letter in letters), places[-2]]
        text = "".join(map(_unescaped, letters))
    return _Token(kind=kind, text=text, start=offsets[start], end=offsets[end], offsets=places)


def _unescaped(letter: re.Match[str]) -> str:
    """JSON's escapes; a backslash that begins none stays, and is refused wherever it stands."""
    return str(json.loads(f'"{letter[0]}"')) if len(letter[0]) > 1 else letter[0]


class _Parser:
    """Reads the tokens of one text from left to right."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text, self._tokens = text, tokens
        self._at = self._depth = 0

    def whole_scope(self) -> Scope:
        scope = self._scope()
        self._expect("end", "end-expected")
        return scope

    def whole_location(self) -> Location:
        location = self._location()
        self._expect("end", "end-expected")
        return location

    def _scope(self) -> Scope:
        """scope = "{" [ bindings ] "}" | "{" location [ "," ] "}" | location"""
        if not self._take("{"):
            return Scope(bare=self._location(), text=self._text)
        if self._next.kind == "}" or self._second.kind == ":":
            scope, code = self._bindings(), "comma-or-brace"
        else:
            scope, code = Scope(bare=self._location(), text=self._text), "brace-expected"
            self._take(",")
        self._expect("}", code)
        return scope

    def _bindings(self) -> Scope:
        """bindings = binding { "," binding } [ "," ]"""
        bindings: list[Binding] = []
        prime: SiteName | None = None
        while self._next.kind != "}":
            key = self._name("service-expected")
            self._expect(":", "colon-expected")
            if key.text.lower() != "prime":
                bindings.append(Binding(service=key.text, location=self._value(key), span=(key.start, key.end)))
            elif prime:
                raise self._mistake("prime-twice", key)
            else:
                prime = self._prime(key)
            if not self._take(","):
                break
        return Scope(bindings=tuple(bindings), prime=prime, text=self._text)

    def _prime(self, key: _Token) -> SiteName:
        """prime ":" value, where the value is exactly one site"""
        first = self._next
        location = self._value(key)
        if not isinstance(location, SiteName):
            raise self._mistake("prime-not-a-site", first, found=quoted(canonical(location)))
        return location

    def _value(self, key: _Token) -> Location:
        """value = location | QUOTE location QUOTE"""
        self._refuse_other_json(key)
        token = self._next
        if token.kind != "quoted" or self._second.kind not in (",", "}", "end"):
            return self._location()
        self._at += 1
        return _Parser(self._text, _tokens(self._text, token.text, token.offsets)).whole_location()

    def _refuse_other_json(self, key: _Token) -> None:
        """After a key in JSON's quotes: no list, no object, no number, true, false or null, though it were a name."""
        value = self._next
        literal = _JSON_LITERAL.fullmatch(value.text) and self._second.kind in (",", "}")
        other = value.kind == "{" or (value.kind == "word" and (value.text.startswith("[") or literal))
        if self._text[key.start] == '"' and other:
            raise self._mistake("json-value")

    def _location(self) -> Location:
        """location = cross { ( ";" | "||" ) cross }"""
        return self._joined(Otherwise, ";", self._cross)

    def _cross(self) -> Location:
        """cross = replicas { "%" replicas }"""
        return self._joined(Cross, "%", self._replicas)

    def _replicas(self) -> Location:
        """replicas = place { "&" place }"""
        return self._joined(Replicas, "&", self._place)

    def _joined(self, kind: type[Joined], sign: str, part: Callable[[], Location]) -> Location:
        start = self._next.start
        parts = [part()]
        while self._take(sign):
            parts.append(part())
        return joined(kind, tuple(parts), (start, self._tokens[self._at - 1].end))

    def _place(self) -> Location:
        """place = SITE | around | ( "&" | "%" ) around | "(" location ")" """
        if opening := self._take("("):
            return self._group(opening)
        sign = self._take("&", "%")
        if self._next.kind == "word" and self._next.text == "around" and self._second.kind == "(":
            return self._around(sign)
        if sign:
            raise self._mistake("around-expected", sign)
        name = self._name("site-expected")
        return SiteName(name=name.text, span=(name.start, name.end))

    def _group(self, opening: _Token) -> Location:
        """ "(" location ")", the first sign already taken"""
        if self._depth == MAX_DEPTH:
            raise self._mistake("too-deep", opening, limit=MAX_DEPTH)
        self._depth += 1
        location = self._location()
        self._expect(")", "parenthesis-expected", opened=opening.start + 1)
        self._depth -= 1
        return location

    def _around(self, sign: _Token | None) -> Location:
        """around = "around" "(" SITE "," DURATION ")" """
        start = (sign or self._next).start
        self._at += 2
        centre = self._name("site-expected")
        self._expect(",", "around-comma")
        within_us = self._duration()
        return Around(
            centre=centre.text,
            within_us=within_us,
            spread=Spread(sign.text if sign else ""),
            span=(start, self._expect(")", "around-end").end),
            centre_span=(centre.start, centre.end),
        )

    def _duration(self) -> int:
        """DURATION = number ( "us" | "µs" | "ms" | "s" ), as microseconds"""
        token = self._expect("word", "duration-expected")
        found = _DURATION.fullmatch(token.text)
        if not found:
            raise self._mistake("duration-expected", token)
        duration = Fraction(found[1]) * _MICROSECONDS[found[2]]
        for code, wrong in (
            ("duration-zero", duration == 0),
            ("duration-too-long", duration > LONGEST_US),
            ("duration-too-fine", duration.denominator != 1),
        ):
            if wrong:
                raise self._mistake(code, token)
        return int(duration)

    def _name(self, code: str) -> _Token:
        """SITE, SERVICE = ( letter | digit ) { letter | digit | "_" | "." | "-" }, in quotes or not"""
        token = self._take("word", "quoted")
        if not token:
            raise self._mistake(code)
        good = NAME.match(token.text)
        end = good.end() if good else 0
        if end < len(token.text):
            bad = quoted(token.text[end])
            raise mistake("name-character" if end else "name-start", self._text, token.offsets[end], found=bad)
        if not token.text:
            raise self._mistake("empty-name", token)
        return token

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    @property
    def _second(self) -> _Token:
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)]

    def _take(self, *kinds: str) -> _Token | None:
        token = self._next
        if token.kind not in kinds:
            return None
        self._at += token.kind != "end"
        return token

    def _expect(self, kind: str, code: str, **words: object) -> _Token:
        token = self._take(kind)
        if not token:
            raise self._mistake(code, **words)
        return token

    def _mistake(self, code: str, token: _Token | None = None, /, **words: object) -> ScopeError:
        token = token or self._next
        return mistake(code, self._text, token.start, **({"found": token.shown} | words))
