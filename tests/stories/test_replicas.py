"""Every story of replication must happen as it is told. `REWRITE_STORIES=1 pytest tests/stories` tells them anew."""

from pathlib import Path

import pytest

from stories.replicas import retold
from stories.told import told_and_happened

STORIES = sorted((Path(__file__).parent / "replication").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    told, happened = told_and_happened(path, retold)
    assert told == happened


def test_there_are_stories() -> None:
    assert STORIES
