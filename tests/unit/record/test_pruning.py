"""What may be forgotten, and when."""

from collections.abc import Iterable

from cheops.record.log import Log
from cheops.record.operation import Kind, Operation, Outcome, State
from cheops.record.pruning import forgotten, holders, prunable, releasable
from logs import created, done, op

BIRTH = created("A", 1, 1, "A", "B")


def reported(ops: Iterable[Operation], *sites: str) -> list[Outcome]:
    return [done(one, at, site) for at, one in enumerate(ops, 1) for site in sites]


def test_what_is_overridden_goes_once_every_holder_has_reported() -> None:
    ops = [BIRTH, op("A", 2, 2, touches=frozenset({"a"})), op("A", 3, 3, Kind.REPLACE)]
    log = Log.of(ops)
    assert holders(log, []) == {"A", "B"}
    assert not prunable(log, reported(ops, "A"), {"A", "B"}).dots
    found = prunable(log, reported(ops, "A", "B"), {"A", "B"})
    assert found.dots == {ops[1].dot}
    assert not found.whole
    rest = Log.of([BIRTH, ops[2]], forgotten(log, found.dots))
    assert rest.order == (BIRTH, ops[2])
    assert rest.next_of("A.1") == 4


def test_a_merge_goes_if_later_ones_touch_all_of_its_fields() -> None:
    ops = [BIRTH] + [op("A", n, n, touches=frozenset(paths)) for n, paths in ((2, {"a.b"}), (3, {"c"}), (4, {"a"}))]
    assert prunable(Log.of(ops), reported(ops, "A", "B"), {"A", "B"}).dots == {ops[1].dot}


def test_what_is_refused_stays() -> None:
    ops = [BIRTH, op("A", 2, 2), op("A", 3, 3, Kind.REPLACE)]
    told = [*reported([BIRTH, ops[2]], "A", "B"), done(ops[1], 0, "A"), done(ops[1], 0, "B", State.REFUSED)]
    assert not prunable(Log.of(ops), told, {"A", "B"}).dots
    assert releasable(Log.of(ops), told, {"A", "B"}) == {BIRTH.dot, ops[2].dot}


def test_what_alone_holds_the_order_together_stays() -> None:
    """The clock of A is ahead: without its merge, B's last would come before C's."""
    ahead = op("A", 2, 100, touches=frozenset({"a"}))
    after = op("B", 1, 2, after={"A": 2}, touches=frozenset({"a"}))
    other = op("C", 1, 50, after={"A": 1}, touches=frozenset({"z"}))
    ops = [BIRTH, ahead, after, other]
    assert [one.author for one in Log.of(ops).order] == ["A.1", "C.1", "A.1", "B.1"]
    assert not prunable(Log.of(ops), reported(ops, "A", "B"), {"A", "B"}).dots


def test_all_of_a_deleted_resource_goes_once_every_holder_has_reported() -> None:
    ops = [BIRTH, op("A", 2, 2, Kind.DELETE)]
    log = Log.of(ops)
    assert not prunable(log, reported(ops, "A"), {"A", "B"}).whole
    assert prunable(log, reported(ops, "A", "B"), {"A", "B"}).whole


def test_a_site_that_left_holds_it_until_it_has_said_so() -> None:
    place = op("A", 2, 2, Kind.PLACE, placement=("A",), leave="delete")
    log = Log.of([BIRTH, place])
    assert holders(log, []) == {"A", "B"}
    assert holders(log, [done(place, 2, "B")]) == {"A"}
