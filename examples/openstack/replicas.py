"""Steps of the tour in which both sites hold an image: it is kept the same on both, and each can do with its own."""

import hashlib
from dataclasses import replace
from typing import Any

from bed import Bed
from console import Console
from telling import Tour

BOTH = "--scope '{image: Site1 & Site2}'"
SITES = ("Site1", "Site2")
OWN = ("created_at", "updated_at")  # what each site sets itself


def replicas(tour: Tour) -> None:
    tour.title("Replication: one image on both sites, changed at either of them")
    bed, at_site2 = tour.bed, console(tour.bed, "Site2")
    path = bed.image("Site1")
    create = f"openstack image create twin --file {path} --disk-format raw {BOTH} -c id -c name -c status"
    done = tour.console.run(create)
    tour.told(replace(done, command=create.replace(str(path), path.name)), "replica-made")
    here, there = (found(bed, site, "twin") for site in SITES)
    tour.check("both sites have it, under one id", here["id"] == there["id"] and here["id"] in done.output, done.output)
    hashes = {hashlib.sha512(path.read_bytes()).hexdigest(), here["os_hash_value"], there["os_hash_value"]}
    tour.check(f"with the same bytes: sha512 {min(hashes)[:12]}…", len(hashes) == 1)
    tour.openstack("image set twin --property os_distro=debian", "replica-changed", at=at_site2)
    tour.check("what was said at Site2, without a scope, is so at Site1", same(tour, "twin", os_distro="debian"))


def console(bed: Bed, site: str) -> Console:
    return Console(bed.programs, bed.openrc(site, "demo"))


def found(bed: Bed, site: str, name: str) -> dict[str, Any]:
    """What a site's glance says of an image of that name."""
    images = bed.admin(site)(bed.address(site, "image"), "GET", f"/v2/images?name={name}")["images"]
    if len(images) != 1:
        raise RuntimeError(f"{site} has {len(images)} images {name}: {images}")
    return {field: value for field, value in images[0].items() if field not in OWN}


def same(tour: Tour, name: str, **fields: str) -> bool:
    """Whether both sites say the same of an image, and of these fields this."""
    here, there = (found(tour.bed, site, name) for site in SITES)
    return here == there and fields.items() <= here.items()


def replicas_cut(tour: Tour) -> None:
    tour.title("The link is cut: both sites go on, and are the same once it is healed")
    bed, at_site2 = tour.bed, console(tour.bed, "Site2")
    tour.lab("cut Site1 Site2", "replica-cut")
    for number, (at, said) in enumerate(((tour.console, "gold"), (at_site2, "silver")), start=1):
        change = f"image set twin --property said_by_{number}=yes --property tier={said}"
        done = tour.openstack(change, "replica-cut", at=at)
        tour.check(f"Site{number} takes it", done.status == 0, done.output)
    tiers = [found(bed, site, "twin")["tier"] for site in SITES]
    tour.check("now the sites differ", tiers == ["gold", "silver"], tiers)
    late = f"image create late --file {bed.image('Site1')} --disk-format raw {BOTH} -f value -c status"
    done = tour.openstack(late)
    tour.check("Site1 even makes an image for both", done.output.strip() == "active", done.output)
    tour.say("Its agent dies, and the token of the user with it: Site2 will have to use its own credentials.")
    tour.lab("kill Site1 agent")
    bed.lab.restart("Site1", "agent")
    tour.lab("heal", "replica-cut")
    for name in ("twin", "late"):
        done = tour.cheops(f"wait {name} --converged --site Site1", "replica-cut" if name == "twin" else "")
        tour.check("the sites are through", done.status == 0, done.output)
    tour.check("'twin' is the same on both", same(tour, "twin", said_by_1="yes", said_by_2="yes"))
    tour.check("and so is 'late', which is its user's on both", same(tour, "late", status="active"))
    done = tour.cheops("conflicts --site Site1")
    tour.check("what was said of one field on both sides is listed as a conflict", "tier" in done.output, done.output)
    done = tour.cheops("resource show twin --site Site2")
    tour.check("any site tells all that was done", done.output.count(" equal ") == 2, done.output)


def replica_alone(tour: Tour) -> None:
    tour.title("All of Site1 is killed: Site2 starts a server from its own replica")
    bed, at_site2 = tour.bed, console(tour.bed, "Site2")
    for what in ("agent", "envoy", "app"):
        tour.lab(f"kill Site1 {what}")
    create = "server create alone-vm --image twin --flavor m1.tiny --nic none --wait -c name -c status -c image"
    done = tour.openstack(create, "replica-alone", at=at_site2)
    tour.check("the server is ACTIVE", done.status == 0 and "ACTIVE" in done.output, done.output)
    disk = bed.data("Site2") / "nova" / "images" / bed.find_server("Site2", "alone-vm")["id"]
    tour.check("with the bytes of the image", disk.read_bytes() == bed.image("Site1").read_bytes())
    done = tour.openstack("image set twin --property said_alone=yes", at=at_site2)
    tour.check("the image can be changed all the same", done.status == 0, done.output)
    for what in ("agent", "app"):
        bed.lab.restart("Site1", what)
    done = tour.cheops("wait twin --converged --site Site2")
    tour.check(
        "started again, Site1 hears of it", done.status == 0 and same(tour, "twin", said_alone="yes"), done.output
    )
    image = found(bed, "Site2", "late")["id"]
    done = tour.openstack("image delete late", at=at_site2)
    left = [bed.image_status(site, image) for site in SITES]
    tour.check("an image that is deleted at Site2 is gone from both", left == [404, 404], done.output)
