"""The log of a resource: its order, and what of it is effective. Pure; the same set of operations gives the same log.

What concurrent operations mean follows from HTTP: a delete wins against all that doesn't come after it; of two
replacements the later one wins; merges and actions all happen, in order.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cheops.record.conflicts import Conflict, conflicts
from cheops.record.operation import Birth, Dot, Kind, Operation, Vector
from cheops.record.order import ordered
from cheops.record.resource import Summary
from cheops.record.superseding import deaths, is_creation, replaced


@dataclass(frozen=True, kw_only=True)
class Log:
    """All that is known of a resource. `forgotten`: up to which operation of each author some were pruned; `withdrawn`
    are those that nobody has accepted, and whose author has said so.
    """

    operations: Mapping[Dot, Operation]
    forgotten: Vector = field(default_factory=dict)
    withdrawn: frozenset[Dot] = frozenset()

    @classmethod
    def of(
        cls,
        operations: Iterable[Operation],
        forgotten: Vector | None = None,
        withdrawn: Collection[Dot] = (),
    ) -> "Log":
        return cls(
            operations={op.dot: op for op in operations}, forgotten=forgotten or {}, withdrawn=frozenset(withdrawn)
        )

    @cached_property
    def order(self) -> tuple[Operation, ...]:
        """The operations whose causal past is whole."""
        return ordered(self.operations, self.forgotten)

    @cached_property
    def standing(self) -> tuple[Operation, ...]:
        """The order without what was withdrawn."""
        return tuple(op for op in self.order if op.dot not in self.withdrawn) if self.withdrawn else self.order

    @cached_property
    def position(self) -> Mapping[Dot, int]:
        return {op.dot: at for at, op in enumerate(self.order)}

    @cached_property
    def held(self) -> tuple[Operation, ...]:
        """Those held back, since something they come after isn't here."""
        return tuple(op for dot, op in sorted(self.operations.items()) if dot not in self.position)

    @property
    def incomplete(self) -> bool:
        return bool(self.held)

    @cached_property
    def dead(self) -> Mapping[Dot, Dot]:
        """What doesn't outlive a delete, by the last such delete; of deletes, all but the last."""
        return deaths(self.standing)

    @cached_property
    def living(self) -> tuple[Operation, ...]:
        """All since it was last deleted, with that delete; superseded or not."""
        return tuple(op for op in self.standing if op.dot not in self.dead)

    @cached_property
    def superseded(self) -> Mapping[Dot, Dot]:
        """What isn't to be executed (any more), and because of what."""
        return {**self.dead, **replaced(self.living), **{dot: dot for dot in self.withdrawn}}

    @cached_property
    def effective(self) -> tuple[Operation, ...]:
        return tuple(op for op in self.order if op.dot not in self.superseded)

    @cached_property
    def creation(self) -> Operation | None:
        """The first living creation (a POST), whose request the others are compared with."""
        return next((op for op in self.living if is_creation(op)), None)

    def as_replacement(self, op: Operation) -> bool:
        """Whether it is a creation that another one came before, and so replaces what that made."""
        return is_creation(op) and op is not self.creation and op.dot not in self.superseded

    @cached_property
    def conflicts(self) -> tuple[Conflict, ...]:
        """One for each operation that lost something, with the last one it lost to."""
        return conflicts(self.standing, self.dead, self.living)

    @cached_property
    def gone(self) -> bool:
        return not any(op.birth for op in self.living)

    @cached_property
    def _last_life(self) -> tuple[Operation, ...]:
        """The living ones, or all of a resource that has no birth among them."""
        return self.living if any(op.birth for op in self.living) else self.standing

    @cached_property
    def birth(self) -> Birth | None:
        return next((op.birth for op in self._last_life if op.birth), None)

    @cached_property
    def placed(self) -> Operation | None:
        """The placement that is in force; None while the births are."""
        return next((op for op in reversed(self._last_life) if op.kind is Kind.PLACE), None)

    @cached_property
    def placement(self) -> tuple[str, ...]:
        """The sites that hold it; of one that is gone, those that held it."""
        said = [self.placed] if self.placed else [op for op in self._last_life if op.birth]
        return tuple(dict.fromkeys(site for op in said for site in op.placement))

    @cached_property
    def prime(self) -> str:
        """The site whose part counts where nothing else is said, of a resource that spans its sites; else ""."""
        named = [op.prime for op in self._last_life if op.prime]
        return named[-1] if named else ""

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """The sites that it was ever placed on, in the order in which they joined."""
        placed = [op for op in self._last_life if op.kind is Kind.PLACE or op.birth]
        return tuple(dict.fromkeys(site for op in placed for site in op.placement))

    @cached_property
    def born(self) -> int:
        """How many sites it was placed on at first."""
        return next((len(op.placement) for op in self._last_life if op.birth), 0)

    @cached_property
    def refers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(rid for op in self.effective for rid in op.refers))

    @cached_property
    def vector(self) -> dict[str, int]:
        """What is known here: what a new operation comes after."""
        known = dict(self.forgotten)
        for op in self.order:
            known[op.author] = max(known.get(op.author, 0), op.n)
        return known

    def next_of(self, author: str) -> int:
        """The number of the author's next operation; those held back have theirs already."""
        held = (op.n for op in self.held if op.author == author)
        return max(self.vector.get(author, 0), *held, 0) + 1

    def summary(self, rid: str) -> Summary:
        """Of a log whose birth isn't known (yet), service, type and collection are ""."""
        birth = self.birth or Birth(service="", type="", collection="")
        return Summary(
            rid=rid,
            service=birth.service,
            type=birth.type,
            collection=birth.collection,
            chosen=birth.chosen,
            name=birth.name,
            parent=birth.parent,
            placement=self.placement,
            refers=self.refers,
            gone=self.gone,
            prime=self.prime,
        )
