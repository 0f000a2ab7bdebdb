"""The way to other sites' agents by HTTP, over a real socket: every answer that can come, and none."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cheops.errors import AgentAway, Refused, SiteUnreachable
from cheops.model import Reply, Request
from cheops.transports.http import HttpTransport
from cheops.transports.memory import Handler, MemoryTransport, Network
from values import at_once, chunks, reply, request, whole

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
AWAY = json.dumps({"code": "agent-away"}).encode()


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Such", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Envoy:
    """Answers the same bytes to every request and then, unless it `stays`, closes. Keeps what it got."""

    def __init__(self, reply: bytes, *, stays: bool = False) -> None:
        self.reply, self.stays = reply, stays
        self.got: list[bytes] = []
        self.closed = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            self.got.append(head + await reader.readexactly(int(length[1]) if length else 0))
            writer.write(self.reply)
            await writer.drain()
            if self.stays:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.closed.set()


@asynccontextmanager
async def transport_to(envoy: Envoy, folder: Path) -> AsyncIterator[HttpTransport]:
    server = await asyncio.start_unix_server(envoy, folder / "egress.sock")
    async with server, HttpTransport("Site1", folder / "egress.sock") as transport:
        yield transport


def run(folder: Path, envoy: Envoy, story: Callable[[HttpTransport], Awaitable[object]]) -> None:
    async def told() -> None:
        async with transport_to(envoy, folder) as transport:
            await story(transport)

    asyncio.run(asyncio.wait_for(told(), 20))


def asked(folder: Path, envoy: Envoy, seconds: float = 10) -> bytes:
    """What came of one question to the agent of Site2."""
    found = []

    async def story(transport: HttpTransport) -> None:
        found.append(await transport.ask("/distances", site="Site2", seconds=seconds))

    run(folder, envoy, story)
    return found[0]


def lines(got: bytes) -> list[str]:
    return got.partition(b"\r\n\r\n")[0].decode().split("\r\n")


def test_a_question_goes_to_the_peer_s_cluster(tmp_path: Path) -> None:
    envoy = Envoy(OK)
    assert asked(tmp_path, envoy) == b"hello"
    (got,) = map(lines, envoy.got)
    assert got[0] == "GET / HTTP/1.1"
    assert {"cheops-to: site/Site2", "cheops-service: cheops", "cheops-path: /distances", "Host: mesh"} <= set(got)


@pytest.mark.parametrize("door", [True, False])
def test_what_is_for_the_agent_of_a_peer_says_so(tmp_path: Path, door: bool) -> None:
    envoy = Envoy(OK)

    async def story(transport: HttpTransport) -> None:
        await whole((await transport.send(request("orders", "/a//b"), site="Site2", door=door)).body)

    run(tmp_path, envoy, story)
    (got,) = map(lines, envoy.got)
    assert {"cheops-to: site/Site2", "cheops-service: orders", "cheops-path: /a//b"} <= set(got)
    assert ("cheops-door: yes" in got) is door


@pytest.mark.parametrize("door", [True, False])
def test_so_it_is_in_memory(door: bool) -> None:
    network, met = Network(), []

    def at(place: str) -> Handler:
        async def answers(_: Request) -> Reply:
            met.append(place)
            return reply()

        return answers

    network.services["Site2", "orders"], network.doors["Site2"] = at("service"), at("door")
    at_once(MemoryTransport("Site1", network).send(request("orders"), site="Site2", door=door))
    assert met == ["door" if door else "service"]


@pytest.mark.parametrize("body", [b"body", b""])
def test_one_with_a_body_is_a_post(tmp_path: Path, body: bytes) -> None:
    envoy = Envoy(OK)

    async def story(transport: HttpTransport) -> None:
        assert await transport.ask("/x?y=%2f", site="Site1", body=body) == b"hello"

    run(tmp_path, envoy, story)
    (got,) = envoy.got
    assert (lines(got)[0], got.partition(b"\r\n\r\n")[2]) == ("POST / HTTP/1.1", body)
    assert {"cheops-to: local/cheops", "cheops-path: /x?y=%2f"} <= set(lines(got))


@pytest.mark.parametrize("status", [201, 204, 302, 400, 403, 404, 500, 503])
def test_what_the_agent_itself_answers_else_is_refused(tmp_path: Path, status: int) -> None:
    envoy = Envoy(answer(status, b"" if status == 204 else b"no \xff", "location: http://elsewhere/"))
    with pytest.raises(Refused) as caught:
        asked(tmp_path, envoy)
    assert caught.value.members == {"site": "Site2", "answer": status}
    assert caught.value.detail.startswith(f"the agent of Site2 answered {status}")
    assert len(envoy.got) == 1  # no redirect is followed


@pytest.mark.parametrize(
    ("executed", "body", "error"),
    [
        ("no", AWAY, AgentAway),
        ("no", b'{"code": "unreachable"}', SiteUnreachable),
        ("unknown", b"", SiteUnreachable),
        ("no", b"[]", SiteUnreachable),
        ("no", b'"agent-away"', SiteUnreachable),
        ("no", b"\xff", SiteUnreachable),
    ],
)
@pytest.mark.parametrize("status", [404, 503])
def test_what_envoy_answers_in_its_place_is_a_site_that_cannot_be_reached(
    tmp_path: Path, status: int, executed: str, body: bytes, error: type[SiteUnreachable]
) -> None:
    with pytest.raises(SiteUnreachable) as caught:
        asked(tmp_path, Envoy(answer(status, body, f"Cheops-Executed: {executed}")))
    assert type(caught.value) is error
    assert caught.value.members == {"site": "Site2", "why": f"it answered {status}"}


def test_one_that_says_its_agent_is_away_itself_is_refused(tmp_path: Path) -> None:
    """A body alone proves nothing."""
    with pytest.raises(Refused):
        asked(tmp_path, Envoy(answer(503, AWAY)))


def test_a_mute_one_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(SiteUnreachable) as caught:
        asked(tmp_path, Envoy(b"", stays=True), seconds=0.2)
    assert caught.value.members["why"] == "it didn't answer in 0.2 s"


def test_nor_is_one_that_stops_in_the_middle(tmp_path: Path) -> None:
    with pytest.raises(SiteUnreachable, match=r"it didn't answer in 0\.2 s"):
        asked(tmp_path, Envoy(OK[:-1], stays=True), seconds=0.2)


@pytest.mark.parametrize("reply", [b"", OK[:20], OK[:-1], b"SSH-2.0\r\n\r\n", b"\0" * 100])
def test_an_answer_that_breaks_off_is_none(tmp_path: Path, reply: bytes) -> None:
    with pytest.raises(SiteUnreachable) as caught:
        asked(tmp_path, Envoy(reply))
    assert caught.value.members["why"]


def test_an_envoy_that_is_not_there(tmp_path: Path) -> None:
    async def story() -> None:
        async with HttpTransport("Site1", tmp_path / "none.sock") as transport:
            with pytest.raises(SiteUnreachable, match="the agent of Site2 can't be asked: Cannot connect"):
                await transport.ask("/", site="Site2")
            with pytest.raises(SiteUnreachable) as caught:
                await transport.send(request("orders"), site="Site2")
            assert caught.value.members["executed"] == "no"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("reply", "text"), [(answer(200, "{a: Sité}".encode()), "{a: Sité}"), (answer(404, b"none"), None)]
)
def test_a_kept_scope_is_recalled(tmp_path: Path, reply: bytes, text: str | None) -> None:
    envoy = Envoy(reply)

    async def story(transport: HttpTransport) -> None:
        assert await transport.recall("c4e0", site="Site2") == text

    run(tmp_path, envoy, story)
    assert "cheops-path: /kept/c4e0" in lines(envoy.got[0])


@pytest.mark.parametrize(
    "reply", [answer(403), answer(503, AWAY, "cheops-executed: no"), answer(404, b"", "cheops-executed: no"), b""]
)
def test_a_keeper_that_cannot_be_asked_is_not_one_that_keeps_nothing(tmp_path: Path, reply: bytes) -> None:
    async def story(transport: HttpTransport) -> None:
        with pytest.raises(SiteUnreachable, match="is kept by Site2, which can't be asked: "):
            await transport.recall("c4e0", site="Site2")

    run(tmp_path, Envoy(reply), story)


ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nhello"


@pytest.mark.parametrize("begun", [True, False])
def test_closing_a_reply_s_body_gives_up_its_connection(tmp_path: Path, begun: bool) -> None:
    """Also if nobody has begun to read: a client may leave before the first byte."""
    envoy = Envoy(ENDLESS, stays=True)

    async def story(transport: HttpTransport) -> None:
        reply = await transport.send(request("orders"), site="Site2")
        if begun:
            assert await anext(reply.body) == b"hello"
        assert not envoy.closed.is_set()
        await reply.body.aclose()
        await asyncio.wait_for(envoy.closed.wait(), 5)

    run(tmp_path, envoy, story)


def test_a_reply_that_breaks_off_is_told(tmp_path: Path) -> None:
    async def story(transport: HttpTransport) -> None:
        reply = await transport.send(request("orders"), site="Site2")
        with pytest.raises(SiteUnreachable, match="Site2 broke off in the middle of its reply"):
            await whole(reply.body)

    run(tmp_path, Envoy(ENDLESS), story)


def test_a_connection_is_used_again_once_its_reply_was_read(tmp_path: Path) -> None:
    connections = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
        writer.close()

    async def story() -> None:
        server = await asyncio.start_unix_server(serve, tmp_path / "egress.sock")
        async with server, HttpTransport("Site1", tmp_path / "egress.sock") as transport:
            for _ in range(3):
                reply = await transport.send(request("orders", body="no"), site="Site2")
                assert await whole(reply.body) == b"hello"

    asyncio.run(asyncio.wait_for(story(), 20))
    assert len(connections) == 1


def test_a_small_body_goes_in_one_piece_with_its_headers(tmp_path: Path) -> None:
    envoy = Envoy(OK)
    sent = request("orders", "/orders?a=%2f", "PUT", content_length="4")

    async def story(transport: HttpTransport) -> None:
        with_body = type(sent)(
            service=sent.service, method="PUT", target=sent.target, headers=sent.headers, body=chunks(b"ab", b"cd")
        )
        assert await whole((await transport.send(with_body, site="Site1")).body) == b"hello"

    run(tmp_path, envoy, story)
    assert envoy.got[0].endswith(b"\r\n\r\nabcd")
    assert {"cheops-path: /orders?a=%2f", "cheops-to: local/orders"} <= set(lines(envoy.got[0]))
