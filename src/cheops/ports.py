"""What the core needs from outside. Each protocol says which errors it raises; stores and transports hold engines."""

from collections.abc import Mapping
from typing import Protocol

from cheops.model import Distances, PeerView, Reply, Request

HEARTBEAT = "/~cheops/heartbeat"  # what agents ask each other; Envoy doesn't log it
DISTANCES = "/distances"


class Transport(Protocol):
    """Carries requests to services."""

    async def send(self, request: Request, *, site: str) -> Reply:
        """The reply of the request's service on `site`, as soon as its headers are there.

        Raises SiteUnreachable when the data plane can't be reached; its member `executed` is "no" if nothing was sent.
        What Envoy answers in a service's place is a reply with the header Cheops-Executed, "no" or "unknown".
        """
        ...

    async def recall(self, uuid: str, *, site: str) -> str | None:
        """The text of the scope that the agent of `site` keeps under `uuid`; None if it keeps none.

        Raises SiteUnreachable when that agent doesn't answer.
        """
        ...

    async def ask(self, path: str, *, site: str, body: bytes | None = None, seconds: float = 5) -> bytes:
        """What the agent of `site` answers to a GET, or to a POST with this body.

        Raises SiteUnreachable; AgentAway, which is one, if the site is there but its agent isn't; and Refused for an
        answer that isn't 200, with its status.
        """
        ...


class Peers(Protocol):
    """What this site knows of the others."""

    def peers(self) -> Mapping[str, PeerView]:
        """How they are now."""
        ...

    async def distances(self, centre: str) -> Distances | None:
        """How far the sites are from `centre`, as it says itself, else as it said last; None if nothing is known."""
        ...


class KeptScopes(Protocol):
    """The scopes too long for a request id, kept by the agent that met them first, for a day."""

    def keep(self, uuid: str, text: str) -> None:
        """Keeps it so that it outlives the agent; returns when it is on disk. Raises OSError."""
        ...

    def recall(self, uuid: str) -> str | None:
        """The text of the scope, or None when it isn't kept (any more)."""
        ...
