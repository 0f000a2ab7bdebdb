"""A body that may have to be sent again: whole each time, kept up to the limit, whoever reads it or gives up."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from cheops.bodies import KeptBody

CHUNKS = [b"one", b"two", b"three"]


async def body(chunks: list[bytes]) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


async def some(kept: KeptBody, count: int) -> list[bytes]:
    """The first chunks; the reader stays as it is, as that of a connection that was given up."""
    reader = kept.again()
    return [await anext(reader) for _ in range(count)]


async def whole(kept: KeptBody) -> list[bytes]:
    return [chunk async for chunk in kept.again()]


@pytest.mark.parametrize("read", range(4))
def test_it_is_whole_again_however_much_was_read(read: int) -> None:
    async def story() -> None:
        kept = KeptBody(body(CHUNKS), 100)
        assert await some(kept, read) == CHUNKS[:read]
        assert not kept.ended.is_set()
        assert await whole(kept) == CHUNKS
        assert kept.ended.is_set()
        assert await whole(kept) == CHUNKS

    asyncio.run(story())


def test_beyond_the_limit_nothing_is_kept() -> None:
    async def story() -> None:
        kept = KeptBody(body(CHUNKS), 6)
        reader = kept.again()
        assert [await anext(reader), await anext(reader)] == CHUNKS[:2]
        assert kept.repeatable
        assert [chunk async for chunk in reader] == CHUNKS[2:]
        assert not kept.repeatable
        assert kept._chunks == []

    asyncio.run(story())


def test_a_reader_that_gives_up_takes_nothing_with_it() -> None:
    async def story() -> None:
        more: asyncio.Queue[bytes] = asyncio.Queue()

        async def slow() -> AsyncGenerator[bytes, None]:
            while chunk := await more.get():
                yield chunk

        kept = KeptBody(slow(), 100)
        first = asyncio.create_task(whole(kept))
        more.put_nowait(b"one")
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = asyncio.create_task(whole(kept))
        await asyncio.sleep(0.01)
        for chunk in (b"two", b""):
            more.put_nowait(chunk)
        assert await second == [b"one", b"two"]

    asyncio.run(story())


def test_a_reader_whose_turn_is_over_gets_no_more() -> None:
    async def story() -> None:
        kept = KeptBody(body(CHUNKS), 100)
        old = kept.again()
        assert await anext(old) == b"one"
        assert await whole(kept) == CHUNKS
        assert [chunk async for chunk in old] == []

    asyncio.run(story())


def test_what_the_client_does_reaches_the_reader() -> None:
    async def leaves() -> AsyncGenerator[bytes, None]:
        yield b"one"
        raise ConnectionResetError

    async def story() -> None:
        kept = KeptBody(leaves(), 100)
        with pytest.raises(ConnectionResetError):
            await whole(kept)
        await kept.close()

    asyncio.run(story())


def test_closing_gives_up_the_rest() -> None:
    closed = []

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"more"
                await asyncio.sleep(3600)
        finally:
            closed.append(True)

    async def story() -> None:
        kept = KeptBody(endless(), 100)
        reading = asyncio.create_task(whole(kept))
        await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await kept.close()
        assert closed == [True]

    asyncio.run(story())
