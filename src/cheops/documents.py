"""YAML files of the user's, checked against a model; a mistake is told with its file and line, and what would be right.

Promises nothing of what the settings mean: that is the models' own business.
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from cheops.errors import BadSettings


class Document(BaseModel):
    """The base of every model of a file: frozen, and unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Model = TypeVar("Model", bound="Document")


class Misplaced(ValueError):
    """A mistake that only the whole of a model shows; it stands at `path` inside the model."""

    def __init__(self, what: str, *path: str | int) -> None:
        super().__init__(what)
        self.path = path


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


def mistake_in(path: Path, mistake: Misplaced) -> BadSettings:
    """A mistake of the document at `path` that its model alone doesn't show, told with the line."""
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    line, _ = _line_of(root, list(mistake.path))
    return BadSettings(f"{path}:{line}: {'.'.join(map(str, mistake.path))}: {mistake}")


def _repeated_keys(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    met: set[int] = set()  # an alias may stand inside what it names
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.CollectionNode) and id(node) not in met:
            met.add(id(node))
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            seen: set[str] = set()
            for key, _ in pairs:
                if key.value in seen:
                    yield key
                seen.add(key.value)
            waiting += [value for _, value in reversed(pairs)] if pairs else reversed(node.value)


def _sentence(name: str, root: yaml.Node | None, model: type[Document], mistake: dict[str, Any]) -> str:
    error = mistake.get("ctx", {}).get("error")
    full_path = [part for part in (*mistake["loc"], *getattr(error, "path", ())) if part != "[key]"]
    path = _without_tags(root, full_path)
    line, known = _line_of(root, path)
    field = ".".join(str(part) for part in path) or "the file"
    match mistake["type"]:
        case "extra_forbidden":
            what = f"'{path[-1]}' isn't a setting here{_near(str(path[-1]), _fields_at(model, full_path[:-1]))}"
        case "missing":
            what = f"'{path[-1]}' is missing"
        case _:
            what = mistake["msg"].removeprefix("Value error, ")
            given = mistake.get("input")
            shown = known and isinstance(given, str | int | float | bool) and not _has_secrets(model, full_path)
            what += f" (it is {given!r})" if shown else ""
    return f"{name}:{line}: {field}: {what}"


def _line_of(node: yaml.Node | None, path: list[Any]) -> tuple[int, bool]:
    """The line (from 1) of what `path` names, or of the deepest part of it that the file has."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in path:
        found = _below(node, part)
        if found is None:
            return line, False
        line, node = found[0].start_mark.line + 1, found[1]
    return line, True


def _below(node: yaml.Node | None, part: Any) -> tuple[yaml.Node, yaml.Node] | None:
    """Where `part` of a path is named, and what it names."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _without_tags(node: yaml.Node | None, path: list[Any]) -> list[Any]:
    """pydantic names a member of a union by its tag, which in the file is a value, such as that of `kind`."""
    left = []
    for part in path:
        found = _below(node, part)
        if found is None and isinstance(node, yaml.MappingNode) and part in (value.value for _, value in node.value):
            continue
        left.append(part)
        node = found[1] if found else None
    return left


def _fields_at(model: type[BaseModel], path: list[Any]) -> list[str]:
    """The names of the fields of the model that stands at `path` inside `model`."""
    return list(_models_at(model, path)[0].model_fields)


def _has_secrets(model: type[BaseModel], path: list[Any]) -> bool:
    """Whether a secret may stand at `path`, or be meant to."""
    fields = (field for one in _models_at(model, path) for field in one.model_fields.values())
    return any(SecretStr in (field.annotation, *get_args(field.annotation)) for field in fields)


def _models_at(model: type[BaseModel], path: list[Any]) -> list[type[BaseModel]]:
    """The models that may stand at `path` inside `model`; of a field that is none, the one that has it."""
    models: list[type[BaseModel]] = [model]
    for part in path:
        inside = [
            each for one in models if part in one.model_fields for each in _inside(one.model_fields[part].annotation)
        ]
        models = inside or [one for one in models if part in _tags(one)] or models
    return models


def _tags(model: type[BaseModel]) -> set[Any]:
    fields = (field.annotation for field in model.model_fields.values())
    return {tag for annotation in fields if get_origin(annotation) is Literal for tag in get_args(annotation)}


def _inside(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _inside(argument)


def _near(word: str, words: list[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; there are: {', '.join(words)}" if words else ""
