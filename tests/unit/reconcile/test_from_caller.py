"""What a service takes from who asks is the same on all sites, also where the site itself asks, later."""

import json
from typing import Any

import pytest

import virtual
from blackbox import reply
from cheops.model import Reply, Request
from replicated import World
from values import application, whole

NOTES = application(
    """
    services:
      notes:
        resources:
          note: {collection: /notes, one: note, client_id: accepted, from_caller: [owner], refers: {owner: person}}
          person: {collection: /people, client_id: refused}
    """
)
BOTH = "{notes: Site1 & Site2}"


class Owned:
    """A service whose notes belong to who makes them, unless they say to whom."""

    def __init__(self, other: Any) -> None:
        self._other = other
        self.owner, self.notes = "", list[dict[str, Any]]()

    async def __call__(self, request: Request) -> Reply:
        if (request.method, request.target) != ("POST", b"/notes"):
            return await self._other(request)
        assert request.body
        note = {"owner": self.owner, **json.loads(await whole(request.body))["note"]}
        self.notes.append(note)
        return reply(201, {"note": note})


async def owners(**said: str) -> tuple[dict[str, str], list[Any]]:
    """Ada's id on each site, and whose the note is there, which is made at Site1 while Site2 can't be reached."""
    async with World("Site1", "Site2", described=NOTES) as world:
        sites = {name: Owned(world[name].box) for name in world.sites}
        for name, service in sites.items():
            world.network.services[name, "notes"] = service
            world[name].credentials.of["notes"] = ((b"authorization", b"site"),)
        await world["Site1"].ask("POST", "/people", {"name": "ada"}, X_Scope=BOTH)
        ada = {name: next(iter(world[name].box.documents)).removeprefix("/people/") for name in world.sites}
        sites["Site1"].owner, sites["Site2"].owner = ada["Site1"], "the site itself"
        world.cut("Site1", "Site2")
        note = {"note": {"id": "n", "title": "t", **said}}
        made = await world["Site1"].ask("POST", "/notes", note, X_Scope=BOTH, Authorization="ada")
        assert made.outcome == "Site1=201, Site2=pending"
        await world["Site1"].kill()  # Ada's credentials are gone with it
        await world["Site1"].start()
        world.heal()
        await world.settled()
        return ada, [[note["owner"] for note in service.notes] for service in sites.values()]


def test_what_the_site_makes_for_somebody_is_theirs() -> None:
    ada, found = virtual.run(owners())
    assert ada["Site1"] != ada["Site2"], "each site has an id of its own for her"
    assert found == [[ada["Site1"]], [ada["Site2"]]]


@pytest.mark.parametrize("said", ["somebody else"])
def test_what_the_caller_says_holds(said: str) -> None:
    assert virtual.run(owners(owner=said))[1] == [[said], [said]]
