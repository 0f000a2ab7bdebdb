"""Runs the stock client as a user would, tells what it says, and holds docs/openstack.md to it."""

import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_MARKED = re.compile(r"(<!-- console: (?P<name>[\w-]+) -->\n```console\n)(?P<text>.*?)(```\n)", re.DOTALL)
_VARIES = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+\d{4})?"), "TIME"),
    (re.compile(r"\b127\.\d+\.\d+\."), "NET."),
    (re.compile(r"\bprocess \d+"), "process N"),
    (re.compile(r"'ip_address': '[\d.]+'"), "'ip_address': 'ADDRESS'"),
    (re.compile(r"\bSite\d\.[0-9a-f]+/\d+ moves"), "OP moves"),
)


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that has ended: what it printed, standard error with it, and how long it took in seconds."""

    command: str
    status: int
    output: str
    seconds: float

    @property
    def last(self) -> str:
        return self.output.strip().rpartition("\n")[2]


class Console:
    """A shell of the user `demo` at one site, whose `openstack` is the one of the bed."""

    def __init__(self, programs: Path, openrc: Path, width: int = 110) -> None:
        exported = re.findall(r"(OS_\w+)=(\S+)", openrc.read_text())
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"  # openstack, cheops, the rest
        self._environment = {**kept, **dict(exported), "PATH": path, "PYTHONWARNINGS": "ignore", "COLUMNS": str(width)}

    def run(self, command: str, **environment: str) -> Done:
        began = time.monotonic()
        done = subprocess.run(
            shlex.split(command),
            env=self._environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        seconds = time.monotonic() - began
        return Done(command=command, status=done.returncode, output=done.stdout, seconds=seconds)


def normal(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, word in _VARIES:
        text = pattern.sub(word, text)
    return text


def transcript(done: Done) -> str:
    return f"$ {done.command}\n" + (f"{done.output.rstrip()}\n" if done.output else "")


def differing(page: str, transcripts: dict[str, str]) -> list[str]:
    """The names of the page's examples that a run didn't print like that, or didn't print."""
    return [
        found["name"]
        for found in _MARKED.finditer(page)
        if normal(found["text"]) != normal(transcripts.get(found["name"], ""))
    ]


def rewritten(page: str, transcripts: dict[str, str]) -> str:
    """The page with its examples as a run printed them."""

    def new(found: re.Match[str]) -> str:
        return found[1] + transcripts.get(found["name"], found["text"]) + found[4]

    return _MARKED.sub(new, page)
