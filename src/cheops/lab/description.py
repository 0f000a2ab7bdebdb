"""How the lab runs an application: its lab.yaml, checked, and where the folder with it is.

The texts of lab.yaml have places that each site fills in: {site}, {backend.NAME} and so on. Whatever else stands in
braces is left alone, unless it looks like such a place; {{word}} means {word}.
"""

import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

import cheops
from cheops.applications import Application, read_application
from cheops.documents import Document, read_document
from cheops.errors import BadSettings

RESERVED = ("agent", "envoy", "app", "access", "after")  # what commands and logs mean by these isn't a process
_PLACE = re.compile(r"\{\{([A-Za-z_][\w.-]*)\}\}|\{([A-Za-z_][\w.-]*)\}")


def known_places(services: Iterable[str]) -> list[str]:
    """The names of all places that can be filled in for an application with these services."""
    ends = [f"{end}.{service}" for service in services for end in ("front", "backend")]
    return ["python", "folder", "site", "address", "data", *ends]


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
    if not text.startswith("http://"):
        raise ValueError("what is asked until it answers is written http://{backend.NAME}/…")
    return text


def _process_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError("a process's name is made of letters, digits, '_' and '-'")
    if name in RESERVED:
        raise ValueError(f"'{name}' means something else in a lab; give the process another name")
    return name


Text = Annotated[str, AfterValidator(_has_known_places)]
ProcessName = Annotated[str, AfterValidator(_process_name)]


class Process(Document):
    """A process that runs on each site; it is ready once `ready` answers with anything below 500."""

    command: tuple[Text, ...] = Field(min_length=1)
    files: dict[Text, Text] = {}  # from the application's folder, filled in, to where the process expects it
    ready: Annotated[Text, AfterValidator(_is_url)] | None = None


class LabDescription(Document):
    """lab.yaml. `after` runs whenever processes have been started and are ready: a second time it must do no harm."""

    needs: dict[str, str] = {}  # importable modules, and what to do when one is missing
    processes: dict[ProcessName, Process] = Field(min_length=1)
    after: tuple[Text, ...] = ()
    tour: tuple[Text, ...] = ()  # commands to try, shown as they are for the first site


@dataclass(frozen=True, kw_only=True)
class App:
    """An application that a lab can run."""

    folder: Path
    application: Application
    lab: LabDescription

    @property
    def description(self) -> Path:
        return self.folder / "application.yaml"


def read_app(folder: Path) -> App:
    """The application in a folder. Raises BadSettings."""
    application = read_application(folder / "application.yaml")
    lab = read_document(folder / "lab.yaml", LabDescription, services=application.services)
    for module, hint in lab.needs.items():
        if not _is_importable(module):
            raise BadSettings(f"the application in {folder} needs the Python module '{module}'", hint=hint)
    return App(folder=folder, application=application, lab=lab)


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
