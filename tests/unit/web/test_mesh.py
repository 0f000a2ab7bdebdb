"""What peers may ask the agent."""

from pathlib import Path

import pytest

from asgi import Answer, call
from cheops.errors import NotAMember
from cheops.ports import DISTANCES, HEARTBEAT
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
