"""A document whose every command does what stands there. `REWRITE_DOCS=1 pytest …` writes down what they say.

A block that is fenced as `console` is run line by line: what begins with `$ ` is a command, what follows is said by it.
The document's ids stand for those of the run, in commands too; times and ages may be others; `…` is anything.
"""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from cheops.lab.lab import Lab

DOCS = Path(__file__).parents[2] / "docs"
BIN = Path(sys.executable).parent
NET = "127.0.34"  # of a reader's lab
ID = re.compile(
    r"c4e1[0-9a-f]{4}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"  # a rid
    r"|(?<=\.)[0-9a-f]{8}(?=/\d)"  # the store of an author
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
)
LOOSE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|\b\d+(?:\.\d+)? (?:ms|s|min|h)\b"
    r"|(?<=\"last_modified\":)\d+|(?<=\bup )\d+|(?<=\bprocess )\d+|…"
)
FOR_ALL = re.compile(r"export |\w+\(\) \{")  # what the commands that follow need


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, and the lines that it says."""

    text: str
    said: tuple[str, ...]


def blocks(text: str) -> list[list[str]]:
    return [found.splitlines() for found in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def commands(lines: list[str]) -> list[Command]:
    found: list[Command] = []
    for line in lines:
        if line.startswith("$ "):
            found.append(Command(text=line[2:], said=()))
        else:
            found[-1] = Command(text=found[-1].text, said=(*found[-1].said, line))
    return found


@dataclass
class Reader:
    """Somebody who types what stands in the document, at a lab on other addresses."""

    lab: Lab
    folder: Path
    prelude: list[str] = field(default_factory=list)
    meant: dict[str, str] = field(default_factory=dict)

    def types(self, command: str) -> list[str]:
        """What the command says; wide tables in one line each."""
        text = ID.sub(lambda found: self.meant.get(found[0], found[0]), command).replace(NET, self.lab.net)
        if FOR_ALL.match(command):
            self.prelude.append(text)
            return []
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "COLUMNS": "200"}
        environment.pop("CHEOPS_LAB", None)
        done = subprocess.run(
            ["bash", "-c", "\n".join([*self.prelude, text])],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        return [line.rstrip() for line in done.stdout.replace(self.lab.net, NET).splitlines()]

    def agrees(self, said: str, happened: str) -> bool:
        """Whether a line of the document is what was said; learns what its ids stand for."""
        ids = ID.findall(said)
        pattern, at = "", 0
        for found in re.finditer(f"{ID.pattern}|{LOOSE.pattern}", said):
            pattern += _literal(said[at : found.start()]) + self._hole(found[0])
            at = found.end()
        match = re.fullmatch(pattern + _literal(said[at:]), happened)
        if match:
            self.meant.update(zip([one for one in ids if one not in self.meant], match.groups(), strict=True))
        return match is not None

    def _hole(self, found: str) -> str:
        if not ID.fullmatch(found) and not re.fullmatch("[0-9a-f]{8}", found):
            return ".*?"
        return re.escape(self.meant[found]) if found in self.meant else r"([0-9a-f-]+)"


def _literal(text: str) -> str:
    """Tables are as wide as what stands in them."""
    return r"[\s─-]+".join(re.escape(word) for word in re.split(r"[\s─]+", text))


def differs(reader: Reader, said: tuple[str, ...], happened: list[str]) -> str:
    """The first line of the document that isn't so, "" if all are; a line … stands for any number of lines."""
    rest = list(happened)
    for at, line in enumerate(said):
        if line == "…":
            following = said[at + 1 : at + 2]
            while rest and not (following and reader.agrees(following[0], rest[0])):
                rest.pop(0)
        elif not rest or not reader.agrees(line, rest.pop(0)):
            return line
    return f"and then {rest[0]}" if rest else ""


def check(lab: Lab, document: Path, folder: Path) -> None:
    """Types all of it in a folder, and compares; or writes it down."""
    (folder / ".lab").symlink_to(lab.folder)
    reader, text = Reader(lab=lab, folder=folder), document.read_text(encoding="utf-8")
    assert blocks(text)
    for block in blocks(text):
        told: list[str] = []
        for command in commands(block):
            began = time.monotonic()
            happened = reader.types(command.text)
            print(f"{time.monotonic() - began:6.1f} s  {command.text}", flush=True)
            told += [f"$ {command.text}", *happened]
            if not os.environ.get("REWRITE_DOCS"):
                wrong = differs(reader, command.said, happened)
                assert not wrong, f"$ {command.text}\n" + "\n".join(happened) + f"\n\nThe document says: {wrong}"
        if os.environ.get("REWRITE_DOCS"):
            text = text.replace("\n".join(block) + "\n", "\n".join(told) + "\n", 1)
            document.write_text(text, encoding="utf-8")
