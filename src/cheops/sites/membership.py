"""A site's part in its deployment: what it says of itself, what it keeps on disk of the others, who comes and goes."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import Protocol

from cheops import __version__
from cheops.config import Site
from cheops.errors import BadRequest
from cheops.model import PeerView
from cheops.ports import Transport
from cheops.sites.beating import Beating, Clocks
from cheops.sites.effective import complaints, seeds_of, with_members
from cheops.sites.heart import Heart
from cheops.sites.message import MOST_MANAGED
from cheops.sites.roll import SPANS, Member, Remembered, Roll, spanned_of


class Rolls(Protocol):
    """Keeps a roll."""

    complaint: str
    """Why it couldn't be kept; empty while it can."""

    def recall(self) -> Remembered:
        """What was kept; else a new incarnation."""
        ...

    def keep(self, remembered: Remembered) -> None:
        """Keeps it, or says in `complaint` why it can't."""
        ...


class Membership:
    """The membership of the site that site.yaml lists as `listed`. `changed` is set when the roll has changed."""

    def __init__(self, listed: Site, transport: Transport, rolls: Rolls, clocks: Clocks | None = None) -> None:
        self._listed, self._rolls, self._clocks = listed, rolls, clocks or Clocks()
        self._remembered = rolls.recall()
        heart = Heart(
            _own_record(listed, self._remembered.roll.get(listed.name)),
            roll=self._remembered.roll.merged(*seeds_of(listed)),
            incarnation=self._remembered.incarnation,
            version=__version__,
            chance=Random().random,
            now=self._clocks.now(),
        )
        self.beating = Beating(heart, transport, self._keep, self._clocks)
        self.changed = asyncio.Event()

    def _keep(self, roll: Roll) -> None:
        self._remembered = replace(self._remembered, roll=roll)
        self._rolls.keep(self._remembered)
        self.changed.set()

    @property
    def _heart(self) -> Heart:
        return self.beating.heart

    @property
    def leaves(self) -> bool:
        """Whether this site is no member any more."""
        return self._heart.roll[self._listed.name].departed

    @property
    def incarnation(self) -> str:
        return self._remembered.incarnation

    def peers(self) -> Mapping[str, PeerView]:
        return self.beating.peers()

    def site(self, listed: Site | None = None) -> Site:
        """The site with the peers that it has, or would have with another site.yaml."""
        listed = listed or self._listed
        return replace(
            with_members(listed, self._roll(listed)),
            managed=listed.application.closely(self.managed),
            spanned=self.spanned.intersection(listed.application.services),
        )

    def complaints(self) -> list[str]:
        """What somebody should mend."""
        refused = (
            [f"peers refuse this site: {self.beating.refused}"] if self.beating.refused and not self.leaves else []
        )
        return [*filter(None, [self._rolls.complaint]), *complaints(self._listed, self._roll(self._listed)), *refused]

    def _roll(self, listed: Site) -> Roll:
        """What the sites say themselves, and what this site.yaml says of the others: one before it is forgotten."""
        return Roll.of(*self._heart.roll.told, *seeds_of(listed), self._heart.roll[listed.name])

    def list_anew(self, listed: Site) -> None:
        """Another site.yaml is in force."""
        self._listed = listed
        own = _own_record(listed, self._heart.me, self._heart.me.generation)
        self._heart.know(*seeds_of(listed), own, now=self._clocks.now())
        self.beating.look()

    @property
    def managed(self) -> frozenset[str]:
        """The services that have replicated resources at any member, as it said last."""
        return frozenset(word.removesuffix(SPANS) for word in self._words())

    @property
    def spanned(self) -> frozenset[str]:
        """Those among them that have some that span sites."""
        return spanned_of(self._words())

    def _words(self) -> Iterator[str]:
        return (word for member in self._heart.roll.members.values() for word in member.managed)

    def manages(self, services: frozenset[str]) -> None:
        """Says which services have replicated resources here; a marked name, that some of them span sites."""
        me, told = self._heart.me, tuple(sorted(services, key=_names_first)[:MOST_MANAGED])
        if me.managed != told:
            self._heart.know(replace(me, managed=told, revision=me.revision + 1), now=self._clocks.now())
            self.beating.look()

    def certified(self, issued: int) -> None:
        """The certificate's time of issue, in seconds; a newer one makes a member of a site that had left."""
        if issued > self._heart.me.generation:
            own = _own_record(self._listed, self._heart.roll.get(self._listed.name), issued)
            self._heart.know(own, now=self._clocks.now())
            self.beating.look()

    def leave(self) -> None:
        """Tells the peers that this site is no member any more. Raises BadRequest if it isn't one."""
        if self.leaves:
            raise BadRequest(f"{self._listed.name} is no member any more")
        self._heart.leave(self._clocks.now())
        self.beating.look()

    def remove(self, name: str, *, force: bool) -> None:
        """Declares that a site won't come back. Raises BadRequest."""
        if not force and name != self._listed.name and name in self._heart.roll.members:
            what = f"{name} hasn't left by itself"
            raise BadRequest(what, hint="If it won't come back, say --force; it will need a new certificate.")
        self._heart.remove(name, self._clocks.now())
        self.beating.look()


def _names_first(word: str) -> tuple[bool, str]:
    """What doesn't fit is cut off at the end; all agents read names."""
    return word.endswith(SPANS), word


def _own_record(listed: Site, known: Member | None, issued: int = 0) -> Member:
    """What the site says of itself; with a higher revision if that isn't what it said before."""
    number, mesh = listed.settings.number, str(listed.advertised)
    said = Member(name=listed.name, number=number, mesh=mesh, generation=issued)
    if known is None:
        return said
    if known.departed:
        return replace(said, managed=known.managed)
    same = (known.number, known.mesh) == (number, mesh)
    generation = max(issued, known.generation)
    return replace(said, revision=known.revision + (not same), generation=generation, managed=known.managed)
