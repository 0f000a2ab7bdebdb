"""Bodies in JSON as text: values with the places where they stand, so that a change leaves all else byte for byte.

Dumping a body again would change the spelling of numbers and spaces, and some services sign or hash what they get.
What isn't JSON in UTF-8, is larger than a megabyte, or nests deeper than the parser goes, is no text here: None.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 1_000_000
_LONGEST_PATH = 1000
"""No description names a field so far down; the paths of a hostile body would fill the memory."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """A value of a body. `path` is written as in descriptions: server.networks[].uuid, "" is the whole; `key` is where
    its member begins, and `start` and `end` hold the value itself. `string` is None if it isn't one.
    """

    path: str
    key: int
    start: int
    end: int
    string: str | None = None


def is_json(media_type: str) -> bool:
    """Whether a body of this type may be JSON; without a type it may."""
    essence = media_type.partition(";")[0].strip().lower()
    return essence in ("", "application/json", "text/json") or essence.endswith("+json")


def parsed(body: bytes) -> Any:
    """The value of a body; None if it is no JSON."""
    text = text_of(body)
    return None if text is None else json.loads(text)


def text_of(body: bytes) -> str | None:
    """The body as text if it is JSON."""
    if not body or len(body) > MOST_BYTES:
        return None
    try:
        text = body.decode()
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    return text


def values(text: str) -> Iterator[Value]:
    """All values of a text that is JSON, each when it ends; none of their keys."""
    open_: list[tuple[str, int, int, bool]] = []  # path, key, start, whether it is a list
    path, key, member = "", -1, None
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in "{[":
            open_.append((path, key if member is not None else -1, token.start(), mark == "["))
            path, member, key = _inside(open_[-1]), None, -1
        elif mark in "}]":
            path, key, start, _ = open_.pop()
            yield Value(path=path, key=key, start=start, end=token.end())
            path, member, key = _around(open_, path)
        elif mark == ",":
            path, member, key = _around(open_, path)
        elif mark == ":":
            continue
        elif open_ and not open_[-1][3] and member is None:
            member, key = json.loads(mark), token.start()
            path = _joined(open_[-1][0], member)
        else:
            string = json.loads(mark) if mark[0] == '"' else None
            yield Value(path=path, key=key, start=token.start(), end=token.end(), string=string)


def replaced(text: str, spans: Mapping[tuple[int, int], str]) -> str:
    """The text with other strings in these places; (start, end) don't overlap."""
    parts, at = [], 0
    for (start, end), new in sorted(spans.items()):
        parts += [text[at:start], new]
        at = end
    return "".join([*parts, text[at:]])


def quoted(string: str) -> str:
    return json.dumps(string, ensure_ascii=False)


def _inside(container: tuple[str, int, int, bool]) -> str:
    path, _, _, is_list = container
    return path + "[]" if is_list and len(path) < _LONGEST_PATH else path


def _around(open_: list[tuple[str, int, int, bool]], path: str) -> tuple[str, None, int]:
    return (_inside(open_[-1]) if open_ else path), None, -1


def _joined(path: str, member: str) -> str:
    if len(path) + len(member) > _LONGEST_PATH:
        return "…"
    return f"{path}.{member}" if path else member
