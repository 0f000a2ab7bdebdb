"""Two sites of OpenStack, the commands of the slides, and proof of what they did. Run it with `make openstack`.

Everything that it says is checked, and the examples of docs/openstack.md are held to what it prints; --write-docs
writes them anew. Ends with status 1 if anything is off; the lab is gone afterwards in any case.
"""

import argparse
import base64
import hashlib
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

import yaml
from bed import Bed
from console import Console, differing, rewritten, transcript
from crossing import cross, cross_cut, cross_overlap, cross_third, cross_withdrawn, data_plane
from falling_over import around, lost, otherwise
from mixing import parallel
from replicas import replica_alone, replicas, replicas_cut
from streaming import gigabyte
from telling import BOLD, DIM, END, Tour, until

from cheops.applications import bundled
from cheops.errors import CheopsError
from cheops.lab.lab import Lab

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "openstack.md"
RESOLVED = "{compute: Site1, image: Site2}"
TOKEN_SUFFIX: dict[str, object] = {
    "kind": "token-suffix",
    "headers": ["X-Auth-Token", "X-Subject-Token"],
    "cut_at": ["identity"],
}
SERVER = "--flavor m1.tiny --network net --wait -c name -c status -c image"


def images(tour: Tour) -> None:
    tour.title("Before: Site2 has an image 'debian', Site1 has none")
    at_site2 = Console(tour.bed.programs, tour.bed.openrc("Site2", "demo"))
    upload = f"openstack image create debian --file {tour.bed.image('Site2')} --disk-format raw -f value -c status"
    done = at_site2.run(upload)
    tour.check("uploaded to Site2, by a client that talks to Site2", done.output.strip() == "active", done.output)
    tour.bed.debian = tour.bed.find_image("Site2", "debian")
    done = at_site2.run("openstack server create its-vm --image debian --flavor m1.tiny --nic none -f value -c name")
    started = done.status == 0 and tour.bed.settled("Site2", "its-vm")["status"] == "ACTIVE"
    tour.check("and a server is started there", started, done.output)
    for made in ("network create net", "subnet create sub --network net --subnet-range 10.9.0.0/24"):
        done = tour.console.run(f"openstack {made} -f value -c name")
        tour.check(f"at Site1: openstack {made}", done.status == 0, done.output)


def without_a_scope(tour: Tour) -> None:
    tour.title("Without a scope, a site is on its own: Site1 has no 'debian'")
    done = tour.openstack(f"server create my-vm --image debian {SERVER}", "without-scope")
    tour.check("the client doesn't find the image", done.status != 0 and "No Image found" in done.output)
    tour.say("The client looks images up itself. nova, asked with the image's id, says the same in its own words:")
    status, answer = tour.bed.create_raw("Site1", "not-mine", tour.bed.debian)
    tour.say(f"{DIM}POST /v2.1/servers → {status}{END} {answer}")
    tour.check("nova itself can't find the image", status == 400 and "Can not find requested image" in answer)


def image_of_another_site(tour: Tour) -> None:
    tour.title("Command 3: compute of Site1, image of Site2")
    scope = "--scope '{compute: Site1, image: Site2}'"
    done = tour.openstack(f"server create my-vm --image debian {SERVER} {scope}", "image-of-site2")
    tour.check("the VM is ACTIVE", done.status == 0 and "ACTIVE" in done.output, done.output)
    vm = tour.bed.find_server("Site1", "my-vm")
    tour.check("on Site1", vm["status"] == "ACTIVE" and vm["OS-EXT-SRV-ATTR:host"] == "compute-Site1")
    tour.check("in Site1's network", "net" in vm["addresses"], vm["addresses"])
    tour.check("Site2 knows nothing of it", not tour.bed.servers("Site2", "my-vm"))
    same_bytes(tour, vm["id"], "Site2")
    had = tour.bed.image_status("Site1", tour.bed.debian)
    tour.check("Site1's glance never had the image", had == 404 and not tour.bed.files_of_glance("Site1"))
    tour.say("The requests that nova made, by Site1's access log (the id carries the scope):")
    calls = tour.bed.calls("Site1", "image", "Site2")
    for line in calls[-4:]:
        tour.say(f"{DIM}│{END} {line['method']} {line['path']} → {line['to']}  {line['id']}")
    fetched = [line for line in calls if line["path"].endswith("/file") and line["status"] == 200 and line["carried"]]
    tour.check(
        "nova-compute's download went to Site2 by the request id alone", len(fetched) == 1 and not fetched[0]["scope"]
    )
    tokens = tour.bed.calls("Site1", "identity", "Site2")
    tour.check("tokens were validated at home: no request for identity left Site1", not tokens)


def same_bytes(tour: Tour, server: str, site: str) -> None:
    wanted = sha256(tour.bed.image(site))
    tour.check(
        f"it booted the bytes of {site}'s image: sha256 {wanted[:12]}…",
        wanted == sha256(tour.bed.disk("Site1", server)),
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lists(tour: Tour) -> None:
    tour.title("Commands 4 and 5: the images of Site2, the servers of Site2")
    done = tour.openstack("image list --scope '{image: Site2}'", "image-list")
    tour.check("Site2's image is listed", tour.bed.debian in done.output)
    tour.check("and Site1 has none of its own", "debian" not in tour.openstack("image list", "image-list").output)
    done = tour.openstack("server list --scope '{Nova: Site2}' -c Name -c Status", "server-list")
    tour.check("Site2's servers are listed, and not Site1's", "its-vm" in done.output and "my-vm" not in done.output)
    done = tour.openstack("server list -c Name -c Status", "server-list")
    tour.check("without a scope it is the other way round", "my-vm" in done.output and "its-vm" not in done.output)


def without_the_plugin(tour: Tour) -> None:
    tour.title("Without the plugin: cheops run gives a scope to any client")
    done = tour.console.run("cheops run --scope '{image: Site2}' -- openstack image list -c Name -c Status")
    tour.say(transcript(done))
    tour.transcripts["cheops-run"] = transcript(done)
    tour.check("Site2's image is listed", "debian" in done.output, done.output)
    scoped = "cheops run --scope '{compute: Site1, image: Site2}' -- openstack"
    done = tour.console.run(f"{scoped} server create run-vm --image debian {SERVER}")
    tour.say(transcript(done))
    tour.check("a server starts from it", done.status == 0 and "ACTIVE" in done.output, done.output)
    same_bytes(tour, tour.bed.find_server("Site1", "run-vm")["id"], "Site2")


def at_home(tour: Tour) -> None:
    tour.title("Commands 1 and 2: once Site1 has a 'debian' of its own")
    upload = f"openstack image create debian --file {tour.bed.image('Site1')} --disk-format raw -f value -c status"
    done = tour.console.run(upload)
    tour.check("uploaded to Site1: other bytes", done.output.strip() == "active", done.output)
    for name, scope in (("vanilla-vm", ""), ("home-vm", " --scope '{compute: Site1, image: Site1}'")):
        done = tour.openstack(f"server create {name} --image debian {SERVER}{scope}", "at-home")
        tour.check("ACTIVE", done.status == 0 and "ACTIVE" in done.output, done.output)
        same_bytes(tour, tour.bed.find_server("Site1", name)["id"], "Site1")


def mistakes(tour: Tour) -> None:
    tour.title("A mistake is told before anything is sent")
    before = len(tour.bed.log("Site1"))
    done = tour.openstack("server list --scope '{compute: Site1, image: }'", "mistake")
    tour.check("with the place of it", done.status != 0 and "^" in done.output)
    tour.check("nothing was sent", not [line for line in tour.bed.log("Site1")[before:] if line["scope"]])
    done = tour.openstack("server list --scope '{compute: Site7}'", "unknown-site")
    tour.check(
        "what only a site can know is told by the site", done.status != 0 and "unknown site 'Site7'" in done.output
    )


def mixed(tour: Tour) -> None:
    tour.title("Twenty creations at once, ten of them with the image of Site2: nothing is mixed up")
    tour.say("Both sites have an image with the same id, and different bytes.")
    found = parallel(tour.bed)
    for site, count in found.items():
        tour.say(f"{count} servers have the bytes of {site}")
    tour.check("each has the bytes that its scope names", found == {"Site1": 10, "Site2": 10}, found)


def large(tour: Tour) -> None:
    tour.title("1 GB for Site2, uploaded through Site1: nothing holds it in memory")
    took = gigabyte(tour.bed, tour.console)
    tour.say(f"$ {took.command}")
    tour.check(f"it arrived in {took.seconds:.0f} s, with the hash that it had", took.arrived, took.output)
    for name, grown in took.grown.items():
        tour.say(f"{name} grew by {grown / 1e6:.0f} MB at most")
    tour.check("Envoys and agents grew by less than 64 MB each", max(took.grown.values()) < 64e6)


def stopped(tour: Tour) -> None:
    tour.title("Site2 is stopped: the user hears of it, and Site1 goes on")
    for what in ("agent", "envoy"):
        tour.bed.lab.kill("Site2", what)
    done = tour.openstack("server list --scope '{Nova: Site2}'", "stopped")
    asked = [line for line in tour.bed.log("Site1") if line["status"] == 503]
    slowest = max((line["ms"] for line in asked), default=9999)
    tour.check("the answer is 503", done.status != 0 and "503" in done.output, done.output)
    tour.check("and says which site it is", "Site2" in done.output)
    tour.check(f"it came within {slowest} ms; the client as a whole took {done.seconds:.1f} s", slowest <= 2000)
    tour.check("Site1 lists its own servers", tour.openstack("server list -f value -c Name").status == 0)
    tour.bed.lab.restart("Site2", "agent")
    until(lambda: tour.bed.reaches("Site1", "Site2"), "Site1 reaches Site2")
    done = tour.console.run("openstack server list --scope '{Nova: Site2}' -f value -c Name")
    tour.check("started again, Site2 answers", "its-vm" in done.output, done.output)


def by_token(tour: Tour) -> None:
    tour.title("The fallback: the scope rides on the user's token, and not in the request id")
    described_with(tour.bed, TOKEN_SUFFIX)
    before = len(tour.bed.log("Site1"))
    scope = "--scope '{compute: Site1, image: Site2}'"
    done = tour.openstack(f"server create token-vm --image {tour.bed.debian} {SERVER} {scope}")
    tour.check("the VM is ACTIVE", done.status == 0 and "ACTIVE" in done.output, done.output)
    same_bytes(tour, tour.bed.find_server("Site1", "token-vm")["id"], "Site2")
    calls = [line for line in tour.bed.log("Site1")[before:] if line["to"] == "site/Site2" and not line["scope"]]
    fetched = [line for line in calls if line["path"].endswith("/file")]
    tour.check("nova-compute's download was led by it", [line["carried"] for line in fetched] == [RESOLVED], calls)
    tour.check("no request id carried it", not [line for line in calls if (line["id"] or "").startswith("req-c4e0")])
    described_with(tour.bed, None)


def described_with(bed: Bed, carrier: dict[str, object] | None) -> None:
    """Lets both agents take up the description with another carrier than the request id; with none, as it comes."""
    for site in ("Site1", "Site2"):
        settings = bed.lab.folder / site / "site.yaml"
        own = settings.with_name("openstack-by-token.yaml")
        described = yaml.safe_load(bundled()["openstack"].read_text())
        described["carriers"] = [{"kind": "header"}, carrier]
        own.write_text(yaml.safe_dump(described))
        named = own.name if carrier else "openstack"
        text = re.sub(r"^application: .*$", f"application: {named}", settings.read_text(), flags=re.MULTILINE)
        settings.with_suffix(".half").write_text(text)
        settings.with_suffix(".half").rename(settings)
        routes = bed.lab.folder / site / "data" / "envoy" / "front-image.json"
        until(lambda routes=routes: ("X-Subject-Token" in routes.read_text()) == bool(carrier), f"{site} takes it up")
    time.sleep(1)  # Envoy reads its files when they change


def strangers(tour: Tour) -> None:
    tour.title("Sites that don't share their identity: Site2's keystone gets keys of its own")
    keys = tour.bed.data("Site2") / "fernet"
    kept = {path: path.read_bytes() for path in keys.iterdir()}
    for path in kept:
        path.write_bytes(base64.urlsafe_b64encode(secrets.token_bytes(32)))
    tour.bed.lab.restart("Site2", "keystone")
    done = tour.openstack("image list --scope '{image: Site2}'", "strangers")
    tour.check("Site2's glance refuses Site1's token: 401", done.status != 0 and "401" in done.output, done.output)
    refused = [line for line in tour.bed.log("Site1") if line["status"] == 401 and line["to"] == "site/Site2"]
    tour.check("it was glance of Site2 that did, as its keystone can't read it", bool(refused))
    status, answer = tour.bed.create_raw("Site1", "stranger", tour.bed.debian, RESOLVED)
    tour.say(f"{DIM}POST /v2.1/servers with {RESOLVED} → {status}{END} {answer}")
    tour.check("so nova of Site1 can't use the image", status >= 400, answer)
    for path, key in kept.items():
        path.write_bytes(key)
    tour.bed.lab.restart("Site2", "keystone")
    done = tour.console.run("openstack image list --scope '{image: Site2}' -f value -c Name")
    tour.check("with the same keys again, it takes it", "debian" in done.output, done.output)


STEPS = (
    images,
    without_a_scope,
    image_of_another_site,
    lists,
    without_the_plugin,
    at_home,
    mistakes,
    mixed,
    large,
    stopped,
    otherwise,
    around,
    replicas,
    replicas_cut,
    replica_alone,
    cross,
    cross_overlap,
    cross_cut,
    cross_third,
    data_plane,
    cross_withdrawn,
    by_token,
    strangers,
    lost,
)


def documented(tour: Tour, write: bool) -> None:
    if not DOCS.exists():
        return
    page = DOCS.read_text()
    if write:
        DOCS.write_text(rewritten(page, tour.transcripts))
    elif wrong := differing(page, tour.transcripts):
        tour.check("docs/openstack.md shows what was seen", False, f"not: {', '.join(wrong)}; make openstack WRITE=1")
    else:
        tour.check("docs/openstack.md shows what was seen", True)


def install_client(bed: Bed) -> None:
    """The plugin for --scope, into the bed's venv."""
    pip = [bed.programs / "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, ROOT / "clients" / "openstack"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the plugin of the client can't be installed:\n{done.stderr[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--net", default="127.0.38", help="the sites' addresses: NET.1 and NET.2 (%(default)s)")
    parser.add_argument("--lab", type=Path, help="a lab of two sites that runs already; it is left as it is")
    parser.add_argument("--write-docs", action="store_true", help="write the examples of docs/openstack.md anew")
    parser.add_argument("steps", nargs="*", help="only these steps, such as mixed or large")
    args = parser.parse_args()
    began = time.monotonic()
    print("Starting two sites of OpenStack …", flush=True)
    lab = Lab.at(args.lab) if args.lab else Lab.up(ROOT / ".lab-openstack", app="openstack", sites=2, net=args.net)
    try:
        bed = Bed(lab)
        install_client(bed)
        print(
            f"… ready after {time.monotonic() - began:.0f} s: an Envoy, an agent and an OpenStack as released on each;"
        )
        print("only the hypervisor and the network agents are test doubles.")
        tour = Tour(bed)
        for step in (step for step in STEPS if not args.steps or step.__name__ in args.steps):
            step(tour)
        if not args.steps:
            documented(tour, args.write_docs)
    finally:
        if not args.lab:
            lab.down()
    print(f"\n{BOLD}It took {time.monotonic() - began:.0f} s{'' if args.lab else '; the lab is gone'}.{END}")
    if tour.failures:
        sys.exit("Not as it should be:\n" + "\n".join(f"  {failure}" for failure in tour.failures))
    print("Everything it showed was checked.")


if __name__ == "__main__":
    try:
        main()
    except CheopsError as error:
        sys.exit(f"tour: {error}")
