"""Every story of replication must happen as it is told. `REWRITE_STORIES=1 pytest tests/stories` tells them anew."""

import os
from pathlib import Path

import pytest

from stories.replicas import retold

STORIES = sorted((Path(__file__).parent / "replication").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    told = path.read_text(encoding="utf-8")
    happened = retold(told)
    if os.environ.get("REWRITE_STORIES"):
        path.write_text(happened, encoding="utf-8")
    else:
        assert told == happened


def test_there_are_stories() -> None:
    assert STORIES
