"""Large bodies between real sites, through both Envoys: also when the link is cut in the middle."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path

import pytest

from cheops.errors import Refused, SiteUnreachable
from cheops.lab.lab import Lab
from cheops.ports import BLOBS
from cheops.record.operation import Body
from cheops.stores.blobs import BlobFiles
from cheops.transports.http import HttpTransport
from end_to_end.asking import wait_for
from end_to_end.raw import raw_app

SIZE, HALF_WAY = 64 << 20, 20 << 20  # what is on its way in all buffers is far less than the rest


@pytest.fixture(scope="module")
def lab(lab_of: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return lab_of(raw_app(tmp_path_factory.mktemp("raw") / "app"))


@pytest.fixture(scope="module")
def body(lab: Lab) -> Body:
    """One that Site2 keeps."""
    content = os.urandom(SIZE)
    sha256 = hashlib.sha256(content).hexdigest()
    (lab.site("Site2").data / "blobs" / sha256).write_bytes(content)
    return Body(sha256=sha256, size=SIZE)


def is_open(path: Path) -> bool:
    """Whether any process that we may look at has this file open."""
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if descriptor.readlink() == path:
                return True
    return False


def transport_of(lab: Lab, site: str) -> HttpTransport:
    return HttpTransport(site, lab.site(site).data / "run" / "egress.sock")


class Source:
    """What Site2 gives. Cuts its link to Site1 half-way, once."""

    def __init__(self, lab: Lab, transport: HttpTransport, sha256: str) -> None:
        self._lab, self._cut = lab, False
        self._given = lab.site("Site2").data / "blobs" / sha256
        self._fetch = partial(transport.fetch, BLOBS + sha256, site="Site2")
        self.offsets: list[int] = []

    async def __call__(self, offset: int) -> AsyncGenerator[bytes, None]:
        self.offsets.append(offset)
        come = offset
        async with aclosing(self._fetch(offset=offset)) as chunks:
            async for chunk in chunks:
                yield chunk
                come += len(chunk)
                if come > HALF_WAY and not self._cut:
                    self._cut = True
                    assert is_open(self._given)
                    await asyncio.to_thread(self._lab.cut, "Site1", "Site2")


async def fetched(blobs: BlobFiles, body: Body, source: Source) -> None:
    """Fetches it, as often as Site2 can't be reached."""
    while not blobs.has(body.sha256):
        try:
            await blobs.fetch(body, source)
        except SiteUnreachable:
            await asyncio.sleep(0.1)


def test_a_fetch_goes_on_once_a_cut_link_is_healed(lab: Lab, body: Body, tmp_path: Path) -> None:
    async def story() -> None:
        blobs = BlobFiles(tmp_path)
        async with transport_of(lab, "Site1") as transport:
            source = Source(lab, transport, body.sha256)
            with pytest.raises(SiteUnreachable):
                await blobs.fetch(body, source)
            assert not blobs.has(body.sha256)
            given = lab.site("Site2").data / "blobs" / body.sha256
            await asyncio.to_thread(wait_for, lambda: not is_open(given), "Site2 gives up what nobody reads")
            await asyncio.to_thread(lab.heal)
            await asyncio.wait_for(fetched(blobs, body, source), 60)
        assert source.offsets[0] == 0
        assert all(HALF_WAY <= offset < SIZE for offset in source.offsets[1:])

    asyncio.run(story())
    assert (tmp_path / body.sha256).read_bytes() == (lab.site("Site2").data / "blobs" / body.sha256).read_bytes()


@pytest.mark.parametrize(("name", "offset", "status"), [("0" * 64, 0, 404), ("", SIZE, 416)])
def test_what_a_site_does_not_have(lab: Lab, body: Body, name: str, offset: int, status: int) -> None:
    async def story() -> None:
        async with transport_of(lab, "Site1") as transport:
            await anext(transport.fetch(BLOBS + (name or body.sha256), site="Site2", offset=offset))

    with pytest.raises(Refused) as caught:
        asyncio.run(story())
    assert caught.value.members["answer"] == status
