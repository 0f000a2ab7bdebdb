"""Which peers a site has, and what somebody should mend."""

from typing import Any

import pytest

from cheops.config import Site
from cheops.sites.effective import complaints, seeds_of, with_members
from cheops.sites.message import Message, decoded
from cheops.sites.roll import Member, Roll, Standing
from values import SHOP, site_of


def listed(learn: bool = True, **sites: int) -> Site:
    site = site_of(SHOP, "Site1", {"Site1": 1, **sites})
    mesh = site.settings.mesh.model_copy(update={"learn": learn})
    return Site(
        settings=site.settings.model_copy(update={"mesh": mesh}), application=site.application, folder=site.folder
    )


def member(name: str, number: int, **fields: Any) -> Member:
    return Member(**{"name": name, "number": number, "mesh": f"192.0.2.{number}:7443", "generation": 100, **fields})


def effective(site: Site, *members: Member) -> Site:
    return with_members(site, Roll.of(*members, *seeds_of(site)))


def peers(site: Site) -> dict[str, tuple[int, str]]:
    return {name: (peer.number, str(peer.mesh)) for name, peer in site.settings.peers.items()}


ME = member("Site1", 1)


def test_a_seed_says_what_site_yaml_says_and_is_weaker_than_what_the_peer_says() -> None:
    (seed,) = seeds_of(listed(Site2=2))
    assert seed == Member(name="Site2", number=2, mesh="10.0.0.2:7443", generation=0)
    said = member("Site2", 1, mesh="0.0.0.0:1", generation=1)
    assert Roll.of(seed, said)["Site2"] == Roll.of(said, seed)["Site2"] == said


def test_without_anything_heard_the_peers_are_those_of_site_yaml() -> None:
    site = listed(Site3=3, Site2=2)
    assert effective(site) == site
    assert complaints(site, Roll.of(*seeds_of(site))) == []


def test_who_is_heard_of_is_a_peer_too_after_those_that_are_listed() -> None:
    site = effective(listed(Site9=9), ME, member("Site3", 3), member("Site2", 2))
    assert list(peers(site)) == ["Site9", "Site2", "Site3"]
    assert peers(site)["Site2"] == (2, "192.0.2.2:7443")


def test_where_a_listed_peer_is_reached_site_yaml_says() -> None:
    """It may be behind another address for this site than for others; its number is its own to say."""
    site = listed(Site2=2)
    said = member("Site2", 7)
    assert peers(effective(site, said)) == {"Site2": (7, "10.0.0.2:7443")}
    assert complaints(site, Roll.of(said)) == ["site.yaml gives Site2 the number 2; it says itself that it has 7"]


def test_a_site_that_does_not_learn_has_the_listed_peers_alone() -> None:
    site = effective(listed(learn=False, Site2=2), ME, member("Site2", 2), member("Site3", 3))
    assert list(peers(site)) == ["Site2"]


def test_but_it_hears_who_has_departed() -> None:
    gone = member("Site3", 3, standing=Standing.REMOVED)
    assert effective(listed(learn=False, Site2=2), gone).departed == {"Site3"}


def test_a_seed_that_nobody_lists_any_more_is_no_peer() -> None:
    roll = Roll.of(*seeds_of(listed(Site2=2, Site3=3)))
    assert list(peers(with_members(listed(Site2=2), roll))) == ["Site2"]


def test_who_has_departed_is_no_peer_though_it_is_listed() -> None:
    site = listed(Site2=2, Site3=3)
    left, removed = member("Site2", 2, standing=Standing.LEFT), member("Site3", 3, standing=Standing.REMOVED)
    found = effective(site, left, removed)
    assert (peers(found), set(found.departed)) == ({}, {"Site2", "Site3"})
    assert complaints(site, Roll.of(left, removed)) == [
        "site.yaml lists Site2, which is no member any more (left); take it out",
        "site.yaml lists Site3, which is no member any more (removed); take it out",
    ]


def test_a_newer_certificate_lets_it_in_again() -> None:
    left = member("Site2", 2, standing=Standing.LEFT)
    found = effective(listed(), left, member("Site2", 2, generation=101))
    assert (list(peers(found)), found.departed) == (["Site2"], frozenset())


def test_of_two_sites_with_one_number_the_older_certificate_keeps_it() -> None:
    site, older, newer = listed(), member("Site3", 2, generation=50), member("Site2", 2, generation=51)
    assert list(peers(effective(site, older, newer))) == ["Site3"]
    assert complaints(site, Roll.of(older, newer)) == ["Site2 isn't used: its number is that of Site3"]


def test_nor_is_a_site_used_that_has_this_one_s_number() -> None:
    found = effective(listed(), ME, member("Site2", 1, generation=200))
    assert peers(found) == {}
    assert found.settings.number == 1


@pytest.mark.parametrize("mesh", ["a:b:80", "host:0", "host:99999", "[::x]:80", "[10.0.0.1]:1"])
def test_an_address_that_is_none_keeps_that_site_out_and_no_other(mesh: str) -> None:
    """What parse_address refuses a heartbeat may still say."""
    site, odd = listed(), member("Site2", 2, mesh=mesh)
    assert decoded(Message(sender=odd).encoded()).sender == odd
    assert list(peers(effective(site, odd, member("Site3", 3)))) == ["Site3"]
    assert complaints(site, Roll.of(odd)) == [f"Site2 isn't used: its mesh can't listen at '{mesh}'"]
    assert peers(effective(listed(Site2=2), odd)) == {"Site2": (2, "10.0.0.2:7443")}


def test_a_site_that_has_departed_itself_has_no_peers_and_shuts_nobody_out() -> None:
    site = listed(Site2=2)
    gone = member("Site1", 1, standing=Standing.REMOVED)
    found = effective(site, gone, member("Site3", 3))
    assert (peers(found), found.departed) == ({}, frozenset())
    assert complaints(site, Roll.of(gone)) == [
        "Site1 is no member of the deployment: it was removed; it needs a new certificate"
    ]
