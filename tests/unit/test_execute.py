"""`A ; B` and around at one site, over the in-memory transport: what is sent, kept, told and closed."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cheops.bodies import Ending
from cheops.errors import CantKeep, MaybeExecuted, NobodyCan
from cheops.execute import OUTCOME, Patience
from cheops.model import Distances, PeerState, Reply, Request, RoundTrip
from cheops.pipeline import AROUND, Pipeline
from cheops.sites.memory import PeersInMemory
from cheops.stores.kept import KeptInMemory
from cheops.transports.memory import Handler, MemoryTransport, Network
from values import OPENSTACK, digits, reply, request, site_of, view_of, whole

LONG = "network: Site2, identity: Site1, placement: Site3, volume: Site2, image: Site3"
"""With compute, too much for a request id."""


class Keeping(KeptInMemory):
    """Kept scopes that count."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.texts: list[str] = []

    def keep(self, uuid: str, text: str) -> None:
        super().keep(uuid, text)
        self.texts.append(text)


@dataclass
class Body:
    """A request's body that says what becomes of it; without end it is never over."""

    chunks: tuple[bytes, ...] = (b"one", b"two")
    endless: bool = False
    closed: bool = False

    async def read(self) -> AsyncGenerator[bytes, None]:
        try:
            for chunk in self.chunks:
                await asyncio.sleep(0)
                yield chunk
            while self.endless:
                await asyncio.sleep(3600)
        finally:
            self.closed = True


def says(status: int, text: bytes = b"") -> Handler:
    """A service that reads all and answers."""

    async def handle(request: Request) -> Reply:
        await whole(request.body)
        return reply(status, text)

    return handle


@dataclass
class World:
    """Site1's agent, and a compute service on each of three sites."""

    network: Network = field(default_factory=Network)
    kept: Keeping = field(default_factory=Keeping)
    peers: PeersInMemory = field(default_factory=PeersInMemory)

    def __post_init__(self) -> None:
        for name in ("Site1", "Site2", "Site3"):
            self.network.services[name, "compute"] = says(200, name.encode())
        self.pipeline = Pipeline(
            application=OPENSTACK,
            view=view_of(site_of(OPENSTACK)),
            transport=MemoryTransport("Site1", self.network),
            kept=self.kept,
            peers=self.peers,
            random=digits(),
            patience=Patience(keep_bytes=100, seconds=60),
        )

    def at(self, site: str, handle: Handler) -> None:
        self.network.services[site, "compute"] = handle

    async def ask(self, scope: str, method: str = "GET", body: Body | None = None, **headers: str) -> Reply:
        asked = request("compute", method=method, x_scope=scope, **headers)
        return await self.pipeline.serve(replace(asked, body=body.read() if body else None))

    @property
    def sent(self) -> list[str]:
        return [sent.site for sent in self.network.sent]


def run(story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(World()), 20))


def header(of: Reply, name: bytes) -> list[str]:
    return [value.decode() for key, value in of.headers if key == name]


def test_the_first_that_can_answers_and_nobody_else_is_asked() -> None:
    async def story(world: World) -> None:
        answered = await world.ask("{compute: Site2 ; Site3}")
        assert (await whole(answered.body), world.sent) == (b"Site2", ["Site2"])
        assert header(answered, OUTCOME) == []

    run(story)


def test_what_came_of_those_before_is_told() -> None:
    async def story(world: World) -> None:
        world.network.cut("Site1", "Site2")
        world.at("Site3", says(502))
        answered = await world.ask("{compute: Site2 ; Site3 ; Site1}")
        assert await whole(answered.body) == b"Site1"
        assert header(answered, OUTCOME) == ["Site2=unreachable, Site3=502, Site1=200"]

    run(story)


def test_a_write_that_a_service_read_whole_and_refused_is_its_answer() -> None:
    async def story(world: World) -> None:
        world.at("Site2", says(503, b"busy"))
        answered = await world.ask("{compute: Site2 ; Site3}", "POST", Body())
        assert (answered.status, await whole(answered.body), world.sent) == (503, b"busy", ["Site2"])
        assert header(answered, OUTCOME) == []

    run(story)


def test_the_last_one_s_refusal_is_an_answer() -> None:
    async def story(world: World) -> None:
        for site in ("Site2", "Site3"):
            world.at(site, says(503, site.encode()))
        answered = await world.ask("{compute: Site2 ; Site3}")
        assert (answered.status, await whole(answered.body)) == (503, b"Site3")
        assert header(answered, OUTCOME) == ["Site2=503, Site3=503"]

    run(story)


def test_when_nobody_can_each_is_told() -> None:
    async def story(world: World) -> None:
        world.network.cut("Site1", "Site2")
        world.network.cut("Site1", "Site3")
        body = Body()
        with pytest.raises(NobodyCan) as caught:
            await world.ask("{compute: Site2 ; Site3}", "POST", body)
        assert caught.value.detail.endswith("Site2: unreachable, Site3: unreachable")
        assert [each["site"] for each in caught.value.members["tried"]] == ["Site2", "Site3"]

    run(story)


def test_a_write_whose_answer_is_lost_goes_nowhere_else() -> None:
    async def story(world: World) -> None:
        async def lost(request: Request) -> Reply:
            await whole(request.body)
            await asyncio.sleep(3600)
            raise AssertionError("it slept for an hour")

        world.at("Site2", lost)
        world.pipeline = replace(world.pipeline, patience=Patience(keep_bytes=100, seconds=0.05))
        body = Body()
        with pytest.raises(MaybeExecuted, match="Site3 wasn't asked, so that nothing is done twice"):
            await world.ask("{compute: Site2 ; Site3}", "POST", body)
        assert (world.sent, body.closed) == (["Site2"], True)

    run(story)


def test_the_body_is_whole_for_each() -> None:
    got = []

    async def story(world: World) -> None:
        async def takes(request: Request) -> Reply:
            got.append(await whole(request.body))
            return reply(201)

        world.network.cut("Site1", "Site2")
        world.at("Site3", takes)
        body = Body()
        answered = await world.ask("{compute: Site2 ; Site3}", "POST", body)
        assert (answered.status, got) == (201, [b"onetwo"])

    run(story)


# Around.


def test_the_sites_that_are_near_are_told() -> None:
    async def story(world: World) -> None:
        trips = {
            site: RoundTrip(us=us, spread_us=1.0, age=2.04)
            for site, us in {"Site3": 0.0, "Site2": 4_321.0, "Site1": 90_000.0}.items()
        }
        world.peers.near["Site3"] = Distances(of=trips, age=1.0)
        answered = await world.ask("{compute: around(Site3, 10ms)}")
        assert await whole(answered.body) == b"Site3"
        assert header(answered, AROUND) == ["Site3;ms=0.0;age=3.0, Site2;ms=4.3;age=3.0"]

    run(story)


def test_no_other_reply_tells_of_distances() -> None:
    async def story(world: World) -> None:
        for scope in ("{compute: Site2}", "{compute: Site2 ; Site3}"):
            assert header(await world.ask(scope), AROUND) == []

    run(story)


# Kept scopes.


def test_a_scope_is_kept_for_the_choice_that_is_sent_and_no_other() -> None:
    async def story(world: World) -> None:
        await world.ask("{compute: Site2 ; Site3 ; Site1, " + LONG + "}")
        assert [text.partition(", ")[0] for text in world.kept.texts] == ["{compute: Site2"]
        world.network.cut("Site1", "Site2")
        world.kept.texts.clear()
        await world.ask("{compute: Site2 ; Site3 ; Site1, " + LONG + "}")
        assert [text.partition(", ")[0] for text in world.kept.texts] == ["{compute: Site2", "{compute: Site3"]

    run(story)


def test_a_disk_that_is_full_is_told_and_nothing_is_sent() -> None:
    class Full(Keeping):
        def keep(self, uuid: str, text: str) -> None:
            raise OSError(28, "No space left on device")

    async def story(world: World) -> None:
        world.pipeline = replace(world.pipeline, kept=Full())
        body = Body()
        with pytest.raises(CantKeep):
            await world.ask("{compute: Site2 ; Site3, " + LONG + "}", "POST", body)
        assert world.sent == []

    run(story)


@pytest.mark.parametrize("scope", ["{compute: Site2}", "{compute: Site2 ; Site3, " + LONG + "}"])
def test_a_plan_alone_sends_and_keeps_nothing(scope: str) -> None:
    async def story(world: World) -> None:
        world.peers.states["Site2"] = PeerState.DOWN
        body = Body()
        answered = await world.ask(scope, "POST", body, cheops_plan="only")
        shown = json.loads(await whole(answered.body))
        assert {step["site"] for step in shown["steps"]} >= {"Site2"}
        assert "cheops-plan" not in json.dumps(shown["steps"])
        assert (shown["unreachable"], world.sent, world.kept.texts) == (["Site2"], [], [])

    run(story)


# Ends.


async def cancelled(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("moment", ["its body is on the way", "the service thinks"])
def test_a_client_that_leaves_ends_what_was_begun(moment: str) -> None:
    """The service's call is cancelled, the body closed, and nothing goes on behind it."""
    reached, ended = asyncio.Event(), []

    async def story(world: World) -> None:
        async def slow(request: Request) -> Reply:
            try:
                if moment == "its body is on the way":
                    assert request.body
                    assert await anext(request.body)
                reached.set()
                await whole(request.body)
                await asyncio.sleep(3600)
            finally:
                ended.append("call")
            raise AssertionError("it slept for an hour")

        world.at("Site2", slow)
        body = Body(endless=moment == "its body is on the way")
        task = asyncio.create_task(world.ask("{compute: Site2 ; Site3}", "POST", body))
        await reached.wait()
        await asyncio.sleep(0.01)
        await cancelled(task)
        assert (ended, body.closed, world.sent) == (["call"], True, ["Site2"])
        await asyncio.sleep(0)  # what was cancelled a moment ago
        assert asyncio.all_tasks() - {asyncio.current_task()} == around

    async def alone(world: World) -> None:
        around.update(asyncio.all_tasks() - {asyncio.current_task()})
        await story(world)

    around: set[asyncio.Task[Any]] = set()
    run(alone)


@pytest.mark.parametrize("read", [0, 1])
def test_closing_the_reply_closes_the_request_s_body(read: int) -> None:
    """A service may answer while it still reads; also a client that leaves before the first byte ends both."""
    closed = []

    async def content() -> AsyncGenerator[bytes, None]:
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append("reply")

    async def story(world: World) -> None:
        async def early(request: Request) -> Reply:
            assert request.body
            assert await anext(request.body)
            return Reply(status=200, headers=(), body=content())

        world.at("Site2", early)
        body = Body(endless=True)
        answered = await world.ask("{compute: Site2 ; Site3}", "POST", body)
        for _ in range(read):
            assert await anext(answered.body) == b"one"
        assert not body.closed
        await answered.body.aclose()
        assert (body.closed, closed) == (True, ["reply"] * read)

    run(story)


def test_so_does_its_end() -> None:
    async def story(world: World) -> None:
        body = Body()
        answered = await world.ask("{compute: Site2 ; Site3}", "POST", body)
        assert await whole(answered.body) == b"Site2"
        assert body.closed

    run(story)


async def parts(*found: bytes | Exception) -> AsyncGenerator[bytes, None]:
    for part in found:
        if isinstance(part, Exception):
            raise part
        yield part


@pytest.mark.parametrize("found", [(b"a", b"b"), (), (b"a", ValueError("broken"))])
def test_a_body_s_end_is_told(found: tuple[bytes | Exception, ...]) -> None:
    told = []

    async def story() -> None:
        async def ended() -> None:
            told.append("ended")

        body = Ending(parts(*found), ended)
        got: list[bytes | Exception] = []
        try:
            async for chunk in body:
                assert told == []
                got.append(chunk)
        except ValueError as error:
            got.append(error)
        assert tuple(got) == found
        assert set(told) == {"ended"}

    asyncio.run(story())


def test_so_is_the_end_of_one_into_which_an_error_is_thrown() -> None:
    told = []

    async def story() -> None:
        async def ended() -> None:
            told.append("ended")

        body = Ending(parts(b"a", b"b"), ended)
        assert await anext(body) == b"a"
        with pytest.raises(KeyError):
            await body.athrow(KeyError("x"))
        assert told
        assert [chunk async for chunk in body] == []

    asyncio.run(story())
