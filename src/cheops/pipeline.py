"""READ FIRST: the way of a request that Envoy leaves to the agent, stage by stage.

    intercept   the wire becomes a Request                        intercept/door.py
    read        the scope is found: header, URL, id, token        carry/read.py           pure
    understand  text becomes a tree, names are checked            scope/                  pure
    plan        tree and view become steps                        plan/                   pure
    carry       the resolved scope is put where it follows on     carry/write.py          pure
    execute     the steps are carried out                         execute.py
    reply       the Reply goes back on the wire                   intercept/door.py

A request without a scope, or with a scope that names one site, never comes here: Envoy serves it alone, as
intercept/envoy/ tells it to.
"""

from contextlib import suppress
from dataclasses import dataclass, field

from cheops.applications import Application
from cheops.carry import Carried, carry, read_carried
from cheops.carry.request_id import MOST_BINDINGS, Bindings, KeptBy, RandomDigits
from cheops.errors import BadRequest, BadScope, CantKeep, NotYet, ScopeNoLongerKept
from cheops.execute import execute
from cheops.model import Reply, Request, View
from cheops.plan import Plan, make_plan
from cheops.ports import KeptScopes, Transport
from cheops.scope import Binding, Scope, ScopeError, SiteName, parse

LONGEST_REMEMBERED = 1024  # characters
MOST_REMEMBERED = 1000  # plans; together at most a few megabytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Pipeline:
    """The stages, wired to one site."""

    application: Application
    view: View
    transport: Transport
    kept: KeptScopes
    random: RandomDigits
    remembered: dict[tuple[str, str], Plan] = field(default_factory=dict, repr=False)

    async def serve(self, request: Request) -> Reply:
        """The reply to a request. Raises CheopsError for whatever isn't a service's own answer."""
        carried = read_carried(request, self.application)
        plan = await self._plan(carried)
        if request.values(b"upgrade"):
            raise NotYet(
                "an upgraded connection (a websocket, kubectl exec) needs a scope that names one site",
                hint="Write it as {service: Site}.",
            )
        if carried.text is None:  # there is none, or its id carries it already
            return await execute(plan, carried.request, self.transport)
        carrying = carry(carried.request, plan.resolved, self.application, self.view, self.random)
        if carrying.keep_under:
            self._keep(carrying.keep_under, plan.resolved.text())
        return await execute(plan, carrying.request, self.transport)

    async def _plan(self, carried: Carried) -> Plan:
        """The plan; the same words for the same service mean the same, so it is remembered, up to a bound."""
        key = (carried.text or "", carried.request.service)
        if carried.text is not None and (known := self.remembered.get(key)):
            return known
        plan = make_plan(await self.understand(carried), carried.request.service, self.view)
        if carried.text is not None and len(carried.text) <= LONGEST_REMEMBERED:
            if len(self.remembered) >= MOST_REMEMBERED:
                self.remembered.clear()
            self.remembered[key] = plan
        return plan

    def _keep(self, uuid: str, text: str) -> None:
        try:
            self.kept.keep(uuid, text)
        except OSError as error:
            raise CantKeep(
                f"{self.view.site} can't write down the scope, which is too long for a request id: {error.strerror}",
                hint=f"Up to {MOST_BINDINGS} bindings ride inside the id.",
            ) from error

    async def understand(self, carried: Carried) -> Scope:
        """The scope with every name checked. Raises BadScope with the place of the mistake."""
        try:
            scope = await self._scope(carried)
            return self.view.names.resolve(scope, for_service=carried.request.service)
        except ScopeError as error:
            members = {"scope": error.text, "position": error.position, "column": error.column, "caret": error.caret()}
            raise BadScope(f"column {error.column}: {error.message}", hint=error.hint, **members) from error

    async def _scope(self, carried: Carried) -> Scope:
        match carried.by_id:
            case Bindings():
                return self._scope_of(carried.by_id)
            case KeptBy():
                return parse(await self._kept(carried.by_id, carried.uuid))
        return parse(carried.text) if carried.text is not None else Scope()

    def _scope_of(self, carried: Bindings) -> Scope:
        services = {number: name for name, number in self.view.service_numbers.items()}
        sites = {number: name for name, number in self.view.site_numbers.items()}
        for service, site in carried.numbers:
            if service not in services or site not in sites:
                what = f"service number {service}" if service not in services else f"site number {site}"
                raise BadRequest(
                    f"the request id carries {what}, which {self.view.site} doesn't know",
                    hint="All sites must agree on the numbers of sites and services; compare their site.yaml.",
                )
        bindings = {services[service]: SiteName(name=sites[site]) for service, site in carried.numbers}
        if len(bindings) < len(carried.numbers):
            raise BadRequest(
                "the request id binds a service twice", hint="It is forged, or damaged; leave the id to Cheops."
            )
        return Scope(bindings=tuple(Binding(service=name, location=site) for name, site in bindings.items()))

    async def _kept(self, carried: KeptBy, uuid: str) -> str:
        sites = {number: name for name, number in self.view.site_numbers.items()}
        keeper = sites.get(carried.site, f"site number {carried.site}")
        text = self.kept.recall(uuid)
        if text is None and keeper in self.view.names.sites and keeper != self.view.site:
            text = await self.transport.recall(uuid, site=keeper)
            if text is not None:
                with suppress(OSError):  # a full disk only means to ask the keeper again
                    self.kept.keep(uuid, text)
        if text is None:
            raise ScopeNoLongerKept(
                f"the scope of this workflow is kept by {keeper}, which doesn't know it (any more)",
                hint="A scope is kept for a day. Repeat the command that began the workflow.",
            )
        return text
