"""What comes as a stream from other sites' agents: by HTTP over a real socket, and by its twin in memory."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from cheops.errors import AgentAway, CheopsError, Refused, SiteUnreachable
from cheops.ports import BLOBS, Transport
from cheops.record.operation import Body
from cheops.stores.blobs import BlobsInMemory
from cheops.transports.http import HttpTransport
from cheops.transports.memory import MemoryTransport, Network, blobs_of

LARGE = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(LARGE).hexdigest()
PATH = BLOBS + SHA256
STALL_SECONDS = 0.3
LONGER_SECONDS = 1.0  # where a busy machine must not look like a peer that stalls


def head(status: int, length: int, *headers: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status} Such", f"content-length: {length}", *headers, "", "")).encode()


class Envoy:
    """Answers with these parts, one after the other; None: it falls silent. Keeps the heads of what it got."""

    def __init__(self, *parts: bytes | None) -> None:
        self.parts, self.got = parts, list[str]()
        self.left = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.got.append((await reader.readuntil(b"\r\n\r\n")).decode())
            for part in self.parts:
                if part is None:
                    await reader.read()
                    return
                writer.write(part)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.left.set()


@asynccontextmanager
async def transport_to(
    envoy: Envoy, folder: Path, stall_seconds: float = STALL_SECONDS
) -> AsyncIterator[HttpTransport]:
    server = await asyncio.start_unix_server(envoy, folder / "egress.sock")
    async with server, HttpTransport("Site1", folder / "egress.sock", stall_seconds) as transport:
        yield transport


async def all_of(body: AsyncGenerator[bytes, None]) -> bytes:
    async with aclosing(body):
        return b"".join([chunk async for chunk in body])


def fetched(folder: Path, envoy: Envoy, offset: int = 0) -> bytes:
    async def story() -> bytes:
        async with transport_to(envoy, folder) as transport:
            return await all_of(transport.fetch(PATH, site="Site2", offset=offset))

    return asyncio.run(asyncio.wait_for(story(), 20))


def test_all_of_it(tmp_path: Path) -> None:
    envoy = Envoy(head(200, len(LARGE)), LARGE)
    assert fetched(tmp_path, envoy) == LARGE
    got = envoy.got[0].split("\r\n")
    assert {"cheops-to: site/Site2", "cheops-service: cheops", f"cheops-path: {PATH}", "Host: mesh"} <= set(got)
    assert not any(line.lower().startswith("range") for line in got)


def test_the_rest_of_it(tmp_path: Path) -> None:
    envoy = Envoy(head(206, 9, f"content-range: bytes {len(LARGE) - 9}-{len(LARGE) - 1}/{len(LARGE)}"), LARGE[-9:])
    assert fetched(tmp_path, envoy, len(LARGE) - 9) == LARGE[-9:]
    assert f"Range: bytes={len(LARGE) - 9}-" in envoy.got[0].split("\r\n")


@pytest.mark.parametrize(
    ("answer", "offset"),
    [
        (head(200, 3), 7),
        (head(206, 3), 7),
        (head(206, 3, "content-range: bytes 70-72/80"), 7),
        (head(206, 3, "content-range: bytes 0-2/80"), 0),
        (head(404, 3), 0),
        (head(416, 3), 7),
        (head(500, 3), 0),
        (head(302, 3, "location: http://elsewhere/"), 0),
    ],
)
def test_any_other_beginning_is_refused(tmp_path: Path, answer: bytes, offset: int) -> None:
    with pytest.raises(Refused) as caught:
        fetched(tmp_path, Envoy(answer, b"abc"), offset)
    assert caught.value.members == {"site": "Site2", "answer": int(answer.split()[1])}


@pytest.mark.parametrize(("code", "error"), [("agent-away", AgentAway), ("unreachable", SiteUnreachable)])
def test_what_envoy_answers_in_its_place(tmp_path: Path, code: str, error: type[CheopsError]) -> None:
    problem = json.dumps({"code": code}).encode()
    with pytest.raises(error) as caught:
        fetched(tmp_path, Envoy(head(503, len(problem), "cheops-executed: no"), problem))
    assert type(caught.value) is error


@pytest.mark.parametrize("parts", [(), (head(200, 10),), (head(200, 10), b"12345"), (b"HTTP/1.1 20",)])
@pytest.mark.parametrize("end", ["closes", "stalls"])
def test_one_that_breaks_off_or_stalls(tmp_path: Path, parts: tuple[bytes, ...], end: str) -> None:
    envoy = Envoy(*parts, None) if end == "stalls" else Envoy(*parts)
    why = "nothing came for 0.3 s" if end == "stalls" else "it broke off"
    with pytest.raises(SiteUnreachable, match=why):
        fetched(tmp_path, envoy)


def test_one_that_is_slow_but_does_not_stall(tmp_path: Path) -> None:
    """Each byte takes a tenth of the time in which something has to come; all together take longer."""

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(200, 13))
        for _ in range(13):
            await asyncio.sleep(LONGER_SECONDS / 10)
            writer.write(b"x")
        writer.close()

    async def story() -> bytes:
        server = await asyncio.start_unix_server(slowly, tmp_path / "egress.sock")
        async with server, HttpTransport("Site1", tmp_path / "egress.sock", LONGER_SECONDS) as transport:
            return await all_of(transport.fetch(PATH, site="Site2"))

    assert asyncio.run(story()) == b"x" * 13


def test_a_reader_that_is_slow_is_waited_for(tmp_path: Path) -> None:
    """It isn't the peer that stalls while our own disk does."""

    async def story() -> int:
        size, got = 8 << 20, 0
        async with transport_to(Envoy(head(200, size), b"x" * size), tmp_path, LONGER_SECONDS) as transport:
            async for chunk in transport.fetch(PATH, site="Site2"):
                if not got:
                    await asyncio.sleep(LONGER_SECONDS * 1.5)
                got += len(chunk)
        return got

    assert asyncio.run(story()) == 8 << 20


def test_who_has_enough_gives_up_the_connection(tmp_path: Path) -> None:
    async def story() -> None:
        envoy = Envoy(head(200, len(LARGE)), LARGE[:1000], None)
        async with transport_to(envoy, tmp_path) as transport:
            async with aclosing(transport.fetch(PATH, site="Site2")) as body:
                assert await anext(body)
            await asyncio.wait_for(envoy.left.wait(), 10)

    asyncio.run(story())


def test_an_envoy_that_is_not_there(tmp_path: Path) -> None:
    async def story() -> None:
        async with HttpTransport("Site1", tmp_path / "egress.sock") as transport:
            await anext(transport.fetch(PATH, site="Site2"))

    with pytest.raises(SiteUnreachable):
        asyncio.run(story())


async def _large() -> AsyncGenerator[bytes, None]:
    yield LARGE


def test_in_memory_a_fetch_is_cut_and_goes_on() -> None:
    async def told() -> None:
        network, kept, blobs = await _network()
        transport: Transport = MemoryTransport("Site1", network)
        offsets = []

        async def source(offset: int) -> AsyncGenerator[bytes, None]:
            offsets.append(offset)
            async for chunk in transport.fetch(PATH, site="Site2", offset=offset):
                yield chunk
                if not offset:
                    network.cut("Site1", "Site2")

        with pytest.raises(SiteUnreachable):
            await blobs.fetch(Body(sha256=SHA256, size=len(LARGE)), source)
        with pytest.raises(SiteUnreachable):
            await anext(transport.fetch(PATH, site="Site2"))
        network.heal("Site1", "Site2")
        await blobs.fetch(Body(sha256=SHA256, size=len(LARGE)), source)
        assert (await all_of(blobs.read(SHA256)), offsets[0], offsets[1] > 0) == (LARGE, 0, True)
        assert kept.has(SHA256)

    asyncio.run(told())


async def _network() -> tuple[Network, BlobsInMemory, BlobsInMemory]:
    """Site2 keeps LARGE in the first."""
    network, kept = Network(), BlobsInMemory()
    await kept.keep(_large())
    network.fetched["Site2"] = blobs_of(kept, "Site2")
    return network, kept, BlobsInMemory()


@pytest.mark.parametrize(("path", "offset", "answer"), [(BLOBS + "0" * 64, 0, 404), (PATH, len(LARGE), 416)])
def test_in_memory_the_same_is_refused(path: str, offset: int, answer: int) -> None:
    async def told() -> None:
        network, _, _ = await _network()
        await anext(MemoryTransport("Site1", network).fetch(path, site="Site2", offset=offset))

    with pytest.raises(Refused) as caught:
        asyncio.run(told())
    assert caught.value.members["answer"] == answer


def test_in_memory_an_agent_may_be_away() -> None:
    async def told() -> None:
        await anext(MemoryTransport("Site1", Network()).fetch(PATH, site="Site2"))

    with pytest.raises(AgentAway):
        asyncio.run(told())
