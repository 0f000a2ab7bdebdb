"""Operations and outcomes of a resource, for tests."""

from typing import Any

from cheops.record.operation import Birth, Body, Dot, Kind, Operation, Outcome, Recorded, State
from cheops.record.stamp import Stamp

BIRTH = Birth(service="s", type="t", collection="/ts", chosen="x")


def op(site: str, n: int, ms: int, kind: Kind = Kind.MERGE, body: bytes = b"", **what: Any) -> Operation:
    """The nth operation of a site; `after` is what it knew of the others."""
    after = {f"{other}.1": known for other, known in what.pop("after", {}).items()}
    if n > 1:
        after[f"{site}.1"] = n - 1
    request = Recorded(method="X", target="/ts/x", body=Body(inline=body, size=len(body)))
    return Operation(
        rid="r", author=f"{site}.1", n=n, stamp=Stamp(ms, 0), kind=kind, after=after, request=request, **what
    )


def created(site: str, n: int, ms: int, *placement: str, **what: Any) -> Operation:
    return op(site, n, ms, Kind.CREATE, birth=BIRTH, placement=placement, **{"repeats": False, **what})


def dot(site: str, n: int) -> Dot:
    return Dot(f"{site}.1", n)


def done(operation: Operation, run: int, site: str = "A", state: State = State.DONE) -> Outcome:
    return Outcome(rid="r", dot=operation.dot, site=site, state=state, run=run)
