"""A running agent takes up changed credentials, and never writes down a secret; what they do is told in unit tests."""

from collections.abc import Callable
from typing import Any

import pytest

from cheops.lab.lab import Lab
from end_to_end.asking import wait_for
from end_to_end.raw import admin, changed, raw_app, read_settings, settings_of, write_settings

SECRET = "s3cret-5123456"


@pytest.fixture(scope="module")
def lab(lab_of: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return lab_of(raw_app(tmp_path_factory.mktemp("raw") / "app"), sites=1)


def with_credentials(**things: Any) -> Callable[[dict[str, Any]], object]:
    return lambda settings: settings.update(credentials={"things": things})


def written(lab: Lab) -> bytes:
    """All that the site has written, but for its settings."""
    folder = settings_of(lab, "Site1").parent
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "site.yaml")


def test_credentials_change_while_the_agent_runs(lab: Lab) -> None:
    with changed(lab, "Site1", with_credentials(kind="header", value=SECRET)):
        assert admin(lab, "Site1", "/readyz")["warnings"] == []
        assert SECRET not in str(admin(lab, "Site1", "/site"))
    assert SECRET.encode() not in written(lab)


def test_a_mistake_in_them_is_told_without_the_secret(lab: Lab) -> None:
    path = settings_of(lab, "Site1")
    before = path.read_text()
    settings = read_settings(path)
    with_credentials(kind="keystone-password", username="u", project="p", password=[SECRET])(settings)
    write_settings(path, settings)
    try:
        (warning,) = wait_for(lambda: admin(lab, "Site1", "/readyz")["warnings"], "the mistake is told")
        assert "credentials.things.password: Input should be a valid string" in warning
        assert SECRET not in warning
    finally:
        write_settings(path, before)
    wait_for(lambda: not admin(lab, "Site1", "/readyz")["warnings"], "it is mended")
    assert SECRET.encode() not in written(lab)
