"""How the lab runs an application: its lab.yaml, checked, and where the folder with it is.

The texts of lab.yaml have places that each site fills in: {site}, {backend.NAME} and so on. Whatever else stands in
braces is left alone, unless it looks like such a place; {{word}} means {word}.
"""

import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, model_validator

import cheops
from cheops.applications import Application, find_application, is_bundled, read_application
from cheops.documents import Document, Misplaced, mistake_in, read_document
from cheops.errors import BadSettings

# What commands and logs mean by these isn't a process.
RESERVED = ("agent", "envoy", "app", "access", "before", "after")
_PLACE = re.compile(r"\{\{([A-Za-z_][\w.-]*)\}\}|\{([A-Za-z_][\w.-]*)\}")


def known_places(services: Iterable[str]) -> list[str]:
    """The names of all places that can be filled in for an application with these services."""
    ends = [f"{end}.{service}" for service in services for end in ("front", "backend")]
    return ["python", "folder", "site", "address", "data", "cache", "shared", "sites", *ends]


def unknown_places(text: str, known: Iterable[str]) -> list[str]:
    return [found[2] for found in _PLACE.finditer(text) if found[2] and found[2] not in known]


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its places filled in. Raises KeyError for an unknown one; reading has refused those of lab.yaml."""
    return _PLACE.sub(lambda found: f"{{{found[1]}}}" if found[1] else values[found[2]], text)


def fill_file(path: Path, values: Mapping[str, str]) -> str:
    """The content of a file with its places filled in. Raises BadSettings with file and line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path}: can't be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if unknown := unknown_places(line, values):
            raise BadSettings(f"{path}:{number}: {_not_known(unknown[0], values)}")
    return "".join(fill(line, values) for line in lines)


def _not_known(place: str, known: Iterable[str]) -> str:
    there_are = ", ".join(f"{{{name}}}" for name in known)
    return f"the lab doesn't know {{{place}}}; it fills in {there_are} (and {{{{{place}}}}} means {{{place}}})"


def _has_known_places(text: str, info: ValidationInfo) -> str:
    known = known_places((info.context or {}).get("services", ()))
    if unknown := unknown_places(text, known):
        raise ValueError(_not_known(unknown[0], known))
    return text


def _is_url(text: str) -> str:
    if not text.startswith(("http://", "tcp://")):
        raise ValueError("what is asked until it answers is written http://{backend.NAME}/…, or tcp://HOST:PORT")
    return text


def _process_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError("a process's name is made of letters, digits, '_' and '-'")
    if name in RESERVED:
        raise ValueError(f"'{name}' means something else in a lab; give the process another name")
    return name


Text = Annotated[str, AfterValidator(_has_known_places)]
Command = Annotated[tuple[Text, ...], Field(min_length=1)]
ProcessName = Annotated[str, AfterValidator(_process_name)]


class Process(Document):
    """A process; it is ready once its URL answers with anything below 500, or once the command `ready` ends with 0."""

    command: Command
    files: dict[Text, Text] = {}  # from the application's folder, filled in, to where the process expects it
    after: tuple[str, ...] = ()  # processes above it; `agent` means that the site's fronts listen
    ready: Annotated[Text, AfterValidator(_is_url)] | Command | None = None


class Part(Document):
    """Processes, started in order. `before` and `after` run whenever they are started: twice must do no harm."""

    before: tuple[Text, ...] = ()
    processes: dict[ProcessName, Process] = Field(min_length=1)
    after: tuple[Text, ...] = ()
    ready_within: float = Field(default=60, gt=0)  # seconds, for each process

    @model_validator(mode="after")
    def _each_comes_after_earlier_ones(self) -> Self:
        names = list(self.processes)
        for place, name in enumerate(names):
            for earlier in self.processes[name].after:
                if earlier not in (*names[:place], "agent"):
                    known = ", ".join((*names[:place], "agent"))
                    what = f"'{earlier}' is no process above this one; there are: {known}"
                    raise Misplaced(what, "processes", name, "after")
        return self


class LabDescription(Part):
    """lab.yaml: how a site's instance is started, and what has to be there before, once for all sites."""

    application: str | None = None  # a bundled description; else application.yaml stands beside
    services: tuple[str, ...] | None = None  # those of the description that run here
    needs: dict[str, str] = {}  # importable modules, and what to do when one is missing
    install: tuple[str, ...] = ()  # a command that puts what is needed into {cache}
    shared: Part | None = None
    credentials: dict[str, dict[str, Any]] = {}  # of each site for its services, as site.yaml says them
    tour: tuple[Text, ...] = ()  # commands to try, shown as they are for the first site

    @model_validator(mode="after")
    def _what_is_of_no_site_names_none(self) -> Self:
        given = ("python", "folder", "cache")
        shared = self.shared.model_dump() if self.shared else {}
        wanted = [("install", self.install, given), ("shared", shared, (*given, "address", "data", "sites"))]
        for field, texts, known in wanted:
            for path, text in _texts(texts):
                if unknown := unknown_places(text, known):
                    raise Misplaced(_not_known(unknown[0], known), field, *path)
        return self


def _texts(value: object, *path: str | int) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every text in nested values, and where it stands."""
    match value:
        case str():
            yield path, value
        case dict():
            for key, inside in value.items():
                yield from _texts(inside, *path, key)
        case list() | tuple():
            for place, inside in enumerate(value):
                yield from _texts(inside, *path, place)


@dataclass(frozen=True, kw_only=True)
class App:
    """An application that a lab can run."""

    folder: Path
    description: str  # as site.yaml names it
    application: Application
    lab: LabDescription

    @property
    def services(self) -> tuple[str, ...]:
        """Those that run in the lab."""
        return self.lab.services or tuple(self.application.services)


def read_app(folder: Path) -> App:
    """The application in a folder. Raises BadSettings."""
    path = folder / "lab.yaml"
    named = read_document(path, _Named).application or "application.yaml"
    described = find_application(named, folder)
    application = read_application(described)
    lab = read_document(path, LabDescription, services=_run_here(path, application))
    for module, hint in lab.needs.items():
        if not _is_importable(module):
            raise BadSettings(f"the application in {folder} needs the Python module '{module}'", hint=hint)
    description = named if is_bundled(named) else str(described)
    return App(folder=folder, description=description, application=application, lab=lab)


class _Named(Document):
    """What has to be known of lab.yaml before the rest can be read."""

    model_config = ConfigDict(extra="ignore")
    application: str | None = None
    services: tuple[str, ...] | None = None


def _run_here(path: Path, application: Application) -> tuple[str, ...]:
    """The services that run in the lab. Raises BadSettings."""
    named = read_document(path, _Named).services or tuple(application.services)
    for place, name in enumerate(named):
        if name not in application.services:
            what = f"{application.application} has no such service; it has: {', '.join(application.services)}"
            raise mistake_in(path, Misplaced(what, "services", place))
    return named


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def find_app(name: str) -> Path:
    """The folder of an example, or of the user's own application by its path. Raises BadSettings."""
    examples = {folder.name: folder for folder in _examples()}
    own = Path(name)
    if name in examples:
        return examples[name]
    if own.is_dir():
        return own.resolve()
    known = ", ".join(sorted(examples)) or "none here"
    raise BadSettings(
        f"{name} is neither an example ({known}) nor a folder",
        hint="A folder of your own holds application.yaml and lab.yaml; --app takes its path.",
    )


def _examples() -> Iterable[Path]:
    """The folders that hold a lab.yaml among the examples: installed with the package, or beside it in a checkout."""
    package = Path(cheops.__file__).parent
    for examples in (package / "examples", package.parents[1] / "examples"):
        if found := [path.parent for path in examples.glob("*/lab.yaml")]:
            return found
    return ()
