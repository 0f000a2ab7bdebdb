"""Requests from site to site inside one process: the twin of http.py, with links that can be cut. Keeps what was sent.

What Envoy answers in a service's place, this answers in the same words. Not promised: time; nothing here takes any.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from cheops.errors import AgentAway, Refused, SiteUnreachable
from cheops.intercept.envoy.names import EXECUTED, PASSED, SERVED_BY
from cheops.model import Reply, Request
from cheops.ports import BLOBS, Blobs, KeptScopes

Handler = Callable[[Request], Awaitable[Reply]]
"""A service: what it answers to a request."""
Agent = Callable[[str, str, bytes | None], Awaitable[bytes]]
"""An agent's mesh API: who asks, the path, the body."""
Fetched = Callable[[str, str, int], AsyncGenerator[bytes, None]]
"""What an agent gives as it comes: who asks, the path, the byte to begin with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """A request that `origin` has sent to the request's service on `site`, whether it arrived or not."""

    origin: str
    site: str
    request: Request


class Network:
    """What stands on the sites, by (site, service) and by site, and the links between them."""

    def __init__(self) -> None:
        self.services: dict[tuple[str, str], Handler] = {}
        self.kept: dict[str, KeptScopes] = {}
        self.agents: dict[str, Agent] = {}
        self.fetched: dict[str, Fetched] = {}
        self.doors: dict[str, Handler] = {}
        self.sent: list[Sent] = []
        self._cut: set[frozenset[str]] = set()

    def cut(self, one: str, other: str) -> None:
        """From now on nothing passes between the two."""
        self._cut.add(frozenset((one, other)))

    def heal(self, one: str, other: str) -> None:
        """The opposite of cut."""
        self._cut.discard(frozenset((one, other)))

    def joins(self, one: str, other: str) -> bool:
        """Whether anything passes between the two; a site always reaches itself."""
        return one == other or frozenset((one, other)) not in self._cut


class MemoryTransport:
    """One site's way to the services and agents of a network."""

    def __init__(self, here: str, network: Network) -> None:
        self._here, self._network = here, network

    async def send(self, request: Request, *, site: str, door: bool = False) -> Reply:
        """The reply of the request's service on `site`, or what Envoy would answer in its place."""
        self._network.sent.append(Sent(origin=self._here, site=site, request=request))
        if not self._joined(site):
            sentence = f"The site {site} can't be reached from {self._here}."
            return _problem(503, "unreachable", sentence, site, executed="no")
        service = self._network.doors.get(site) if door else self._network.services.get((site, request.service))
        if service is None:
            return _problem(404, "no-such-service", f"The site {site} doesn't run this service.", site, executed="no")
        reply = await service(request)
        if (
            reply.status == 404
            and not request.values(PASSED.encode())
            and request.method in ("GET", "HEAD")
            and site != self._here
            and site in self._network.doors
        ):
            reply = await self._network.doors[site](request)  # as a mesh has it: what misses goes to the agent there
        if not self._joined(site):
            sentence = f"The site {site} can't be reached from {self._here}."
            return _problem(503, "broken-off", sentence, site, executed="unknown")
        served_by = (SERVED_BY.encode(), site.encode())
        return replace(reply, headers=(*reply.headers, served_by), body=self._while_joined(reply.body, site))

    async def recall(self, uuid: str, *, site: str) -> str | None:
        """The scope that the agent of `site` keeps under `uuid`. Raises SiteUnreachable."""
        if not self._joined(site) or site not in self._network.kept:
            why = "can't be asked: it answered 503"
            raise SiteUnreachable(f"the scope of this workflow is kept by {site}, which {why}", site=site)
        return self._network.kept[site].recall(uuid)

    async def ask(self, path: str, *, site: str, body: bytes | None = None, seconds: float = 5) -> bytes:
        """What the agent of `site` answers, if anything in this network does. Raises SiteUnreachable, AgentAway."""
        self._check_agent(site, site in self._network.agents)
        return await self._network.agents[site](self._here, path, body)

    async def fetch(self, path: str, *, site: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """What the agent of `site` gives, if anything in this network does. Raises SiteUnreachable, AgentAway."""
        self._check_agent(site, site in self._network.fetched)
        async with aclosing(self._network.fetched[site](self._here, path, offset)) as body:
            async for chunk in body:
                self._check_agent(site, there=True)
                yield chunk

    def _check_agent(self, site: str, there: bool) -> None:
        if not self._joined(site):
            raise SiteUnreachable(
                f"the agent of {site} can't be asked: the link is cut", site=site, why="the link is cut"
            )
        if not there:
            raise AgentAway(f"the agent of {site} can't be asked: it doesn't run", site=site, why="it doesn't run")

    def _joined(self, site: str) -> bool:
        return self._network.joins(self._here, site)

    async def _while_joined(self, body: AsyncGenerator[bytes, None], site: str) -> AsyncGenerator[bytes, None]:
        async with aclosing(body):
            async for chunk in body:
                if not self._joined(site):
                    raise SiteUnreachable(f"{site} broke off in the middle of its reply: the link is cut", site=site)
                yield chunk


def blobs_of(blobs: Blobs, site: str) -> Fetched:
    """What the mesh API of `site` gives of its blobs; it refuses as web/mesh.py does."""

    async def fetched(_: str, path: str, offset: int) -> AsyncGenerator[bytes, None]:
        sha256 = path.removeprefix(BLOBS)
        size = blobs.size(sha256)
        if size is None or 0 < offset >= size:
            status = 404 if size is None else 416
            raise Refused(f"the agent of {site} answered {status}", site=site, answer=status)
        async with aclosing(blobs.read(sha256, offset)) as body:
            async for chunk in body:
                yield chunk

    return fetched


def _problem(status: int, code: str, detail: str, site: str, *, executed: str) -> Reply:
    document = {"type": f"urn:cheops:{code}", "status": status, "detail": detail, "site": site, "code": code}
    headers = ((b"content-type", b"application/problem+json"), (EXECUTED.encode(), executed.encode()))
    return Reply(status=status, headers=headers, body=_once(document))


async def _once(document: dict[str, object]) -> AsyncGenerator[bytes, None]:
    yield json.dumps(document, ensure_ascii=False).encode() + b"\n"
