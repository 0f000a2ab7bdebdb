"""Steps of the tour in which a network spans sites: one range, of which each site gives out its own addresses."""

import re

from bed import Bed
from console import Console
from ports import SITES, listed, many_ports, subnet_at, user, within
from telling import Tour, until

BOTH = "--scope '{network: Site1 % Site2}'"
THREE = "{network: Site1 % Site2 % Site3}"
POOLS = "-c name -c cidr -c allocation_pools"
PORT = "-f value -c name -c fixed_ips"
PORTS = "port list --network blue --sort-column Name -f value -c Name -c 'Fixed IP Addresses'"
EACH = 125  # ports that each site is asked for at a time; what takes longer than PORT_SECONDS is left out
PORT_SECONDS = 60
NOT_THERE = ("interconnection", "bgpvpn", "l2gw")


def consoles(bed: Bed, *sites: str) -> list[Console]:
    return [Console(bed.programs, bed.openrc(site, "demo")) for site in sites]


def cross(tour: Tour) -> None:
    tour.title("Cross: a network and its subnet span both sites")
    [at_site2] = consoles(tour.bed, "Site2")
    done = tour.openstack(f"network create blue {BOTH} -c name -c status", "cross-made")
    tour.check("the network is made", done.status == 0 and "blue" in done.output, done.output)
    subnet = "subnet create inner --network blue --subnet-range 10.0.0.0/24"
    done = tour.openstack(f"{subnet} {POOLS}", "cross-made")
    tour.check("and its subnet, which needs no scope", done.status == 0, done.output)
    parts = [subnet_at(tour.bed, site, "inner") for site in SITES]
    tour.check("each site's neutron has the same range", {part["cidr"] for part in parts} == {"10.0.0.0/24"}, parts)
    pools = [part["allocation_pools"] for part in parts]
    tour.check("and a pool of its own", pools == [_pool(2, 64), _pool(65, 127)], pools)
    for at, name in ((tour.console, "here"), (at_site2, "there")):
        done = tour.openstack(f"port create {name} --network blue {PORT}", "cross-ports", at=at)
        tour.check("a port is made", done.status == 0, done.output)
    for at in (tour.console, at_site2):
        done = tour.openstack(PORTS, "cross-ports" if at is at_site2 else "", at=at)
        ours = [within(addresses(done.output)[nth : nth + 1], part) for nth, part in enumerate(parts)]
        tour.check("both ports are listed, each with an address of its site", all(ours), done.output)
        done = tour.openstack("network show blue -c name -c subnets", at=at)
        shown = [part["id"] for part in parts if part["id"] in done.output]
        tour.check("the network is shown with the subnet, under its id there", len(shown) == 1, done.output)
        done = tour.openstack(f"subnet show inner {POOLS}", at=at)
        tour.check("the subnet is shown whole", "10.0.0.2-10.0.0.127" in done.output, done.output)


def addresses(output: str) -> list[str]:
    return re.findall(r"'ip_address': '([\d.]+)'", output)


def _pool(first: int, last: int) -> list[dict[str, str]]:
    return [{"start": f"10.0.0.{first}", "end": f"10.0.0.{last}"}]


def cross_overlap(tour: Tour) -> None:
    tour.title("Another one that overlaps it is refused")
    done = tour.openstack(f"network create other {BOTH} -f value -c name")
    tour.check("another network is made", done.status == 0, done.output)
    done = tour.openstack("subnet create part --network other --subnet-range 10.0.0.128/25", "cross-overlap")
    tour.check(
        "not with a part of the range", done.status != 0 and "overlaps 10.0.0.128/25" in done.output, done.output
    )
    done = tour.openstack("network delete other")
    tour.check("it is deleted on both", done.status == 0 and not _there(tour.bed, "networks", "other"), done.output)


def _there(bed: Bed, what: str, name: str, *sites: str) -> list[str]:
    """The sites whose neutron has something of that name."""
    return [
        site
        for site in sites or SITES
        if bed.admin(site)(bed.address(site, "network"), "GET", f"/v2.0/{what}?name={name}")[what]
    ]


def cross_cut(tour: Tour) -> None:
    tour.title("The link is cut: both sites go on making ports, hundreds of them")
    bed, [at_site2] = tour.bed, consoles(tour.bed, "Site2")
    _without_limit(bed)
    tour.console.run(f"openstack network create wide {BOTH}")
    tour.console.run("openstack subnet create outer --network wide --subnet-range 10.4.0.0/22")
    address = bed.address("Site1", "network", "front")
    [network] = user(bed, "Site1")(address, "GET", "/v2.0/networks?name=wide")["networks"]
    made = many_ports(bed, network["id"], EACH, PORT_SECONDS)
    tour.lab("cut Site1 Site2", "cross-cut")
    for at, name in ((tour.console, "here-alone"), (at_site2, "there-alone")):
        done = tour.openstack(f"port create {name} --network blue {PORT}", "cross-cut", at=at)
        tour.check("a port is made", done.status == 0, done.output)
    done = tour.openstack(PORTS, "cross-cut")
    tour.check("Site1 lists its own", "here-alone" in done.output and "there" not in done.output, done.output)
    alone = many_ports(bed, network["id"], EACH, PORT_SECONDS)
    tour.lab("heal", "cross-cut")
    until(lambda: bed.reaches("Site1", "Site2") and bed.reaches("Site2", "Site1"), "the sites reach each other")
    ports = sum(map(len, (*made.values(), *alone.values())))  # an agent finds the other site up a moment later
    until(lambda: all(len(listed(bed, site, network["id"])) >= ports for site in SITES), "each site lists all ports")
    _alike(tour, network["id"], made, alone)
    done = tour.openstack(PORTS, "cross-cut")
    tour.check("both sites' ports are listed again", done.output.count("alone") == 2, done.output)


def _without_limit(bed: Bed) -> None:
    """Neutron's limit is 500 ports a project and site; nova counts by the list, which has those of both sites."""
    for site in SITES:
        admin = bed.admin(site)
        for project in admin(bed.address(site, "identity"), "GET", "/v3/projects")["projects"]:
            admin(bed.address(site, "network"), "PUT", f"/v2.0/quotas/{project['id']}", {"quota": {"port": -1}})


def _alike(tour: Tour, network: str, made: dict[str, list[str]], alone: dict[str, list[str]]) -> None:
    given = {site: made[site] + alone[site] for site in SITES}
    every = [address for addresses in given.values() for address in addresses]
    cut = sum(len(addresses) for addresses in alone.values())
    tour.say(f"{len(every)} ports, {cut} of them while the link was cut: {_counts(given)}")
    tour.check(f"no two of {len(every)} addresses are alike", len(set(every)) == len(every) >= EACH)
    ours = [within(given[site], subnet_at(tour.bed, site, "outer")) for site in SITES]
    tour.check("each site gave addresses of its own pool alone", all(ours), ours)
    seen = [listed(tour.bed, site, network) for site in SITES]
    tour.check("both sites list them all", seen == [set(every)] * 2, [len(each) for each in seen])


def _counts(given: dict[str, list[str]]) -> str:
    return ", ".join(f"{len(addresses)} at {site}" for site, addresses in given.items())


def cross_third(tour: Tour) -> None:
    tour.title("A third site joins the deployment, and the network")
    bed = tour.bed
    bed.lab.join()
    until(lambda: bed.reaches("Site1", "Site3") and bed.reaches("Site2", "Site3"), "the sites reach Site3", 60)
    [at_site3] = consoles(bed, "Site3")
    before = [subnet_at(bed, site, "inner")["allocation_pools"] for site in SITES]
    done = tour.cheops(f"resource scope blue '{THREE}' --site Site1", "cross-third")
    tour.check("the network is extended", done.status == 0, done.output)
    for name in ("blue", "inner"):
        done = tour.cheops(f"wait {name} --converged --site Site1")
        tour.check(f"Site3 has its part of '{name}'", done.status == 0, done.output)
    done = tour.openstack(f"port create third --network blue {PORT}", "cross-third", at=at_site3)
    own = within(addresses(done.output), subnet_at(bed, "Site3", "inner"))
    tour.check("a port there has an address of the third pool", done.status == 0 and own, done.output)
    done = tour.openstack(f"subnet show inner {POOLS}", "cross-third")
    tour.check("Site1 shows the whole", "10.0.0.2-10.0.0.190" in done.output, done.output)
    after = [subnet_at(bed, site, "inner")["allocation_pools"] for site in SITES]
    tour.check("nobody's pool has changed", before == after, after)
    done = tour.openstack(PORTS)
    tour.check("and lists the port of Site3", "third" in done.output, done.output)


def data_plane(tour: Tour) -> None:
    tour.title("The packets between the sites are left to the operator: what to configure")
    done = tour.console.run("openstack extension list --network -f value -c Alias")
    aliases = done.output.split()
    tour.check(
        f"neutron has none of {', '.join(NOT_THERE)}",
        "agent" in aliases and not [one for one in aliases if one.startswith(NOT_THERE)],
        aliases,
    )
    done = tour.cheops("resource show blue --site Site1")
    tour.check("the ids of the parts are told", done.status == 0, done.output)
    for site in SITES:
        done = tour.openstack(f"subnet show inner -c network_id {POOLS} --scope '{{network: {site}}}'", "data-plane")
        own = subnet_at(tour.bed, site, "inner")
        tour.check(f"those of {site}", done.status == 0 and own["network_id"] in done.output, done.output)


def cross_withdrawn(tour: Tour) -> None:
    tour.title("Site3 leaves the network, and the network is deleted")
    [at_site2, at_site3] = consoles(tour.bed, "Site2", "Site3")
    leave = "resource scope blue '{network: Site1 % Site2}' --leave delete --site Site1"
    done = tour.cheops(leave, "cross-withdrawn")
    tour.check("not while a port is there", done.status != 0 and "belong" in done.output, done.output)
    tour.openstack("port delete third", at=at_site3)
    done = tour.cheops(leave, "cross-withdrawn")
    tour.check("then it does", done.status == 0, done.output)
    for name in ("blue", "inner"):
        done = tour.cheops(f"wait {name} --converged --site Site1")
        tour.check(f"'{name}' has left", done.status == 0, done.output)
    gone = [
        what for what, name in (("subnets", "inner"), ("networks", "blue")) if _there(tour.bed, what, name, "Site3")
    ]
    tour.check("Site3 has nothing of it any more", not gone, gone)
    done = tour.openstack("network delete blue", "cross-deleted")
    tour.check("nor is it deleted while ports are there", done.status != 0 and "belong" in done.output, done.output)
    names = "here there here-alone there-alone"
    done = tour.openstack(f"port delete {names}", "cross-deleted", at=at_site2)
    tour.check("Site2 deletes the ports of both", done.status == 0, done.output)
    done = tour.openstack("subnet delete inner", "cross-deleted")
    tour.check("then the subnet", done.status == 0 and not _there(tour.bed, "subnets", "inner"), done.output)
    done = tour.openstack("network delete blue", "cross-deleted", at=at_site2)
    tour.check("and the network", done.status == 0 and not _there(tour.bed, "networks", "blue"), done.output)
