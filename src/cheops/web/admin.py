"""The admin API, on loopback: is the site well, what is it made of, what does a scope mean here."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import FastAPI, HTTPException, Query, Request, Response
from pydantic import BaseModel

from cheops import __version__
from cheops.config import Peer, Site
from cheops.errors import CheopsError
from cheops.model import PeerView, RoundTrip
from cheops.scope import Names, ScopeError, canonical, parse


class Health(BaseModel):
    """Whether the agent lives; it does if it answers."""

    status: str = "alive"
    version: str = __version__


class Readiness(BaseModel):
    """Whether the site serves: `reasons` says why not, `warnings` what waits for somebody."""

    ready: bool
    reasons: list[str] = []
    warnings: list[str] = []


class ServiceOfSite(BaseModel):
    front: str
    backend: str
    aliases: list[str]


class PeerOfSite(BaseModel):
    number: int
    mesh: str
    reachable: bool


class SiteDescription(BaseModel):
    site: str
    number: int
    application: str
    services: dict[str, ServiceOfSite]
    peers: dict[str, PeerOfSite]


class RoundTripOfPeer(BaseModel):
    """In milliseconds, smoothed; `age` is in seconds."""

    ms: float
    spread_ms: float
    age: float


class PeerNow(BaseModel):
    """How a peer is, for `since` seconds; `clock_offset` is how far its clock is ahead, in seconds."""

    site: str
    number: int
    mesh: str
    state: str
    since: float
    round_trip: RoundTripOfPeer | None
    incarnation: str
    version: str
    clock_offset: float | None
    agent_away: bool
    note: str


class SitesNow(BaseModel):
    site: str
    incarnation: str
    version: str = __version__
    peers: list[PeerNow]


class Removal(BaseModel):
    """`force`: although the site is up."""

    force: bool = False


class Done(BaseModel):
    done: str


class ScopeMeaning(BaseModel):
    """A scope that is understood: its canonical text with the services under their types."""

    canonical: str


class ScopeMistake(BaseModel):
    """A scope that isn't, with the place of the mistake (`column` counts from 1)."""

    message: str
    hint: str
    column: int
    caret: str


class Membership(Protocol):
    """Who takes part, and how they are. `leave` and `remove` raise CheopsError."""

    @property
    def incarnation(self) -> str: ...

    def peers(self) -> Mapping[str, PeerView]: ...

    def leave(self) -> None: ...

    def remove(self, name: str, *, force: bool) -> None: ...


@dataclass(frozen=True, kw_only=True)
class SiteState:
    """What the admin API asks the agent for."""

    site: Callable[[], Site]
    reasons: Callable[[], Awaitable[list[str]]]
    warnings: Callable[[], list[str]]
    peers: Callable[[], Awaitable[dict[str, bool]]]
    membership: Membership


def admin_api(state: SiteState) -> FastAPI:
    """The ASGI application of the admin API, with OpenAPI at /openapi.json and /docs."""
    app = FastAPI(title="Cheops admin API", version=__version__, docs_url="/docs", redoc_url=None)

    @app.get("/healthz")
    async def healthz() -> Health:
        return Health()

    @app.get("/readyz", responses={503: {"model": Readiness}})
    async def readyz(response: Response) -> Readiness:
        reasons = await state.reasons()
        response.status_code = 503 if reasons else 200
        return Readiness(ready=not reasons, reasons=reasons, warnings=state.warnings())

    @app.get("/site")
    async def site() -> SiteDescription:
        return describe(state.site(), await state.peers())

    @app.get("/sites")
    async def sites() -> SitesNow:
        """The other sites, as this one finds them."""
        here, found = state.site(), state.membership.peers()
        known = {name: found[name] for name in here.settings.peers if name in found}
        peers = [_peer_now(name, here.settings.peers[name], view) for name, view in known.items()]
        return SitesNow(site=here.name, incarnation=state.membership.incarnation, peers=peers)

    @app.post("/leave", responses=_REFUSED)
    async def leave(response: Response) -> Done:
        """This site leaves the deployment; its peers are told."""
        state.membership.leave()
        return Done(done=f"{state.site().name} leaves; its agent can be stopped in a few seconds")

    @app.post("/sites/{name}/remove", responses=_REFUSED)
    async def remove(name: str, removal: Removal) -> Done:
        """A site that won't come back is no member any more; every other site will hear of it."""
        state.membership.remove(name, force=removal.force)
        return Done(done=f"{name} is removed; to come back it needs a new certificate")

    @app.exception_handler(CheopsError)
    async def refused(_: Request, error: CheopsError) -> Response:
        return Response(error.body(), status_code=error.status, media_type="application/problem+json")

    @app.get("/scope", responses={400: {"model": ScopeMistake}, 404: {"description": "there is no such service"}})
    async def scope(
        response: Response, text: str = Query(description="a scope"), service: str | None = Query(default=None)
    ) -> ScopeMeaning | ScopeMistake:
        names = names_of(state.site())
        words = {word for name, aliases in names.services.items() for word in (name, *aliases)}
        if service is not None and service.lower() not in words:
            known = ", ".join(names.services)
            raise HTTPException(404, f"there is no service '{service}' here; there are: {known}")
        try:
            return ScopeMeaning(canonical=canonical(names.resolve(parse(text), for_service=service)))
        except ScopeError as error:
            response.status_code = 400
            return ScopeMistake(message=error.message, hint=error.hint, column=error.column, caret=error.caret())

    return app


_REFUSED: dict[int | str, dict[str, Any]] = {400: {"description": "a problem document (RFC 9457)"}}


def _peer_now(name: str, peer: Peer, view: PeerView) -> PeerNow:
    return PeerNow(
        site=name,
        number=peer.number,
        mesh=str(peer.mesh),
        state=view.state.value,
        since=round(view.since, 1),
        round_trip=_in_ms(view.round_trip) if view.round_trip else None,
        incarnation=view.incarnation,
        version=view.version,
        clock_offset=view.clock_offset,
        agent_away=view.agent_away,
        note="; ".join(filter(None, ("its agent doesn't run" if view.agent_away else "", view.note))),
    )


def _in_ms(trip: RoundTrip) -> RoundTripOfPeer:
    ms, spread_ms = (round(us / 1000, 3) for us in (trip.us, trip.spread_us))
    return RoundTripOfPeer(ms=ms, spread_ms=spread_ms, age=round(trip.age, 1))


def names_of(site: Site) -> Names:
    """The names that a scope may use on this site."""
    return Names(services=site.application.aliases, sites=site.site_names)


def describe(site: Site, reachable: dict[str, bool]) -> SiteDescription:
    services: dict[str, Any] = {
        name: ServiceOfSite(
            front=str(front.front),
            backend=str(front.backend),
            aliases=list(site.application.services[name].aliases),
        )
        for name, front in site.settings.services.items()
    }
    peers = {
        name: PeerOfSite(number=peer.number, mesh=str(peer.mesh), reachable=reachable.get(name, False))
        for name, peer in site.settings.peers.items()
    }
    return SiteDescription(
        site=site.name,
        number=site.settings.number,
        application=site.application.application,
        services=services,
        peers=peers,
    )
