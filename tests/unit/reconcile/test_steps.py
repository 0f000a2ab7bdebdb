"""What a site has to do next."""

import pytest

from cheops.reconcile.steps import Steps, steps
from cheops.record.log import Log
from cheops.record.operation import Kind, Operation, Outcome, State
from logs import created, done, op

BIRTH = created("A", 1, 1, "A", "B")


def plan(ops: list[Operation], *outcomes: Outcome, site: str = "A") -> Steps:
    return steps(Log.of(ops), {outcome.dot: outcome for outcome in outcomes}, site)


def todo(found: Steps) -> list[tuple[Operation, bool]]:
    return [(step.operation, step.again) for step in found.todo]


def test_what_came_late_is_done_and_what_overlaps_it_again() -> None:
    late = op("B", 1, 2, after={"A": 1}, touches=frozenset({"a"}))
    over, apart = op("A", 2, 3, touches=frozenset({"a.b"})), op("A", 3, 4, touches=frozenset({"c"}))
    found = plan([BIRTH, late, over, apart], done(BIRTH, 1), done(over, 2), done(apart, 3))
    assert todo(found) == [(late, False), (over, True)]
    ran = (done(BIRTH, 1), done(over, 2), done(apart, 3), done(late, 4))
    assert todo(plan([BIRTH, late, over, apart], *ran)) == [(over, True)]
    assert not plan([BIRTH, late, over, apart], done(BIRTH, 1), done(late, 4), done(over, 5), done(apart, 3)).todo


def test_an_action_is_never_done_again() -> None:
    late, action = op("B", 1, 2, after={"A": 1}), op("A", 2, 3, Kind.ACTION, repeats=False)
    assert todo(plan([BIRTH, late, action], done(BIRTH, 1), done(action, 2))) == [(late, False)]


def test_what_is_overridden_is_skipped() -> None:
    merge, put = op("A", 2, 2), op("A", 3, 3, Kind.REPLACE)
    found = plan([BIRTH, merge, put], done(BIRTH, 1))
    assert (todo(found), found.skip) == ([(put, False)], (merge,))


def test_what_is_overridden_is_made_all_the_same_for_what_is_done_to_it_before() -> None:
    """A site that hears late of PUT, POST of an action, PUT has nothing yet that the action could be done to."""
    put, action, again = (
        op("A", 1, 1, Kind.REPLACE, birth=BIRTH.birth, placement=("A", "B")),
        op("A", 2, 2, Kind.ACTION, repeats=False),
        op("A", 3, 3, Kind.REPLACE),
    )
    assert todo(plan([put, action, again])) == [(put, False), (action, False), (again, False)]
    assert todo(plan([put, action, again], done(put, 0, state=State.SKIPPED))) == [
        (put, False),
        (action, False),
        (again, False),
    ]
    assert todo(plan([put, action, again], done(put, 1))) == [(action, False), (again, False)]
    merge = op("A", 2, 2)
    assert todo(plan([put, merge, again])) == [(again, False)]


@pytest.mark.parametrize("state", [State.REFUSED, State.DROPPED])
def test_nothing_happens_without_a_creation(state: State) -> None:
    found = plan([BIRTH, op("A", 2, 2)], done(BIRTH, 0, state=state))
    assert (found.todo, found.blocked) == ((), f"waits for its creation, which was {state.value}")


def test_another_refusal_stops_nothing() -> None:
    refused, merge = op("A", 2, 2), op("A", 3, 3)
    assert todo(plan([BIRTH, refused, merge], done(BIRTH, 1), done(refused, 0, state=State.REFUSED))) == [
        (merge, False)
    ]


def test_what_a_crash_left_open_is_probed_before_all_else() -> None:
    delete = op("B", 1, 2, Kind.DELETE, after={"A": 1})
    found = plan([BIRTH, delete], done(BIRTH, 0, state=State.BEGUN))
    assert (found.probe, found.todo) == (BIRTH, ())
    action = op("A", 2, 2, Kind.ACTION, repeats=False)
    assert plan([BIRTH, action], done(BIRTH, 1), done(action, 0, state=State.BEGUN)).probe == action


def test_what_an_operator_must_say_is_waited_for() -> None:
    found = plan([BIRTH, op("A", 2, 2)], done(BIRTH, 0, state=State.ASKS))
    assert not found.todo
    assert "operator" in found.blocked


def test_what_this_site_made_itself_stands_for_the_same_creation_of_another() -> None:
    own = created("B", 1, 2, "B", "A")
    assert plan([BIRTH, own], done(own, 1, "B"), site="B").skip == (BIRTH,)


def test_the_creation_that_comes_first_replaces_what_this_site_made_and_then_the_own_again() -> None:
    first = created("A", 1, 1, "A", "B", body=b"1", repeats=True)
    own = created("B", 1, 2, "B", "A", body=b"2", repeats=True)
    found = plan([first, own], done(own, 1, "B"), site="B")
    assert [(step.operation, step.again, step.as_replacement) for step in found.todo] == [
        (first, False, True),
        (own, True, True),
    ]


def test_a_site_that_leaves_deletes_its_copy_and_does_nothing_else() -> None:
    place = op("A", 2, 2, Kind.PLACE, placement=("A",), leave="delete")
    found = plan([BIRTH, place, op("A", 3, 3)], done(BIRTH, 1, "B"), site="B")
    assert [(step.operation, step.leaves) for step in found.todo] == [(place, True)]
    assert plan([BIRTH, place], site="B").skip == (place,)


def test_a_site_that_comes_back_does_everything_anew() -> None:
    leaves = op("A", 2, 2, Kind.PLACE, placement=("A",), leave="delete")
    back = op("A", 3, 3, Kind.PLACE, placement=("A", "B"))
    found = plan([BIRTH, leaves, back], done(BIRTH, 1, "B"), done(leaves, 2, "B"), site="B")
    assert (todo(found), found.skip) == ([(BIRTH, False)], (back,))


def test_a_delete_doesnt_hit_what_was_made_after_it() -> None:
    delete, again = op("A", 2, 2, Kind.DELETE), created("A", 3, 3, "A", "B")
    late = op("B", 1, 1, Kind.REPLACE)
    found = plan(
        [BIRTH, delete, again, late],
        done(BIRTH, 0, state=State.SKIPPED),
        done(delete, 0, state=State.SKIPPED),
        done(again, 1),
    )
    assert not found.todo
