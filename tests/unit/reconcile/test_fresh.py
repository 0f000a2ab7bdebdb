"""What was just written is told without reading it again, and never anything but what the store would tell."""

from random import Random

import pytest

from cheops.ports import Told
from cheops.reconcile.fresh import MOST, Fresh, News, news_for
from cheops.record.operation import Dot, Outcome
from stored import op, outcome


def news(first: int, count: int = 1) -> News:
    return News(end=first + count - 1, items=tuple(op(n) for n in range(first, first + count)), awaited=True)


def positions(fresh: Fresh, after: int) -> list[int]:
    return [position for position, _ in fresh.after(after)]


def test_what_follows_without_a_gap_is_told_from_memory() -> None:
    fresh = Fresh()
    fresh.begin()
    fresh.add(news(1, 2))
    fresh.add(news(3))
    assert fresh.after(0) == tuple((n, op(n)) for n in (1, 2, 3))
    assert positions(fresh, 2) == [3]
    assert positions(fresh, 3) == []
    assert not fresh.lost


@pytest.mark.parametrize("then", [news(4), news(1), news(3, MOST)], ids=["a gap", "once more", "far too much"])
def test_else_the_store_is_to_be_read(then: News) -> None:
    fresh = Fresh()
    fresh.begin()
    fresh.add(news(1, 2))
    fresh.add(then)
    assert fresh.lost
    assert positions(fresh, 0) == []


def test_a_gap_before_what_is_in_memory_is_found_too() -> None:
    fresh = Fresh()
    fresh.begin()
    fresh.add(news(5))
    assert positions(fresh, 3) == []
    assert fresh.lost


@pytest.mark.parametrize("seed", range(50))
def test_whatever_is_heard_of_the_writes_each_position_is_told_once_and_in_order(seed: int) -> None:
    """Some writes are never heard of; then the store is read, which may already have what is heard of later."""
    random, fresh, written, sent, told = Random(seed), Fresh(), 0, 0, list[int]()
    late: list[News] = []
    for _ in range(200):
        if random.random() < 0.6:
            count = random.randrange(1, 4)
            late.append(news(written + 1, count))
            written += count
        if late and random.random() < 0.7:
            heard = late.pop(0)
            if random.random() < 0.9:
                fresh.add(heard)
        if random.random() < 0.5:
            found = positions(fresh, sent)
            if not found and fresh.lost:
                fresh.begin()
                found = list(range(sent + 1, written + 1))
            told += found
            sent = told[-1] if told else 0
    assert told == list(range(1, len(told) + 1))


def test_what_came_of_an_operation_is_told_at_once_where_somebody_waits_for_it() -> None:
    done = outcome()
    there = Outcome(rid=done.rid, dot=Dot("Site1.x", 1), site="Site2")
    told = [Told(item=there, peers=("Site1", "Site3"))]
    assert news_for("Site1", told, 1).awaited  # its author's
    assert not news_for("Site3", told, 1).awaited
    assert news_for("Site3", [*told, Told(item=op(1), peers=("Site3",))], 2).awaited
    own = [Told(item=Outcome(rid=done.rid, dot=Dot("Site1.x", 1), site="Site1"), peers=("Site3",))]
    assert news_for("Site3", own, 1).awaited  # its id may be used there at once
