"""Fields of bodies by their paths, as descriptions write them: image_id, networks[].uuid, metadata.name."""

from collections.abc import Iterator
from typing import Any

from cheops.applications.json_text import Value, parsed, quoted, replaced, text_of, values
from cheops.applications.resources import Resource

PLAIN = Resource(collection="/")
"""What holds of a type that isn't described."""
_LONGEST_PATH = 1000


def body_of_one(body: bytes, rules: Resource | None) -> Any:
    """The value of a body without its wrapper; None if it is no JSON.

    Without a description, the only member that is an object counts as wrapper.
    """
    value = parsed(body)
    if not isinstance(value, dict):
        return value
    if rules is not None:
        return value.get(rules.one, value) if rules.one else value
    inner = next(iter(value.values())) if len(value) == 1 else None
    return inner if isinstance(inner, dict) and "metadata" not in value else value


def fields_at(value: Any, path: str) -> list[Any]:
    """All values at a path; [] stands for each of a list."""
    found = [value]
    for step in path.split("."):
        name, each = step.removesuffix("[]"), step.endswith("[]")
        found = [one[name] for one in found if isinstance(one, dict) and name in one]
        if each:
            found = [part for one in found if isinstance(one, list) for part in one]
    return found


def text_at(value: Any, path: str) -> str:
    """The string or number at a path, as text; "" if there is none."""
    found = next((one for one in fields_at(value, path) if isinstance(one, str | int | float)), None)
    return "" if found is None or isinstance(found, bool) else str(found)


def touched(body: bytes, rules: Resource | None) -> frozenset[str] | None:
    """The leaf fields that a merge writes: of a merge patch (RFC 7396) or a JSON patch (RFC 6902). None: maybe all.

    A list is written as one.
    """
    value = parsed(body)
    if isinstance(value, list):
        return _patched(value)
    if not isinstance(value, dict):
        return None
    inside = value.get(rules.one) if rules and rules.one else value
    return frozenset(path for path, _ in leaves(inside)) if isinstance(inside, dict) else None


def leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """(path, value) of all that isn't an object with members."""
    waiting = [("", value)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict) and value and len(path) < _LONGEST_PATH:
            waiting += [(f"{path}.{name}" if path else name, inner) for name, inner in value.items()]
        else:
            yield path, value


def without(value: Any, paths: frozenset[str]) -> Any:
    """The value without the fields at these paths; objects inside of lists lose theirs too."""
    return _without(value, "", paths) if any(paths) else value


def _without(value: Any, at: str, paths: frozenset[str]) -> Any:
    if len(at) > _LONGEST_PATH:
        return value
    if isinstance(value, list):
        return [_without(one, f"{at}[]", paths) for one in value]
    if not isinstance(value, dict):
        return value
    named = ((name, f"{at}.{name}" if at else name, inner) for name, inner in value.items())
    return {name: _without(inner, path, paths) for name, path, inner in named if path not in paths}


def cut(body: bytes, paths: frozenset[str]) -> bytes:
    """The body without the members at these paths, which begin outside of the wrapper; the rest byte for byte."""
    text = text_of(body)
    if text is None:
        return body
    members = [value for value in values(text) if value.path in paths and value.key >= 0]
    outer = [one for one in members if not any(other.key < one.key and one.end < other.end for other in members)]
    for value in sorted(outer, key=lambda one: -one.key):
        text = _cut(text, value)
    return text.encode()


def _cut(text: str, value: Value) -> str:
    """Without a member, and the comma behind it or else the one before it."""
    before, after = text[: value.key], text[value.end :]
    if after.lstrip().startswith(","):
        return before + after.lstrip()[1:].lstrip()
    return before.rstrip().removesuffix(",") + after


def put(body: bytes, path: str, string: str) -> bytes:
    """The body with this string at the path; what is missing on the way is made.

    A body that is no JSON object, or in which something else is in the way, stays as it is.
    """
    return put_json(body, path, quoted(string))


def put_json(body: bytes, path: str, json_text: str) -> bytes:
    """As `put`, of any value, which is written in JSON."""
    text = text_of(body)
    if text is None or not text.lstrip().startswith("{"):
        return body
    there = {value.path: value for value in values(text)}
    if path in there:
        value = there[path]
        return replaced(text, {(value.start, value.end): json_text}).encode()
    steps = path.split(".")
    depth = next(n for n in range(len(steps) - 1, -1, -1) if ".".join(steps[:n]) in there)
    around = there[".".join(steps[:depth])]
    if text[around.start] != "{":
        return body
    inside = json_text
    for name in reversed(steps[depth + 1 :]):
        inside = "{" + f"{quoted(name)}: {inside}" + "}"
    at = around.start + 1
    comma = "" if text[at:].lstrip().startswith("}") else ", "
    return (text[:at] + f"{quoted(steps[depth])}: {inside}{comma}" + text[at:]).encode()


def _patched(operations: list[Any]) -> frozenset[str] | None:
    if not all(isinstance(one, dict) and isinstance(one.get("path"), str) for one in operations):
        return None
    pointers = [one[key] for one in operations for key in ("path", "from") if key in one]
    return frozenset(_field(str(pointer)) for pointer in pointers)


def _field(pointer: str) -> str:
    """The field of a JSON pointer (RFC 6901); what stands in a list counts as the list."""
    steps: list[str] = []
    for step in pointer.split("/")[1:]:
        if step == "-" or step.isdecimal():
            break
        steps.append(step.replace("~1", "/").replace("~0", "~"))
    return ".".join(steps)
