"""Large bodies, kept once each by their SHA-256, in a folder or in memory. Nothing is in memory longer than a chunk."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path

from cheops.errors import BlobDamaged, StoreFailed
from cheops.record.operation import Body
from cheops.stores.kept import sync_folder

INLINE_BYTES = 64 << 10
CHUNK = 1 << 18


class BlobFiles:
    """A folder: `SHA256` is a whole body, `SHA256.part` the beginning of one that is being fetched."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fetching: dict[str, asyncio.Lock] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for half in folder.glob("*.half"):  # of an agent that crashed
            half.unlink()

    async def keep(self, body: AsyncGenerator[bytes, None]) -> Body:
        """Reads all of it; on disk when this returns, if it isn't small. Raises StoreFailed."""
        beginning = bytearray()
        async with aclosing(body):
            async for chunk in body:
                beginning += chunk
                if len(beginning) > INLINE_BYTES:
                    return await self._keep_file(bytes(beginning), body)
        return Body(inline=bytes(beginning), size=len(beginning))

    async def _keep_file(self, beginning: bytes, rest: AsyncGenerator[bytes, None]) -> Body:
        descriptor, name = tempfile.mkstemp(suffix=".half", dir=self._folder)
        digest, size = hashlib.sha256(), 0
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file, self._told("kept"):
                gathered = bytearray(beginning)
                async for chunk in rest:
                    gathered += chunk
                    if len(gathered) >= CHUNK:
                        size += await asyncio.to_thread(_write, file.fileno(), bytes(gathered), digest)
                        gathered.clear()
                size += await asyncio.to_thread(_write, file.fileno(), bytes(gathered), digest)
                await asyncio.to_thread(os.fsync, file.fileno())
                await asyncio.to_thread(self._name_it, Path(name), digest.hexdigest())
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)  # noqa: PTH108
            raise
        return Body(sha256=digest.hexdigest(), size=size)

    def _name_it(self, half: Path, sha256: str) -> None:
        half.replace(self._folder / sha256)
        sync_folder(self._folder)

    def has(self, sha256: str) -> bool:
        return (self._folder / _name(sha256)).exists()

    async def read(self, sha256: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Its bytes from an offset on. Raises StoreFailed if it isn't there."""
        try:
            file = (self._folder / _name(sha256)).open("rb", buffering=0)
        except OSError as error:
            raise StoreFailed(f"the body {sha256[:12]}… isn't kept here: {error.strerror}") from error
        with file:
            file.seek(offset)
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk

    async def fetch(self, body: Body, source: Callable[[int], AsyncGenerator[bytes, None]]) -> None:
        """Fetches a body, from where the last try broke off. Raises BlobDamaged, StoreFailed, what `source` does."""
        async with self._fetching.setdefault(body.sha256, asyncio.Lock()):
            if self.has(body.sha256):
                return
            part = self._folder / f"{_name(body.sha256)}.part"
            with self._told("fetched"):
                digest, size = await asyncio.to_thread(_digest_of, part)
                with part.open("ab", buffering=0) as file:
                    async with aclosing(source(size)) as rest:
                        async for chunk in rest:
                            size += await asyncio.to_thread(_write, file.fileno(), chunk, digest)
                    await asyncio.to_thread(os.fsync, file.fileno())
                if size != body.size or digest.hexdigest() != body.sha256:
                    part.unlink()
                    raise BlobDamaged(f"{size:,} bytes came that aren't the {body.size:,} of {body.sha256[:12]}…")
                part.replace(self._folder / body.sha256)
                await asyncio.to_thread(sync_folder, self._folder)
        self._fetching.pop(body.sha256, None)

    def drop(self, sha256: str) -> None:
        """Forgets it."""
        with suppress(FileNotFoundError):
            (self._folder / _name(sha256)).unlink()

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreFailed(f"a body can't be {what} in {self._folder}: {error.strerror or error}") from error


class BlobsInMemory:
    """The twin of BlobFiles."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.parts: dict[str, bytes] = {}

    async def keep(self, body: AsyncGenerator[bytes, None]) -> Body:
        async with aclosing(body):
            content = b"".join([chunk async for chunk in body])
        if len(content) <= INLINE_BYTES:
            return Body(inline=content, size=len(content))
        sha256 = hashlib.sha256(content).hexdigest()
        self.kept[sha256] = content
        return Body(sha256=sha256, size=len(content))

    def has(self, sha256: str) -> bool:
        return sha256 in self.kept

    async def read(self, sha256: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        if sha256 not in self.kept:
            raise StoreFailed(f"the body {sha256[:12]}… isn't kept here")
        content = self.kept[sha256]
        for at in range(offset, len(content), CHUNK):
            yield content[at : at + CHUNK]

    async def fetch(self, body: Body, source: Callable[[int], AsyncGenerator[bytes, None]]) -> None:
        if self.has(body.sha256):
            return
        async with aclosing(source(len(self.parts.get(body.sha256, b"")))) as rest:
            async for chunk in rest:
                self.parts[body.sha256] = self.parts.get(body.sha256, b"") + chunk
        content = self.parts.pop(body.sha256, b"")
        if hashlib.sha256(content).hexdigest() != body.sha256:
            raise BlobDamaged(f"{len(content):,} bytes came that aren't the {body.size:,} of {body.sha256[:12]}…")
        self.kept[body.sha256] = content

    def drop(self, sha256: str) -> None:
        self.kept.pop(sha256, None)


def _write(descriptor: int, chunk: bytes, digest: "hashlib._Hash") -> int:
    digest.update(chunk)
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(chunk)


def _digest_of(part: Path) -> tuple["hashlib._Hash", int]:
    """Of what has been fetched so far."""
    digest, size = hashlib.sha256(), 0
    with suppress(FileNotFoundError), part.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return digest, size


def _name(sha256: str) -> str:
    if len(sha256) != 64 or not all(c in "0123456789abcdef" for c in sha256):
        raise StoreFailed("this is no SHA-256 in hexadecimal digits")
    return sha256
