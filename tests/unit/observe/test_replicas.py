"""What Prometheus is told of replicated resources."""

import asyncio

from prometheus_client.parser import text_string_to_metric_families

import virtual
from cheops.model import View
from cheops.observe.metrics import Metrics, Now
from cheops.observe.replicas import COUNT_SECONDS, Replicas
from replicated import SiteInMemory, World
from values import SHOP, site_of, view_of

Samples = dict[tuple[str, ...], float]
TWO = "{notes: Site1 & Site2}"


class Scraped:
    """The metrics of a site."""

    def __init__(self, site: SiteInMemory) -> None:
        view: View = view_of(site_of(SHOP))
        self._site, self._metrics = site, Metrics(Now(view=lambda: view, peers=dict, envoy_starts=lambda: 1))
        self.replicas = Replicas(site.name, site.now)
        self._metrics.add(self.replicas)
        assert site.parts
        site.parts.ledger.changed, site.parts.ledger.failed = self.replicas.changed, self.replicas.failed

    async def says(self, name: str) -> Samples:
        """The samples of this name, by the values of their labels."""
        await self.replicas.look(self._site.store)
        return {
            tuple(sample.labels[key] for key in sorted(sample.labels)): sample.value
            for family in text_string_to_metric_families(self._metrics.text("")[0].decode())
            for sample in family.samples
            if sample.name == name
        }


def test_operations_by_site_and_state() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            scraped = Scraped(world["Site1"])
            answer = await world["Site1"].ask("POST", "/notes", {}, X_Scope=TWO)
            assert await scraped.says("cheops_operations") == {("Site1", "done"): 1, ("Site2", "done"): 1}
            world["Site2"].box.down = True
            await world["Site1"].ask("PATCH", f"/notes/{answer.rid}", {"a": 1}, Prefer="wait=1")
            await asyncio.sleep(COUNT_SECONDS)
            found = await scraped.says("cheops_operations")
            assert (found["Site1", "done"], found["Site2", "done"], found["Site2", "pending"]) == (2, 1, 1)

    virtual.run(story())


def test_the_oldest_that_waits_has_waited_since_it_was_requested() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            scraped = {site: Scraped(world[site]) for site in ("Site1", "Site2")}
            answer = await world["Site1"].ask("POST", "/notes", {}, X_Scope=TWO)
            assert await scraped["Site1"].says("cheops_oldest_pending_seconds") == {("Site1",): 0, ("Site2",): 0}
            world["Site2"].box.down = True
            began = world.now()
            await world["Site1"].ask("PATCH", f"/notes/{answer.rid}", {"a": 1})
            await asyncio.sleep(500)
            for site in ("Site1", "Site2"):
                waits = (await scraped[site].says("cheops_oldest_pending_seconds"))["Site2",]
                assert abs(waits - (world.now() - began)) < 0.01, site
            world["Site2"].box.down = False
            await world.settled()
            await asyncio.sleep(COUNT_SECONDS)
            assert (await scraped["Site1"].says("cheops_oldest_pending_seconds"))["Site2",] == 0

    virtual.run(story())


def test_how_long_until_an_operation_is_done_everywhere() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            one, two = Scraped(world["Site1"]), Scraped(world["Site2"])
            answer = await world["Site1"].ask("POST", "/notes", {}, X_Scope=TWO)
            assert await one.says("cheops_convergence_seconds_count") == {(): 1}
            assert (await one.says("cheops_convergence_seconds_sum"))[()] < 0.1
            world.cut("Site1", "Site2")
            await world["Site1"].ask("PATCH", f"/notes/{answer.rid}", {"a": 1}, Prefer="wait=0")
            await asyncio.sleep(100)
            assert await one.says("cheops_convergence_seconds_count") == {(): 1}
            world.heal()
            await world.settled()
            assert await one.says("cheops_convergence_seconds_count") == {(): 2}
            assert 100 < (await one.says("cheops_convergence_seconds_sum"))[()] < 140
            assert await two.says("cheops_convergence_seconds_count") == {(): 0}, "it is Site1's to tell"

    virtual.run(story())


def test_what_is_executed_again_or_by_a_new_holder_is_measured_once() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", "Site3") as world:
            one = Scraped(world["Site1"])
            answer = await world["Site1"].ask("POST", "/notes", {}, X_Scope=TWO)
            parts = world["Site1"].parts
            assert parts
            await parts.operator.place(answer.rid, ["Site1", "Site2", "Site3"])
            await world.settled()
            assert await one.says("cheops_convergence_seconds_count") == {(): 2}
            world.cut("Site1", "Site2")
            for site in ("Site1", "Site2"):
                await world[site].ask("PATCH", f"/notes/{answer.rid}", {"a": site}, Prefer="wait=0")
            world.heal()
            await world.settled()
            assert await one.says("cheops_convergence_seconds_count") == {(): 3}

    virtual.run(story())


def test_a_full_disk_is_counted() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            scraped = Scraped(world["Site1"])
            world["Site1"].store.full = True
            answer = await world["Site1"].ask("POST", "/notes", {}, X_Scope=TWO)
            assert answer.status == 503
            assert await scraped.says("cheops_store_failures_total") == {(): 1}

    virtual.run(story())


def test_scrapes_don_t_count_each_time() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            scraped = Scraped(world["Site1"])
            await scraped.says("cheops_operations")
            await world["Site1"].ask("POST", "/notes", {}, X_Scope=TWO)
            assert await scraped.says("cheops_operations") == {}
            await asyncio.sleep(COUNT_SECONDS)
            assert len(await scraped.says("cheops_operations")) == 2

    virtual.run(story())
