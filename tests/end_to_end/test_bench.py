"""`make bench` works: a short run has every row. Its figures are not judged here; a busy machine would decide."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = (
    "| the service directly |",
    "| Envoy, minimal |",
    "| front, no scope |",
    "| front, `{items: Site1}`: here |",
    "| two Envoys, minimal, HTTP/2 and mutual TLS between |",
    "| front, `{items: Site2}`: another site |",
    "| agent, `{items: (Site1)}`: here |",
    "| HAProxy, `{items: Site1}`: here, by Lua |",
    "| agent, resident memory |",
    "| Envoy, resident memory |",
    "| from the agent's start to /readyz 200 |",
)


def test_lists_of_what_spans_sites_are_measured() -> None:
    command = [sys.executable, "-m", "bench.cross", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.count("≤ 1.5 × +") == 4


def test_a_short_run_has_every_row(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    command = [sys.executable, "-m", "bench", "--quick", "--output", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    text = page.read_text()
    assert [row for row in ROWS if row not in text] == []
    uploads = text.partition("## Uploads")[2]
    assert all(f"| {way} |" in uploads for way in ("the service directly", "front, no scope"))
