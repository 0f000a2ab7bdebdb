"""The admin API of replicated resources, on whole sites in one process."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

import virtual
from asgi import Answer, answered
from blackbox import reply
from cheops.web.admin import SiteState, admin_api
from cheops.web.resources import resources_routes
from replicated import NOTES, World
from unit.web.test_admin import Members
from values import site_of, view_of

TWO = "{notes: Site1 & Site2}"


@dataclass
class Api:
    """The admin API of a site."""

    world: World
    site: str

    async def __call__(self, method: str, target: str, document: Any = None) -> Answer:
        site, parts = site_of(NOTES, self.site, self.world.numbers), self.world[self.site].parts
        assert parts

        async def none() -> Any:
            return {}

        state = SiteState(site=lambda: site, reasons=none, warnings=list, peers=none, membership=Members())
        app = admin_api(state)
        app.include_router(resources_routes(parts.operator, lambda: view_of(site)))
        return await answered(app, target, method, b"" if document is None else json.dumps(document).encode())


async def refused_change(world: World) -> tuple[str, str]:
    """A change that Site2's service refuses: the rid, and the operation."""
    answer = await world["Site1"].ask("POST", "/notes", {"name": "a"}, X_Scope=TWO)
    world["Site2"].box.before = lambda request: None if request.method == "GET" else reply(409, {"error": "full"})
    await world["Site1"].ask("PATCH", f"/notes/{answer.rid}", {"name": "b"})
    return answer.rid, "Site1.00000001/2"


def test_resources_and_what_was_done_to_them() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", "Site3") as world:
            rid, op = await refused_change(world)
            api = Api(world, "Site1")
            listed = (await api("GET", "/resources")).json
            assert [each["rid"] for each in listed["resources"]] == [rid]
            assert listed["next"] == ""
            shown = (await api("GET", f"/resources/{rid}")).json
            assert [site["state"] for site in shown["sites"]] == ["equal", "failed"]
            assert [each["operation"] for each in shown["operations"]] == ["Site1.00000001/1", op]
            refused = shown["operations"][1]["outcomes"][1]
            assert (refused["site"], refused["state"], refused["status"]) == ("Site2", "refused", 409)
            assert refused["since"] > 1_700_000_000
            assert f"cheops retry {rid} {op} --on Site2" in refused["todo"]
            assert (await Api(world, "Site3")("GET", f"/resources/{rid}")).json == shown
            assert (await Api(world, "Site3")("GET", "/find?name=a")).json["rid"] == rid

    virtual.run(story())


def test_operations_by_state() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid, op = await refused_change(world)
            api = Api(world, "Site1")
            (failed,) = (await api("GET", "/operations?state=failed&site=Site2")).json["operations"]
            assert (failed["resource"]["rid"], failed["operation"]["operation"]) == (rid, op)
            assert (await api("GET", "/operations")).json == {"operations": [], "next": ""}
            page = (await api("GET", "/operations?state=all&limit=3")).json
            rest = (await api("GET", f"/operations?state=all&limit=3&after={page['next']}")).json
            assert (len(page["operations"]), len(rest["operations"])) == (3, 1)
            assert (await api("GET", "/operations?state=lost")).status == 422

    virtual.run(story())


def test_what_failed_is_settled() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            rid, op = await refused_change(world)
            api = Api(world, "Site1")
            waited = (await api("GET", f"/resources/{rid}/converged?timeout=5")).json
            assert (waited["converged"], [each["ends"] for each in waited["left"]]) == (False, [False])
            told = await api("POST", f"/operations/{rid}/{op}/retry?site=Site2")
            assert told.json == {"told": [{"site": "Site2", "done": True, "what": f"{op} is tried again at Site2"}]}
            dropped = await api("POST", f"/operations/{rid}/{op}/drop")
            assert dropped.status == 200
            assert (await api("GET", f"/resources/{rid}/converged?timeout=5")).json == {"converged": True, "left": []}
            refused = await api("POST", f"/operations/{rid}/{op}/done?site=Site1")
            assert (refused.status, refused.json["code"]) == (409, "nothing-to-do")

    virtual.run(story())


def test_a_placement_is_a_scope() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", "Site3") as world:
            answer = await world["Site1"].ask("POST", "/notes", {"name": "a"}, X_Scope=TWO)
            api, path = Api(world, "Site2"), f"/resources/{answer.rid}/placement"
            wrong = await api("PUT", path, {"scope": "{notes: Site1 & Site9}"})
            assert (wrong.status, wrong.json["code"]) == (400, "bad-scope")
            assert (await api("PUT", path, {"scope": "{notes: Site1}", "leave": "burn"})).status == 422
            moved = await api("PUT", path, {"scope": "{notes: Site1 & Site3}", "leave": "delete"})
            assert moved.json == {"operation": "Site2.00000001/1"}
            await world.settled()
            assert [len(world[site].box.documents) for site in ("Site1", "Site2", "Site3")] == [1, 0, 1]

    virtual.run(story())


def test_conflicts_are_listed_and_applied() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            answer = await world["Site1"].ask("POST", "/notes", {"name": "a"}, X_Scope=TWO)
            world.cut("Site1", "Site2")
            for site in ("Site1", "Site2"):
                await world[site].ask("PATCH", f"/notes/{answer.rid}", {"name": site}, Prefer="wait=1")
            world.heal()
            await world.settled()
            api = Api(world, "Site1")
            (found,) = (await api("GET", "/conflicts")).json["conflicts"]
            assert (found["resource"], found["fields"], found["loser_site"]) == (answer.rid, ["name"], "Site1")
            made = await api("POST", f"/conflicts/{answer.rid}/{found['loser']}/apply")
            assert made.json == {"operation": "Site1.00000001/3"}
            await world.settled()
            assert (await api("GET", "/conflicts")).json == {"conflicts": [], "next": ""}
            assert [doc["name"] for doc in world["Site2"].box.documents.values()] == ["Site1"]

    virtual.run(story())


def test_replicas_are_compared_and_mended() -> None:
    async def story() -> None:
        async with World("Site1", "Site2", "Site3") as world:
            rids = [
                (await world["Site1"].ask("PUT", f"/notes/{name}", {"n": 1}, X_Scope=TWO)).rid for name in ("a", "b")
            ]
            api = Api(world, "Site3")
            assert (await api("GET", f"/resources/{rids[0]}/verify")).json["state"] == "equal"
            world["Site2"].box.documents["/notes/a"]["n"] = 2
            found = (await api("GET", f"/resources/{rids[0]}/verify?timeout=5")).json
            (field,) = found["fields"]
            assert (field["path"], field["says"], field["drifted"]) == ("n", 1, ["Site2"])
            assert (await api("GET", "/verify")).json == {"verified": [], "next": ""}, "Site3 holds none"
            api = Api(world, "Site1")
            first = (await api("GET", "/verify?limit=1")).json
            rest = (await api("GET", f"/verify?after={first['next']}")).json
            states = {each["resource"]["rid"]: each["state"] for each in (*first["verified"], *rest["verified"])}
            assert states == {rids[0]: "drifted", rids[1]: "equal"}
            mended = (await api("POST", f"/resources/{rids[0]}/repair")).json
            assert [(told["site"], told["done"]) for told in mended["told"]] == [("Site2", True)]
            assert mended["verified"]["state"] == "equal"
            world["Site2"].box.forget("/notes/b")
            page = (await api("POST", "/repair")).json
            assert [each["verified"]["state"] for each in page["repaired"]] == ["equal", "equal"]
            assert [len(each["told"]) for each in page["repaired"]].count(1) == 1
            assert world["Site2"].box.documents["/notes/b"] == {"n": 1, "id": "b"}

    virtual.run(story())


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/find?name=nothing"),
        ("GET", "/resources/c4e10000-0000-8000-8000-000000000000"),
        ("GET", "/resources/c4e10000-0000-8000-8000-000000000000/converged"),
        ("GET", "/resources/c4e10000-0000-8000-8000-000000000000/verify"),
        ("POST", "/resources/c4e10000-0000-8000-8000-000000000000/repair"),
        ("POST", "/operations/c4e10000-0000-8000-8000-000000000000/Site1.0/1/retry"),
        ("POST", "/conflicts/c4e10000-0000-8000-8000-000000000000/Site1.0/1/apply"),
    ],
)
def test_what_isn_t_there(method: str, target: str) -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            answer = await Api(world, "Site1")(method, target)
            assert (answer.status, answer.json["code"]) == (404, "not-there")
            assert answer.json["hint"]

    virtual.run(story())


def test_it_is_described() -> None:
    async def story() -> None:
        async with World("Site1", "Site2") as world:
            described = (await Api(world, "Site1")("GET", "/openapi.json")).json
            assert {
                "/resources",
                "/resources/{rid}",
                "/resources/{rid}/converged",
                "/resources/{rid}/placement",
                "/operations",
                "/operations/{rid}/{author}/{n}/retry",
                "/operations/{rid}/{author}/{n}/drop",
                "/operations/{rid}/{author}/{n}/done",
                "/conflicts",
                "/conflicts/{rid}/{author}/{n}/apply",
                "/find",
                "/resources/{rid}/verify",
                "/resources/{rid}/repair",
                "/verify",
                "/repair",
            } <= described["paths"].keys()
            assert "since" in described["components"]["schemas"]["OutcomeShown"]["properties"]

    virtual.run(story())
