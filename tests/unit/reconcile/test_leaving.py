"""A site leaves a whole, and what belongs to it: each is deleted there in its turn."""

import asyncio
from typing import Any

import virtual
from cheops.applications import Application
from cheops.model import Reply, Request
from replicated import World

NETS = Application.model_validate(
    {
        "application": "nets",
        "services": {
            "notes": {
                "number": 1,
                "resources": {
                    "net": {
                        "collection": "/nets",
                        "client_id": "accepted",
                        "span": {"children": {"subnet": {"field": "net", "spans": True}}},
                    },
                    "subnet": {
                        "collection": "/subnets",
                        "client_id": "accepted",
                        "refers": {"net": "net"},
                        "span": {},
                    },
                },
            }
        },
    }
)


class Deleting:
    """A service whose deletions take a while; `told` says when each begins and ends."""

    def __init__(self, service: Any) -> None:
        self._service, self.told = service, list[str]()

    async def __call__(self, request: Request) -> Reply:
        if request.method != "DELETE":
            reply: Reply = await self._service(request)
            return reply
        path = request.target.decode()
        self.told.append(f"begins {path}")
        await asyncio.sleep(1)
        reply = await self._service(request)
        self.told.append(f"ended {path}")
        return reply


async def left() -> list[str]:
    async with World("Site1", "Site2", "Site3", described=NETS) as world:
        made = await world["Site1"].ask("POST", "/nets", {"id": "a"}, X_Scope="{notes: Site1 % Site2 % Site3}")
        await world["Site1"].ask("POST", "/subnets", {"id": "b", "net": "a"})
        service = world.network.services["Site3", "notes"] = Deleting(world["Site3"].box)
        parts = world["Site1"].parts
        assert parts
        await parts.operator.place(made.rid, ("Site1", "Site2"), "delete")
        await asyncio.sleep(60)
        return service.told


def test_what_belongs_to_a_whole_leaves_before_it_does() -> None:
    assert virtual.run(left()) == ["begins /subnets/b", "ended /subnets/b", "begins /nets/a", "ended /nets/a"]
