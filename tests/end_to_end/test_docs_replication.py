"""Every command of docs/replication.md does what stands there."""

from collections.abc import Callable
from pathlib import Path

from cheops.lab.lab import Lab
from end_to_end.console import DOCS, check


def test_what_the_document_shows_is_so(lab_of: Callable[..., Lab], tmp_path: Path) -> None:
    check(lab_of("shop", sites=3), DOCS / "replication.md", tmp_path)
