"""Who is where in a lab."""

import sys
from pathlib import Path

import pytest

from cheops.config import Address
from cheops.errors import BadSettings
from cheops.lab.layout import Place, check_net, install_values, links_spec, listening, peers_of, shared_values

LAB, APP = Path("/lab"), Path("/app")


def places(sites: int = 3, **ports: tuple[int, int]) -> list[Place]:
    given = ports or {"notes": (8600, 18600)}
    return [Place(number=number, net="127.0.34", lab=LAB, ports=given, sites=sites) for number in range(1, sites + 1)]


def test_a_site_has_an_address_and_a_folder_of_its_own() -> None:
    _, place, _ = places()
    assert (place.name, place.address) == ("Site2", "127.0.34.2")
    assert (place.mesh, place.admin) == ("127.0.34.2:7443", "127.0.34.2:7480")
    assert place.services == {"notes": ("127.0.34.2:8600", "127.0.34.2:18600")}
    assert place.settings == LAB / "Site2" / "site.yaml"
    assert place.log("notes") == LAB / "Site2" / "log" / "notes.log"
    assert place.log("access") == LAB / "Site2" / "data" / "log" / "access.jsonl"


def test_values_for_the_places_of_lab_yaml() -> None:
    assert places()[0].values(APP) == {
        "python": sys.executable,
        "folder": "/app",
        "site": "Site1",
        "address": "127.0.34.1",
        "data": "/lab/Site1/app",
        "cache": "/.lab-cache/app",
        "shared": "127.0.34.254",
        "sites": "3",
        "front.notes": "127.0.34.1:8600",
        "backend.notes": "127.0.34.1:18600",
    }


def test_values_for_what_all_sites_share() -> None:
    assert shared_values("127.0.34", 2, LAB, APP) == {
        "python": sys.executable,
        "folder": "/app",
        "cache": "/.lab-cache/app",
        "address": "127.0.34.254",
        "data": "/lab/shared",
        "sites": "2",
    }
    assert set(install_values(LAB, APP)) == {"python", "folder", "cache"}


def test_a_site_knows_the_others_at_its_own_end_of_the_links() -> None:
    one, two, three = places()
    known = peers_of(two, [one, two, three])
    assert {name: (site.number, site.mesh) for name, site in known.items()} == {
        "Site1": (1, Address(host="127.0.34.2", port=17001)),
        "Site3": (3, Address(host="127.0.34.2", port=17003)),
    }


def test_every_link_leads_from_the_dialer_to_the_mesh_of_the_dialed() -> None:
    spec = links_spec(places(2), LAB / "links.sock")
    assert spec == {
        "control": "/lab/links.sock",
        "links": [
            {"from": "Site1", "to": "Site2", "listen": "127.0.34.1:17002", "target": "127.0.34.2:7443"},
            {"from": "Site2", "to": "Site1", "listen": "127.0.34.2:17001", "target": "127.0.34.1:7443"},
        ],
    }
    assert links_spec(places(1), LAB / "links.sock")["links"] == []


def test_all_that_will_listen_is_known_with_its_user() -> None:
    users = listening(places(2))
    assert len(users) == 2 * 5  # mesh, agent, a link, a front, a backend
    assert users["127.0.34.1:17002"] == "the link from Site1 to Site2"
    assert users["127.0.34.2:8600"] == "the front of 'notes' of Site2"


def test_services_may_share_a_backend() -> None:
    assert "127.0.34.1:18600" in listening(places(1, notes=(8600, 18600), drafts=(8601, 18600)))


@pytest.mark.parametrize(
    ("ports", "address"),
    [
        ({"notes": (8600, 8601), "drafts": (8601, 18601)}, "127.0.34.1:8601"),
        ({"notes": (7443, 18600)}, "127.0.34.1:7443"),
        ({"notes": (8600, 7480)}, "127.0.34.1:7480"),
        ({"notes": (17002, 18600)}, "127.0.34.1:17002"),
    ],
)
def test_an_address_with_two_users_is_refused(ports: dict[str, tuple[int, int]], address: str) -> None:
    with pytest.raises(BadSettings, match=f"can't both listen on {address}"):
        listening(places(2, **ports))


@pytest.mark.parametrize("net", ["127.0.34", "127.255.0"])
def test_a_net_is_three_numbers_of_loopback(net: str) -> None:
    assert check_net(net) == net


@pytest.mark.parametrize("net", ["10.0.34", "127.0", "127.0.34.1", "127.0.256", "127.0.x", "127.0.34\n", ""])
def test_other_nets_are_refused(net: str) -> None:
    with pytest.raises(BadSettings, match=r"such as 127\.0\.34"):
        check_net(net)
