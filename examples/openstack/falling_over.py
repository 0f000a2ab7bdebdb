"""Steps of the tour in which something of Site1 is dead, and what a scope names otherwise, or finds near, serves."""

import http.client
import json
import uuid
from urllib.request import urlopen

from bed import Bed
from console import Console
from telling import DIM, END, Tour, until

OTHERWISE = "--scope '{compute: Site1 ; Site2}'"
SITES = ["Site1", "Site2"]
NEAR = "{image: around(Site1, 50ms)}"
SERVER = "--flavor m1.tiny --nic none --wait -c name -c status -c image"


def otherwise(tour: Tour) -> None:
    tour.title("Otherwise: Site1's nova is killed, and the server is created on Site2")
    bed, image = tour.bed, uuid.uuid4()
    tour.say("Both sites have an image under the same id, as who copies images between sites gives them.")
    upload = (
        f"openstack image create both --id {image} --file {bed.image('Site2')} --disk-format raw -f value -c status"
    )
    for site in ("Site1", "Site2"):
        done = Console(bed.programs, bed.openrc(site, "demo")).run(upload)
        tour.check(f"uploaded to {site}", done.output.strip() == "active", done.output)
    tour.lab("kill Site1 nova-api", "otherwise")
    done = tour.openstack(f"server create no-vm --image both {SERVER}", "otherwise")
    tour.check("without a scope, 503", done.status != 0 and "503" in done.output, done.output)
    done = tour.openstack(f"server create other-vm --image both {SERVER} {OTHERWISE}", "otherwise")
    tour.check("with it, the server is ACTIVE", done.status == 0 and "ACTIVE" in done.output, done.output)
    server = bed.find_server("Site2", "other-vm")
    tour.check("on Site2", (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", "compute-Site2"), server)
    bed.lab.restart("Site1", "nova-api")
    tour.check("Site1 knows nothing of it", not bed.servers("Site1", "other-vm"))


def around(tour: Tour) -> None:
    tour.title("Around: Site1's glance is killed, and Site2 is near, or far")
    lab, command = tour.bed.lab, f"image list --scope '{NEAR}' -c Name -c Status"
    tour.lab("kill Site1 glance", "around")
    tour.lab("delay Site1 Site2 5ms", "around")
    until(lambda: round_trip(tour.bed) < 50, "Site1 finds Site2 near", 40)
    done = tour.openstack(command, "around")
    tour.check("near, Site2 has answered", done.status == 0 and "debian" in done.output, done.output)
    _, near, _ = asked(tour.bed)
    tour.say(f"Cheops-Around: {near}")
    tour.check("Site1 comes first, and then Site2", [each.split(";")[0] for each in near.split(", ")] == SITES, near)
    tour.lab("delay Site1 Site2 120ms")
    until(lambda: round_trip(tour.bed) > 50, "Site1 finds Site2 far", 40)
    done = tour.openstack(command)
    tour.check("far, nobody has", done.status != 0 and "debian" not in done.output, done.output)
    status, near, message = asked(tour.bed)
    tour.say(f"{DIM}GET /v2/images → {status}{END} {message}  (Cheops-Around: {near})")
    tour.check("the front says why", status == 503 and "'image' of Site1 doesn't answer" in message, message)
    done = tour.openstack(f"image list --scope '{NEAR[:-1]} ; Site2}}' -c Name -c Status")
    tour.check("Site2 can be named otherwise", done.status == 0 and "debian" in done.output, done.output)
    lab.delay("Site1", "Site2", "0ms")
    lab.restart("Site1", "glance")


def round_trip(bed: Bed) -> float:
    """How far Site2 is by what Site1 has measured, in milliseconds."""
    with urlopen(bed.lab.site("Site1").admin + "/sites", timeout=10) as reply:
        [peer] = json.load(reply)["peers"]
    return float(peer["round_trip"]["ms"])


def asked(bed: Bed) -> tuple[int, str, str]:
    """What Site1's front says to a request that is scoped around Site1: status, who is near, and the message if any."""
    connection = http.client.HTTPConnection(bed.address("Site1", "image", "front"), timeout=30)
    connection.request("GET", "/v2/images", headers={"X-Scope": NEAR, "Accept": "application/json"})
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    message = json.loads(body).get("detail", "") if "json" in reply.getheader("Content-Type", "") else ""
    return reply.status, reply.getheader("Cheops-Around", ""), message


def lost(tour: Tour) -> None:
    tour.title("Otherwise: all of Site1 is killed; a client of Site2 names both, and gets its server")
    bed = tour.bed
    for what in ("agent", "envoy", "app"):
        tour.lab(f"kill Site1 {what}")
    at_site2 = Console(bed.programs, bed.openrc("Site2", "demo"))
    done = tour.openstack("server list --scope '{compute: Site1}'", at=at_site2)
    tour.check(
        "503 for who insists on Site1", done.status != 0 and "Site1 can't be reached" in done.output, done.output
    )
    done = tour.openstack(f"server create saved-vm --image debian {SERVER} {OTHERWISE}", at=at_site2)
    tour.check("the server is ACTIVE", done.status == 0 and "ACTIVE" in done.output, done.output)
    server = bed.find_server("Site2", "saved-vm")
    tour.check("on Site2", (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", "compute-Site2"), server)
    for what in ("agent", "app"):
        bed.lab.restart("Site1", what)
    done = tour.openstack("server list -f value -c Name")
    tour.check("started again, Site1 lists its own servers", done.status == 0 and "saved-vm" not in done.output)
