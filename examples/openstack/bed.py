"""The running sites, as a test sees them: behind the fronts, as an administrator, and in the files that they keep."""

import json
import random
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from api import Api, Refused

from cheops.lab.lab import Lab

FLAVOR = "1"  # m1.tiny
SETTLED = ("ACTIVE", "ERROR")
NOVA = {"OpenStack-API-Version": "compute 2.90"}  # with it, a server needs no network
LOGGED_WITHIN = 0.7  # seconds: Envoy writes its log twice a second
_IMAGE_BYTES = 4 << 20


class Bed:
    """Two sites of a lab; `debian` is the id of the image of that name on Site2, once it is there."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.programs = lab.folder.parent / ".lab-cache" / "openstack" / "venv" / "bin"
        self.scratch = lab.folder / "shared" / "scratch"
        self.scratch.mkdir(exist_ok=True)
        self.debian = ""
        self._admins: dict[str, Api] = {}

    # Where things are

    def address(self, site: str, service: str, end: str = "backend") -> str:
        found = self.lab.site(site)
        url = found.front(service) if end == "front" else found.backend(service)
        return url.removeprefix("http://")

    def data(self, site: str) -> Path:
        return self.lab.folder / site / "app"

    def openrc(self, site: str, user: str) -> Path:
        return self.data(site) / f"{user}.openrc"

    def image(self, site: str) -> Path:
        """The bytes of a site's image, which only that site has."""
        path = self.scratch / f"{site}.raw"
        if not path.exists():
            path.write_bytes(random.Random(site).randbytes(_IMAGE_BYTES))
        return path

    def disk(self, site: str, server: str) -> Path:
        """What nova-compute downloaded for a server: the hypervisor's double keeps it."""
        return self.data(site) / "nova" / "images" / server

    def files_of_glance(self, site: str) -> list[Path]:
        return list((self.data(site) / "images").iterdir())

    # Behind the fronts

    def admin(self, site: str) -> Api:
        if site not in self._admins:
            self._admins[site] = Api(self.address(site, "identity")).login()
        return self._admins[site]

    def find_image(self, site: str, name: str) -> str:
        [found] = self.admin(site)(self.address(site, "image"), "GET", f"/v2/images?name={name}")["images"]
        return str(found["id"])

    def image_status(self, site: str, image: str) -> int:
        try:
            self.admin(site)(self.address(site, "image"), "GET", f"/v2/images/{image}")
        except Refused as refused:
            return refused.status
        return 200

    def servers(self, site: str, name: str) -> list[dict[str, Any]]:
        path = f"/v2.1/servers/detail?all_tenants=1&name=^{name}$"
        found: list[dict[str, Any]] = self.admin(site)(self.address(site, "compute"), "GET", path)["servers"]
        return found

    def find_server(self, site: str, name: str) -> dict[str, Any]:
        [found] = self.servers(site, name)
        return found

    def reaches(self, here: str, there: str) -> bool:
        """Whether the Envoy of one site finds that of another well."""
        with urlopen(self.lab.site(here).admin + "/site", timeout=10) as reply:
            return bool(json.load(reply)["peers"][there]["reachable"])

    def settled(self, site: str, name: str, seconds: float = 120) -> dict[str, Any]:
        """A server once it runs or has failed."""
        end = time.monotonic() + seconds
        while (server := self.find_server(site, name))["status"] not in SETTLED and time.monotonic() < end:
            time.sleep(0.5)
        return server

    # Through the fronts, without the client

    def create_raw(self, site: str, name: str, image: str, scope: str = "") -> tuple[int, str]:
        """Status and message of nova's own answer to a creation."""
        api = Api(self.address(site, "identity", "front"), user="demo").login()
        server = {"name": name, "imageRef": image, "flavorRef": FLAVOR, "networks": "none"}
        try:
            headers = NOVA | ({"X-Scope": scope} if scope else {})
            api(self.address(site, "compute", "front"), "POST", "/v2.1/servers", {"server": server}, headers)
        except Refused as refused:
            [error] = json.loads(refused.body).values()
            return refused.status, str(error["message"])
        return 202, ""

    def log(self, site: str) -> list[dict[str, Any]]:
        """What the fronts of a site have passed on so far."""
        time.sleep(LOGGED_WITHIN)
        return [line for line in self.lab.site(site).access_log() if line["listener"] == "front"]

    def calls(self, site: str, service: str, to: str) -> list[dict[str, Any]]:
        """What the fronts of a site have sent to another one for a service."""
        return [line for line in self.log(site) if line["service"] == service and line["to"] == f"site/{to}"]
