"""Bodies that do more than pass: a request's that may have to be sent again, and a reply's whose end is noticed.

What has been read of a request's is kept, up to a limit. Not promised beyond it: from there on nothing is kept, and
`repeatable` says so.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any


class KeptBody:
    """The body of one request; `limit` is in bytes, and so is its `length`, if that is known.

    Any number of readers, one after the other, get it whole.
    """

    def __init__(self, body: AsyncGenerator[bytes, None], limit: int, length: int | None = None) -> None:
        self._body, self._limit, self._length, self._size = body, limit, length, 0
        self._chunks: list[bytes] = []
        self._dropped = 0  # chunks before the first of them
        self._reading: asyncio.Task[None] | None = None
        self._turn = 0
        self.ended = asyncio.Event()

    @property
    def repeatable(self) -> bool:
        """Whether all that has been read so far is kept."""
        return self._size <= self._limit

    @property
    def all_read(self) -> bool:
        """Whether a reader has got all of it; of a known length that may be before its end is seen."""
        return self.ended.is_set() or (self._length is not None and self._size >= self._length)

    async def again(self) -> AsyncGenerator[bytes, None]:
        """The whole body, from its beginning. Whoever read it before gets no more."""
        self._turn += 1
        turn, at = self._turn, 0
        while await self._has(at) and turn == self._turn:
            chunk = self._chunks[at - self._dropped]
            at += 1
            if not self.repeatable:
                del self._chunks[: at - self._dropped]
                self._dropped = at
            yield chunk

    async def _has(self, at: int) -> bool:
        """Waits until chunk number `at` is there; False if the body has ended before it."""
        while at - self._dropped >= len(self._chunks) and not self.ended.is_set():
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read())
            await asyncio.shield(self._reading)  # a reader that is cancelled leaves what comes to the next
        return at - self._dropped < len(self._chunks)

    async def _read(self) -> None:
        async for chunk in self._body:
            self._size += len(chunk)
            self._chunks.append(chunk)
            return
        self.ended.set()

    async def close(self) -> None:
        """Gives up the rest."""
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._body.aclose()


class Ending(AsyncGenerator[bytes, None]):
    """A body; `ended` is called when it has ended, broken off or been closed, also if nobody has begun to read it: the
    `finally` of a generator that was never begun isn't met.
    """

    def __init__(self, body: AsyncGenerator[bytes, None], ended: Callable[[], Awaitable[None]]) -> None:
        self._body, self._ended = body, ended

    async def asend(self, value: None) -> bytes:
        try:
            return await self._body.asend(value)
        except BaseException:
            await self.aclose()
            raise

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> bytes:
        try:
            return await self._body.athrow(typ, val, tb)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            await self._ended()
