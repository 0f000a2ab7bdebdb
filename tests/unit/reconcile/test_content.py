"""Content that a service takes once: sent again, it is refused, and that is no failure if it has come before."""

import asyncio
from typing import Any

import pytest

import virtual
from blackbox import reply
from cheops.model import Reply, Request
from replicated import World
from values import application

NOTES = application(
    """
    services:
      notes:
        resources:
          note:
            collection: /notes
            client_id: accepted
            content: {path: "/notes/{id}/file", once: {field: status, done: [active], failed: [queued]}}
    """
)
NEVER = -1  # it hasn't answered by the time that the agent dies
BOTH = "{notes: Site1 & Site2}"


class Once:
    """A service that takes the bytes of a note once, and answers the first time as it is told to."""

    def __init__(self, box: Any, takes: bool = True) -> None:
        self._box, self._takes, self.first, self.answers = box, takes, 0, list[int]()

    async def __call__(self, request: Request) -> Reply:
        if not request.target.endswith(b"/file") or request.method != "PUT":
            answered: Reply = await self._box(request)
            return answered
        note = self._box.documents["/notes/n"]
        if note.get("status") == "active":
            answered = reply(409, {})
        elif self._takes:
            answered = await self._box(request)
            note["status"] = "active"
        else:
            answered = reply(409, {"error": "no room"})
        status, self.first = self.first or answered.status, 0
        self.answers.append(answered.status)
        if status == NEVER:
            await asyncio.sleep(1_000_000)
        return answered if status == answered.status else reply(status, {})


async def sent(lost: int, takes: bool = True) -> tuple[str, list[int]]:
    """What Site1 hears of the content at Site2, whose first answer is another one than it should be."""
    async with World("Site1", "Site2", described=NOTES) as world:
        services = {name: Once(world[name].box, takes or name == "Site1") for name in world.sites}
        for name, service in services.items():
            world.network.services[name, "notes"] = service
        await world["Site1"].ask("PUT", "/notes/n", {"status": "queued"}, X_Scope=BOTH)
        services["Site2"].first = lost
        answer = await world["Site1"].ask("PUT", "/notes/n/file", b"bytes", Prefer="wait=2")
        assert answer.status == 204
        if lost == NEVER:
            await world["Site2"].kill()
            await world["Site2"].start()
        await world.settled()
        parts = world["Site1"].parts
        book = await parts.ledger.book(answer.rid) if parts else None
        assert book
        [content] = [op for op in book.log.operations.values() if op.facet]
        outcome = book.outcome(content.dot, "Site2")
        return outcome.state.value if outcome else "", services["Site2"].answers


@pytest.mark.parametrize("lost", [500, 504, NEVER])
def test_what_has_come_although_the_answer_was_lost_is_there(lost: int) -> None:
    assert virtual.run(sent(lost=lost)) == ("done", [204, 409])


def test_what_is_refused_and_isnt_there_stays_refused() -> None:
    assert virtual.run(sent(504, takes=False)) == ("refused", [409, 409])
