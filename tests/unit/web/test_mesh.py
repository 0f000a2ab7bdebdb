"""What peers may ask the agent."""

from pathlib import Path

import pytest

from asgi import call
from cheops.stores.kept import KeptFiles, KeptInMemory
from cheops.web.mesh import mesh_api

UUID = "c4e0f001-0000-8000-8000-000000000001"
TEXT = "{compute: Site1, image: Sité2}"


def test_a_kept_scope_is_plain_text() -> None:
    kept = KeptInMemory(lambda: 0.0)
    kept.keep(UUID, TEXT)
    answer = call(mesh_api(kept), f"/kept/{UUID}")
    assert (answer.status, answer.text, answer.headers["content-type"]) == (200, TEXT, "text/plain; charset=utf-8")


def test_none_is_kept() -> None:
    answer = call(mesh_api(KeptInMemory(lambda: 0.0)), f"/kept/{UUID}")
    assert (answer.status, answer.json) == (404, {"detail": "no scope is kept under this id"})


@pytest.mark.parametrize("uuid", ["x", "..%2F..%2Fsite.yaml", "%00", UUID.upper()])
def test_nothing_else_can_be_read(tmp_path: Path, uuid: str) -> None:
    (tmp_path / "site.yaml").write_text("secret")
    assert call(mesh_api(KeptFiles(tmp_path / "data/kept", lambda: 0.0)), f"/kept/{uuid}").status == 404


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_peers_only_read(method: str) -> None:
    assert call(mesh_api(KeptInMemory(lambda: 0.0)), f"/kept/{UUID}", method).status == 405
