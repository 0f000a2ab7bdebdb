"""Which operations of a log are overridden by others. Pure."""

from collections.abc import Iterable, Sequence

from cheops.record.operation import Dot, Kind, Operation


def is_creation(op: Operation) -> bool:
    return op.kind is Kind.CREATE


def makes(op: Operation) -> bool:
    """Whether the resource is there once it was executed."""
    return is_creation(op) or (op.kind is Kind.REPLACE and not op.facet)


def same_request(a: Operation, b: Operation) -> bool:
    """Whether both ask for the same: method, target and body."""
    if a.request is None or b.request is None:
        return a.request is b.request
    return (a.request.method, a.request.target, a.request.body) == (b.request.method, b.request.target, b.request.body)


def deaths(order: Sequence[Operation]) -> dict[Dot, Dot]:
    """What doesn't causally come after some delete, by the last such delete. The last delete of all stays."""
    last = {op.author: (at, op) for at, op in enumerate(order) if op.kind is Kind.DELETE}
    end = max(last.values(), default=None, key=lambda one: one[0])
    dead: dict[Dot, Dot] = {}
    for op in order:
        unknown = [one for one in last.values() if not _comes_after(op, one[1])]
        if op.kind is Kind.DELETE:
            unknown = [end] if end and op is not end[1] else []
        if unknown:
            dead[op.dot] = max(unknown, key=lambda one: one[0])[1].dot
    return dead


def replaced(living: Sequence[Operation]) -> dict[Dot, Dot]:
    """What is overridden among the living: by replacements, by a creation of the same, by a later placement."""
    found = dict(_lost_creations(living))
    replacements: dict[str, Dot] = {}
    placement: Dot | None = None
    first = next((op for op in living if is_creation(op)), None)
    for op in reversed(living):
        if op.dot in found:
            continue
        replaces = op.kind is Kind.REPLACE or (is_creation(op) and op is not first)
        if op.kind is Kind.PLACE:
            found.update({op.dot: placement} if placement else {})
            placement = placement or op.dot
        elif (replaces or op.kind is Kind.MERGE) and op.facet in replacements:
            found[op.dot] = replacements[op.facet]
        elif replaces:
            replacements[op.facet] = op.dot
    return found


def _lost_creations(living: Sequence[Operation]) -> Iterable[tuple[Dot, Dot]]:
    """Creations that another one came before, if they ask for the same or can't replace it."""
    creations = [op for op in living if is_creation(op)]
    for op in creations[1:]:
        if same_request(op, creations[0]) or not op.repeats:
            yield op.dot, creations[0].dot


def _comes_after(op: Operation, other: Operation) -> bool:
    """An author's own later operation comes after its earlier ones, whether `after` says so or not."""
    return op.dot == other.dot or op.knew(other) or (op.author == other.author and op.n > other.n)
