"""YAML files of the user's, checked against a model; a mistake is told with its file and line, and what would be right.

Promises nothing of what the settings mean: that is the models' own business.
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cheops.errors import BadSettings


class Document(BaseModel):
    """The base of every model of a file: frozen, and unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound="Document")


def read_document(path: Path, model: type[Model], **context: Any) -> Model:
    """The file at `path` as a `model`. Raises BadSettings with file, line and what would be right."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path}: can't be read: {error}") from error
    return parse_document(text, str(path), model, **context)


def parse_document(text: str, name: str, model: type[Model], **context: Any) -> Model:
    """`text` as a `model`; `name` stands for the file in messages, `context` reaches the model's validators."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise BadSettings(f"{where}: this isn't YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise BadSettings(f"{name}: this isn't YAML: {error}") from error
    for twice in _repeated_keys(root):
        raise BadSettings(f"{name}:{twice.start_mark.line + 1}: '{twice.value}' stands here twice; keep one")
    try:
        return model.model_validate(value if value is not None else {}, context=context)
    except ValidationError as error:
        lines = [_sentence(name, root, model, dict(mistake)) for mistake in error.errors()]
        raise BadSettings("\n".join(lines)) from error


def _repeated_keys(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key
            seen.add(key.value)
            yield from _repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated_keys(item)


def _sentence(name: str, root: yaml.Node | None, model: type[Document], mistake: dict[str, Any]) -> str:
    path = [part for part in mistake["loc"] if part != "[key]"]
    line, known = _line_of(root, path)
    field = ".".join(str(part) for part in path) or "the file"
    match mistake["type"]:
        case "extra_forbidden":
            what = f"'{path[-1]}' isn't a setting here{_near(str(path[-1]), _fields_at(model, path[:-1]))}"
        case "missing":
            what = f"'{path[-1]}' is missing"
        case _:
            what = mistake["msg"].removeprefix("Value error, ")
            given = mistake.get("input")
            what += f" (it is {given!r})" if known and isinstance(given, str | int | float | bool) else ""
    return f"{name}:{line}: {field}: {what}"


def _line_of(node: yaml.Node | None, path: list[Any]) -> tuple[int, bool]:
    """The line (from 1) of what `path` names, or of the deepest part of it that the file has."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = (node.value[part], node.value[part])
        else:
            found = None
        if found is None:
            return line, False
        line, node = found[0].start_mark.line + 1, found[1]
    return line, True


def _fields_at(model: Any, path: list[Any]) -> list[str]:
    """The names of the fields of the model that stands at `path` inside `model`."""
    for part in path:
        annotation = model.model_fields[part].annotation if _is_model(model) and part in model.model_fields else model
        model = next((inner for inner in _inside(annotation) if _is_model(inner)), None)
    return list(model.model_fields) if _is_model(model) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _inside(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, UnionType, dict, list, tuple):
        for argument in get_args(annotation):
            yield from _inside(argument)
    else:
        yield annotation


def _near(word: str, words: list[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; there are: {', '.join(words)}" if words else ""
