"""READ FIRST: the way of a request that Envoy leaves to the agent, stage by stage.

    intercept   the wire becomes a Request                        intercept/door.py
    read        the scope is found: header, URL, id, token        carry/read.py           pure
    understand  text becomes a tree, names are checked            scope/                  pure
    replicate   what concerns a replicated resource goes its way  replicate.py, reconcile/
    plan        tree and view become steps                        plan/                   pure
    carry       the resolved scope is put where it follows on     carry/write.py          pure
    execute     the steps are carried out                         execute.py
    reply       the Reply goes back on the wire                   intercept/door.py

A request without a scope, or with a scope that names one site, never comes here: Envoy serves it alone, as
intercept/envoy/ tells it to. Writes of a service that has replicated resources do come, and reads of it that missed.
"""

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from cheops.applications import Application
from cheops.applications.concern import READS
from cheops.carry import Carried, carry, read_carried
from cheops.carry.request_id import MOST_BINDINGS, Bindings, KeptBy, RandomDigits
from cheops.errors import BadRequest, BadScope, CantKeep, NotYet, ScopeNoLongerKept
from cheops.execute import Executor, Patience, Sending
from cheops.model import Reply, Request, View
from cheops.plan import Each, Forward, Plan, centres_of, check_carried_out, make_plan, show, show_each
from cheops.ports import KeptScopes, Peers, Transport
from cheops.replicate import Replication
from cheops.scope import Binding, Scope, ScopeError, SiteName, canonical, parse
from cheops.unite import Union

LONGEST_REMEMBERED = 1024  # characters
MOST_REMEMBERED = 1000  # plans; together at most a few megabytes
PLAN_ONLY = b"cheops-plan"
AROUND = b"cheops-around"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pipeline:
    """The stages, wired to one site. `view` is what doesn't change while its settings don't.

    `planned` is told the kind of each request's plan.
    """

    application: Application
    view: View
    transport: Transport
    kept: KeptScopes
    peers: Peers
    random: RandomDigits
    planned: Callable[[str], None] = lambda _: None
    patience: Patience = field(default_factory=Patience)
    replication: Replication | None = None
    remembered: dict[tuple[str, str], Plan] = field(default_factory=dict, repr=False)

    async def serve(self, request: Request) -> Reply:
        """The reply to a request. Raises CheopsError for whatever isn't a service's own answer."""
        carried = read_carried(request, self.application)
        shown = request.values(PLAN_ONLY)
        if shown and shown != [b"only"]:
            raise BadRequest("the header Cheops-Plan has one value, 'only'", hint="Leave it out to send the request.")
        executor = Executor(transport=self.transport, kept=_Kept(self.kept, self.view.site), patience=self.patience)
        if self.replication and (
            reply := await self._replicated(self.replication, carried, executor, only=bool(shown))
        ):
            self.planned("replication")
            return reply
        plan = await self._plan(carried)
        self.planned(plan.kind)
        if shown:
            return self._shown(plan, carried)
        if request.values(b"upgrade"):
            raise NotYet(
                "an upgraded connection (a websocket, kubectl exec) needs a scope that names one site",
                hint="Write it as {service: Site}.",
            )
        if isinstance(plan.step, Each):
            return await self._united(plan, carried, executor)
        return _with_near(await executor.execute(self._sendings(plan, carried)), plan)

    async def _united(self, plan: Plan, carried: Carried, executor: Executor) -> Reply:
        """What several sites hold together. Raises BadRequest for anything but a read."""
        if carried.request.method not in READS:
            raise BadRequest("a scope with & for a write makes a resource", hint="This agent keeps none.")
        rids_at = self.replication.asker.held_at if self.replication else None
        rules = self.replication.rules_of(carried.request) if self.replication else None
        return await Union(executor, self.view.site, rules, rids_at).reply(self._sendings(plan, carried), carried.text)

    async def _replicated(
        self, replication: Replication, carried: Carried, executor: Executor, *, only: bool
    ) -> Reply | None:
        """The reply to what concerns a replicated resource; None if this doesn't. `only`: the plan is shown."""
        scope, service = await self.understand(carried), carried.request.service
        locations = {binding.service: binding.location for binding in scope.bindings}
        if not replication.may_concern(service, locations.get(service)):
            return None
        check_carried_out(scope)
        shares = {name: canonical(place) for name, place in locations.items() if name != service}
        prime = scope.prime.name if scope.prime else ""
        meant = await replication.meant(carried.request, locations.get(service), shares, prime, carried.text)
        view = await self._view(scope, service) if scope.bindings or only else self.view
        if only:
            writes = await replication.planned(meant, view)
            return None if writes is None else _document(show_each(service, writes, view))
        return await replication.serve(meant, view, executor)

    async def _plan(self, carried: Carried) -> Plan:
        """The plan. Of one site, the same words for the same service always mean the same: it is remembered."""
        key = (carried.text or "", carried.request.service)
        if carried.text is not None and (known := self.remembered.get(key)):
            return known
        scope, service = await self.understand(carried), carried.request.service
        plan = make_plan(scope, service, await self._view(scope, service))
        if carried.text is not None and len(carried.text) <= LONGEST_REMEMBERED and isinstance(plan.step, Forward):
            if len(self.remembered) >= MOST_REMEMBERED:
                self.remembered.clear()
            self.remembered[key] = plan
        return plan

    async def _view(self, scope: Scope, service: str) -> View:
        """What is known of the sites now, as far as the plan needs it."""
        told = {centre: await self.peers.distances(centre) for centre in sorted(centres_of(scope, service))}
        known = {centre: distances for centre, distances in told.items() if distances}
        return replace(self.view, peers=self.peers.peers(), distances=known)

    def _sendings(self, plan: Plan, carried: Carried) -> Sequence[Sending]:
        """The requests of a plan's forwards, each with the scope as it is resolved at its site."""
        if carried.text is None:  # there is none, or its id carries it already
            return [Sending(site=forward.site, request=carried.request) for forward in plan.forwards]
        return [self._sending(forward, carried.request) for forward in plan.forwards]

    def _sending(self, forward: Forward, request: Request) -> Sending:
        carrying = carry(request, forward.resolved, self.application, self.view, self.random)
        keep = (carrying.keep_under, forward.resolved.text()) if carrying.keep_under else None
        return Sending(site=forward.site, request=carrying.request, keep=keep)

    def _shown(self, plan: Plan, carried: Carried) -> Reply:
        """The plan itself; nothing is sent."""
        without = replace(carried.request, headers=tuple(h for h in carried.request.headers if h[0] != PLAN_ONLY))
        sendings = self._sendings(plan, replace(carried, request=without))
        view = replace(self.view, peers=self.peers.peers())
        return _document(show(plan, [sending.request for sending in sendings], view))

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


@dataclass(frozen=True, slots=True)
class _Kept:
    """The kept scopes, with a plain word for the user when one can't be kept."""

    kept: KeptScopes
    site: str

    def keep(self, uuid: str, text: str) -> None:
        try:
            self.kept.keep(uuid, text)
        except OSError as error:
            raise CantKeep(
                f"{self.site} can't write down the scope, which is too long for a request id: {error.strerror}",
                hint=f"Up to {MOST_BINDINGS} bindings of one site each ride inside the id.",
            ) from error

    def recall(self, uuid: str) -> str | None:
        return self.kept.recall(uuid)


def _with_near(reply: Reply, plan: Plan) -> Reply:
    """The reply, with the sites that were near enough: a list of RFC 9651, times in milliseconds, ages in seconds."""
    if not plan.near:
        return reply
    listed = ", ".join(
        f"{near.site};ms={near.round_trip.us / 1000:.1f};age={near.round_trip.age:.1f}" for near in plan.near
    )
    return replace(reply, headers=(*reply.headers, (AROUND, listed.encode())))


def _document(document: dict[str, Any]) -> Reply:
    body = json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n"
    headers = ((b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()))
    return Reply(status=200, headers=headers, body=_once(body))


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
