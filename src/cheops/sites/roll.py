"""Who is a member of the deployment, as far as one site has heard. Pure.

A roll holds one record a site. Of two records of a site the later one holds, and which is later depends on nothing
but the two: so rolls can be merged in any order, as often as one likes, and sites that have heard the same agree (a
join-semilattice; Shapiro et al., "Conflict-free replicated data types", SSS 2011).

Whoever departed, departed for good with that certificate: to come back a site needs one that the authority issued
later. Records of the departed are therefore kept for ever; they are some 90 bytes each. Not promised: that a record
is true. Each site of a deployment is believed in what it tells of the others.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property, lru_cache
from hashlib import blake2b


class Standing(Enum):
    """Whether a site takes part. LEFT: it said so itself. REMOVED: somebody else did."""

    MEMBER = "member"
    LEFT = "left"
    REMOVED = "removed"


SPANS = "%"  # ends a marked name in `managed`. No service's own name has it, so version N-1 skips such a word.


def marked(service: str) -> str:
    """The word by which a site says that the service has resources that span sites."""
    return service + SPANS


def spanned_of(words: Iterable[str]) -> frozenset[str]:
    """The services of which that is said."""
    return frozenset(word.removesuffix(SPANS) for word in words if word.endswith(SPANS))


_WEIGHT = {Standing.MEMBER: 0, Standing.LEFT: 1, Standing.REMOVED: 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A record of a site: its number, and where its mesh listens ("host:port").

    `generation` is when the authority issued the site's certificate, in seconds of the authority's clock; 0 stands for
    what a site.yaml says of a peer, which is weaker than anything that the peer says. `revision` is raised by the site
    itself when it has something new to say under the same certificate. `managed` are the services that have replicated
    resources there; of those that have some that span sites, the marked name is among them too.
    """

    name: str
    number: int
    mesh: str
    generation: int
    revision: int = 0
    standing: Standing = Standing.MEMBER
    managed: tuple[str, ...] = ()

    @property
    def departed(self) -> bool:
        return self.standing is not Standing.MEMBER

    @property
    def is_seed(self) -> bool:
        """Whether only a site.yaml says so."""
        return self.generation == 0

    def order(self) -> tuple[int | str, ...]:
        """What decides between two records of a site: certificate, departure, revision; the rest breaks ties."""
        return self.generation, _WEIGHT[self.standing], self.revision, self.number, self.mesh, *self.managed

    def become(self, standing: Standing) -> "Member":
        return replace(self, standing=standing)


def later(one: Member, other: Member) -> Member:
    """Of two records of the same site, the one that holds."""
    return one if one.order() >= other.order() else other


@lru_cache(maxsize=4096)
def _fingerprint(member: Member) -> int:
    text = repr((member.name, *member.order())).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


@dataclass(frozen=True)
class Roll(Mapping[str, Member]):
    """The record of each site heard of, by name; those that departed are among them."""

    records: Mapping[str, Member] = field(default_factory=dict)
    fingerprint: int = 0

    @classmethod
    def of(cls, *members: Member) -> "Roll":
        return cls().merged(*members)

    def __getitem__(self, name: str) -> Member:
        return self.records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def news(self, *members: Member) -> list[Member]:
        """Those of the records that this roll doesn't hold and that would hold in it."""
        news: dict[str, Member] = {}
        for member in members:
            known = news.get(member.name) or self.records.get(member.name)
            if known is None or member.order() > known.order():
                news[member.name] = member
        return list(news.values())

    def merged(self, *members: Member) -> "Roll":
        """The roll once these records have been heard too; the roll itself if they change nothing."""
        news = self.news(*members)
        if not news:
            return self
        fingerprint = self.fingerprint
        for member in news:
            fingerprint ^= self._share(self.records.get(member.name)) ^ self._share(member)
        return Roll({**self.records, **{member.name: member for member in news}}, fingerprint)

    @staticmethod
    def _share(member: Member | None) -> int:
        return 0 if member is None or member.is_seed else _fingerprint(member)

    @property
    def digest(self) -> str:
        """Equal for equal rolls, and else different but for a chance of 2**-64; seeds don't count.

        It is the exclusive or of the records' hashes, so a change costs no more in a long roll than in a short one.
        """
        return f"{self.fingerprint:016x}"

    @cached_property
    def told(self) -> tuple[Member, ...]:
        """What other sites are told: all but the seeds."""
        return tuple(member for member in self.records.values() if not member.is_seed)

    @cached_property
    def members(self) -> Mapping[str, Member]:
        """Those present, by name."""
        return {name: member for name, member in self.records.items() if not member.departed}

    @cached_property
    def clashes(self) -> Mapping[str, str]:
        """The members that claim a number of another's, and whose it is: that of the older certificate keeps it."""
        holders: dict[int, str] = {}
        clashes = {}
        for member in sorted(self.members.values(), key=lambda member: (member.generation, member.name)):
            holder = holders.setdefault(member.number, member.name)
            if holder != member.name:
                clashes[member.name] = holder
        return clashes

    @cached_property
    def usable(self) -> Mapping[str, Member]:
        """The members whose numbers are theirs alone: those that a scope may name."""
        return {name: member for name, member in self.members.items() if name not in self.clashes}


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """What a site knows again after a restart. `incarnation` is made with the site's data: one that comes back with
    another has lost it.
    """

    incarnation: str
    roll: Roll
