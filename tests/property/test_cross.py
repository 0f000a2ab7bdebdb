"""What is divided among sites comes together again, whatever is divided among however many.

The laws: shares sum to the whole; pools are disjoint, inside of the range, never empty and never the gateway's; who
joins changes nobody's pools; parts put together are the whole; and every other byte stays.
"""

import json
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import pairwise
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from cheops.applications.aggregate import whole_of
from cheops.applications.divide import Parts, divided
from cheops.applications.merging import merged
from cheops.applications.ranges import Network, ranges_of
from cheops.applications.resources import Division, Resource, Span
from cheops.errors import CantDivide
from unit.applications.spanning import SUBNET

NAMES = [f"Site{n}" for n in range(1, 9)]
SPELLINGS = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"separators": (" , ", " : ")}])
OTHERS = st.dictionaries(st.sampled_from(["name", "é", "a.b", '"', "tags"]), st.text(max_size=3) | st.floats(0, 1))


def counted(weights: dict[str, int]) -> Resource:
    return Resource(collection="/r", one="r", span=Span(divide={"spec.n": Division(by="share", weights=weights)}))


@st.composite
def wholes(draw: st.DrawFn) -> Parts:
    """Sites that joined one after the other, of which some have left again."""
    slots = tuple(draw(st.permutations(NAMES)))[: draw(st.integers(1, len(NAMES)))]
    sites = tuple(draw(st.lists(st.sampled_from(slots), min_size=1, unique=True)))
    return Parts(prime=draw(st.sampled_from(sites)), sites=sites, slots=slots, born=draw(st.integers(1, len(slots))))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    if draw(st.booleans()):
        length = draw(st.integers(8, 31))
        return IPv4Network((draw(st.integers(0, 2**length - 1)) << (32 - length), length))
    length = draw(st.integers(32, 126))
    return IPv6Network((draw(st.integers(0, 2**length - 1)) << (128 - length), length))


@st.composite
def subnets(draw: st.DrawFn) -> dict[str, Any]:
    """Bodies of creations, with or without a gateway and pools."""
    network = draw(networks())
    first, last = int(network.network_address), int(network.broadcast_address)
    inside = st.integers(first, last).map(lambda number: str(type(network.network_address)(number)))
    body: dict[str, Any] = {"cidr": str(network), **draw(OTHERS)}
    if draw(st.booleans()):
        body["gateway_ip"] = draw(st.none() | inside)
    if draw(st.booleans()):
        ends = sorted((ip_address(one) for one in draw(st.lists(inside, max_size=10, unique=True))), key=int)
        pairs = list(zip(ends[::2], ends[1::2], strict=False))
        body["allocation_pools"] = [{"start": str(a), "end": str(b)} for a, b in draw(st.permutations(pairs))]
    return body


def pools(body: dict[str, Any], whole: Parts, site: str) -> Any:
    part = divided(json.dumps({"subnet": body}).encode(), SUBNET, whole, site)
    return json.loads(part)["subnet"]["allocation_pools"]


@given(
    st.integers(0, 10**30),
    wholes(),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9)),
    OTHERS,
    SPELLINGS,
)
def test_shares_are_the_whole_and_nothing_else_changes(
    number: int, whole: Parts, weights: dict[str, int], others: dict[str, Any], spelling: dict[str, Any]
) -> None:
    assume(any(weights.get(site, 1) for site in whole.sites))
    body = json.dumps({"r": {**others, "spec": {"n": number, "m": 1}}}, **spelling)
    rules = counted(weights)
    parts = {site: divided(body.encode(), rules, whole, site) for site in whole.slots}
    shares = {site: json.loads(part)["r"]["spec"]["n"] for site, part in parts.items()}
    assert sum(shares.values()) == number
    for site, part in parts.items():
        mine = {"r": {**others, "spec": {"n": shares[site], "m": 1}}}
        assert part.decode() == json.dumps(mine, **spelling)
        assert site in whole.sites or not shares[site]
    assert json.loads(whole_of(parts, rules, whole.prime, "")) == json.loads(body)


@given(subnets(), wholes())
def test_pools_are_disjoint_inside_and_nobodys_gateway(body: dict[str, Any], whole: Parts) -> None:
    try:
        got = [pools(body, whole, site) for site in whole.slots]
    except CantDivide:
        assume(False)
    network = IPv4Network(body["cidr"]) if "." in body["cidr"] else IPv6Network(body["cidr"])
    assert all(got)
    ranges = sorted(one for each in got for one in ranges_of(each) or ())
    assert all(a.last < b.first for a, b in pairwise(ranges))
    gateway = body.get("gateway_ip") or (None if "allocation_pools" in body else str(network.network_address + 1))
    for one in ranges:
        assert int(network.network_address) <= one.first <= one.last <= int(network.broadcast_address)
        assert gateway is None or not one.first <= int(ip_address(gateway)) <= one.last
    sizes = {sum(one.size for one in ranges_of(each) or ()) for each in got}
    assert len(sizes) == 1


@given(subnets(), wholes())
def test_who_joins_or_leaves_changes_nobodys_pools(body: dict[str, Any], whole: Parts) -> None:
    grown = Parts(prime="New", sites=("New",), slots=(*whole.slots, "New"), born=whole.born)
    for site in whole.slots:
        try:
            assert pools(body, whole, site) == pools(body, grown, site)
        except CantDivide:
            continue


@given(st.integers(2, 8), st.integers(1, 2**20), st.integers(0, 2**70), st.booleans())
def test_pools_together_are_the_whole(born: int, size: int, offset: int, of_ipv6: bool) -> None:
    """When all slots are taken, and nothing is left over."""
    slots = tuple(f"Site{n}" for n in range(2 * born))
    cidr, address = ("2001:db8::/32", ip_address("2001:db8::")) if of_ipv6 else ("10.0.0.0/7", ip_address("10.0.0.0"))
    first = address + (offset if of_ipv6 else offset % 2**23)
    said = [{"start": str(first), "end": str(first + size * len(slots) - 1)}]
    body = json.dumps({"subnet": {"cidr": cidr, "allocation_pools": said}}).encode()
    whole = Parts(prime=slots[0], sites=slots, slots=slots, born=born)
    parts = {site: divided(body, SUBNET, whole, site) for site in slots}
    assert json.loads(whole_of(parts, SUBNET, slots[0], "")) == json.loads(body)


@given(OTHERS, SPELLINGS)
def test_the_whole_of_one_part_is_that_part(body: dict[str, Any], spelling: dict[str, Any]) -> None:
    part = json.dumps({"subnet": body}, **spelling).encode()
    assert whole_of({"Site1": part}, SUBNET, "Site2", "Site3") == part
    assert whole_of({"Site1": part, "Site2": part}, SUBNET, "Site2", "Site3") == part


@given(
    st.dictionaries(st.sampled_from(NAMES), st.lists(st.fixed_dictionaries({}, optional={"a": st.integers(0, 3)}))),
    st.booleans(),
    st.none() | st.integers(0, 20),
)
def test_a_merged_page_is_the_beginning_of_all_sorted(
    items: dict[str, list[dict[str, int]]], down: bool, limit: int | None
) -> None:
    def place(item: dict[str, int]) -> tuple[bool, int]:
        return "a" not in item, item.get("a", 0) * (-1 if down else 1)

    pages = {site: sorted(each, key=place) for site, each in items.items()}
    page, taken = merged(pages, "-a" if down else "a", limit)
    everything = [(site, item) for site, each in pages.items() for item in each]
    assert page == sorted(everything, key=lambda one: place(one[1]))[:limit]
    assert taken == {site: sum(one == site for one, _ in page) for site in items}
