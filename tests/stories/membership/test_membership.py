"""Every story must happen as it is told. `REWRITE_STORIES=1 pytest tests/stories` tells them anew; read the diff.

The times in a story are those of one seed; here they are bounded for many.
"""

from pathlib import Path

import pytest

from cheops.model import PeerState
from cheops.sites.events import Happening
from stories.membership.telling import Membership, retold
from stories.story import StoryError
from stories.told import told_and_happened

STORIES = sorted(Path(__file__).parent.glob("*.txt"))
SUSPECT_WITHIN, DOWN_WITHIN = 3.0, 5.0  # seconds
SEEDS = range(40)
FLAPS_SEEDS = range(8)


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    told, happened = told_and_happened(path, retold)
    assert told == happened


def test_there_are_stories() -> None:
    assert len(STORIES) >= 12


def test_what_is_told_wrongly_is_noticed() -> None:
    told = "sites Site1 Site2\n\nwait 3\n\nkill Site2\n\nwait 6\nafter 1.0 s Site1 finds Site2 down\n"
    assert "Site1 finds Site2 suspect\n" in retold(told)


@pytest.mark.parametrize("text", ["sing Site1", "kill Site9", "wait long", "lose Site1"])
def test_a_story_that_cannot_be_read(text: str) -> None:
    with pytest.raises(StoryError, match=f"line 3: {text}"):
        retold(f"sites Site1 Site2\n\n{text}\n")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("death", ["kill Site2", "blackhole Site2", "blackhole Site1 Site2"])
def test_a_death_is_found_in_time(death: str, seed: int) -> None:
    story = _beginning(seed)
    died = story.deployment.now
    story.do(death)
    story.do("wait 8")
    suspect, down = (story.times("Site1", what, "Site2") for what in (Happening.SUSPECT, Happening.DOWN))
    assert len(suspect) == len(down) == 1
    assert suspect[0] - died <= SUSPECT_WITHIN
    assert suspect[0] < down[0] <= died + DOWN_WITHIN


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lost", ["lose Site1 Site2 1", "lose Site2 Site1 1"])
def test_one_lost_message_changes_nothing(lost: str, seed: int) -> None:
    story = _beginning(seed)
    before = len(story.events)
    story.do(lost)
    story.do("wait 8")
    assert story.deployment.links.losing["Site1", "Site2"] + story.deployment.links.losing["Site2", "Site1"] == 0
    assert story.events[before:] == []


@pytest.mark.parametrize("seed", FLAPS_SEEDS)
@pytest.mark.parametrize(("flaps", "most"), [("200 times in 60", 8), ("20 times in 120", 8), ("10 times in 100", 8)])
def test_a_flapping_link_settles(flaps: str, most: int, seed: int) -> None:
    story = _beginning(seed)
    before = len(story.events)
    story.do(f"flap Site1 Site2 {flaps}")
    story.do(f"wait {flaps.split()[-1]}")
    assert len([site for site, event in story.events[before:] if site == "Site1"]) <= most
    story.do("heal")
    story.do("wait 62")  # the longest trial, and two heartbeats
    assert story.deployment.state(of="Site2", at="Site1") is PeerState.UP


@pytest.mark.parametrize("seed", SEEDS)
def test_after_one_outage_the_first_answer_suffices(seed: int) -> None:
    story = _beginning(seed)
    story.do("blackhole Site2")
    story.do("wait 20")
    story.do("heal")
    healed = story.deployment.now
    story.do("wait 3")
    assert story.times("Site1", Happening.UP, "Site2")[-1] - healed <= 1.3


@pytest.mark.parametrize("seconds", [0.7, 2.0, 20.0])
@pytest.mark.parametrize("seed", FLAPS_SEEDS)
def test_who_stood_still_blames_nobody(seconds: float, seed: int) -> None:
    story = _beginning(seed)
    before = len(story.events)
    story.do(f"suspend Site1 {seconds}")
    story.do("wait 40")
    found = [event.what for site, event in story.events[before:] if site == "Site1"]
    assert found == [Happening.STOOD_STILL]


def _beginning(seed: int) -> Membership:
    story = Membership(seed)
    story.do("sites Site1 Site2 Site3")
    story.do("wait 5")
    return story
