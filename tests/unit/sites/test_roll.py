"""Who is a member: which record holds, what becomes of clashes, and what a digest says."""

from dataclasses import replace

import pytest

from cheops.sites.roll import Member, Roll, Standing, later

SITE = Member(name="Site1", number=1, mesh="10.0.0.1:7443", generation=100)
MOVED = replace(SITE, mesh="10.0.0.9:7443", revision=1)
LEFT = SITE.become(Standing.LEFT)
REMOVED = SITE.become(Standing.REMOVED)
SEED = replace(SITE, generation=0, mesh="10.0.0.7:7443")
REISSUED = replace(SITE, generation=200)


@pytest.mark.parametrize(
    ("earlier", "after"),
    [
        pytest.param(SEED, SITE, id="what a site says of itself beats a site.yaml"),
        pytest.param(SITE, MOVED, id="a higher revision"),
        pytest.param(MOVED, LEFT, id="leaving is final, whatever the revision"),
        pytest.param(LEFT, REMOVED, id="and a removal more so"),
        pytest.param(REMOVED, REISSUED, id="but for a new certificate"),
    ],
)
def test_which_record_holds(earlier: Member, after: Member) -> None:
    assert later(earlier, after) == later(after, earlier) == after
    assert Roll.of(after, earlier) == Roll.of(earlier, after) == Roll.of(after)


def test_a_tie_is_broken_by_what_stands_there() -> None:
    other = replace(SITE, mesh="10.0.0.2:7443")
    assert later(SITE, other) == later(other, SITE)


def test_who_departed_is_kept_but_no_member() -> None:
    roll = Roll.of(SITE, replace(SITE, name="Site2", number=2)).merged(LEFT)
    assert set(roll.members) == {"Site2"}
    assert roll["Site1"] == LEFT


def test_a_number_is_that_of_the_older_certificate() -> None:
    younger = replace(SITE, name="Alone", generation=150)
    roll = Roll.of(younger, SITE)
    assert roll.clashes == {"Alone": "Site1"}
    assert set(roll.usable) == {"Site1"}
    assert roll.merged(LEFT).clashes == {}


def test_seeds_are_neither_told_nor_in_the_digest() -> None:
    assert Roll.of(SEED).told == ()
    assert Roll.of(SEED).digest == Roll().digest
    assert Roll.of(SEED, SITE).told == (SITE,)


def test_a_digest_changes_with_the_roll() -> None:
    digests = [Roll.of(record).digest for record in (SITE, MOVED, LEFT, REMOVED, REISSUED)]
    assert len(set(digests)) == len(digests)


def test_what_changes_nothing_leaves_the_roll_itself() -> None:
    roll = Roll.of(MOVED)
    assert roll.merged(SITE, SEED, MOVED) is roll
