"""What the core needs from outside. Each protocol says which errors it raises; stores and transports hold engines."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cheops.model import Distances, Headers, PeerView, Reply, Request
from cheops.record.operation import Body, Dot, Item, Operation, Outcome, State
from cheops.record.resource import Named, Summary
from cheops.record.stamp import Stamp

HEARTBEAT = "/~cheops/heartbeat"  # what agents ask each other; Envoy doesn't log it
DISTANCES = "/distances"
LOG = "/log"
HOLDERS = "/holders"
ALONE = "cheops-alone"  # of a read that an agent sends: the service there is meant, and what it lacks stays missing
CONTENT = "/content"
COMMAND = "/command"
BLOBS = "/blobs/"  # and the SHA-256 of one


class Transport(Protocol):
    """Carries requests to services."""

    async def send(self, request: Request, *, site: str, door: bool = False) -> Reply:
        """The reply of the request's service on `site`, as soon as its headers are there; `door`: of its agent, as if
        the request had come to that site's front.

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

    def fetch(self, path: str, *, site: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """The bytes that the agent of `site` has at a path, from an offset on. Raises what `ask` raises, also if
        nothing comes for a while.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Dossier:
    """All that is known here of a resource. `revision` counts up whenever anything of it is added."""

    summary: Summary
    operations: tuple[Operation, ...]
    outcomes: tuple[Outcome, ...]
    revision: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """An item, and the peers that are to be told of it."""

    item: Item
    peers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """How far this site has read what `peer` tells it: `store` is the peer's store, whose positions these are."""

    peer: str
    store: str
    position: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What becomes durable in one step, or not at all. `due`: when (seconds since 1970) something is to be done for a
    resource; None: nothing any more. `fresh` are operations of this site's own that must not be there yet.
    """

    told: tuple[Told, ...] = ()
    summaries: tuple[Summary, ...] = ()
    due: Mapping[str, float | None] = field(default_factory=dict)
    cursor: Cursor | None = None
    fresh: frozenset[tuple[str, Dot]] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A resource that one agent alone works on, until its lease ends; `revision` is that of the resource then."""

    rid: str
    owner: str
    until: float
    revision: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Fed:
    """What a peer is to be told, in order: (position, item)."""

    items: tuple[tuple[int, Item], ...]
    more: bool


class LogStore(Protocol):
    """The operation log of a site, on disk. What a call has returned from is durable.

    All methods raise StoreFailed, whose `retry` says whether trying again helps (a full disk, a database that is away).
    Several agents of a site may share one store.
    """

    store: str
    """Names this store; another one, also an empty one in its place, has another name."""
    born: float
    """When it was made, in seconds since 1970."""

    async def write(self, changes: Changes) -> Mapping[str, int]:
        """All of it or nothing; gives where the feeds of the peers that are told something end then.

        An operation that is there already is left as it is; an outcome takes the place of one with a lower version (of
        the same site and operation); summaries take the place of those before. Whatever names a resource (rid, chosen
        id, local ids of outcomes) can be found from then on, and so can who refers to it.
        Items go to their peers' feeds in this order, also if they were there before.

        A resource's revision counts up with each write that has an operation of it which wasn't there, or `due`.
        Raises Taken if an operation of `fresh` is there already.
        """
        ...

    async def read(self, rid: str) -> Dossier | None:
        """All of a resource, operations in the order in which they came."""
        ...

    async def read_all(self, rids: Collection[str]) -> Mapping[str, Dossier]:
        """The same of many at once, without those that aren't there."""
        ...

    async def find(self, values: Collection[str], service: str | None = None) -> Sequence[Named]:
        """What these values name, also of what is gone."""
        ...

    async def names(self, most: int) -> frozenset[str] | None:
        """All values that name something; None if there are more than `most`, or some that can't be told."""
        ...

    async def referring(self, rid: str) -> Sequence[Summary]:
        """The resources that refer to this one, or are inside of it, and aren't gone."""
        ...

    async def claim(self, owner: str, now: float, until: float, limit: int) -> Sequence[Claim]:
        """Up to `limit` resources that are due and that nobody has claimed (any more), earliest first."""
        ...

    async def claim_one(self, rid: str, owner: str, now: float, until: float) -> Claim | None:
        """This resource, due or not; None while somebody else has claimed it."""
        ...

    async def renew(self, claim: Claim, until: float) -> bool:
        """Whether the claim was still held, and goes on."""
        ...

    async def release(self, claim: Claim, due: float | None) -> None:
        """Ends a claim; `due` is when the resource is due again. If its revision has changed since, what the write said
        holds, or else it is due at once.
        """
        ...

    async def feed(self, peer: str, after: int, limit: int) -> Fed:
        """What the peer is to be told after this position, at most `limit` items."""
        ...

    async def heads(self, peers: Collection[str]) -> Mapping[str, int]:
        """The last position of each peer's feed; 0 if it was never told anything."""
        ...

    async def heard(self, peer: str, position: int, store: str) -> bool:
        """Notes that the peer has all up to this position, in its store of this name; that needn't be kept any more.
        False if the peer was last known to write to another store: it has lost what it had.
        """
        ...

    async def cursor(self, peer: str) -> Cursor | None:
        """How far this site has read what the peer tells."""
        ...

    async def summaries(self, *, after: str = "", limit: int = 100, service: str | None = None) -> Sequence[Summary]:
        """Resources by rid, those that are gone too."""
        ...

    async def wholes(self) -> Sequence[Summary]:
        """The resources that span sites and aren't gone."""
        ...

    async def outcomes(
        self, states: Collection[State], *, after: tuple[str, Dot, str] | None = None, limit: int = 100
    ) -> Sequence[Outcome]:
        """Outcomes in any of these states, in the order of (rid, dot, site)."""
        ...

    async def counts(self) -> Mapping[tuple[str, State], tuple[int, float]]:
        """For each (site, state): how many outcomes there are, and the oldest `since` of them (`at` if that is 0)."""
        ...

    async def newest_stamp(self) -> Stamp:
        """The newest stamp of an operation of this store's own; (0, 0) if there is none."""
        ...

    async def prune(self, rid: str, dots: Collection[Dot]) -> None:
        """Forgets the requests of these operations; that they were there is kept."""
        ...

    async def blob_users(self, sha256: str) -> int:
        """How many operations there are whose body is this one and wasn't released."""
        ...

    async def release_blob(self, rid: str, dot: Dot) -> None:
        """The body of this operation isn't needed any more."""
        ...

    async def services(self) -> frozenset[str]:
        """The services that have resources which aren't gone."""
        ...


class Blobs(Protocol):
    """Large bodies, kept once each by their SHA-256 in hex. All methods raise StoreFailed."""

    async def keep(self, body: AsyncGenerator[bytes, None]) -> Body:
        """Reads all of it; a small one comes back inline, a larger one is on disk once this returns."""
        ...

    def has(self, sha256: str) -> bool: ...

    def size(self, sha256: str) -> int | None:
        """How many bytes it has; None if it isn't there."""
        ...

    def read(self, sha256: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Its bytes from `offset` on. Raises StoreFailed if it isn't there."""
        ...

    async def fetch(self, body: Body, source: Callable[[int], AsyncGenerator[bytes, None]]) -> None:
        """Fetches one from `source`, which gives the bytes from an offset on; goes on where the last try broke off.
        Raises BlobDamaged if what came isn't what was asked for, and what `source` raises.
        """
        ...

    def drop(self, sha256: str) -> None:
        """Forgets it; also one that isn't there."""
        ...


class Credentials(Protocol):
    """What this site itself shows to its services, when an operation is executed later than it was requested."""

    async def headers(self, service: str) -> Headers | None:
        """None if nothing is configured. Raises CredentialsFailed."""
        ...

    def refused(self, service: str) -> None:
        """The service has answered 401 to them: they are to be made anew."""
        ...
