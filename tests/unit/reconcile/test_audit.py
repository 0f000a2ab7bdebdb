"""Replicas compared and mended, on whole sites in one process."""

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any

import virtual
from blackbox import reply
from cheops.model import Reply, Request
from cheops.reconcile.drift import Verified
from cheops.reconcile.operating import Operator
from replicated import World
from values import application

TWO = "{notes: Site1 & Site2}"
DESCRIBED = application("""
    services:
      notes:
        resources:
          note:
            collection: /notes
            set_by_site: [made_by]
            content: {path: "/notes/{id}/file"}
            refers: {of: note}
""")


def operator(world: World, site: str) -> Operator:
    parts = world[site].parts
    assert parts
    return parts.operator


async def made(world: World, document: Any) -> str:
    answer = await world["Site1"].ask("POST", "/notes", document, X_Scope=TWO)
    assert answer.status == 201, answer.body
    return answer.rid


async def path_of(world: World, rid: str, site: str) -> str:
    shown = await operator(world, site).show(rid)
    return "/notes/" + next(each.local_id for each in shown.sites if each.site == site)


def states(found: Verified) -> dict[str, str]:
    return {site.site: site.state for site in found.sites}


def run(story: Coroutine[Any, Any, None]) -> None:
    virtual.run(story)


def test_comparing_twice_writes_nothing_anywhere() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", "Site3") as world:
            rid = await made(world, {"text": "milk"})
            await world.settled()
            world["Site2"].box.documents[await path_of(world, rid, "Site2")]["text"] = "wine"
            before = [await site.store.read(rid) for site in world.sites.values()]
            executed = [list(site.box.executed) for site in world.sites.values()]
            found = [await operator(world, site).verify(rid, 5) for site in ("Site1", "Site2", "Site3", "Site1")]
            assert found[0].state == "drifted"
            assert all(asdict(each) == asdict(found[0]) for each in found)
            assert [list(site.box.executed) for site in world.sites.values()] == executed
            assert [await site.store.read(rid) for site in world.sites.values()] == before

    run(story())


def test_references_are_the_same_though_every_site_has_ids_of_its_own() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", described=DESCRIBED) as world:
            first = await made(world, {"text": "a"})
            second = await made(world, {"text": "c"})
            rid = await made(world, {"text": "b", "of": first})
            there = await path_of(world, rid, "Site2")
            of = {site: (await path_of(world, first, site)).rpartition("/")[2] for site in ("Site1", "Site2")}
            assert world["Site2"].box.documents[there]["of"] == of["Site2"] != of["Site1"]
            assert (await operator(world, "Site1").verify(rid, 5)).state == "equal"
            other = (await path_of(world, second, "Site2")).rpartition("/")[2]
            world["Site2"].box.documents[there]["of"] = other
            (field,) = (await operator(world, "Site1").verify(rid, 5)).fields
            assert (field.path, field.says, field.values) == ("of", first, {"Site1": first, "Site2": second})

    run(story())


def test_what_needs_something_that_is_absent_too_is_not_made_anew() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", described=DESCRIBED) as world:
            first = await made(world, {"text": "a"})
            rid = await made(world, {"text": "b", "of": first})
            paths = [await path_of(world, each, "Site2") for each in (first, rid)]
            for path in paths:
                world["Site2"].box.forget(path)
            (told,) = (await operator(world, "Site1").repair(rid, 5)).told
            assert not told.done
            assert f"cheops repair {first}" in told.what
            assert not world["Site2"].box.documents
            assert (await operator(world, "Site1").repair(first, 5)).verified.state == "equal"
            assert (await operator(world, "Site1").repair(rid, 5)).verified.state == "equal"
            new = (await path_of(world, first, "Site2")).rpartition("/")[2]
            assert f"/notes/{new}" != paths[0]
            assert world["Site2"].box.documents[await path_of(world, rid, "Site2")]["of"] == new

    run(story())


def test_large_bytes_that_nobody_keeps_any_more_come_from_a_replica_that_has_them() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", "Site3", described=DESCRIBED) as world:
            rid = await made(world, {"text": "a"})
            content = bytes(range(256)) * 1024
            put = await world["Site1"].ask(
                "PUT", f"/notes/{rid}/file", content, Content_Type="application/octet-stream"
            )
            assert put.status == 204
            await world.settled()
            await asyncio.sleep(30)
            file = await path_of(world, rid, "Site2") + "/file"
            world["Site2"].box.contents[file] = b"spoilt"
            assert [await stored(world, site) for site in ("Site1", "Site2")] == [False, False]
            found = await operator(world, "Site3").repair(rid, 5)
            assert [(told.site, told.done) for told in found.told] == [("Site2", True)], found.told
            assert found.verified.state == "equal"
            assert world["Site2"].box.contents[file] == content

    run(story())


async def stored(world: World, site: str) -> bool:
    """Whether the site keeps the body of an operation."""
    shas = {
        op.request.body.sha256
        for summary in await world[site].store.summaries()
        if (dossier := await world[site].store.read(summary.rid))
        for op in dossier.operations
        if op.request and op.request.body and op.request.body.sha256
    }
    return any(world[site].blobs.has(sha) for sha in shas)


def test_a_service_that_refuses_leaves_the_log_as_it_was() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid = await made(world, {"text": "milk"})
            await world["Site1"].ask("PATCH", f"/notes/{rid}", {"text": "bread"})
            await world.settled()
            path = await path_of(world, rid, "Site2")
            world["Site2"].box.documents[path]["text"] = "wine"
            shown = await operator(world, "Site2").show(rid)

            def refused(request: Request) -> Reply | None:
                return None if request.method == "GET" else reply(409, {"error": "full"})

            world["Site2"].box.before = refused
            found = await operator(world, "Site1").repair(rid, 5)
            assert [told.done for told in found.told] == [False]
            assert "the service answered 409; it stays as it was" in found.told[0].what
            assert states(found.verified) == {"Site1": "equal", "Site2": "drifted"}
            assert (await operator(world, "Site2").show(rid)).operations == shown.operations
            world["Site2"].box.before = lambda request: None
            assert (await operator(world, "Site1").repair(rid, 5)).verified.state == "equal"
            assert world["Site2"].box.documents[path]["text"] == "bread"

    run(story())


def test_a_resource_that_cannot_be_made_anew_now_is_later() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid = await made(world, {"text": "milk"})
            await world["Site1"].ask("PATCH", f"/notes/{rid}", {"text": "bread"})
            await world.settled()
            world["Site2"].box.forget(await path_of(world, rid, "Site2"))

            def unable(request: Request) -> Reply | None:
                return None if request.method == "GET" else reply(429, {"error": "later"})

            world["Site2"].box.before = unable
            found = await operator(world, "Site1").repair(rid, 5)
            assert "it is tried again" in found.told[0].what
            assert states(await operator(world, "Site1").verify(rid, 5))["Site2"] == "pending"
            await world["Site2"].kill()
            await world["Site2"].start()
            world["Site2"].box.before = lambda request: None
            await world.settled()
            (document,) = world["Site2"].box.documents.values()
            assert document["text"] == "bread"
            assert (await operator(world, "Site1").verify(rid, 5)).state == "equal"
            assert sum(line.startswith("POST") for line in world["Site2"].box.executed) == 2

    run(story())


def test_the_sites_own_credentials_read_and_mend() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            for site in world.sites.values():
                site.box.wants = b"sesame"
            answer = await world["Site1"].ask("PUT", "/notes/a", {"n": 1}, X_Scope=TWO, Authorization="sesame")
            found = await operator(world, "Site1").verify(answer.rid, 5)
            assert states(found) == {"Site1": "unreadable", "Site2": "unreadable"}
            assert "the service answers 401" in found.sites[0].why
            assert "site.yaml" in found.sites[0].why
            for site in world.sites.values():
                site.credentials.of["notes"] = ((b"authorization", b"sesame"),)
                site.box.forget("/notes/a")
            mended = await operator(world, "Site1").repair(answer.rid, 5)
            assert [told.done for told in mended.told] == [True, True], mended.told
            assert mended.verified.state == "equal"
            await world["Site1"].ask("DELETE", "/notes/a", Authorization="sesame")
            await world.settled()
            world["Site2"].box.documents["/notes/a"] = {"n": 1}
            assert (await operator(world, "Site1").repair(answer.rid, 5)).verified.state == "equal"
            assert "/notes/a" not in world["Site2"].box.documents
            assert "sesame" not in json.dumps(asdict(mended))

    run(story())


REPLACEABLE = application("""
    services:
      notes:
        resources:
          note: {collection: /notes, set_by_site: [made_by], replaceable: true}
""")
NAMED = application("""
    services:
      notes:
        resources:
          note: {collection: /notes, set_by_site: [made_by], client_id: accepted}
""")


def test_a_creation_takes_the_place_of_what_is_there_if_the_description_says_so() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", described=REPLACEABLE) as world:
            rid = await made(world, {"text": "milk"})
            await world["Site1"].ask("PATCH", f"/notes/{rid}", {"n": 1})
            await world.settled()
            path = await path_of(world, rid, "Site2")
            world["Site2"].box.documents[path]["text"] = "wine"
            before = len(world["Site2"].box.executed)
            assert (await operator(world, "Site1").repair(rid, 5)).verified.state == "equal"
            assert world["Site2"].box.executed[before:] == [f"PUT {path}", f"PATCH {path}"]
            assert (world["Site2"].box.documents[path]["text"], world["Site2"].box.documents[path]["n"]) == ("milk", 1)

    run(story())


def test_one_of_two_creations_of_the_same_is_made_anew_once() -> None:
    """Site2 has only executed its own, which isn't the one in force."""

    async def story() -> None:
        async with World("Site1", "Site2", described=NAMED) as world:
            world.cut("Site1", "Site2")
            asked = {"id": "a", "text": "milk"}
            for site in ("Site1", "Site2"):
                answer = await world[site].ask("POST", "/notes", asked, X_Scope=TWO, Prefer="wait=1")
                assert answer.status == 201, answer.body
            world.heal()
            await world.settled()
            rid = answer.rid
            assert (await operator(world, "Site1").verify(rid, 5)).state == "equal"
            for site in ("Site1", "Site2"):
                world[site].box.forget("/notes/a")
                before = len(world[site].box.executed)
                found = await operator(world, "Site1").repair(rid, 5)
                assert found.verified.state == "equal", found.told
                assert world[site].box.executed[before:] == ["POST /notes"]
            await world.settled()
            await asyncio.sleep(5)
            assert (await operator(world, "Site2").verify(rid, 5)).state == "equal"
            assert [site.box.executed.count("POST /notes") for site in world.sites.values()] == [2, 2]

    run(story())


def test_a_read_that_fails_changes_nothing() -> None:
    """P6 (liqo#1030): one 503 during an audit must not change anything."""

    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid = await made(world, {"text": "milk"})
            other = await made(world, {"text": "tea"})
            before = await world["Site2"].store.read(rid)
            for status in (500, 503, 403):
                world["Site2"].box.before = lambda request, status=status: reply(status, {"error": "no"})
                found = await operator(world, "Site1").repair(rid, 5)
                assert states(found.verified) == {"Site1": "equal", "Site2": "unreadable"}
                assert f"the service answers {status}" in found.verified.sites[1].why
                assert not found.told
            world["Site2"].box.before = lambda request: None
            assert await world["Site2"].store.read(rid) == before
            assert (await operator(world, "Site1").verify(rid, 5)).state == "equal"
            assert (await operator(world, "Site1").verify(other, 5)).state == "equal"

    run(story())


def test_one_of_two_creations_that_cannot_be_made_anew_now_is_later() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", described=NAMED) as world:
            world.cut("Site1", "Site2")
            for site in ("Site1", "Site2"):
                asked = {"id": "a", "text": "milk"}
                answer = await world[site].ask("POST", "/notes", asked, X_Scope=TWO, Prefer="wait=1")
            world.heal()
            await world.settled()
            for site in ("Site1", "Site2"):
                world[site].box.forget("/notes/a")
                world[site].box.before = lambda request: None if request.method == "GET" else reply(429, {})
                (told,) = [
                    told for told in (await operator(world, "Site1").repair(answer.rid, 5)).told if told.site == site
                ]
                assert not told.done
                world[site].box.before = lambda request: None
                await world.settled()
                assert world[site].box.documents["/notes/a"]["text"] == "milk"
            assert (await operator(world, "Site1").verify(answer.rid, 5)).state == "equal"

    run(story())


def test_what_only_this_site_has_accepted_may_be_executed_by_it_again() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            for site in world.sites.values():
                site.box.wants = b"sesame"
                site.credentials.of["notes"] = ((b"authorization", b"sesame"),)
            answer = await world["Site1"].ask("PUT", "/notes/a", {"n": 1}, X_Scope=TWO, Authorization="sesame")
            await operator(world, "Site1").place(answer.rid, ["Site1"])
            await world.settled()
            await world["Site1"].ask("PATCH", "/notes/a", {"n": 2}, Authorization="sesame")
            await world.settled()
            world["Site1"].box.forget("/notes/a")
            found = await operator(world, "Site1").repair(answer.rid, 5)
            assert found.verified.state == "equal", found.told
            assert world["Site1"].box.documents["/notes/a"]["n"] == 2

    run(story())


def test_a_site_that_cannot_read_any_more_when_it_is_to_mend_changes_nothing() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid = await made(world, {"text": "milk"})
            before = await world["Site2"].store.read(rid)
            world["Site2"].box.before = lambda request: reply(503, {"error": "no"})
            wire = json.dumps({"what": "mend", "resource": rid, "seconds": 5}).encode()
            problem = json.loads(await operator(world, "Site2").commanded(wire))["problem"]
            assert problem["detail"] == "nothing was changed: the service answers 503 to a read"
            assert problem["code"] == "site-unreachable"
            assert await world["Site2"].store.read(rid) == before

    run(story())
