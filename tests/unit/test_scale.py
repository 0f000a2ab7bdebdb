"""`make scale` works: a short run has every row. The figures of the full run stand in docs/scale.md."""

import os
import subprocess
import sys
from pathlib import Path

from bench.scale import LINES

ROOT = Path(__file__).parents[2]


def test_a_short_run_has_every_row(tmp_path: Path) -> None:
    page = tmp_path / "scale.md"
    command = [sys.executable, "-m", "bench.scale", "--quick", "--output", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = dict(line[2:-2].split(" | ", 1) for line in page.read_text().splitlines() if line.startswith("| "))
    assert [what for what, _ in LINES if what not in rows] == []
    assert all(float(seconds) <= 5 for seconds in rows["a death: all find it down, s"].split(" | "))
    assert rows["wrongly found down, times"] == "0 | 0"


def test_the_page_has_every_row() -> None:
    text = (ROOT / "docs" / "scale.md").read_text()
    assert [what for what, _ in LINES if f"| {what} |" not in text] == []
