"""What the tests of this folder know: a few managed resources, and descriptions to read requests by."""

from pathlib import Path

from cheops.applications import Application, bundled, read_application
from cheops.documents import parse_document
from cheops.record.resource import Named, Summary

OPENSTACK = read_application(bundled()["openstack"])
KUBERNETES = read_application(bundled()["kubernetes"])
REGISTRY = read_application(bundled()["registry"])
SHOP = read_application(Path(__file__).parents[3] / "examples/shop/application.yaml")
PLAIN = parse_document("services: {notes: {}}", "plain.yaml", Application)

SERVER = "c4e10000-0000-8000-8000-000000000001"
SERVER_1 = "11111111-0000-4000-8000-000000000001"
SERVER_2 = "22222222-0000-4000-8000-000000000001"
NETWORK = "c4e10000-0000-8000-8000-000000000002"
NETWORK_1 = "11111111-0000-4000-8000-000000000002"
NETWORK_2 = "22222222-0000-4000-8000-000000000002"
IMAGE = "c4e10000-0000-8000-8000-000000000003"
IMAGE_ID = "33333333-0000-4000-8000-000000000003"
NOTE = "c4e10000-0000-8000-8000-000000000004"
PAGE = "c4e10000-0000-8000-8000-000000000005"


def named(summary: Summary, **local: str) -> list[Named]:
    """All that names a resource: its rid, its chosen id, and the local ids of sites."""
    everywhere = [Named(value=value, site="", summary=summary) for value in (summary.rid, summary.chosen) if value]
    return [*everywhere, *(Named(value=id_, site=site, summary=summary) for site, id_ in local.items())]


A_SERVER = Summary(rid=SERVER, service="compute", type="server", collection="/v2.1/servers", name="web")
A_NETWORK = Summary(rid=NETWORK, service="network", type="network", collection="/v2.0/networks")
AN_IMAGE = Summary(rid=IMAGE, service="image", type="image", collection="/v2/images", chosen=IMAGE_ID)
A_NOTE = Summary(rid=NOTE, service="notes", type="notes", collection="/notes")
A_PAGE = Summary(rid=PAGE, service="notes", type="pages", collection=f"/notes/{NOTE}/pages", parent=NOTE)

CLOUD = [
    *named(A_SERVER, Site1=SERVER_1, Site2=SERVER_2),
    *named(A_NETWORK, Site1=NETWORK_1, Site2=NETWORK_2),
    *named(AN_IMAGE, Site1=IMAGE_ID, Site2=IMAGE_ID),
]
NOTES = [*named(A_NOTE, Site1="5", Site2="7"), *named(A_PAGE, Site1="5", Site2="9")]
