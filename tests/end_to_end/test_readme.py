"""Every command in README.md does what a reader expects of it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BLOCKS = re.findall(r"^```\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if re.match(r"(make|curl|cheops) ", line)]
MISTAKES = {"cheops scope check '{catalog: Site1 &}'": 2}


def run(command: str, folder: Path, seconds: float = 120) -> "subprocess.CompletedProcess[str]":
    """Runs a command as a reader would, who has put `cheops` on the PATH."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "CHEOPS_LAB": str(folder / "lab")}
    return subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


# These two come first: the tour takes the same addresses as the lab of the others.


def test_make_run() -> None:
    """The tour, which checks what it shows."""
    done = run("make run", ROOT, seconds=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Everything it showed was checked." in done.stdout


def test_make_test_is_what_ci_runs() -> None:
    """`make test` runs this very test; so that it is known to be README's, CI's and one and the same."""
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    planned = run("make --dry-run test", ROOT).stdout
    assert all(part in planned for part in ("ruff check", "mypy", "lint-imports", "bin/pytest"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the examples, and a lab that runs in it as README starts it."""
    path = tmp_path_factory.mktemp("r")
    (path / "examples").symlink_to(ROOT / "examples")
    try:
        up = run("cheops lab up", path)
        assert up.returncode == 0, up.stdout + up.stderr
        yield path
    finally:
        down = run("cheops lab down", path)
        assert down.returncode == 0, down.stdout + down.stderr
        assert not (path / "lab").exists()


def test_readme_has_the_commands_that_are_tested_here() -> None:
    assert {"make run", "make test", "cheops lab up", "cheops lab down"} <= set(COMMANDS)
    assert set(MISTAKES) < set(COMMANDS)


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c.startswith(("curl", "cheops")) and "lab" not in c.split()]
)
def test_command(command: str, folder: Path) -> None:
    done = run(command, folder)
    assert done.returncode == MISTAKES.get(command, 0), done.stdout + done.stderr
    if "curl" in command:
        assert "coffee" in done.stdout.lower()  # which Site2 alone sells
        json.loads(done.stdout)


def test_the_commands_of_the_lab_in_their_order(folder: Path) -> None:
    commands = [c for c in COMMANDS if c.startswith("cheops lab ")]
    assert commands[0] == "cheops lab up"
    assert commands[-1] == "cheops lab down"
    for command in commands[1:-1]:
        done = run(command, folder)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
