"""What a story tells, beside what happens."""

import os
from collections.abc import Callable
from pathlib import Path


def told_and_happened(path: Path, retold: Callable[[str], str]) -> tuple[str, str]:
    """The story at `path` as it is told, and as `retold` finds that it happens; `REWRITE_STORIES=1` tells it anew."""
    told = path.read_text(encoding="utf-8")
    happened = retold(told)
    if os.environ.get("REWRITE_STORIES"):
        path.write_text(happened, encoding="utf-8")
        return happened, happened
    return told, happened
