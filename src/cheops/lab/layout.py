"""Who is where in a lab: the addresses and the folders of its sites. Pure: nothing is looked at or written.

Each site has a loopback address of its own, so that every site uses the ports that it would use on a machine of its
own. Site1 reaches Site2 at a port of its own address, where the links process listens for what Site1 sends.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cheops.config import parse_address
from cheops.errors import BadSettings
from cheops.sites.making import ADMIN_PORT, MESH_PORT, KnownSite

LINK_PORT = 17000  # and the number of the site that the link leads to
MOST_SITES = 50

Ports = Mapping[str, tuple[int, int]]  # of each service: the front's and the backend's


def check_net(net: str) -> str:
    """The first three numbers of an address of loopback, such as 127.0.34. Raises BadSettings."""
    numbers = net.split(".")
    if not re.fullmatch(r"127\.\d{1,3}\.\d{1,3}", net) or any(int(number) > 255 for number in numbers):
        raise BadSettings(f"--net is the beginning of loopback addresses, such as 127.0.34, not {net}")
    return net


@dataclass(frozen=True, kw_only=True)
class Place:
    """The addresses and folders of one site; `lab` is the folder of the whole lab."""

    number: int
    net: str
    lab: Path
    ports: Ports
    sites: int = 1  # how many the lab has

    @property
    def name(self) -> str:
        return f"Site{self.number}"

    @property
    def address(self) -> str:
        return f"{self.net}.{self.number}"

    @property
    def mesh(self) -> str:
        return f"{self.address}:{MESH_PORT}"

    @property
    def admin(self) -> str:
        return f"{self.address}:{ADMIN_PORT}"

    @property
    def services(self) -> dict[str, tuple[str, str]]:
        """Front and backend of each service, as host:port."""
        return {
            name: (f"{self.address}:{front}", f"{self.address}:{backend}")
            for name, (front, backend) in self.ports.items()
        }

    @property
    def folder(self) -> Path:
        return self.lab / self.name

    @property
    def settings(self) -> Path:
        return self.folder / "site.yaml"

    @property
    def data(self) -> Path:
        """What the agent keeps."""
        return self.folder / "data"

    @property
    def app_data(self) -> Path:
        """What the application's processes keep: {data} of lab.yaml."""
        return self.folder / "app"

    def log(self, name: str) -> Path:
        """The log of a process, or Envoy's log or access log."""
        if name in ENVOY_LOGS:
            return self.data / "log" / ENVOY_LOGS[name]
        return self.folder / "log" / f"{name}.log"

    def link_to(self, other: "Place") -> str:
        return f"{self.address}:{LINK_PORT + other.number}"

    def values(self, app: Path) -> dict[str, str]:
        """What stands in the places of lab.yaml of the application in the folder `app`."""
        given = {
            "python": sys.executable,
            "folder": str(app),
            "site": self.name,
            "address": self.address,
            "data": str(self.app_data),
            "cache": str(_cache(self.lab, app)),
            "shared": _shared_address(self.net),
            "sites": str(self.sites),
        }
        ends = {
            f"{end}.{name}": address
            for name, both in self.services.items()
            for end, address in zip(("front", "backend"), both, strict=True)
        }
        return given | ends


def install_values(lab: Path, app: Path) -> dict[str, str]:
    """The places of `install`."""
    return {"python": sys.executable, "folder": str(app), "cache": str(_cache(lab, app))}


def shared_values(net: str, sites: int, lab: Path, app: Path) -> dict[str, str]:
    """The places of `shared`."""
    return install_values(lab, app) | {
        "address": _shared_address(net),
        "data": str(lab / SHARED),
        "sites": str(sites),
    }


def _shared_address(net: str) -> str:
    return f"{net}.254"


def _cache(lab: Path, app: Path) -> Path:
    """What outlives the lab: beside it, so that labs of one folder have it in common."""
    return lab.parent / ".lab-cache" / app.name


SHARED = "shared"
ENVOY_LOGS = {"envoy": "envoy.jsonl", "access": "access.jsonl"}


def peers_of(place: Place, places: Sequence[Place]) -> dict[str, KnownSite]:
    """The other sites as this one knows them: at the near ends of its links."""
    others = (other for other in places if other != place)
    return {other.name: KnownSite(number=other.number, mesh=parse_address(place.link_to(other))) for other in others}


def links_spec(places: Sequence[Place], control: Path) -> dict[str, object]:
    """What the links process reads (see links.py)."""
    links = [
        {"from": dialer.name, "to": dialed.name, "listen": dialer.link_to(dialed), "target": dialed.mesh}
        for dialer in places
        for dialed in places
        if dialer != dialed
    ]
    return {"control": str(control), "links": links}


def listening(places: Sequence[Place]) -> dict[str, str]:
    """Every address on which something of the lab will listen, and what. Raises BadSettings if two want the same."""
    users: dict[str, str] = {}
    for address, user in _wanted(places):
        if users.setdefault(address, user) != user:
            raise BadSettings(
                f"{users[address]} and {user} can't both listen on {address}",
                hint="Change `port` or `backend_port` in application.yaml.",
            )
    return users


def _wanted(places: Sequence[Place]) -> Iterator[tuple[str, str]]:
    for place in places:
        yield place.mesh, f"the mesh of {place.name}"
        yield place.admin, f"the agent of {place.name}"
        for other in places:
            if other != place:
                yield place.link_to(other), f"the link from {place.name} to {other.name}"
        for name, (front, _) in place.services.items():
            yield front, f"the front of '{name}' of {place.name}"
        for backend in {backend for _, backend in place.services.values()}:  # services may share a backend
            yield backend, f"the application on {place.name}"
