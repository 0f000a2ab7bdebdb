"""Twenty servers created at once, half of them scoped: which bytes has each?"""

import hashlib
import http.client
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from api import Api
from bed import FLAVOR, NOVA, Bed

EACH = 10
UNLIMITED = {"quota_set": {"instances": -1, "cores": -1, "ram": -1}}


def parallel(bed: Bed) -> dict[str, int]:
    """How many servers have the bytes of each site's image; anything else is counted under what went wrong."""
    image = str(uuid.uuid4())
    for site in ("Site1", "Site2"):
        _upload(bed, site, image)
    admin = bed.admin("Site1")
    project = next(
        p for p in admin(bed.address("Site1", "identity"), "GET", "/v3/projects")["projects"] if p["name"] == "admin"
    )
    admin(bed.address("Site1", "compute"), "PUT", f"/v2.1/os-quota-sets/{project['id']}", UNLIMITED)
    api = Api(bed.address("Site1", "identity", "front")).login()

    def create(number: int) -> str:
        wanted = "Site2" if number % 2 else "Site1"
        headers = {**NOVA, **({"X-Scope": "{compute: Site1, image: Site2}"} if wanted == "Site2" else {})}
        name = f"mixed-{number}-{wanted}"
        server = {"name": name, "imageRef": image, "flavorRef": FLAVOR, "networks": "none"}
        api(bed.address("Site1", "compute", "front"), "POST", "/v2.1/servers", {"server": server}, headers)
        return name

    with ThreadPoolExecutor(2 * EACH) as pool:
        names = list(pool.map(create, range(2 * EACH)))
    known = {_sha256(bed.image(site)): site for site in ("Site1", "Site2")}
    found: Counter[str] = Counter()
    for name in names:
        server, wanted = bed.settled("Site1", name), name.rpartition("-")[2]
        disk = bed.disk("Site1", server["id"])
        site = known.get(_sha256(disk), "neither") if disk.exists() else server["status"]
        found[site if site == wanted else f"{site} instead of {wanted}"] += 1
    return dict(found)


def _upload(bed: Bed, site: str, image: str) -> None:
    """An image under an id of our own choosing."""
    api, address = bed.admin(site), bed.address(site, "image")
    api(address, "POST", "/v2/images", {"id": image, "name": "mixed", "disk_format": "raw", "container_format": "bare"})
    connection = http.client.HTTPConnection(address, timeout=60)
    headers = {"X-Auth-Token": api.token, "Content-Type": "application/octet-stream"}
    connection.request("PUT", f"/v2/images/{image}/file", body=bed.image(site).read_bytes(), headers=headers)
    assert connection.getresponse().status == 204
    connection.close()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
