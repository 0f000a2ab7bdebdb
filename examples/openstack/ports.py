"""Hundreds of ports, asked for on two sites at once: which addresses do they get?"""

import ipaddress
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from api import Api
from bed import Bed

SITES = ("Site1", "Site2")
AT_ONCE = 4  # requests to each site


def many_ports(bed: Bed, network: str, each: int, seconds: float) -> dict[str, list[str]]:
    """The addresses that each site gave, of `each` ports that it was asked for; fewer if time is up before."""
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(AT_ONCE * len(SITES)) as pool:
        work = {site: _creation(bed, site, network, end) for site in SITES}
        tasks = [(site, pool.submit(work[site])) for _ in range(each) for site in SITES]
        made = [(site, task.result()) for site, task in tasks]
    return {site: [address for at, address in made if at == site and address] for site in SITES}


def _creation(bed: Bed, site: str, network: str, end: float) -> Callable[[], str]:
    """Makes one port, as the user `demo` of a site's front; "" once time is up."""
    api, address = user(bed, site), bed.address(site, "network", "front")

    def create() -> str:
        if time.monotonic() > end:
            return ""
        port = api(address, "POST", "/v2.0/ports", {"port": {"network_id": network}})["port"]
        [fixed] = port["fixed_ips"]
        return str(fixed["ip_address"])

    return create


def user(bed: Bed, site: str) -> Api:
    return Api(bed.address(site, "identity", "front"), user="demo").login()


def listed(bed: Bed, site: str, network: str) -> set[str]:
    """The addresses of all ports of a network, by the front of a site."""
    path = f"/v2.0/ports?network_id={network}&fields=fixed_ips&fields=id"
    ports = user(bed, site)(bed.address(site, "network", "front"), "GET", path)["ports"]
    return {fixed["ip_address"] for port in ports for fixed in port["fixed_ips"]}


def subnet_at(bed: Bed, site: str, name: str) -> dict[str, Any]:
    """What a site's neutron itself has of a subnet."""
    found = bed.admin(site)(bed.address(site, "network"), "GET", f"/v2.0/subnets?name={name}")["subnets"]
    if len(found) != 1:
        raise RuntimeError(f"{site} has {len(found)} subnets {name}")
    return dict(found[0])


def within(addresses: list[str], subnet: dict[str, Any]) -> bool:
    """Whether they are all of a subnet's pools."""
    pools = [(_number(pool["start"]), _number(pool["end"])) for pool in subnet["allocation_pools"]]
    return bool(addresses) and all(any(first <= _number(one) <= last for first, last in pools) for one in addresses)


def _number(address: str) -> int:
    return int(ipaddress.ip_address(address))
