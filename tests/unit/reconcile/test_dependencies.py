"""What a creation refers to and some sites lack: refused with the exact hint, shared, or made first."""

import asyncio
from collections.abc import Awaitable, Callable

import virtual
from replicated import Answer, World
from values import application

CLOUD = application("""
    carriers: [{kind: header}]
    services:
      image:
        resources:
          image:
            collection: /images
            client_id: accepted
            set_by_site: [made_by]
            content: {path: "/images/{id}/file"}
      network:
        resources:
          network: {collection: /networks, set_by_site: [made_by]}
      compute:
        resources:
          server: {collection: /servers, refers: {image: image/image, network: network/network}}
""")
BOTH = "{compute: Site1 & Site2}"


def told(work: Callable[[World], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with World("Site1", "Site2", described=CLOUD) as world:
            await asyncio.sleep(1)
            await work(world)

    virtual.run(inside())


async def image(world: World, site: str = "Site1") -> None:
    """An image that only this site has, and that isn't replicated."""
    made = await world[site].ask("POST", "/images", {"id": "debian", "size": 7}, service="image")
    assert made.status == 201
    assert (await world[site].ask("PUT", "/images/debian/file", b"x" * 100_000, service="image")).status == 204


async def server(world: World, **headers: str) -> Answer:
    document = {"name": "vm", "image": "debian"}
    return await world["Site1"].ask("POST", "/servers", document, service="compute", X_Scope=BOTH, **headers)


def test_it_is_refused_with_what_is_missing_and_what_can_be_done() -> None:
    async def work(world: World) -> None:
        await image(world)
        answer = await server(world)
        assert answer.status == 409
        assert "Site2 lacks image/image debian, which is at Site1; nothing was sent anywhere" in answer.body["detail"]
        assert "Cheops-Dependencies: share" in answer.body["hint"]
        assert not any("/servers" in line for site in world.sites.values() for line in site.box.executed)

    told(work)


def test_a_site_that_lacks_it_uses_the_service_of_one_that_has_it() -> None:
    async def work(world: World) -> None:
        await image(world)
        answer = await server(world, Cheops_Dependencies="share")
        assert answer.outcome == "Site1=201, Site2=201"
        scopes = {
            name: [r.values(b"x-scope") for r in site.box.requests if r.method == "POST" and b"/servers" in r.target]
            for name, site in world.sites.items()
        }
        assert scopes == {"Site1": [[]], "Site2": [[b"{image: Site1}"]]}
        assert "/images/debian" not in world["Site2"].box.documents

    told(work)


def test_it_is_replicated_first_with_its_content() -> None:
    async def work(world: World) -> None:
        await image(world)
        answer = await server(world, Cheops_Dependencies="replicate")
        assert answer.outcome == "Site1=201, Site2=201"
        box = world["Site2"].box
        assert box.documents["/images/debian"] == {"id": "debian", "size": 7, "made_by": "Site2"}
        assert box.files["/images/debian/file"] == world["Site1"].box.files["/images/debian/file"]
        assert [line for line in world["Site1"].box.executed if "images" in line] == [
            "POST /images",
            "PUT /images/debian/file",
        ]
        changed = await world["Site2"].ask("PATCH", "/images/debian", {"size": 8}, service="image")
        assert changed.outcome == "Site1=200, Site2=200"

    told(work)


def test_each_site_names_its_own_replica() -> None:
    """A replicated network has another id on each site."""

    async def work(world: World) -> None:
        made = await world["Site1"].ask(
            "POST", "/networks", {"name": "n"}, service="network", X_Scope="{network: Site1 & Site2}"
        )
        document = {"name": "vm", "network": made.body["id"]}
        answer = await world["Site1"].ask("POST", "/servers", document, service="compute", X_Scope=BOTH)
        assert answer.outcome == "Site1=201, Site2=201"
        for site in world.sites.values():
            networks = [doc["id"] for path, doc in site.box.documents.items() if path.startswith("/networks/")]
            servers = [doc["network"] for path, doc in site.box.documents.items() if path.startswith("/servers/")]
            assert servers == networks
        refused = await world["Site2"].ask("DELETE", f"/networks/{made.rid}", service="network")
        assert refused.status == 409
        assert "compute/server vm" in refused.body["detail"]
        assert (
            await world["Site2"].ask("DELETE", f"/networks/{made.rid}", service="network", Cheops_Force="delete")
        ).status == 204

    told(work)


def test_another_word_is_refused() -> None:
    async def work(world: World) -> None:
        await image(world)
        answer = await server(world, Cheops_Dependencies="maybe")
        assert (answer.status, answer.body["code"]) == (400, "bad-request")

    told(work)


def test_what_spans_sites_uses_what_its_parts_lack_where_it_is() -> None:
    """Without being told to; a site that joins later does so too."""

    async def work(world: World) -> None:
        await image(world)
        document = {"name": "vm", "image": "debian"}
        spread = "{compute: Site1 % Site2}"
        answer = await world["Site1"].ask("POST", "/servers", document, service="compute", X_Scope=spread)
        assert answer.outcome == "Site1=201, Site2=201"
        parts = world["Site1"].parts
        assert parts
        await parts.operator.place(answer.rid, ("Site1", "Site2", "Site3"))
        await world.settled()
        scopes = {
            name: [r.values(b"x-scope") for r in site.box.requests if r.method == "POST" and b"/servers" in r.target]
            for name, site in world.sites.items()
        }
        assert scopes == {"Site1": [[]], "Site2": [[b"{image: Site1}"]], "Site3": [[b"{image: Site1}"]]}

    async def inside() -> None:
        async with World("Site1", "Site2", "Site3", described=CLOUD) as world:
            await asyncio.sleep(1)
            await work(world)

    virtual.run(inside())
