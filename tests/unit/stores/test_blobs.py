"""One conformance suite for whatever keeps large bodies, and what files alone promise."""

import asyncio
import hashlib
import resource
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest

from cheops import ports
from cheops.errors import BlobDamaged, SiteUnreachable, StoreFailed
from cheops.record.operation import Body
from cheops.stores.blobs import INLINE_BYTES, BlobFiles, Blobs, BlobsInMemory

LARGE = bytes(range(256)) * 4000 + b"end"  # about 1 MB, not a multiple of any block
MAKERS: dict[str, Callable[[Path], Blobs]] = {
    "files": lambda folder: BlobFiles(folder / "blobs"),
    "memory": lambda _: BlobsInMemory(),
}


@pytest.fixture(params=MAKERS)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return MAKERS[request.param](tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> BlobFiles:
    return BlobFiles(tmp_path / "blobs")


def named(content: bytes) -> Body:
    return Body(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


async def chunks(content: bytes, size: int = 10_000) -> AsyncGenerator[bytes, None]:
    for begin in range(0, len(content), size):
        yield content[begin : begin + size]


async def broken_off(content: bytes) -> AsyncGenerator[bytes, None]:
    async for chunk in chunks(content):
        yield chunk
    raise SiteUnreachable("the link is cut", site="Site2")


class Peer:
    """Gives `content` to whoever fetches it, but breaks off before the byte `until`. Counts what it gave."""

    def __init__(self, content: bytes, until: int | None = None) -> None:
        self.content, self.until = content, until
        self.offsets: list[int] = []
        self.open = self.given = 0

    async def __call__(self, offset: int) -> AsyncGenerator[bytes, None]:
        self.offsets.append(offset)
        self.open += 1
        given = self.content[offset : self.until]
        try:
            async for chunk in chunks(given) if self.until is None else broken_off(given):
                yield chunk
                self.given += len(chunk)
                await asyncio.sleep(0)
        finally:
            self.open -= 1


async def all_of(blobs: ports.Blobs, sha256: str, offset: int = 0) -> bytes:
    async with aclosing(blobs.read(sha256, offset)) as body:
        return b"".join([block async for block in body])


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await story()

    asyncio.run(asyncio.wait_for(told(), 30))


def test_it_is_what_the_core_asks_for(blobs: Blobs) -> None:
    asked: ports.Blobs = blobs

    async def story() -> None:
        body = await asked.keep(chunks(LARGE))
        assert body == named(LARGE)
        assert (asked.has(body.sha256), asked.size(body.sha256)) == (True, len(LARGE))
        assert await all_of(asked, body.sha256) == LARGE

    run(story)


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES])
def test_a_small_one_comes_back_inline(blobs: Blobs, size: int) -> None:
    async def story() -> None:
        assert await blobs.keep(chunks(LARGE[:size])) == Body(inline=LARGE[:size], size=size)
        assert not blobs.has(named(LARGE[:size]).sha256)

    run(story)


@pytest.mark.parametrize("size", [INLINE_BYTES + 1, 256 << 10, (256 << 10) + 1, 512 << 10])
@pytest.mark.parametrize("chunk", [1000, 64 << 10, 1 << 20])
def test_any_larger_one_is_kept(blobs: Blobs, size: int, chunk: int) -> None:
    async def story() -> None:
        body = await blobs.keep(chunks(LARGE[:size], chunk))
        assert body == named(LARGE[:size])
        assert await all_of(blobs, body.sha256) == LARGE[:size]

    run(story)


@pytest.mark.parametrize("offset", [1, INLINE_BYTES, len(LARGE) - 1, len(LARGE), len(LARGE) + 1])
def test_read_from_anywhere(blobs: Blobs, offset: int) -> None:
    async def story() -> None:
        body = await blobs.keep(chunks(LARGE))
        assert await all_of(blobs, body.sha256, offset) == LARGE[offset:]

    run(story)


@pytest.mark.parametrize("sha256", [named(b"x").sha256, "", "../../site.yaml", named(LARGE).sha256.upper()])
def test_what_is_not_there(blobs: Blobs, sha256: str) -> None:
    async def story() -> None:
        await blobs.keep(chunks(LARGE))
        assert (blobs.has(sha256), blobs.size(sha256)) == (False, None)
        blobs.drop(sha256)
        with pytest.raises(StoreFailed, match="isn't kept here"):
            await all_of(blobs, sha256)

    run(story)


def test_the_same_twice_is_kept_once_and_dropped_once(blobs: Blobs) -> None:
    async def story() -> None:
        body, again = await asyncio.gather(blobs.keep(chunks(LARGE)), blobs.keep(chunks(LARGE, 999)))
        assert body == again
        blobs.drop(body.sha256)
        assert not blobs.has(body.sha256)

    run(story)


@pytest.mark.parametrize("size", [1, INLINE_BYTES, len(LARGE)])
def test_a_client_that_breaks_off_leaves_nothing(blobs: Blobs, size: int) -> None:
    async def story() -> None:
        with pytest.raises(SiteUnreachable):
            await blobs.keep(broken_off(LARGE[:size]))
        assert not blobs.has(named(LARGE[:size]).sha256)

    run(story)


def test_a_fetch(blobs: Blobs) -> None:
    async def story() -> None:
        peer = Peer(LARGE)
        await blobs.fetch(named(LARGE), peer)
        await blobs.fetch(named(LARGE), peer)
        assert (await all_of(blobs, named(LARGE).sha256), peer.offsets, peer.open) == (LARGE, [0], 0)

    run(story)


def test_an_inline_body_needs_no_fetch(blobs: Blobs) -> None:
    peer = Peer(b"")
    run(lambda: blobs.fetch(Body(inline=b"x", size=1), peer))
    assert peer.offsets == []


def test_a_fetch_goes_on_where_it_broke_off(blobs: Blobs) -> None:
    async def story() -> None:
        peer = Peer(LARGE, until=300_001)
        for until in (300_001, 600_002):
            peer.until = until
            with pytest.raises(SiteUnreachable):
                await blobs.fetch(named(LARGE), peer)
            assert not blobs.has(named(LARGE).sha256)
        peer.until = None
        await blobs.fetch(named(LARGE), peer)
        assert peer.offsets == [0, 300_001, 600_002]
        assert await all_of(blobs, named(LARGE).sha256) == LARGE

    run(story)


@pytest.mark.parametrize(
    "given", [LARGE[:-1], LARGE + b"!", LARGE + LARGE, LARGE[:-1] + b"!", b""], ids=["less", "more", "2x", "other", "0"]
)
def test_what_comes_damaged_is_thrown_away(blobs: Blobs, given: bytes) -> None:
    async def story() -> None:
        damaged, sound = Peer(given), Peer(LARGE)
        with pytest.raises(BlobDamaged):
            await blobs.fetch(named(LARGE), damaged)
        assert (blobs.has(named(LARGE).sha256), damaged.open) == (False, 0)
        await blobs.fetch(named(LARGE), sound)
        assert (await all_of(blobs, named(LARGE).sha256), sound.offsets) == (LARGE, [0])

    run(story)


def test_a_peer_that_gives_far_too_much_is_not_listened_to(blobs: Blobs) -> None:
    async def story() -> None:
        endless = Peer(LARGE * 20)
        with pytest.raises(BlobDamaged):
            await blobs.fetch(named(LARGE), endless)
        assert (endless.given < 2 * len(LARGE), endless.open) == (True, 0)

    run(story)


def test_two_at_a_time_share_one_fetch(blobs: Blobs) -> None:
    async def story() -> None:
        one, other = Peer(LARGE), Peer(LARGE)
        await asyncio.gather(blobs.fetch(named(LARGE), one), blobs.fetch(named(LARGE), other))
        assert one.offsets + other.offsets == [0]

    run(story)


def test_the_second_goes_on_with_its_own_source_if_the_first_fails(blobs: Blobs) -> None:
    async def story() -> None:
        one, other = Peer(LARGE, until=500_000), Peer(LARGE)
        first, second = await asyncio.gather(
            blobs.fetch(named(LARGE), one), blobs.fetch(named(LARGE), other), return_exceptions=True
        )
        assert isinstance(first, SiteUnreachable)
        assert (second, other.offsets, await all_of(blobs, named(LARGE).sha256)) == (None, [500_000], LARGE)

    run(story)


def test_a_fetch_that_is_cancelled_can_be_taken_up(blobs: Blobs) -> None:
    async def story() -> None:
        peer = Peer(LARGE)
        fetching = asyncio.create_task(blobs.fetch(named(LARGE), peer))
        while not peer.open:
            await asyncio.sleep(0)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        assert peer.open == 0
        await blobs.fetch(named(LARGE), peer)
        assert await all_of(blobs, named(LARGE).sha256) == LARGE

    run(story)


def test_dropping_forgets_what_was_fetched_of_it(blobs: Blobs) -> None:
    async def story() -> None:
        with pytest.raises(SiteUnreachable):
            await blobs.fetch(named(LARGE), Peer(LARGE, until=300_000))
        blobs.drop(named(LARGE).sha256)
        peer = Peer(LARGE)
        await blobs.fetch(named(LARGE), peer)
        assert peer.offsets == [0]

    run(story)


async def keep_in(blobs: Blobs, body: AsyncGenerator[bytes, None]) -> None:
    await blobs.keep(body)


def in_folder(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "blobs").iterdir())


def test_another_process_goes_on_too(tmp_path: Path, files: BlobFiles) -> None:
    async def story() -> None:
        with pytest.raises(SiteUnreachable):
            await files.fetch(named(LARGE), Peer(LARGE, until=300_000))
        assert in_folder(tmp_path) == [f"{named(LARGE).sha256}.part"]
        peer, after = Peer(LARGE), BlobFiles(tmp_path / "blobs")
        await after.fetch(named(LARGE), peer)
        assert peer.offsets == [300_000]
        assert in_folder(tmp_path) == [named(LARGE).sha256]
        assert (tmp_path / "blobs" / named(LARGE).sha256).read_bytes() == LARGE

    run(story)


@pytest.mark.parametrize(
    ("part", "offsets"),
    [(LARGE, []), (LARGE + b"!", [0]), (LARGE[:9], [9]), (b"", [0])],
    ids=["all of it", "too much", "a little", "nothing"],
)
def test_what_a_crash_may_have_left_of_a_fetch(
    tmp_path: Path, files: BlobFiles, part: bytes, offsets: list[int]
) -> None:
    (tmp_path / "blobs" / f"{named(LARGE).sha256}.part").write_bytes(part)
    peer = Peer(LARGE)
    run(lambda: files.fetch(named(LARGE), peer))
    assert peer.offsets == offsets
    assert (tmp_path / "blobs" / named(LARGE).sha256).read_bytes() == LARGE


def test_a_part_that_the_disk_has_damaged_is_thrown_away(tmp_path: Path, files: BlobFiles) -> None:
    (tmp_path / "blobs" / f"{named(LARGE).sha256}.part").write_bytes(b"?" * 1000)
    with pytest.raises(BlobDamaged):
        run(lambda: files.fetch(named(LARGE), Peer(LARGE)))
    assert in_folder(tmp_path) == []


def test_what_a_crashed_upload_has_left_is_cleared(tmp_path: Path, files: BlobFiles) -> None:
    run(lambda: keep_in(files, chunks(LARGE)))
    (tmp_path / "blobs" / "abc.half").write_bytes(b"half")
    BlobFiles(tmp_path / "blobs")
    assert in_folder(tmp_path) == [named(LARGE).sha256]


@contextmanager
def little_room(size: int) -> Iterator[None]:
    """No file may have more bytes than this: the disk takes some of a block, then no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("how", ["keep", "fetch"])
def test_a_disk_without_room(tmp_path: Path, files: BlobFiles, how: str) -> None:
    async def story() -> None:
        peer = Peer(LARGE)
        with pytest.raises(StoreFailed) as caught, little_room(700_000):
            await (files.keep(chunks(LARGE)) if how == "keep" else files.fetch(named(LARGE), peer))
        assert (caught.value.retry, caught.value.hint) == (True, "Make room on this disk.")
        assert (in_folder(tmp_path), peer.open) == ([], 0)
        await files.keep(chunks(LARGE))
        assert in_folder(tmp_path) == [named(LARGE).sha256]

    run(story)


def test_a_folder_that_has_gone(tmp_path: Path, files: BlobFiles) -> None:
    (tmp_path / "blobs").rmdir()
    for work in (lambda: keep_in(files, chunks(LARGE)), lambda: files.fetch(named(LARGE), Peer(LARGE))):
        with pytest.raises(StoreFailed, match="No such file"):
            run(work)


def test_an_upload_that_is_cancelled_leaves_nothing(tmp_path: Path, files: BlobFiles) -> None:
    async def story() -> None:
        ever = asyncio.Event()

        async def slow() -> AsyncGenerator[bytes, None]:
            yield LARGE
            await ever.wait()

        keeping = asyncio.create_task(keep_in(files, slow()))
        while not in_folder(tmp_path):
            await asyncio.sleep(0.001)
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping
        assert in_folder(tmp_path) == []

    run(story)


def test_memory_does_not_grow_with_the_body(files: BlobFiles) -> None:
    async def many() -> AsyncGenerator[bytes, None]:
        for n in range(512):
            yield n.to_bytes(2, "big") * 32768

    async def story() -> None:
        body = await files.keep(many())
        assert body.size == 32 << 20
        async with aclosing(files.read(body.sha256)) as blocks:
            assert max([len(block) async for block in blocks]) <= 256 << 10

    tracemalloc.start()
    try:
        run(story)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
