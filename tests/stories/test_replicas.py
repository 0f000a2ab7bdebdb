"""Every story of replicas and of wholes must happen as it is told.

`REWRITE_STORIES=1 pytest tests/stories` tells them anew.
"""

from pathlib import Path

import pytest

from stories.replicas import retold
from stories.told import told_and_happened

HERE = Path(__file__).parent
STORIES = sorted(story for folder in ("replication", "cross") for story in (HERE / folder).glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    told, happened = told_and_happened(path, retold)
    assert told == happened


def test_there_are_stories() -> None:
    assert STORIES
