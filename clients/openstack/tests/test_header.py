"""X-Scope is on every request of a command with a scope, and on none of a command without."""

import json
from pathlib import Path

import pytest

from cloud import IMAGE, credentials
from conftest import Openstack
from server import Server

SCOPE = "{compute: Site1, image: Site2}"
AUTHENTICATION = ["GET /identity/v3", "POST /identity/v3/auth/tokens"]


def scopes(cloud: Server) -> set[str | None]:
    """The scopes of all requests; None for those that have none."""
    return {asked.headers.get("x-scope") for asked in cloud.asked}


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ("token issue", "POST /identity/v3/auth/tokens"),
        ("project list", "GET /identity/v3/projects"),
        ("server list", "GET /compute/v2.1/servers/detail"),
        ("server create my-vm --image debian --flavor small", "POST /compute/v2.1/servers"),
        ("flavor list", "GET /compute/v2.1/flavors/detail"),
        ("image list", "GET /image/v2/images"),
        ("network list", "GET /network/v2.0/networks"),
        ("container list", "GET /object-store/v1/demo"),
    ],
)
def test_every_request_of_a_command(openstack: Openstack, cloud: Server, command: str, asked: str) -> None:
    ran = openstack(*command.split(), "--scope", SCOPE, environment=credentials(cloud))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [str(each) for each in cloud.asked[:2]] == AUTHENTICATION
    assert asked in [str(each) for each in cloud.asked]
    assert scopes(cloud) == {SCOPE}


def test_an_upload_too(openstack: Openstack, cloud: Server) -> None:
    (openstack.folder / "disk").write_bytes(b"\0\1" * 100_000)
    command = ["image", "create", "--file", "disk", "--disk-format", "raw", "debian"]
    ran = openstack(*command, "--scope", SCOPE, environment=credentials(cloud))
    assert (ran.returncode, ran.stderr) == (0, "")
    [upload] = [each for each in cloud.asked if str(each) == f"PUT /image/v2/images/{IMAGE['id']}/file"]
    assert upload.body == b"\0\1" * 100_000
    assert scopes(cloud) == {SCOPE}


def test_a_command_without_a_scope_is_the_stock_clients(openstack: Openstack, cloud: Server) -> None:
    ran = openstack("server", "list", environment=credentials(cloud))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert scopes(cloud) == {None}


@pytest.mark.parametrize(
    ("arguments", "environment", "sent"),
    [
        (["--scope", SCOPE, "token", "issue"], "", SCOPE),
        (["token", "issue"], SCOPE, SCOPE),
        (["token", '--os-scope={"Nova": "Site2"}', "issue"], "{image: not a scope", "{Nova: Site2}"),
        (["token", "issue"], "{compute: around(Site1,\n 500µs)}", "{compute: around(Site1, 500us)}"),
    ],
    ids=["before", "environment", "instead-of-a-wrong-one", "always-a-header"],
)
def test_wherever_it_stands(
    openstack: Openstack, cloud: Server, arguments: list[str], environment: str, sent: str
) -> None:
    ran = openstack(*arguments, environment={**credentials(cloud), "OS_SCOPE": environment})
    assert (ran.returncode, ran.stderr) == (0, "")
    assert scopes(cloud) == {sent}


def test_an_interactive_shell_gives_its_scope_to_every_command(openstack: Openstack, cloud: Server) -> None:
    ran = openstack("--scope", SCOPE, environment=credentials(cloud), typed="flavor list\nimage list\n")
    assert "small" in ran.stdout
    assert "debian" in ran.stdout
    assert scopes(cloud) == {SCOPE}


@pytest.mark.parametrize("given", [{}, {"OS_CLOUD": "mine"}], ids=["the-only-one", "by-name"])
def test_a_cloud_of_clouds_yaml_keeps_its_own_hook(openstack: Openstack, cloud: Server, given: dict[str, str]) -> None:
    """With OS_SCOPE left in the environment, openstacksdk would take the environment for the cloud."""
    names = ("auth_url", "username", "password", "project_name", "user_domain_id", "project_domain_id")
    auth = {name: credentials(cloud)[f"OS_{name.upper()}"] for name in names}
    settings = {"clouds": {"mine": {"auth": auth, "vendor_hook": "own_hook:add_a_header"}}}
    (openstack.folder / "clouds.yaml").write_text(json.dumps(settings))
    here = {"PYTHONPATH": str(Path(__file__).parent), "OS_SCOPE": SCOPE, **given}
    ran = openstack("token", "issue", environment=here)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert scopes(cloud) == {SCOPE}
    assert {each.headers.get("x-own") for each in cloud.asked} == {"yes"}
