"""Types whose resources span sites, as descriptions of real services would have them."""

from cheops.applications.divide import Parts
from cheops.applications.resources import Division, Paging, Resource, Span

SUBNET = Resource(
    collection="/v2.0/subnets",
    one="subnet",
    many="subnets",
    span=Span(divide={"allocation_pools": Division(by="pools", range="cidr", gateway="gateway_ip")}),
)
NETWORK = Resource(
    collection="/v2.0/networks",
    one="network",
    many="networks",
    span=Span(
        aggregate={"subnets": "concat", "admin_state_up": "all", "shared": "any", "mtu": "min", "created": "max"}
    ),
)
DEPLOYMENT = Resource(
    collection="/apis/apps/v1/deployments",
    id="metadata.name",
    span=Span(
        divide={"spec.replicas": Division(by="share", weights={"Site3": 2})},
        aggregate={"status.readyReplicas": "sum"},
    ),
)
RECORD = Resource(
    collection="/v1/records",
    one="data",
    span=Span(divide={"stock": Division(by="share")}),
    paging=Paging(limit="_limit", sort="_sort", order="-last_modified"),
)
THREE = Parts(prime="Site1", sites=("Site1", "Site2", "Site3"), slots=("Site1", "Site2", "Site3"), born=3)


def parts(*sites: str, prime: str = "", slots: tuple[str, ...] = (), born: int = 0) -> Parts:
    """Of these sites; the first is the prime, and all were there from the beginning, unless it is said otherwise."""
    return Parts(prime=prime or sites[0], sites=sites, slots=slots or sites, born=born or len(sites))
