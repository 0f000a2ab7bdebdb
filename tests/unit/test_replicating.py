"""What the agent is told of its services, so that Envoy and the other sites hear of it."""

from pathlib import Path

from cheops.replicating import Replicating, view_of
from cheops.sites.memory import PeersInMemory
from cheops.sites.roll import marked
from cheops.stores.kept import KeptInMemory
from cheops.stores.memory import LogInMemory
from cheops.transports.memory import MemoryTransport, Network
from replicated import OwnCredentials
from values import SHOP, SITES, at_once, site_of


class Stored(LogInMemory):
    """Holds resources of this service."""

    async def services(self) -> frozenset[str]:
        return frozenset({"catalog"})


def replicating(folder: Path) -> Replicating:
    site = site_of(SHOP, "Site1", SITES, folder)
    transport, kept = MemoryTransport("Site1", Network()), KeptInMemory(lambda: 0.0)
    return Replicating(site, view_of(site), Stored("0badcafe"), transport, OwnCredentials(), PeersInMemory(), kept)


def test_what_there_is_more_of_is_said_at_once_and_only_once(tmp_path: Path) -> None:
    said: list[frozenset[str]] = []

    async def manages(words: frozenset[str]) -> None:
        said.append(words)

    async def story() -> None:
        parts = replicating(tmp_path)
        await parts.watch_services(manages)
        for service, spans in (("catalog", False), ("catalog", True), ("orders", True), ("orders", False)):
            await parts.manage(service, spans=spans)

    at_once(story())
    both = frozenset({"catalog", marked("catalog")})
    assert said == [{"catalog"}, both, both | {"orders", marked("orders")}]
