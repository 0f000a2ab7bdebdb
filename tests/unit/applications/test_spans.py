"""The paths by which it is known that a read concerns resources that span sites."""

import re

import pytest

from cheops.applications import Application
from cheops.applications.paths import fit
from cheops.applications.spans import spanning_paths
from values import application

NEUTRON = application("""
    services:
      network:
        resources:
          network:
            collection: /v2.0/networks
            span: {children: {port: {field: network_id}, subnet: {field: network_id, spans: true}}}
          subnet:
            collection: /v2.0/subnets
            span: {divide: {allocation_pools: {by: pools, range: cidr}}, children: {port: {}}}
          port: {collection: /v2.0/ports}
          router: {collection: /v2.0/routers}
""")
KINTO = application("""
    services:
      network:
        resources:
          bucket: {collection: /v1/buckets}
          collection:
            collection: "/v1/buckets/{bucket}/collections"
            span: {children: {record: {}}}
          record:
            collection: "/v1/buckets/{bucket}/collections/{collection}/records"
""")
KUBERNETES = application("""
    services:
      network:
        resources:
          deployment:
            collection: "/apis/apps/v1/namespaces/{name*}/deployments"
            lists: [/apis/apps/v1/deployments]
            item: "/apis/apps/v1/namespaces/{name*}/deployments/{id}"
            span: {children: {pod: {}}}
          pod: {collection: "/api/v1/namespaces/{name*}/pods", lists: [/api/v1/pods]}
""")


def known(described: Application, target: str) -> bool:
    return any(re.fullmatch(path, target, re.ASCII) for path in spanning_paths(described.services["network"]))


@pytest.mark.parametrize(
    ("described", "target"),
    [
        (NEUTRON, "/v2.0/networks"),
        (NEUTRON, "/v2.0/networks/"),
        (NEUTRON, "/v2.0/networks?name=a/b"),
        (NEUTRON, "/v2.0/networks/?limit=1"),
        (NEUTRON, "/v2.0/networks/5b0"),
        (NEUTRON, "/v2.0/networks/a%2Fb/?fields=id"),
        (NEUTRON, "/v2.0/subnets/7"),
        (NEUTRON, "/v2.0/ports?network_id=5b0"),
        (KINTO, "/v1/buckets/shop/collections"),
        (KINTO, "/v1/buckets/shop/collections/stock"),
        (KINTO, "/v1/buckets/shop/collections/stock/records?_limit=3"),
        (KUBERNETES, "/apis/apps/v1/deployments"),
        (KUBERNETES, "/apis/apps/v1/namespaces/a/deployments"),
        (KUBERNETES, "/apis/apps/v1/namespaces/a/b/deployments/web"),
        (KUBERNETES, "/api/v1/pods"),
        (KUBERNETES, "/api/v1/namespaces/a/pods"),
    ],
)
def test_a_whole_lists_of_them_and_lists_of_what_belongs_to_them(described: Application, target: str) -> None:
    assert known(described, target)


@pytest.mark.parametrize(
    ("described", "target"),
    [
        (NEUTRON, "/v2x0/networks"),
        (NEUTRON, "/v2.0/networks.json"),
        (NEUTRON, "/v2.0/networksx"),
        (NEUTRON, "/v2.0/networks//"),
        (NEUTRON, "/v2.0/networks/5b0/tags"),
        (NEUTRON, "/v2.0/routers?next=/v2.0/networks"),
        (NEUTRON, "/v2.0/routers"),
        (NEUTRON, "/v2.0/ports/9"),
        (NEUTRON, "/proxy/v2.0/networks"),
        (NEUTRON, "/~scope/%7Bnetwork:%20Site1%7D/v2.0/networks"),
        (NEUTRON, "/v2.0"),
        (KINTO, "/v1/buckets"),
        (KINTO, "/v1/buckets/shop"),
        (KINTO, "/v1/buckets//collections"),
        (KINTO, "/v1/buckets/a/b/collections"),
        (KINTO, "/v1/buckets/shop/collections/stock/records/1"),
        (KINTO, "/v1/buckets?x=/collections"),
        (KUBERNETES, "/apis/apps/v1/namespaces//deployments"),
        (KUBERNETES, "/apis/apps/v1/namespaces/a//b/deployments"),
        (KUBERNETES, "/apis/apps/v1/namespaces/a/deployments/web/scale"),
        (KUBERNETES, "/api/v1/namespaces/a/pods/web-1"),
    ],
)
def test_near_misses(described: Application, target: str) -> None:
    assert not known(described, target)


def test_nothing_where_nothing_can_span() -> None:
    assert spanning_paths(application("services: {a: {resources: {thing: {collection: /things}}}}").services["a"]) == []


def test_each_path_once() -> None:
    paths = spanning_paths(NEUTRON.services["network"])
    assert len(paths) == len(set(paths)) == 5


@pytest.mark.parametrize("target", ["/a.b/x", "/a.b/x/c", "/a.b/x/y/c", "/a.b/x/y", "/axb/x/c", "/a.b/x/c/d", "/a.b"])
def test_the_agent_reads_such_a_path_as_it_does(target: str) -> None:
    """The agent's `fit` also takes the beginning of a path."""
    for collection in ("/a.b/{p*}", "/a.b/{p*}/c", "/a.b/{bucket}/c"):
        bucket = "bucket: {collection: /buckets}"
        thing = f"thing: {{collection: '{collection}', item: '{collection}/only/{{id}}', span: {{}}}}"
        described = application(f"services: {{network: {{resources: {{{bucket}, {thing}}}}}}}")
        found = fit(collection, target)
        assert known(described, target) == (found is not None and found.taken == target.count("/"))


def test_what_says_the_same_once_more_is_read_as_the_whole_is() -> None:
    described = application("""
        services: {network: {resources: {farm: {collection: /farms, span: {views: [scale]}}}}}
    """)
    assert known(described, "/farms/1/scale")
    assert not known(described, "/farms/1/status")
