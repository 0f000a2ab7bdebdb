"""Large bodies beside the store, one file each, named by its SHA-256; small ones stay where they are used.

Memory doesn't grow with a body: it passes in blocks, and whatever may wait for the disk does so in a thread. One
process works in a folder. Not promised: that what was kept is still undamaged when it is read; who fetches it checks.
"""

import asyncio
import errno
import hashlib
import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from cheops.errors import BlobDamaged, StoreFailed
from cheops.record.operation import Body
from cheops.stores.kept import sync_folder

INLINE_BYTES = 64 << 10
BLOCK_BYTES = 256 << 10
_REHASH_BYTES = 4 << 20  # read again at once: some milliseconds
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
Source = Callable[[int], AsyncGenerator[bytes, None]]
"""Gives the bytes of a body from an offset on."""
T = TypeVar("T")


class Half(Protocol):
    """A body of which `size` bytes have come so far. What can fail raises StoreFailed."""

    @property
    def size(self) -> int: ...

    async def add(self, block: bytes) -> None: ...

    def sha256(self) -> str: ...

    async def finish(self, sha256: str) -> None:
        """From now on it is there under this name, durably."""
        ...

    def remove(self) -> None: ...

    def close(self) -> None: ...


class Blobs(ABC):
    """What both engines do alike."""

    def __init__(self) -> None:
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def keep(self, body: AsyncGenerator[bytes, None]) -> Body:
        """Reads all of it; beyond 64 KiB it is kept once this returns. Raises StoreFailed, and what `body` raises."""
        async with aclosing(_in_blocks(body)) as blocks:
            first, second = await anext(blocks, b""), await anext(blocks, b"")
            if len(first) + len(second) <= INLINE_BYTES:
                return Body(inline=first, size=len(first))
            half = await self._begin()
            try:
                return await _keep(half, (first, second), blocks)
            except BaseException:
                half.remove()
                raise
            finally:
                half.close()

    async def fetch(self, body: Body, source: Source) -> None:
        """Fetches it from `source`, on from where the last try broke off. Of two at a time the second waits for the
        first, and needs nothing more if that succeeds. Raises BlobDamaged, StoreFailed, and what `source` raises.
        """
        if body.inline is not None:
            return
        if not _SHA256.fullmatch(body.sha256):
            raise BlobDamaged(f"a body has no SHA-256 that could be fetched: {body.sha256[:80]!r}")
        async with self._fetching.setdefault(body.sha256, asyncio.Lock()):
            if not self.has(body.sha256):
                await self._fetch(body, source)

    async def _fetch(self, body: Body, source: Source) -> None:
        half = await self._resume(body)
        try:
            if half.size < body.size:
                await _fill(half, body.size, source)
            if damage := _damage(half, body):
                half.remove()
                raise BlobDamaged(f"the body {body.sha256} came damaged: {damage}", hint="It is fetched anew.")
            await half.finish(body.sha256)
        finally:
            half.close()

    def has(self, sha256: str) -> bool:
        return self.size(sha256) is not None

    @abstractmethod
    def size(self, sha256: str) -> int | None:
        """How many bytes it has; None if it isn't there."""

    @abstractmethod
    def read(self, sha256: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Its bytes from `offset` on, in blocks. Raises StoreFailed if it isn't there."""

    @abstractmethod
    def drop(self, sha256: str) -> None:
        """Forgets it, and what was fetched of it; also one that isn't there."""

    @abstractmethod
    async def _begin(self) -> Half:
        """One that has no name yet."""

    @abstractmethod
    async def _resume(self, body: Body) -> Half:
        """What came when this was last fetched, if that can be the beginning of it; else nothing."""


class BlobFiles(Blobs):
    """Keeps bodies in a folder: SHA256, SHA256.part while it is being fetched, and NAME.half while its name isn't
    known. Making one clears what uploads have left there that a crash broke off, if nobody else uses the folder.
    """

    def __init__(self, folder: Path, *, clear: bool = True) -> None:
        super().__init__()
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for half in folder.glob("*.half") if clear else ():
            half.unlink(missing_ok=True)

    def size(self, sha256: str) -> int | None:
        if not _SHA256.fullmatch(sha256):
            return None
        try:
            return (self._folder / sha256).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed(self._folder, error) from error

    async def read(self, sha256: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        if not self.has(sha256):
            raise _not_there(sha256)
        try:
            with (self._folder / sha256).open("rb", buffering=0) as file:
                file.seek(offset)
                while block := await _in_thread(file.read, BLOCK_BYTES):
                    yield block
        except FileNotFoundError as error:
            raise _not_there(sha256) from error
        except OSError as error:
            raise _failed(self._folder, error) from error

    def drop(self, sha256: str) -> None:
        if not _SHA256.fullmatch(sha256):
            return
        try:
            for name in (sha256, f"{sha256}.part"):
                (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise _failed(self._folder, error) from error

    async def _begin(self) -> Half:
        try:
            descriptor, name = tempfile.mkstemp(suffix=".half", dir=self._folder)
            os.close(descriptor)
            return _HalfFile(Path(name))
        except OSError as error:
            raise _failed(self._folder, error) from error

    async def _resume(self, body: Body) -> Half:
        try:
            half = _HalfFile(self._folder / f"{body.sha256}.part")
        except OSError as error:
            raise _failed(self._folder, error) from error
        try:
            await half.read_again(body.size)
        except BaseException:
            half.close()
            raise
        return half


class _HalfFile:
    """A file that is being written. When the disk doesn't take it, it is removed and StoreFailed is raised."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("a+b", buffering=0)
        self._hash, self.size = hashlib.sha256(), 0

    async def read_again(self, most: int) -> None:
        """Takes up what is there; throws it away if it is more than `most` bytes."""
        if self._path.stat().st_size > most:
            await self._on_disk(self._file.truncate, 0)
        await self._on_disk(self._file.seek, 0)
        while await self._on_disk(self._hash_more):
            pass

    def _hash_more(self) -> bool:
        block = self._file.read(_REHASH_BYTES)
        self._hash.update(block)
        self.size += len(block)
        return bool(block)

    async def add(self, block: bytes) -> None:
        await self._on_disk(self._write, block)

    def _write(self, block: bytes) -> None:
        self._hash.update(block)
        self.size += len(block)
        left = memoryview(block)
        while left:
            left = left[self._file.write(left) :]

    def sha256(self) -> str:
        return self._hash.hexdigest()

    async def finish(self, sha256: str) -> None:
        await self._on_disk(self._finish, self._path.with_name(sha256))

    def _finish(self, path: Path) -> None:
        os.fsync(self._file.fileno())
        self._path.replace(path)
        sync_folder(path.parent)

    def remove(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        self._file.close()

    async def _on_disk(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await _in_thread(work, *arguments)
        except OSError as error:
            self.remove()
            raise _failed(self._path.parent, error) from error


class BlobsInMemory(Blobs):
    """The twin of BlobFiles that forgets with its process."""

    def __init__(self) -> None:
        super().__init__()
        self._whole: dict[str, bytes] = {}
        self._parts: dict[str, _HalfInMemory] = {}

    def size(self, sha256: str) -> int | None:
        return len(self._whole[sha256]) if sha256 in self._whole else None

    async def read(self, sha256: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        if sha256 not in self._whole:
            raise _not_there(sha256)
        whole = self._whole[sha256]
        for begin in range(offset, len(whole), BLOCK_BYTES):
            yield whole[begin : begin + BLOCK_BYTES]

    def drop(self, sha256: str) -> None:
        self._whole.pop(sha256, None)
        self._parts.pop(sha256, None)

    async def _begin(self) -> Half:
        return _HalfInMemory(self._whole, {}, "")

    async def _resume(self, body: Body) -> Half:
        half = self._parts.get(body.sha256)
        if half is None or half.size > body.size:
            half = self._parts[body.sha256] = _HalfInMemory(self._whole, self._parts, body.sha256)
        return half


class _HalfInMemory:
    def __init__(self, whole: dict[str, bytes], parts: dict[str, "_HalfInMemory"], name: str) -> None:
        self._whole, self._parts, self._name, self._content = whole, parts, name, bytearray()

    @property
    def size(self) -> int:
        return len(self._content)

    async def add(self, block: bytes) -> None:
        self._content += block

    def sha256(self) -> str:
        return hashlib.sha256(self._content).hexdigest()

    async def finish(self, sha256: str) -> None:
        self._whole[sha256] = bytes(self._content)
        self.remove()

    def remove(self) -> None:
        self._parts.pop(self._name, None)

    def close(self) -> None:
        """Nothing is open."""


async def _keep(half: Half, first: tuple[bytes, ...], rest: AsyncGenerator[bytes, None]) -> Body:
    for block in first:
        await half.add(block)
    async for block in rest:
        await half.add(block)
    await half.finish(half.sha256())
    return Body(sha256=half.sha256(), size=half.size)


async def _fill(half: Half, size: int, source: Source) -> None:
    """Ends with the source, or as soon as it gives too much."""
    async with aclosing(_in_blocks(source(half.size))) as blocks:
        async for block in blocks:
            await half.add(block)
            if half.size > size:
                return


def _damage(half: Half, body: Body) -> str:
    if half.size != body.size:
        return f"it has {'more than ' if half.size > body.size else ''}{min(half.size, body.size)} of {body.size} bytes"
    return "" if half.sha256() == body.sha256 else f"its SHA-256 is {half.sha256()}"


async def _in_blocks(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same bytes in blocks of 256 KiB, so that threads are asked seldom. What came before an error comes too."""
    gathered = bytearray()
    async with aclosing(body):
        try:
            async for chunk in body:
                gathered += chunk
                while len(gathered) >= BLOCK_BYTES:
                    yield bytes(gathered[:BLOCK_BYTES])
                    del gathered[:BLOCK_BYTES]
        except Exception:
            if gathered:
                yield bytes(gathered)
            raise
    if gathered:
        yield bytes(gathered)


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Returns only when the thread is done, also if it is cancelled: what the thread works on may be closed then."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        while not working.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([working])
        if not working.cancelled():
            working.exception()  # seen
        raise


def _not_there(sha256: str) -> StoreFailed:
    return StoreFailed(f"the body {sha256[:80]} isn't kept here")


def _failed(folder: Path, error: OSError) -> StoreFailed:
    hint = "Make room on this disk." if error.errno in _FULL else ""
    return StoreFailed(f"a body can't be kept in {folder}: {error.strerror or error}", hint=hint)
