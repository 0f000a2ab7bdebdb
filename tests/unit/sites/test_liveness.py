"""Whether a peer lives: how much evidence it takes, how it comes back, and what round trips and clocks come out at."""

import pytest

from cheops.model import PeerState
from cheops.sites.liveness import (
    HALF_LIFE,
    LONGEST_TRIAL,
    Liveness,
    clock_offset,
    timed,
    travelled,
)

UP = Liveness(since=0.0).on_answer(0.0, 0.01)
PACE = 0.3


def losing(of: Liveness, count: int, at: float, *, rumour: bool = False) -> Liveness:
    """After so many probes lost at the usual pace, the first sent at `at`; each is known to be lost 0.8 s later."""
    for number in range(count):
        sent = at + number * PACE
        of = of.on_loss(sent, sent + 0.8, rumour=rumour)
    return of


def outage(of: Liveness, at: float) -> Liveness:
    down = losing(of, 8, at)
    assert down.state is PeerState.DOWN
    return down


def seconds_to_come_back(of: Liveness, at: float) -> float:
    now = at
    while of.state is not PeerState.UP:
        of = of.on_answer(now, now)
        now += 0.1
        assert now - at < 100
    return now - 0.1 - at


@pytest.mark.parametrize(
    ("lost", "state"),
    [(0, PeerState.UP), (1, PeerState.UP), (2, PeerState.UP), (3, PeerState.SUSPECT), (8, PeerState.DOWN)],
)
def test_how_many_losses_it_takes(lost: int, state: PeerState) -> None:
    assert losing(UP, lost, 10.0).state is state


def test_with_a_rumour_it_takes_fewer() -> None:
    assert losing(UP, 1, 10.0, rumour=True).state is PeerState.UP
    assert losing(UP, 2, 10.0, rumour=True).state is PeerState.SUSPECT
    assert losing(UP, 3, 10.0, rumour=True).state is PeerState.DOWN


def test_refusals_alone_in_a_moment_say_nothing() -> None:
    refused = UP
    for number in range(20):
        refused = refused.on_loss(10.0 + number * 0.05, 10.0 + number * 0.05)
    assert refused.state is PeerState.UP


def test_a_loss_of_before_the_last_answer_says_nothing() -> None:
    answered = UP.on_answer(10.0, 10.02)
    assert answered.on_loss(9.7, 10.5) == answered


def test_an_answer_wipes_out_the_losses_before_it() -> None:
    assert losing(losing(UP, 2, 10.0).on_answer(11.0, 11.1), 2, 12.0).state is PeerState.UP


def test_who_was_never_heard_is_suspect_then_down() -> None:
    unheard = Liveness(since=0.0)
    assert unheard.state is PeerState.SUSPECT
    assert losing(unheard, 8, 1.0).state is PeerState.DOWN


def test_after_one_outage_the_first_answer_suffices() -> None:
    assert seconds_to_come_back(outage(UP, 10.0), 20.0) == 0


def test_after_more_outages_it_takes_longer_and_at_most_a_minute() -> None:
    peer, now, taken = UP, 10.0, []
    for _ in range(7):
        peer = outage(peer, now + 0.1)
        now += 4
        taken.append(seconds_to_come_back(peer, now))
        peer = peer.on_answer(now, now)
        now += taken[-1]
        peer = peer.on_answer(now, now)
    assert taken == sorted(taken)
    assert taken[0] == 0
    assert taken[1] > 4
    assert taken[-1] <= LONGEST_TRIAL


def test_a_long_quiet_time_is_forgotten() -> None:
    twice = outage(outage(UP, 10.0).on_answer(14.0, 14.0), 15.0)
    assert seconds_to_come_back(twice, 19.0) > 5
    assert seconds_to_come_back(twice, 19.0 + 3 * HALF_LIFE) == 0


def test_losses_begin_a_trial_anew_even_between_answers() -> None:
    twice = outage(outage(UP, 10.0).on_answer(14.0, 14.0), 15.0)
    tried = twice.on_answer(19.0, 19.0)
    for number in range(3):
        tried = tried.on_answer(20.2 + number, 20.2 + number).on_loss(20.0 + number, 20.8 + number)
    assert (tried.state, tried.trial_since) == (PeerState.DOWN, None)
    assert tried.penalty_now(22.8) == twice.penalty


def test_who_stood_still_forgives() -> None:
    assert losing(losing(UP, 2, 10.0).forgiven(12.0), 2, 12.0).state is PeerState.UP


def test_a_round_trip_is_smoothed() -> None:
    first = timed(None, 0.100, 1.0)
    assert (first.smoothed, first.spread) == (0.100, 0.050)
    second = timed(first, 0.060, 2.0)
    assert second.smoothed == pytest.approx(0.090)
    assert second.spread == pytest.approx(0.75 * 0.050 + 0.25 * 0.040)
    told = second.round_trip(5.0)
    assert (told.us, told.age) == (pytest.approx(90_000), 3.0)


def test_what_a_busy_machine_adds_is_no_distance() -> None:
    timing = timed(None, 0.010, 0.0)
    for second, sample in enumerate([0.090, 0.010, 0.300, 0.080, 0.010] * 5, start=1):
        timing = timed(timing, sample, second)
    assert timing.smoothed == pytest.approx(0.010)
    assert timing.spread > 0.010


@pytest.mark.parametrize(("before", "after", "seconds"), [(0.010, 0.110, 8), (0.110, 0.010, 4)])
def test_a_way_that_changes_is_seen_to_two_thirds(before: float, after: float, seconds: int) -> None:
    timing = timed(None, before, 0.0)
    for second in range(1, 10):
        timing = timed(timing, before, second)
    for second in range(10, 10 + seconds):
        timing = timed(timing, after, second)
    assert abs(timing.smoothed - before) >= 0.1 * 2 / 3


def test_what_the_peer_held_is_no_distance() -> None:
    assert travelled(10.0, 10.5, 0.4) == pytest.approx(0.1)
    assert travelled(10.0, 10.5, 0.9) == 0.0
    assert travelled(10.0, 10.5, -9.0) == 0.5


def test_a_clock_is_compared_over_both_ways() -> None:
    assert clock_offset(100.0, 3700.01, 3700.31, 100.32) == pytest.approx(3600)
