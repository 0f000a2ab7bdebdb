"""The admin API, on loopback: is the site well, what is it made of, what does a scope mean here."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, HTTPException, Query, Response
from pydantic import BaseModel

from cheops import __version__
from cheops.config import Site
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


class ScopeMeaning(BaseModel):
    """A scope that is understood: its canonical text with the services under their types."""

    canonical: str


class ScopeMistake(BaseModel):
    """A scope that isn't, with the place of the mistake (`column` counts from 1)."""

    message: str
    hint: str
    column: int
    caret: str


@dataclass(frozen=True, kw_only=True)
class SiteState:
    """What the admin API asks the agent for."""

    site: Callable[[], Site]
    reasons: Callable[[], Awaitable[list[str]]]
    warnings: Callable[[], list[str]]
    peers: Callable[[], Awaitable[dict[str, bool]]]


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
