"""What a site knows of the others, as somebody says: the twin of beating.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cheops.model import Distances, PeerState, PeerView


@dataclass
class PeersInMemory:
    """By peer how it is, and by centre how far the sites are from it."""

    states: dict[str, PeerState] = field(default_factory=dict)
    near: dict[str, Distances] = field(default_factory=dict)

    def peers(self) -> Mapping[str, PeerView]:
        return {name: PeerView(state=state, since=0.0) for name, state in self.states.items()}

    async def distances(self, centre: str) -> Distances | None:
        return self.near.get(centre)
