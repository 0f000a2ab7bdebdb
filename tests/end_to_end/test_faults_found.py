"""Whatever fails on real sites, nothing is lost and nothing done twice; and what is broken on purpose is found.

`make faults` does the same for longer.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from faults.aimed import AIMED

TESTS = Path(__file__).parents[1]
FOUND = {
    "acknowledge-early": "was acknowledged, and is lost at Site",
    "skip-items": "it doesn't settle",
    "skip-probe": "Site1 has done 2 times",
}


def run(logs: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "faults", "--logs", str(logs), *options]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=900, check=False)


def test_nothing_is_lost_and_nothing_done_twice(tmp_path: Path) -> None:
    done = run(tmp_path, "--minutes", "1", "--seed", "1")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.parametrize("broken", AIMED)
def test_what_is_broken_on_purpose_is_found(tmp_path: Path, broken: str) -> None:
    done = run(tmp_path, "--broken", broken)
    assert done.returncode == 1, done.stdout[-6000:] + done.stderr[-2000:]
    assert FOUND[broken] in done.stdout


@pytest.mark.parametrize("aim", AIMED)
def test_without_it_nothing_is_found(tmp_path: Path, aim: str) -> None:
    """So it is not the faults themselves that are found."""
    done = run(tmp_path, "--aim", aim)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
