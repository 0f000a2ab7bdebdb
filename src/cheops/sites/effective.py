"""Which peers a site has: those that its site.yaml lists, and those that it has heard of. Pure."""

from collections.abc import Iterator

from cheops.config import Address, Peer, Site, parse_address
from cheops.sites.roll import Member, Roll, Standing

_DEPARTED = {Standing.LEFT: "has left", Standing.REMOVED: "was removed"}


def seeds_of(listed: Site) -> tuple[Member, ...]:
    """The peers of a site.yaml, as records that are weaker than anything the peers say themselves."""
    return tuple(
        Member(name=name, number=peer.number, mesh=str(peer.mesh), generation=0)
        for name, peer in listed.settings.peers.items()
    )


def with_members(listed: Site, roll: Roll) -> Site:
    """The site with the peers it has. Where a listed peer is reached is what site.yaml says."""
    departed = {name for name, member in roll.items() if member.departed}
    peers = dict(_peers(listed, roll)) if listed.name not in departed else {}
    return listed.with_peers(peers, departed - {listed.name})


def _peers(listed: Site, roll: Roll) -> Iterator[tuple[str, Peer]]:
    """The listed ones first, in their order."""
    known, there = listed.settings.peers, roll.usable
    heard = sorted(name for name, member in there.items() if not member.is_seed and listed.settings.mesh.learn)
    for name in dict.fromkeys([*known, *heard]):
        if name in there and name != listed.name:
            mesh = known[name].mesh if name in known else _address(there[name])
            if mesh:
                yield name, Peer(number=there[name].number, mesh=mesh)


def _address(member: Member) -> Address | None:
    """Where it says that its mesh listens; a peer's word is never trusted to have the right form."""
    try:
        return parse_address(member.mesh)
    except ValueError:
        return None


def complaints(listed: Site, roll: Roll) -> list[str]:
    """What somebody should mend."""
    own, known = roll.get(listed.name), listed.settings.peers
    told = []
    if own and own.departed:
        what = _DEPARTED[own.standing]
        told.append(f"{listed.name} is no member of the deployment: it {what}; it needs a new certificate")
    for name, peer in known.items():
        member = roll.get(name)
        if member and member.departed:
            told.append(f"site.yaml lists {name}, which is no member any more ({member.standing.value}); take it out")
        elif member and member.number != peer.number:
            told.append(f"site.yaml gives {name} the number {peer.number}; it says itself that it has {member.number}")
    odd = {name: member.mesh for name, member in roll.usable.items() if name not in known and not _address(member)}
    told += [f"{name} isn't used: its mesh can't listen at '{mesh}'" for name, mesh in odd.items()]
    told += [f"{name} isn't used: its number is that of {holder}" for name, holder in roll.clashes.items()]
    return told
