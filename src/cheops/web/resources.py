"""The admin API of replicated resources: where they are, what was done to them, what waits and what failed, and the
commands that settle it. Nothing secret is in it: bodies are told by size and hash; but of a replica that isn't like the
others, the fields are told in which it differs.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from cheops.errors import BadRequest
from cheops.model import View
from cheops.plan.placement import placement_of
from cheops.reconcile.audit import Repaired
from cheops.reconcile.drift import Verified
from cheops.reconcile.listing import ConflictsPage, OperationsPage, ResourcesPage
from cheops.reconcile.operating import Converged, Operator, Told
from cheops.reconcile.showing import ResourceListed, ResourceShown

PROBLEM: dict[int | str, dict[str, Any]] = {
    400: {"description": "it can't be understood: a problem document (RFC 9457)"},
    404: {"description": "it isn't there"},
    409: {"description": "it can't be done as things are"},
    502: {"description": "the site that it is for refuses"},
    503: {"description": "a site or the store can't do it now"},
}
After = Annotated[str, Query(description="where the page begins: `next` of the one before")]
Limit = Annotated[int, Query(ge=1, le=1000)]
FewAtOnce = Annotated[int, Query(ge=1, le=100)]
Seconds = Annotated[float, Query(alias="timeout", gt=0, le=3600, description="seconds that each site may read")]
State = Literal["pending", "failed", "dropped", "done", "all"]


class Placement(BaseModel):
    """Where a resource is to be, as a scope; `leave` is what other sites do with their copy."""

    scope: str = Field(examples=["{image: Site1 & Site3}"])
    leave: Literal["keep", "delete"] = "keep"


class Made(BaseModel):
    """The operation that was made, AUTHOR/N."""

    operation: str


class Settled(BaseModel):
    """What came of a command at each site."""

    told: list[Told]


class VerifiedPage(BaseModel):
    """`next` is where the next page begins, "" if there is none."""

    verified: list[Verified]
    next: str = ""


class RepairedPage(BaseModel):
    """`next` is where the next page begins, "" if there is none."""

    repaired: list[Repaired]
    next: str = ""


def resources_routes(operator: Operator, view: Callable[[], View]) -> APIRouter:
    """The routes; `view` is what the site knows of the others."""
    router = APIRouter(responses=PROBLEM)
    _reading(router, operator)
    _commanding(router, operator, view)
    return router


def _reading(router: APIRouter, operator: Operator) -> None:
    @router.get("/resources")
    async def resources(after: After = "", limit: Limit = 100, service: str | None = None) -> ResourcesPage:
        """The replicated resources that this site holds."""
        return await operator.lists.resources(after=after, limit=limit, service=service)

    @router.get("/find")
    async def find(name: str) -> ResourceListed:
        """The resource that a rid, an id at this site or a name means, wherever it is held."""
        return await operator.find(name)

    @router.get("/resources/{rid}")
    async def resource(rid: str) -> ResourceShown:
        """Where a resource is, its operations in the order that counts, and what came of each where."""
        return await operator.show(rid)

    @router.get("/resources/{rid}/converged")
    async def converged(rid: str, seconds: Annotated[float, Query(alias="timeout", ge=0, le=3600)] = 0) -> Converged:
        """Waits, at most `timeout` seconds, until every holder is through with all that is known."""
        return await operator.wait(rid, seconds)

    @router.get("/resources/{rid}/verify")
    async def verify(rid: str, seconds: Seconds = 10) -> Verified:
        """Compares the replicas by what the services of their sites say; nothing is written anywhere."""
        return await operator.verify(rid, seconds)

    @router.get("/verify")
    async def verify_all(after: After = "", limit: FewAtOnce = 20, seconds: Seconds = 10) -> VerifiedPage:
        """The same for the resources that this site holds."""
        page = await operator.lists.resources(after=after, limit=limit)
        found = [await operator.verify(each.rid, seconds) for each in page.resources]
        return VerifiedPage(verified=found, next=page.next)

    @router.get("/operations")
    async def operations(
        state: State = "pending", site: str | None = None, after: After = "", limit: Limit = 100
    ) -> OperationsPage:
        """Operations, by how far sites are with them, as this one knows: one entry for each site."""
        return await operator.lists.operations(state, site=site, after=after, limit=limit)

    @router.get("/conflicts")
    async def conflicts(after: After = "", limit: Limit = 100, settled: bool = False) -> ConflictsPage:
        """What was said on two sites at once, and isn't in force."""
        return await operator.lists.conflicts(after=after, limit=limit, settled=settled)


def _commanding(router: APIRouter, operator: Operator, view: Callable[[], View]) -> None:
    @router.put("/resources/{rid}/placement")
    async def place(rid: str, placement: Placement) -> Made:
        """A resource is held by other sites from now on; a new one is filled before it counts."""
        found = await operator.find(rid)
        where = placement_of(placement.scope, found.service, view())
        if where.spans is not None and where.spans != bool(found.prime):
            are, sign = ("parts", "%") if found.prime else ("copies", "&")
            raise BadRequest(f"its sites hold {are} of it", hint=f"Write the scope with {sign} between its sites.")
        return Made(operation=await operator.place(found.rid, where.sites, placement.leave, where.prime))

    @router.post("/resources/{rid}/repair")
    async def repair(rid: str, seconds: Seconds = 10) -> Repaired:
        """The log is executed again where a replica isn't as it says."""
        return await operator.repair(rid, seconds)

    @router.post("/repair")
    async def repair_all(after: After = "", limit: FewAtOnce = 20, seconds: Seconds = 10) -> RepairedPage:
        """The same for the resources that this site holds."""
        page = await operator.lists.resources(after=after, limit=limit)
        found = [await operator.repair(each.rid, seconds) for each in page.resources]
        return RepairedPage(repaired=found, next=page.next)

    @router.post("/operations/{rid}/{author}/{n}/retry")
    async def retry(rid: str, author: str, n: int, site: str | None = None) -> Settled:
        """It is tried again; without a site wherever it failed, else wherever it waits."""
        return Settled(told=await operator.settle("retry", rid, f"{author}/{n}", site))

    @router.post("/operations/{rid}/{author}/{n}/drop")
    async def drop(rid: str, author: str, n: int, site: str | None = None) -> Settled:
        """It won't be executed there."""
        return Settled(told=await operator.settle("drop", rid, f"{author}/{n}", site))

    @router.post("/operations/{rid}/{author}/{n}/done")
    async def done(rid: str, author: str, n: int, site: str | None = None, id: str = "") -> Settled:
        """It was executed there, as somebody has looked; `id` is that of what it made."""
        return Settled(told=await operator.settle("done", rid, f"{author}/{n}", site, id))

    @router.post("/conflicts/{rid}/{author}/{n}/apply")
    async def apply(rid: str, author: str, n: int) -> Made:
        """What lost a conflict is done again, on all holders."""
        return Made(operation=await operator.apply(rid, f"{author}/{n}"))
