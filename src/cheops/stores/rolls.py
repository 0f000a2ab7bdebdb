"""What a site knows again after a restart: which data it has, and the roll of sites. One file, whole or not there."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import structlog

from cheops.config import LAST_NUMBER
from cheops.sites.roll import Member, Remembered, Roll, Standing
from cheops.stores.kept import sync_folder

log = structlog.get_logger("sites")


class RollFile:
    """The file; `new` makes incarnations."""

    def __init__(self, path: Path, new: Callable[[], str]) -> None:
        self._path, self._new = path, new
        self.complaint = ""

    def recall(self) -> Remembered:
        """What is on disk; where nothing is, a new incarnation, which is then written down."""
        try:
            document = json.loads(self._path.read_text())
            members = [member for site in document["sites"] if (member := _member(site))]
            return Remembered(incarnation=_text(document["incarnation"]), roll=Roll.of(*members))
        except FileNotFoundError:
            return self._begin()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            aside = self._path.with_suffix(".damaged")
            self._path.replace(aside)
            log.error("the roll of sites is damaged; the peers will tell it anew", moved=str(aside), detail=str(error))
            return self._begin()

    def _begin(self) -> Remembered:
        remembered = Remembered(incarnation=self._new(), roll=Roll())
        self.keep(remembered)
        return remembered

    def keep(self, remembered: Remembered) -> None:
        """Writes it down. If the disk is full, that is told, and the peers will tell a restarted agent."""
        sites = [{**asdict(member), "standing": member.standing.value} for member in remembered.roll.told]
        text = json.dumps({"incarnation": remembered.incarnation, "sites": sites}, indent=1)
        try:
            _write(self._path, text.encode())
            self.complaint = ""
        except OSError as error:
            self.complaint = f"the roll of sites can't be written to {self._path}: {error.strerror}"
            log.error(self.complaint)


class RollInMemory:
    """The twin of RollFile that forgets with its process."""

    def __init__(self, new: Callable[[], str]) -> None:
        self._new = new
        self._remembered: Remembered | None = None
        self.complaint = ""

    def recall(self) -> Remembered:
        if self._remembered is None:
            self._remembered = Remembered(incarnation=self._new(), roll=Roll())
        return self._remembered

    def keep(self, remembered: Remembered) -> None:
        self._remembered = replace(remembered, roll=Roll.of(*remembered.roll.told))


def _member(document: dict[str, Any]) -> Member | None:
    """The record. A newer version may have written more than this one knows: further fields are skipped, and so is a
    record with a standing that isn't known, which the peers will tell anew.
    """
    if document["standing"] not in _STANDINGS:
        return None
    return Member(
        name=_text(document["name"]),
        number=_number(document["number"]),
        mesh=_text(document["mesh"]),
        generation=_whole(document["generation"]),
        revision=_whole(document["revision"]),
        standing=_STANDINGS[document["standing"]],
        managed=tuple(_text(service) for service in document.get("managed", ())),
    )


_STANDINGS = {standing.value: standing for standing in Standing}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} isn't a text")
    return value


def _number(value: Any) -> int:
    if not 1 <= _whole(value) <= LAST_NUMBER:
        raise ValueError(f"{value!r} is no site number")
    return int(value)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} isn't a whole number")
    return value


def _write(path: Path, content: bytes) -> None:
    half = path.with_suffix(".half")
    with half.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
    sync_folder(path.parent)
