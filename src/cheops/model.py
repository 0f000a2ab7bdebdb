"""The words of the design as values: what the stages hand to each other.

Headers are a tuple of pairs, never a mapping: HTTP allows a name twice and gives the order a meaning.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from cheops.scope import Names

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
    """A resolved scope: the one site of each service it names. What it doesn't name is local where the call is made."""

    site_of: Mapping[str, str]

    def text(self) -> str:
        """The canonical text of the scope."""
        return "{" + ", ".join(f"{service}: {site}" for service, site in self.site_of.items()) + "}"


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
