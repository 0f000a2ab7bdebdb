"""Every story must happen as it is told. `REWRITE_STORIES=1 pytest tests/stories` tells them anew; read the diff."""

from pathlib import Path

import pytest

from stories.story import StoryError, retold
from stories.told import told_and_happened

STORIES = sorted(Path(__file__).parent.glob("*.txt"))
HEAD = """\
application
  services: {a: {}, b: {}}

sites Site1 Site2

"""


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    told, happened = told_and_happened(path, retold)
    assert told == happened


def test_there_are_stories() -> None:
    assert STORIES


def test_what_is_told_wrongly_is_noticed() -> None:
    told = HEAD + "send Site1 a GET /x X-Scope='{a: Site2}'\nSite1/a GET /x\n200 a of Site1\n"
    assert retold(told).endswith("\nSite2/a GET /x from Site1\n200 a of Site2\n")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("sing Site1", "line 6: sing Site1: "),
        ("send Site1", "line 6: send Site1: "),
        ("send Site9 a GET /", "line 6: send Site9 a GET /: 'Site9'"),
        ("send Site1 a GET x", "line 6: send Site1 a GET x: a target begins with '/'"),
        ("cut Site1 Site9", "line 6: cut Site1 Site9: 'Site9'"),
        ("# prose\nservice a\n  sings", "line 7: service a: a service calls or answers; it doesn't 'sings'"),
        ("show x\nsomething\n  indented", "line 6: prose, then a command"),
        ("  given to nothing", "line 6: prose, then a command"),
    ],
)
def test_a_story_that_cannot_be_read(text: str, mistake: str) -> None:
    with pytest.raises(StoryError) as caught:
        retold(HEAD + text)
    assert str(caught.value).startswith(mistake)
