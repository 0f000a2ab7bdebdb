"""Sites that come, leave, are removed and return; what each keeps, and what it says to whoever looks."""

import asyncio
from itertools import count
from pathlib import Path

import pytest

from cheops.config import Site, parse_address
from cheops.errors import BadRequest
from cheops.model import PeerState
from cheops.sites.message import MOST_MANAGED
from cheops.sites.roll import Remembered, marked
from cheops.stores.rolls import RollFile
from members import ISSUED, Mesh, listed, memory, up
from values import SHOP, application, site_of


def at(site: Site, mesh: str) -> Site:
    """The same site with its mesh elsewhere."""
    advertised = site.settings.mesh.model_copy(update={"advertise": parse_address(mesh)})
    return Site(settings=site.settings.model_copy(update={"mesh": advertised}), application=SHOP, folder=site.folder)


def test_the_peers_come_up() -> None:
    mesh = Mesh()

    async def story() -> None:
        one, _, _ = mesh.start_all()
        assert {view.state for view in one.peers().values()} == {PeerState.SUSPECT}
        await mesh.all_up()
        assert {view.incarnation for view in one.peers().values()} == {"data of Site2", "data of Site3"}
        assert one.complaints() == []

    mesh.run(story())


def test_who_is_not_listed_is_heard_of() -> None:
    """Site3 knows Site2 alone; Site1 hears of it, and the change is told."""
    mesh = Mesh()

    async def story() -> None:
        one, _ = mesh.start(listed("Site1", "Site2")), mesh.start(listed("Site2", "Site1"))
        await mesh.all_up()
        one.changed.clear()
        mesh.start(listed("Site3", "Site2"))
        await asyncio.wait_for(one.changed.wait(), 10)
        await mesh.all_up()
        assert list(one.site().settings.peers) == ["Site2", "Site3"]

    mesh.run(story())


def test_what_was_heard_is_known_again_after_a_restart(tmp_path: Path) -> None:
    mesh, made = Mesh(), count()
    rolls = RollFile(tmp_path / "sites.json", lambda: f"data {next(made)}")

    async def story() -> None:
        mesh.start(listed("Site1", "Site2"), rolls)
        mesh.start(listed("Site2", "Site1"))
        mesh.start(listed("Site3", "Site2"))
        await mesh.all_up()
        mesh.stop("Site1")
        again = mesh.start(site_of(SHOP, "Site1", {"Site1": 1}), rolls)
        assert list(again.site().settings.peers) == ["Site2", "Site3"]
        assert again.incarnation == "data 0"
        await mesh.all_up()

    mesh.run(story())


def test_a_site_that_leaves_says_so_and_is_no_peer_any_more() -> None:
    mesh = Mesh()

    async def story() -> None:
        one, two, three = mesh.start_all()
        await mesh.all_up()
        assert not three.leaves
        three.leave()
        assert three.leaves
        await mesh.until(lambda: {one.site().departed, two.site().departed} == {frozenset({"Site3"})})
        assert list(one.site().settings.peers) == ["Site2"]
        assert three.site().settings.peers == {}
        assert three.complaints()[0].startswith("Site3 is no member of the deployment: it has left;")
        with pytest.raises(BadRequest, match="Site3 is no member any more"):
            three.leave()

    mesh.run(story())


def test_it_stays_away_after_a_restart_with_the_same_certificate() -> None:
    mesh, rolls = Mesh(), memory("Site3")

    async def story() -> None:
        one, _ = mesh.start_all("Site1", "Site2")
        mesh.start(listed("Site3"), rolls)
        await mesh.all_up()
        mesh.members["Site3"].leave()
        await mesh.until(lambda: one.site().departed == {"Site3"})
        again = mesh.start(listed("Site3"), rolls)
        await asyncio.sleep(5)
        assert (again.leaves, set(one.site().departed)) == (True, {"Site3"})

    mesh.run(story())


def test_a_dead_site_is_removed_if_somebody_insists_and_returns_with_a_new_certificate() -> None:
    mesh = Mesh()

    async def story() -> None:
        one, two, three = mesh.start_all()
        await mesh.all_up()
        with pytest.raises(BadRequest, match="Site3 hasn't left by itself") as caught:
            one.remove("Site3", force=False)
        assert "--force" in caught.value.hint
        await asyncio.sleep(3)
        assert (one.site().departed, up(two)) == (frozenset(), 2)
        mesh.network.cut("Site1", "Site3")
        mesh.network.cut("Site2", "Site3")
        one.remove("Site3", force=True)
        await mesh.until(lambda: two.site().departed == {"Site3"})
        mesh.network.heal("Site1", "Site3")
        mesh.network.heal("Site2", "Site3")
        await mesh.until(lambda: any("refuse this site" in told for told in three.complaints()))
        assert "peers refuse this site: Site3 was removed" in three.complaints()
        mesh.issued["Site3"] = ISSUED + 1
        three.certified(ISSUED + 1)
        await mesh.until(lambda: (one.site().departed, two.site().departed) == (frozenset(), frozenset()))
        await mesh.all_up()
        await mesh.until(lambda: three.complaints() == [])

    mesh.run(story())


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize(
    ("name", "why", "hint"),
    [
        ("Site9", "it is no member", "`cheops sites`"),
        ("Site1", "this is the site itself", "`cheops site leave`"),
        ("", "it is no member", "`cheops sites`"),
    ],
)
def test_who_is_no_peer_cannot_be_removed(name: str, why: str, hint: str, force: bool) -> None:
    mesh = Mesh()

    async def story() -> None:
        (one,) = mesh.start_all("Site1")
        with pytest.raises(BadRequest, match=why) as caught:
            one.remove(name, force=force)
        assert caught.value.hint.startswith(hint)
        assert not one.leaves

    mesh.run(story())


def test_nor_is_one_removed_twice_or_before_anybody_saw_its_certificate() -> None:
    mesh = Mesh()

    async def story() -> None:
        one, _ = mesh.start_all("Site1", "Site2")
        with pytest.raises(BadRequest, match="Site3 can't be removed at Site1: its certificate hasn't been seen"):
            one.remove("Site3", force=True)
        await mesh.until(lambda: one.peers()["Site2"].incarnation != "")
        one.remove("Site2", force=True)
        with pytest.raises(BadRequest, match="Site2 can't be removed at Site1: it is no member"):
            one.remove("Site2", force=False)

    mesh.run(story())


def test_a_certificate_that_is_no_newer_changes_nothing() -> None:
    mesh = Mesh()

    async def story() -> None:
        one, _, _ = mesh.start_all()
        await mesh.all_up()
        one.changed.clear()
        one.certified(ISSUED)
        one.certified(ISSUED - 1)
        assert not one.changed.is_set()

    mesh.run(story())


@pytest.mark.parametrize("restarted", [True, False])
def test_a_changed_address_is_told_to_all(restarted: bool) -> None:
    mesh, rolls = Mesh(), memory("Site2")

    async def story() -> None:
        one = mesh.start(site_of(SHOP, "Site1", {"Site1": 1}))
        two = mesh.start(listed("Site2", "Site1"), rolls)
        await mesh.all_up()
        moved = at(listed("Site2", "Site1"), "100.64.0.1:1")  # "less" than the old one: only its revision counts
        if restarted:
            mesh.start(moved, rolls)
        else:
            two.list_anew(moved)
        await mesh.until(lambda: str(one.site().settings.peers["Site2"].mesh) == "100.64.0.1:1")

    mesh.run(story())


def test_another_number_in_site_yaml_holds_while_the_peer_was_not_heard() -> None:
    mesh = Mesh()

    async def story() -> None:
        one = mesh.start(site_of(SHOP, "Site1", {"Site1": 1, "Site3": 30}))
        corrected = listed("Site1", "Site3")
        assert one.site(corrected).site_numbers == {"Site1": 1, "Site3": 3}
        one.list_anew(corrected)
        assert one.site().site_numbers == {"Site1": 1, "Site3": 3}
        assert one.complaints() == []
        one.list_anew(site_of(SHOP, "Site1", {"Site1": 1}))
        assert one.site().site_numbers == {"Site1": 1}

    mesh.run(story())


def test_a_roll_that_cannot_be_kept_is_told() -> None:
    mesh, rolls = Mesh(), memory("Site1")

    class Full:
        complaint = ""

        def recall(self) -> Remembered:
            return rolls.recall()

        def keep(self, remembered: Remembered) -> None:
            self.complaint = "the disk is full"

    async def story() -> None:
        one, _ = mesh.start(listed("Site1"), Full()), mesh.start(listed("Site2"))
        await mesh.until(lambda: one.peers()["Site2"].incarnation != "")
        assert one.complaints() == ["the disk is full"]

    mesh.run(story())


# Services that have replicated resources.


CATALOG = frozenset({"catalog"})


def managed(mesh: Mesh) -> set[frozenset[str]]:
    return {member.site().managed for member in mesh.members.values()}


def test_all_sites_hear_which_services_have_replicated_resources_anywhere() -> None:
    """Site1 and Site3 list Site2 alone."""
    mesh = Mesh()

    async def story() -> None:
        one, two = mesh.start(listed("Site1", "Site2")), mesh.start(listed("Site2", "Site1"))
        mesh.start(listed("Site3", "Site2"))
        await mesh.all_up()
        assert managed(mesh) == {frozenset()}
        one.changed.clear()
        mesh.members["Site3"].manages(CATALOG)
        await asyncio.wait_for(one.changed.wait(), 10)
        await mesh.until(lambda: managed(mesh) == {CATALOG})
        two.manages(frozenset({"orders"}))
        await mesh.until(lambda: managed(mesh) == {frozenset({"catalog", "orders"})})
        mesh.members["Site3"].manages(frozenset())
        await mesh.until(lambda: managed(mesh) == {frozenset({"orders"})})

    mesh.run(story())


def test_saying_it_again_changes_nothing() -> None:
    mesh = Mesh()

    async def story() -> None:
        one, _, _ = mesh.start_all()
        one.manages(CATALOG)
        one.changed.clear()
        one.manages(CATALOG)
        assert not one.changed.is_set()

    mesh.run(story())


def test_they_are_kept_while_the_site_is_down_and_over_a_restart_and_forgotten_once_it_departs() -> None:
    mesh, rolls = Mesh(), memory("Site1")

    async def story() -> None:
        mesh.start(listed("Site1"), rolls)
        _, three = mesh.start_all("Site2", "Site3")
        three.manages(CATALOG)
        await mesh.until(lambda: managed(mesh) == {CATALOG})
        mesh.network.cut("Site1", "Site3")
        mesh.network.cut("Site2", "Site3")
        again = mesh.start(listed("Site1"), rolls)
        await mesh.until(lambda: again.peers()["Site3"].state is PeerState.DOWN)
        assert managed(mesh) == {CATALOG}
        again.remove("Site3", force=True)
        await mesh.until(lambda: [again.site().managed, mesh.members["Site2"].site().managed] == [frozenset()] * 2)

    mesh.run(story())


@pytest.mark.parametrize("restarted", [True, False])
def test_a_site_that_returns_says_it_again(restarted: bool) -> None:
    mesh, rolls = Mesh(), memory("Site3")

    async def story() -> None:
        one, _ = mesh.start_all("Site1", "Site2")
        three = mesh.start(listed("Site3"), rolls)
        three.manages(CATALOG)
        await mesh.until(lambda: managed(mesh) == {CATALOG})
        three.leave()
        await mesh.until(lambda: (one.site().departed, one.site().managed) == ({"Site3"}, frozenset()))
        mesh.issued["Site3"] = ISSUED + 1
        if restarted:
            mesh.start(listed("Site3"), rolls, ISSUED + 1)
        else:
            three.certified(ISSUED + 1)
        await mesh.until(lambda: managed(mesh) == {CATALOG})

    mesh.run(story())


def test_its_own_services_are_managed_though_its_number_is_another_s() -> None:
    mesh = Mesh()

    async def story() -> None:
        mesh.start(site_of(SHOP, "Site1", {"Site1": 1, "Site2": 2}))
        mesh.start(site_of(SHOP, "Site2", {"Site2": 1, "Site1": 2}), issued=ISSUED + 1)
        mesh.members["Site2"].manages(CATALOG)
        await mesh.until(lambda: managed(mesh) == {CATALOG})

    mesh.run(story())


def test_more_services_than_a_heartbeat_tells_of_keep_nobody_from_hearing_it() -> None:
    mesh = Mesh()

    async def story() -> None:
        one, _, _ = mesh.start_all()
        mesh.members["Site3"].manages(frozenset({*(f"aa{n:04}" for n in range(MOST_MANAGED - 1)), "catalog", "zoo"}))
        await mesh.until(lambda: one.site().managed == CATALOG)
        await mesh.all_up()

    mesh.run(story())


def test_all_sites_hear_which_of_them_have_resources_that_span_sites() -> None:
    mesh = Mesh()

    def heard() -> set[tuple[frozenset[str], frozenset[str]]]:
        return {(site.managed, site.spanned) for site in (member.site() for member in mesh.members.values())}

    async def story() -> None:
        one, two, _ = mesh.start_all()
        one.manages(CATALOG | {"orders"})
        await mesh.until(lambda: heard() == {(CATALOG | {"orders"}, frozenset())})
        two.manages(CATALOG | {marked("catalog"), "unheard-of", marked("unheard-of")})
        await mesh.until(lambda: heard() == {(CATALOG | {"orders"}, CATALOG)})
        one.manages(frozenset({marked("orders")}))
        await mesh.until(lambda: heard() == {(CATALOG | {"orders"}, CATALOG | {"orders"})})
        two.manages(CATALOG)
        await mesh.until(lambda: heard() == {(CATALOG | {"orders"}, frozenset({"orders"}))})

    mesh.run(story())


def test_an_agent_that_knows_no_marked_names_hears_the_plain_ones() -> None:
    """As version N-1 reads them: names of services that it hasn't."""
    assert SHOP.closely(["catalog", marked("catalog"), marked("orders")]) == CATALOG


def test_marked_names_take_no_place_from_the_plain_ones() -> None:
    mesh = Mesh()

    async def story() -> None:
        one, _, _ = mesh.start_all()
        many = [f"aa{n:04}" for n in range(MOST_MANAGED - 1)]
        mesh.members["Site3"].manages(frozenset({*many, *map(marked, many), "catalog"}))
        await mesh.until(lambda: one.site().managed == CATALOG)
        assert one.site().spanned == frozenset()

    mesh.run(story())


def test_services_that_refer_to_one_with_resources_that_span_sites_have_none_themselves() -> None:
    described = application("""
        services:
          compute: {resources: {server: {collection: /servers, refers: {network: network/network}}}}
          network: {resources: {network: {collection: /networks}}}
    """)
    mesh = Mesh()

    async def story() -> None:
        one = mesh.start(site_of(described, "Site1", {"Site1": 1}))
        one.manages(frozenset({"network", marked("network")}))
        assert (one.site().managed, one.site().spanned) == ({"compute", "network"}, {"network"})

    mesh.run(story())


def test_services_that_refer_to_a_managed_one_are_managed_too() -> None:
    """A server's image has another id at each site, which only the agent knows."""
    described = application("""
        services:
          compute: {resources: {server: {collection: /servers, refers: {imageRef: image/image, flavor: flavor}},
                                flavor: {collection: /flavors}}}
          image: {resources: {image: {collection: /images, refers: {owner: identity/project}}}}
          identity: {resources: {project: {collection: /projects}}}
          volume: {resources: {volume: {collection: "/{identity/project}/volumes"}}}
    """)
    assert described.closely(["image"]) == {"image", "compute"}
    assert described.closely(["identity"]) == {"identity", "image", "volume"}
    assert described.closely(["compute", "unheard-of"]) == {"compute"}
    assert described.closely([]) == frozenset()
