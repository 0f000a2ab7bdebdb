"""The words of the design as values: what the stages hand to each other.

Headers are a tuple of pairs, never a mapping: HTTP allows a name twice and gives the order a meaning.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from cheops.scope import Location, Names, SiteName, canonical

Headers = tuple[tuple[bytes, bytes], ...]
"""(name in lower case, value), in the order of the wire."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request as it stood on the wire: `target` is the path and query, byte for byte; `body` can be read once."""

    service: str
    method: str
    target: bytes
    headers: Headers
    body: AsyncGenerator[bytes, None] | None = None

    def __post_init__(self) -> None:
        if not self.target.startswith(b"/") and self.target != b"*":
            raise ValueError(f"a target begins with '/': {self.target!r}")

    def values(self, name: bytes) -> list[bytes]:
        """The values of a header, whose name is given in lower case."""
        return [value for key, value in self.headers if key == name]

    def with_header(self, name: bytes, value: bytes) -> "Request":
        """The same request with this header once, where it first stood or else at the end."""
        headers, written = [], False
        for key, old in self.headers:
            if key != name:
                headers.append((key, old))
            elif not written:
                headers.append((name, value))
                written = True
        return replace(self, headers=(*headers, *(() if written else ((name, value),))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A reply as it comes from the wire; `body` can be read once, and closing it gives up the rest."""

    status: int
    headers: Headers
    body: AsyncGenerator[bytes, None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A resolved scope: where each service that it names is to be called, which is one site, or a location that is
    decided when the service is called. What it doesn't name is local where the call is made.
    """

    location_of: Mapping[str, Location]

    @classmethod
    def to(cls, site_of: Mapping[str, str]) -> "Resolved":
        """Each service at one site."""
        return cls(location_of={service: SiteName(name=site) for service, site in site_of.items()})

    @property
    def site_of(self) -> Mapping[str, str] | None:
        """The one site of each service; None if any is still to be decided."""
        sites = {name: place.name for name, place in self.location_of.items() if isinstance(place, SiteName)}
        return sites if len(sites) == len(self.location_of) else None

    def decided(self, service: str, site: str) -> "Resolved":
        """The same, once a service that it names is called at `site`."""
        if service not in self.location_of:
            return self
        return Resolved(location_of={**self.location_of, service: SiteName(name=site)})

    def text(self) -> str:
        """The canonical text of the scope."""
        return "{" + ", ".join(f"{service}: {canonical(place)}" for service, place in self.location_of.items()) + "}"


class PeerState(Enum):
    """How a peer is, as this site finds it: SUSPECT is a peer that doesn't answer, or hasn't been heard yet."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundTrip:
    """A measured round-trip time between two sites: smoothed, with its spread, in microseconds; `age` in seconds."""

    us: float
    spread_us: float
    age: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerView:
    """What a site knows of a peer. `since` is for how long it has been in this state, in seconds.

    `incarnation` is made anew when the peer's data is; `clock_offset` is how far its clock is ahead, in seconds;
    `agent_away`: its Envoy answers, its agent doesn't; `note` says what else a person should know.
    """

    state: PeerState
    since: float
    round_trip: RoundTrip | None = None
    incarnation: str = ""
    version: str = ""
    clock_offset: float | None = None
    agent_away: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distances:
    """The sites that are up as one site sees it, and how far they are from it. `age` of the answer is in seconds."""

    of: Mapping[str, RoundTrip]
    age: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What a site knows of itself and the others: `site` is its own name; numbers are those all sites agree on.

    `distances` are those from the sites that a scope may ask about, this one among them.
    """

    site: str
    names: Names
    site_numbers: Mapping[str, int]
    service_numbers: Mapping[str, int]
    peers: Mapping[str, PeerView] = field(default_factory=dict)
    distances: Mapping[str, Distances] = field(default_factory=dict)
