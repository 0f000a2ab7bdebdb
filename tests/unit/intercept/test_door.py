"""The door, in raw ASGI messages: what comes in becomes a Request, and both bodies stream."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any

import pytest

from cheops.errors import BadScope, CheopsError, SiteUnreachable
from cheops.intercept.door import Door, Serve
from cheops.model import Reply, Request
from values import reply, whole

Message = MutableMapping[str, Any]
END = {"type": "http.response.body", "body": b""}
LEAVES = {"type": "http.disconnect"}
SOON = 2.0  # seconds; what takes longer never comes


def http_scope(*headers: tuple[bytes, bytes], method: str = "GET") -> dict[str, Any]:
    internal = [(b"cheops-service", b"orders"), (b"cheops-path", b"/a%2f//b?x={y}")]
    return {
        "type": "http",
        "method": method,
        "raw_path": b"/~scope/",
        "query_string": b"",
        "headers": [*internal, *headers],
    }


def part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


class Client:
    """A client at the door: says messages, and hears those that come back."""

    def __init__(self, serve: Serve, scope: Message) -> None:
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self._heard: asyncio.Queue[Message] = asyncio.Queue()
        self.exchange = asyncio.create_task(Door(serve)(scope, self._said.get, self._heard.put))

    def say(self, *messages: Message) -> None:
        for message in messages:
            self._said.put_nowait(message)

    async def hear(self) -> Message:
        return await asyncio.wait_for(self._heard.get(), SOON)

    async def end(self) -> list[Message]:
        """What is left to hear, once the exchange has ended and left no task behind."""
        await asyncio.wait_for(self.exchange, SOON)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return [self._heard.get_nowait() for _ in range(self._heard.qsize())]


def answering(answered: Reply | None = None) -> tuple[Serve, list[Request]]:
    """A service that answers at once, and the requests it had."""
    seen: list[Request] = []

    async def serve(request: Request) -> Reply:
        seen.append(request)
        return answered or reply()

    return serve, seen


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def timed() -> None:
        async with asyncio.timeout(10):
            await story()

    asyncio.run(timed())


def test_a_request_without_a_body() -> None:
    async def story() -> None:
        serve, seen = answering(reply(204, headers=((b"x", b"1"), (b"x", b"2"))))
        client = Client(serve, http_scope((b"accept", b"a"), (b"x-b", b"1"), (b"accept", b"b"), method="BREW"))
        start = {"type": "http.response.start", "status": 204, "headers": [(b"x", b"1"), (b"x", b"2")]}
        assert await client.end() == [start, END]
        assert seen == [
            Request(
                service="orders",
                method="BREW",
                target=b"/a%2f//b?x={y}",
                headers=((b"accept", b"a"), (b"x-b", b"1"), (b"accept", b"b")),
            )
        ]

    run(story)


def test_without_lua_the_path_of_the_wire_counts() -> None:
    async def story() -> None:
        serve, seen = answering()
        scope = http_scope() | {"raw_path": b"/a%20b", "query_string": b"c=d"}
        scope["headers"] = [(b"cheops-service", b"orders")]
        await Client(serve, scope).end()
        await Client(serve, scope | {"query_string": b""}).end()
        assert [request.target for request in seen] == [b"/a%20b?c=d", b"/a%20b"]

    run(story)


@pytest.mark.parametrize(
    ("headers", "has_body"),
    [
        ([], False),
        ([(b"content-length", b"0")], False),
        ([(b"content-length", b"2")], True),
        ([(b"transfer-encoding", b"chunked")], True),
    ],
)
def test_a_request_has_a_body_if_its_headers_say_so(headers: list[tuple[bytes, bytes]], has_body: bool) -> None:
    async def story() -> None:
        async def serve(request: Request) -> Reply:
            assert (request.body is not None) == has_body
            return reply(200, await whole(request.body))

        client = Client(serve, http_scope(*headers))
        if has_body:
            client.say(part(b"a"), part(b""), part(b"b", more=False))
        heard = await client.end()
        assert [message["body"] for message in heard[1:]] == ([b"ab", b""] if has_body else [b"", b""])

    run(story)


def test_the_reply_streams() -> None:
    """A chunk is passed on before the next one is asked for."""

    async def story() -> None:
        go_on = asyncio.Event()

        async def body() -> AsyncGenerator[bytes, None]:
            yield b"one"
            await go_on.wait()
            yield b"two"

        client = Client(answering(Reply(status=200, headers=(), body=body()))[0], http_scope())
        assert (await client.hear())["type"] == "http.response.start"
        assert await client.hear() == {"type": "http.response.body", "body": b"one", "more_body": True}
        go_on.set()
        assert await client.end() == [{"type": "http.response.body", "body": b"two", "more_body": True}, END]

    run(story)


async def echo(request: Request) -> Reply:
    assert request.body
    return Reply(status=200, headers=(), body=request.body)


def test_both_ways_at_once_and_nothing_is_held() -> None:
    async def story() -> None:
        client = Client(echo, http_scope((b"transfer-encoding", b"chunked"), method="POST"))
        await client.hear()
        for body in (b"a", b"b" * 100_000, b"c"):
            client.say(part(body))
            assert (await client.hear())["body"] == body
        client.say(part(b"", more=False))
        assert await client.end() == [END]

    run(story)


def test_what_is_not_read_is_not_taken() -> None:
    """A slow service slows the client down: the next part is received when the one before has been used."""

    async def story() -> None:
        taken: list[int] = []
        go_on = asyncio.Event()

        async def serve(request: Request) -> Reply:
            assert request.body
            async for chunk in request.body:
                taken.append(len(chunk))
                await go_on.wait()
            return reply()

        client = Client(serve, http_scope((b"content-length", b"9")))
        client.say(part(b"abc"), part(b"def"), part(b"ghi", more=False))
        await asyncio.sleep(0.01)
        assert (taken, client._said.qsize()) == ([3], 2)
        go_on.set()
        await client.end()
        assert taken == [3, 3, 3]

    run(story)


class Patient:
    """A service that never answers, and knows whether it was told to give up."""

    def __init__(self, reads: bool = False) -> None:
        self.reads, self.began, self.gave_up = reads, asyncio.Event(), False

    async def serve(self, request: Request) -> Reply:
        self.began.set()
        try:
            if self.reads:
                await whole(request.body)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.gave_up = True
            raise
        raise AssertionError("it waits for ever")


@pytest.mark.parametrize("reads", [False, True])
def test_a_client_that_leaves_ends_what_is_done_for_it(reads: bool) -> None:
    async def story() -> None:
        service = Patient(reads)
        client = Client(service.serve, http_scope(*[(b"content-length", b"1")] * reads))
        await service.began.wait()
        client.say(*[part(b"a", more=False)] * reads, LEAVES)
        assert await client.end() == []
        assert service.gave_up

    run(story)


def test_so_does_one_that_leaves_in_the_middle_of_its_body() -> None:
    async def story() -> None:
        service = Patient(reads=True)
        client = Client(service.serve, http_scope((b"content-length", b"9")))
        client.say(part(b"abc"), LEAVES)
        assert await client.end() == []
        assert service.gave_up

    run(story)


def test_also_when_another_task_reads_the_body() -> None:
    """As an HTTP client does, which sees the body break off."""

    async def story() -> None:
        broke_off: list[BaseException | None] = []

        async def serve(request: Request) -> Reply:
            upload = asyncio.create_task(whole(request.body))
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.wait([upload])
                broke_off.append(upload.exception())
            raise AssertionError("it waits for ever")

        client = Client(serve, http_scope((b"content-length", b"9")))
        client.say(part(b"abc"), LEAVES)
        assert await client.end() == []
        assert [type(error) for error in broke_off] == [ConnectionResetError]

    run(story)


def test_one_that_leaves_in_the_middle_of_the_reply_closes_it() -> None:
    async def story() -> None:
        closed: list[bool] = []

        async def body() -> AsyncGenerator[bytes, None]:
            try:
                yield b"one"
                await asyncio.Event().wait()
            finally:
                closed.append(True)

        client = Client(answering(Reply(status=200, headers=(), body=body()))[0], http_scope())
        await client.hear()
        await client.hear()
        client.say(LEAVES)
        assert await client.end() == []
        assert closed == [True]

    run(story)


def test_the_server_may_end_an_exchange_too() -> None:
    async def story() -> None:
        service = Patient()
        client = Client(service.serve, http_scope())
        await service.began.wait()
        client.exchange.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.exchange
        assert service.gave_up

    run(story)


def failing(error: Exception) -> Serve:
    async def serve(request: Request) -> Reply:
        raise error

    return serve


@pytest.mark.parametrize("body", [False, True])
def test_an_error_is_a_problem_document(body: bool) -> None:
    async def story() -> None:
        error = BadScope("column 1: é", hint="write it", column=1)
        start, content = await Client(failing(error), http_scope(*[(b"content-length", b"1")] * body)).end()
        assert start["status"] == 400
        assert dict(start["headers"]) == {
            b"content-type": b"application/problem+json",
            b"content-length": str(len(content["body"])).encode(),
        }
        assert json.loads(content["body"]) == {
            "type": "urn:cheops:bad-scope",
            "title": "The scope can't be understood",
            "status": 400,
            "detail": "column 1: é",
            "code": "bad-scope",
            "hint": "write it",
            "retry": False,
            "fault": "caller",
            "column": 1,
        }

    run(story)


def test_an_error_in_the_middle_of_a_reply_leaves_it_unfinished() -> None:
    """The server ends the connection, so that nobody takes half a reply for a whole one."""

    async def story() -> None:
        async def body() -> AsyncGenerator[bytes, None]:
            yield b"half"
            raise SiteUnreachable("Site2 broke off", site="Site2")

        client = Client(answering(Reply(status=200, headers=(), body=body()))[0], http_scope())
        heard = await client.end()
        assert [message["type"] for message in heard] == ["http.response.start", "http.response.body"]
        assert heard[-1]["more_body"]

    run(story)


def test_a_fault_of_ours_is_an_answer_too() -> None:
    async def story() -> None:
        start, content = await Client(failing(ZeroDivisionError()), http_scope()).end()
        assert (start["status"], json.loads(content["body"])["fault"]) == (500, "ours")

    run(story)


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_the_door_takes_http_only(kind: str) -> None:
    async def story() -> None:
        with pytest.raises(RuntimeError, match=f"takes HTTP only, not {kind}"):
            await Client(answering()[0], {"type": kind}).exchange

    run(story)


def test_serve_may_be_replaced_between_requests() -> None:
    async def story() -> None:
        door = Door(failing(CheopsError("old")))
        door.serve = answering(reply(201))[0]
        heard: list[Message] = []

        async def nothing() -> Message:
            return await asyncio.Future()

        async def hear(message: Any) -> None:
            heard.append(dict(message))

        await door(http_scope(), nothing, hear)
        assert heard[0]["status"] == 201

    run(story)
