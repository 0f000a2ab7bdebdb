"""The order of a log, and what of it is effective."""

from time import process_time

from cheops.reconcile.steps import steps
from cheops.record.log import Log
from cheops.record.operation import Kind, Operation
from cheops.record.paths import overlap
from logs import created, done, dot, op


def test_a_field_overlaps_what_is_inside_of_it() -> None:
    assert overlap(frozenset({"a"}), frozenset({"a.b"}))
    assert overlap(None, frozenset({"a"}))
    assert not overlap(frozenset({"a"}), frozenset({"ab", "b.a"}))


def test_what_comes_after_stands_after_whatever_the_clocks_say() -> None:
    late = created("A", 1, 9_000, "A", "B")
    early = op("B", 1, 1, after={"A": 1})
    assert Log.of([early, late]).order == (late, early)


def test_what_lacks_its_past_is_held_back() -> None:
    birth, second = created("A", 1, 1, "A"), op("A", 3, 3)
    log = Log.of([birth, second, op("B", 1, 2, after={"A": 3})])
    assert log.order == (birth,)
    assert log.incomplete
    assert len(log.held) == 2
    assert (log.vector, log.next_of("A.1"), log.next_of("B.1")) == ({"A.1": 1}, 4, 2)
    assert not Log.of([birth, op("A", 2, 2), second]).incomplete


def test_what_was_pruned_isnt_missing() -> None:
    log = Log.of([created("A", 1, 1, "A"), op("A", 3, 3)], {"A.1": 2})
    assert [one.n for one in log.order] == [1, 3]


def test_a_delete_wins_against_what_is_concurrent_but_not_against_what_comes_after() -> None:
    birth, delete = created("A", 1, 1, "A", "B"), op("A", 2, 2, Kind.DELETE)
    merge = op("B", 1, 9, after={"A": 1})
    log = Log.of([birth, delete, merge])
    assert log.gone
    assert log.effective == (delete,)
    assert [(one.winner, one.loser, one.fields) for one in log.conflicts] == [(delete.dot, merge.dot, "all")]
    again = created("A", 3, 3, "A")
    assert Log.of([birth, delete, merge, again]).effective == (delete, again)
    assert Log.of([birth, delete, merge, again]).placement == ("A",)


def test_a_replacement_overrides_what_stands_before_it_on_its_facet() -> None:
    birth, merge = created("A", 1, 1, "A"), op("A", 2, 2)
    file, put = op("A", 3, 3, Kind.REPLACE, facet="file"), op("A", 4, 4, Kind.REPLACE)
    log = Log.of([birth, merge, file, put])
    assert log.effective == (birth, file, put)
    assert log.superseded == {merge.dot: put.dot}


def test_of_concurrent_creations_the_first_is_the_birth() -> None:
    one, same, other = (
        created("A", 1, 1, "A", body=b"1"),
        created("B", 1, 2, "B", body=b"1"),
        created("C", 1, 3, "C", body=b"2"),
    )
    log = Log.of([one, same, other])
    assert log.superseded == {same.dot: one.dot, other.dot: one.dot}
    assert [(each.winner, each.loser) for each in log.conflicts] == [(one.dot, other.dot)]
    assert log.placement == ("A", "B", "C")
    can = created("C", 1, 3, "C", body=b"2", repeats=True)
    assert Log.of([one, same, can]).as_replacement(can)


def test_concurrent_merges_of_a_field_are_both_done_and_listed() -> None:
    birth = created("A", 1, 1, "A", "B")
    loser = op("A", 2, 2, body=b"1", touches=frozenset({"a", "b.c"}))
    winner = op("B", 1, 3, body=b"2", after={"A": 1}, touches=frozenset({"b"}))
    apart = op("B", 2, 4, touches=frozenset({"d"}))
    log = Log.of([birth, loser, winner, apart])
    assert log.effective == (birth, loser, winner, apart)
    assert [(one.winner, one.loser, one.fields) for one in log.conflicts] == [
        (winner.dot, loser.dot, frozenset({"b.c"}))
    ]


def test_the_last_placement_counts() -> None:
    ops = [created("A", 1, 1, "A", "B"), op("A", 2, 2, Kind.PLACE, placement=("A",))]
    assert Log.of(ops).placement == ("A",)
    assert Log.of(ops).summary("r").placement == ("A",)
    assert Log.of(ops).summary("r").chosen == "x"


def test_ten_thousand_merges_of_two_sites_take_less_than_a_second() -> None:
    ops: list[Operation] = [created("A", 1, 1, "A", "B")]
    for n in range(1, 5_000):
        ops.append(op("A", n + 1, 2 * n, body=b"A", touches=frozenset({f"a{n % 9}.b"})))
        ops.append(op("B", n, 2 * n + 1, body=b"B", after={"A": 1}, touches=frozenset({f"a{n % 9}"})))
    began = process_time()
    log = Log.of(reversed(ops))
    own = {one.dot: done(one, at) for at, one in enumerate(ops, 1) if one.author == "A.1"}
    plan = steps(log, own, "A")
    assert len(log.conflicts) > 4_000
    assert len(plan.todo) > 5_000
    assert process_time() - began < 1
    assert plan.todo[0].operation.dot == dot("B", 1)
