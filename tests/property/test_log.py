"""Logs converge: whatever was asked where, in whatever order it arrived, all holders end with the same, once each.

Each site is a set of operations, its outcomes, a clock that is wrong by hours, and a black box of a few lines. A seed
gives the run, so that one that fails can be repeated. A naive twin, written from the rules, says what must come out.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheops.applications.fields import touched
from cheops.reconcile.steps import Step, Steps, steps
from cheops.record.log import Log
from cheops.record.operation import Birth, Body, Dot, Kind, Operation, Outcome, Recorded, State
from cheops.record.paths import overlap
from cheops.record.stamp import Clock

HOUR_MS = 3_600_000
MERGES: tuple[dict[str, Any], ...] = ({"a": 1}, {"b": 1}, {"c": {"d": 1}}, {"c": {"e": 1}}, {"c": 1}, {"a": 1, "b": 1})
StepsOf = Callable[[Log, Mapping[Dot, Outcome], str], Steps]


@dataclass
class Box:
    """What a service has: a document and a file, or nothing; and which actions it has done."""

    document: Any = None
    file: Any = None
    actions: Counter[Dot] = field(default_factory=Counter)

    def execute(self, op: Operation) -> None:
        BOX[op.kind](self, op)

    def create(self, op: Operation) -> None:
        self.document = value(op) if self.document is None or op.repeats else self.document

    def put(self, op: Operation) -> None:
        if op.facet:
            self.file = value(op)
        else:
            self.document = value(op)

    def merge(self, op: Operation) -> None:
        self.document = merged(self.document, value(op))

    def act(self, op: Operation) -> None:
        self.actions[op.dot] += 1

    def clear(self, op: Operation) -> None:
        self.document, self.file, self.actions = None, None, Counter()


BOX: dict[Kind, Callable[[Box, Operation], None]] = {
    Kind.CREATE: Box.create,
    Kind.REPLACE: Box.put,
    Kind.MERGE: Box.merge,
    Kind.ACTION: Box.act,
    Kind.DELETE: Box.clear,
    Kind.PLACE: Box.clear,
}


def merged(document: Any, patch: Any) -> Any:
    """RFC 7396, without its null."""
    if not isinstance(patch, dict):
        return patch
    base = deepcopy(document) if isinstance(document, dict) else {}
    return {**base, **{name: merged(base.get(name), inner) for name, inner in patch.items()}}


def value(op: Operation) -> Any:
    assert op.request
    assert op.request.body
    assert op.request.body.inline
    return json.loads(op.request.body.inline)


class Site:
    """One holder, with a clock that is wrong."""

    def __init__(self, name: str, skew_ms: int, log_type: type[Log], steps_of: StepsOf) -> None:
        self.name, self.author, self.skew_ms = name, f"{name}.1", skew_ms
        self.log_type, self.steps_of = log_type, steps_of
        self.known: dict[Dot, Operation] = {}
        self.outcomes: dict[Dot, Outcome] = {}
        self.clock, self.run, self.box = Clock(), 0, Box()
        self.done: Counter[Dot] = Counter()  # since the copy was last deleted

    @property
    def log(self) -> Log:
        return self.log_type.of(self.known.values())

    def request(self, now_ms: int, **what: Any) -> None:
        log = self.log
        self.clock = self.clock.tick(now_ms + self.skew_ms)
        n = log.next_of(self.author)
        op = Operation(rid="r", author=self.author, n=n, stamp=self.clock.last, after=log.vector, **what)
        self.known[op.dot] = op

    def hear(self, ops: Iterable[Operation], now_ms: int) -> None:
        for op in ops:
            self.known.setdefault(op.dot, op)
            self.clock = self.clock.seen(op.stamp, now_ms + self.skew_ms)

    def work(self, random: Random | None = None) -> None:
        """Does what is to be done; with `random`, it may die at any moment, and starts again later."""
        while True:
            plan = self.steps_of(self.log, dict(self.outcomes), self.name)
            for op in plan.skip:
                self.note(op, State.SKIPPED)
            for step in plan.todo:
                if random and random.random() < 0.2:
                    return self.die(step, random)
                self.execute(step)
            if plan.probe:
                self.probe(plan.probe)
            elif not plan.todo:
                assert not plan.blocked, plan
                return None

    def die(self, step: Step, random: Random) -> None:
        if not step.operation.repeats or (step.operation.kind is Kind.CREATE and not step.again | step.as_replacement):
            self.note(step.operation, State.BEGUN)
            if random.random() < 0.5:
                self.touch(step)

    def probe(self, op: Operation) -> None:
        """The service is asked whether it was executed."""
        if self.done[op.dot]:
            self.run += 1
            self.note(op, State.DONE, self.run)
        else:
            self.note(op, State.PENDING)

    def execute(self, step: Step) -> None:
        if step.again:
            self.must_be_again(step.operation)
        self.touch(step)
        self.run += 1
        self.note(step.operation, State.DONE, self.run)

    def touch(self, step: Step) -> None:
        op = step.operation
        assert step.again or not self.done[op.dot], ("twice", op)
        if op.kind is Kind.CREATE and not step.as_replacement:
            assert self.box.document is None, ("a second one is made", op)
        self.box.execute(op)
        if op.kind in (Kind.DELETE, Kind.PLACE):
            self.done.clear()
        self.done[op.dot] += 1

    def must_be_again(self, op: Operation) -> None:
        assert op.kind in (Kind.MERGE, Kind.REPLACE, Kind.CREATE, Kind.DELETE), op
        order = self.log.order
        ran = self.outcomes[op.dot].run
        earlier = [one for at, one in enumerate(order) if at < order.index(op) or one.dot in self.log.superseded]
        newer = [one for one in earlier if one.dot in self.outcomes and self.outcomes[one.dot].run > ran]
        assert op.kind is Kind.DELETE or any(overlap(fields(one), fields(op)) for one in newer), op

    def note(self, op: Operation, state: State, run: int = 0) -> None:
        old = self.outcomes.get(op.dot, Outcome(rid="r", dot=op.dot, site=self.name))
        self.outcomes[op.dot] = replace(old, state=state, run=run or old.run, version=old.version + 1)


def fields(op: Operation) -> frozenset[str] | None:
    return op.touches if op.kind is Kind.MERGE else None


class World:
    """Sites, and links between them that are cut at times."""

    def __init__(self, random: Random, log_type: type[Log], steps_of: StepsOf) -> None:
        self.random, self.now_ms = random, 10 * HOUR_MS
        count = random.randrange(2, 5)
        skews = [random.choice((0, 0, -3, 3, 1)) * HOUR_MS for _ in range(count)]
        self.sites = [Site(f"Site{at}", skew, log_type, steps_of) for at, skew in enumerate(skews, 1)]
        self.names = [site.name for site in self.sites]
        self.repeats = random.random() < 0.8
        self.cut: set[str] = set()

    def live(self, moves: int) -> None:
        for _ in range(moves):
            self.now_ms += self.random.randrange(50)
            move = self.random.choice((self.ask, self.ask, self.deliver, self.deliver, self.work, self.weather))
            move()

    def weather(self) -> None:
        self.cut = set(self.random.sample(self.names, self.random.randrange(len(self.names))))

    def work(self) -> None:
        self.random.choice(self.sites).work(self.random)

    def deliver(self) -> None:
        """Some of what one site knows, in any order, again and again."""
        source, target = self.random.sample(self.sites, 2)
        if not self.cut & {source.name, target.name}:
            known = list(source.known.values())
            target.hear(self.random.sample(known, self.random.randint(0, len(known))), self.now_ms)

    def ask(self) -> None:
        site = self.random.choice(self.sites)
        log = site.log
        if not log.living or log.gone:
            site.request(self.now_ms, **self.creation(site))
        elif site.name in log.placement:
            site.request(self.now_ms, **self.change(site))
        site.work(self.random if self.random.random() < 0.3 else None)

    def creation(self, site: Site) -> dict[str, Any]:
        kind = self.random.choice((Kind.CREATE, Kind.CREATE, Kind.REPLACE))
        placement = tuple({site.name, *self.random.sample(self.names, 2)})
        # of two that differ and can't replace each other, each stays where it was made: that conflict is listed
        body = {"made": self.random.randrange(2) if self.repeats else 0}
        birth = Birth(service="s", type="t", collection="/ts", chosen="x")
        # a creation by POST doesn't repeat; here `repeats` says that the description knows its PUT
        repeats = self.repeats or kind is Kind.REPLACE
        return {"kind": kind, "placement": placement, "birth": birth, "repeats": repeats, **asked(body)}

    def change(self, site: Site) -> dict[str, Any]:
        kinds = (Kind.MERGE,) * 8 + (Kind.REPLACE, Kind.REPLACE, Kind.ACTION, Kind.ACTION, Kind.DELETE, Kind.PLACE)
        kind = self.random.choice(kinds)
        body: Any = {"v": self.random.randrange(1000)}
        told: dict[str, Any] = {"kind": kind}
        if kind is Kind.MERGE:
            body = varied(self.random.choice(MERGES), self.random.randrange(1000))
            told["touches"] = touched(json.dumps(body).encode(), None)
        elif kind is Kind.REPLACE:
            told["facet"] = self.random.choice(("", "file"))
        elif kind is Kind.ACTION:
            told |= {"repeats": False, "commutes": True}
        elif kind is Kind.PLACE:
            told["placement"] = tuple({site.name, *self.random.sample(self.names, 2)})
            told["leave"] = self.random.choice(("keep", "delete"))
        return {**told, **asked(body)}

    def heal(self) -> None:
        everything = [op for site in self.sites for op in site.known.values()]
        for site in self.sites:
            self.random.shuffle(everything)
            site.hear(everything, self.now_ms)
            site.work()


def varied(patch: Any, number: int) -> Any:
    return {name: varied(inner, number) for name, inner in patch.items()} if isinstance(patch, dict) else number


def asked(body: Any) -> dict[str, Any]:
    inline = json.dumps(body).encode()
    return {"request": Recorded(method="X", target="/ts/x", body=Body(inline=inline, size=len(inline)))}


def twin_order(ops: Iterable[Operation]) -> list[Operation]:
    """The rule as it is said: of those whose past is placed, the lowest."""
    left, placed = list(ops), list[Operation]()
    while left:
        ready = [op for op in left if not any(op.knew(other) for other in left if other is not op)]
        placed.append(min(ready, key=lambda op: (op.stamp, op.author)))
        left.remove(placed[-1])
    return placed


def twin_effective(order: list[Operation]) -> list[Operation]:
    deletes = [op for op in order if op.kind is Kind.DELETE]
    alive = [
        op
        for op in order
        if (op is deletes[-1] if op.kind is Kind.DELETE else all(op.knew(delete) for delete in deletes))
    ]
    creations = [op for op in alive if op.kind is Kind.CREATE]
    lost = [op for op in creations[1:] if not op.repeats or op.request == creations[0].request]
    alive = [op for op in alive if op not in lost]
    return [op for at, op in enumerate(alive) if not any(overrides(later, op, creations) for later in alive[at + 1 :])]


def overrides(later: Operation, op: Operation, creations: list[Operation]) -> bool:
    if later.kind is Kind.PLACE:
        return op.kind is Kind.PLACE
    replaces = later.kind is Kind.REPLACE or later in creations[1:]
    replaced = op.kind in (Kind.REPLACE, Kind.MERGE) or op in creations[1:]
    return replaces and replaced and later.facet == op.facet


def check(seed: int, log_type: type[Log] = Log, steps_of: StepsOf = steps) -> None:
    random = Random(seed)
    world = World(random, log_type, steps_of)
    world.live(random.randrange(5, 60))
    world.heal()
    everything = {dot: op for site in world.sites for dot, op in site.known.items()}
    order = twin_order(everything.values())
    effective = twin_effective(order)
    box = Box()
    for op in effective:
        if op.kind is not Kind.PLACE:
            box.execute(op)
    for site in world.sites:
        log = site.log
        assert list(log.order) == order, seed
        assert list(log.effective) == effective, seed
        assert set(log.position) == set(everything), seed
        if site.name in log.placement:
            assert (site.box.document, site.box.file) == (box.document, box.file), (seed, site.name)
            assert site.box.actions == box.actions, (seed, site.name)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 32))
def test_all_sites_end_with_the_same_done_once(seed: int) -> None:
    check(seed)


class ByStamp(Log):
    """Broken: a clock that is wrong turns cause and effect round."""

    @property
    def order(self) -> tuple[Operation, ...]:
        return tuple(sorted(self.operations.values(), key=lambda op: (op.stamp, op.author)))


class DeleteLoses(Log):
    """Broken: what is concurrent with a delete, but later, outlives it."""

    @property
    def dead(self) -> Mapping[Dot, Dot]:
        last = {op.dot: at for at, op in enumerate(self.order) if op.kind is Kind.DELETE}
        end, upto = max(last.items(), key=lambda one: one[1], default=(None, 0))
        return {op.dot: end for op in self.order[:upto]} if end else {}


def never_again(log: Log, outcomes: Mapping[Dot, Outcome], site: str) -> Steps:
    """Broken: what came late isn't overwritten by what comes after it."""
    plan = steps(log, outcomes, site)
    return replace(plan, todo=tuple(step for step in plan.todo if not step.again))


def begins_again(log: Log, outcomes: Mapping[Dot, Outcome], site: str) -> Steps:
    """Broken: it forgets what was begun."""
    return steps(log, {dot: one for dot, one in outcomes.items() if one.state is not State.BEGUN}, site)


BROKEN: dict[str, tuple[type[Log], StepsOf]] = {
    "order by stamp only": (ByStamp, steps),
    "delete loses": (DeleteLoses, steps),
    "nothing is executed again": (Log, never_again),
    "what was begun is forgotten": (Log, begins_again),
}


def check_all(log_type: type[Log], steps_of: StepsOf) -> None:
    for seed in range(300):
        check(seed, log_type, steps_of)


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_broken_is_found(how: str) -> None:
    with pytest.raises(AssertionError):
        check_all(*BROKEN[how])
