"""What peers may ask the agent."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from asgi import Answer, call
from cheops.errors import BadMessage, NotAMember
from cheops.ports import BLOBS, COMMAND, DISTANCES, HEARTBEAT
from cheops.stores.blobs import BlobFiles, BlobsInMemory
from cheops.stores.kept import KeptFiles, KeptInMemory
from cheops.web.mesh import mesh_api

UUID = "c4e0f001-0000-8000-8000-000000000001"
TEXT = "{compute: Site1, image: Sité2}"


class Sites:
    """Answers every heartbeat, but those of Site9."""

    def receive(self, wire: bytes, sender: str, generation: int) -> bytes:
        if sender == "Site9":
            raise NotAMember("Site9 was removed")
        return f"{sender} {generation} {wire.decode()}".encode()

    def distances_told(self) -> bytes:
        return b'{"Site1": [0, 0, 0]}'


def test_a_kept_scope_is_plain_text() -> None:
    kept = KeptInMemory(lambda: 0.0)
    kept.keep(UUID, TEXT)
    answer = call(mesh_api(kept, Sites()), f"/kept/{UUID}")
    assert (answer.status, answer.text, answer.headers["content-type"]) == (200, TEXT, "text/plain; charset=utf-8")


def test_none_is_kept() -> None:
    answer = call(mesh_api(KeptInMemory(lambda: 0.0), Sites()), f"/kept/{UUID}")
    assert (answer.status, answer.json) == (404, {"detail": "no scope is kept under this id"})


@pytest.mark.parametrize("uuid", ["x", "..%2F..%2Fsite.yaml", "%00", UUID.upper()])
def test_nothing_else_can_be_read(tmp_path: Path, uuid: str) -> None:
    (tmp_path / "site.yaml").write_text("secret")
    assert call(mesh_api(KeptFiles(tmp_path / "data/kept", lambda: 0.0), Sites()), f"/kept/{uuid}").status == 404


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_peers_only_read(method: str) -> None:
    assert call(mesh_api(KeptInMemory(lambda: 0.0), Sites()), f"/kept/{UUID}", method).status == 405


def beat(site: str) -> Answer:
    headers = {"cheops-peer": f"spiffe://shop/site/{site}", "cheops-peer-issued": "17"}
    return call(mesh_api(KeptInMemory(lambda: 0.0), Sites()), HEARTBEAT, "POST", b"hello", headers)


def test_a_heartbeat_comes_with_the_name_and_the_time_of_its_certificate() -> None:
    assert (beat("Site2").status, beat("Site2").text) == (200, "Site2 17 hello")


def test_a_heartbeat_that_is_refused() -> None:
    assert (beat("Site9").status, beat("Site9").json["code"]) == (403, "not-a-member")


def test_distances() -> None:
    answer = call(mesh_api(KeptInMemory(lambda: 0.0), Sites()), DISTANCES)
    assert (answer.status, answer.json) == (200, {"Site1": [0, 0, 0]})


LARGE = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(LARGE).hexdigest()


async def a_body() -> AsyncGenerator[bytes, None]:
    yield LARGE


def asked_for(sha256: str, *ranges: str) -> Answer:
    """What comes of a blob, where LARGE is kept."""
    blobs = BlobsInMemory()
    asyncio.run(_keep(blobs))
    headers = {"range": ranges[0]} if ranges else {}
    return call(mesh_api(KeptInMemory(lambda: 0.0), Sites(), blobs), BLOBS + sha256, headers=headers)


async def _keep(blobs: BlobsInMemory) -> None:
    assert (await blobs.keep(a_body())).sha256 == SHA256


# What else `Range` may say is not heeded, as RFC 9110 allows.
@pytest.mark.parametrize(
    "ranges", [[], ["bytes=0-9"], ["bytes=-5"], ["bytes=0-1,5-"], ["lines=7-"], ["bytes=x-"], [""]]
)
def test_a_whole_blob(ranges: list[str]) -> None:
    answer = asked_for(SHA256, *ranges)
    assert (answer.status, answer.body, "content-range" in answer.headers) == (200, LARGE, False)
    assert answer.headers["content-length"] == str(len(LARGE))


@pytest.mark.parametrize("begin", [0, 1, 300_000, len(LARGE) - 1])
def test_the_rest_of_a_blob(begin: int) -> None:
    answer = asked_for(SHA256, f"bytes={begin}-")
    assert (answer.status, answer.body) == (206, LARGE[begin:])
    assert answer.headers["content-length"] == str(len(LARGE) - begin)
    assert answer.headers["content-range"] == f"bytes {begin}-{len(LARGE) - 1}/{len(LARGE)}"


@pytest.mark.parametrize("begin", [len(LARGE), 10**17])
def test_beyond_its_end(begin: int) -> None:
    answer = asked_for(SHA256, f"bytes={begin}-")
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(LARGE)}")


@pytest.mark.parametrize("sha256", ["0" * 64, SHA256.upper(), "..%2Fsite.yaml", "%00"])
def test_a_blob_that_is_not_kept(sha256: str) -> None:
    assert asked_for(sha256).status == 404


@pytest.mark.parametrize("name", ["..%2F..%2Fsite.yaml", "..", "site.yaml"])
def test_no_other_file_is_a_blob(tmp_path: Path, name: str) -> None:
    blobs = BlobFiles(tmp_path / "data/blobs")
    for folder in (tmp_path, tmp_path / "data", tmp_path / "data/blobs"):
        (folder / "site.yaml").write_text("secret")
    assert call(mesh_api(KeptInMemory(lambda: 0.0), Sites(), blobs), BLOBS + name).status == 404


def test_a_site_without_blobs() -> None:
    assert call(mesh_api(KeptInMemory(lambda: 0.0), Sites()), BLOBS + SHA256).status == 404


class Commanded:
    """Repeats commands, but what isn't one."""

    async def receive(self, wire: bytes, sender: str) -> bytes:
        return wire

    async def give(self, sender: str, after: int, store: str, limit: int) -> bytes:
        return b""

    async def holders_told(self, wire: bytes) -> bytes:
        return wire

    async def commanded(self, wire: bytes) -> bytes:
        if not wire.startswith(b"{"):
            raise BadMessage("a command can't be understood")
        return b"done: " + wire


def test_commands_of_another_site_s_operator() -> None:
    app = mesh_api(KeptInMemory(lambda: 0.0), Sites(), None, Commanded())
    answer = call(app, COMMAND, "POST", b'{"what": "find"}')
    assert (answer.status, answer.body) == (200, b'done: {"what": "find"}')
    refused = call(app, COMMAND, "POST", b"what?")
    assert (refused.status, refused.json["code"]) == (400, "bad-message")
