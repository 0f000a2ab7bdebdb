"""A mistake in a scope is reported with a caret, and nothing is sent."""

import pytest

from cloud import credentials
from conftest import Openstack
from server import Server

WRONG = "{compute: Site1 &}"
CARET = """\
{compute: Site1 &}
                 ^
column 18: a site is expected here, not `}`"""


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        (["server", "list", "--scope", WRONG], "", "--scope"),
        (["--os-scope", WRONG, "server", "list"], "", "--scope"),
        (["server", "list"], WRONG, "OS_SCOPE"),
    ],
    ids=["after", "before", "environment"],
)
def test_nothing_is_sent(
    openstack: Openstack, cloud: Server, arguments: list[str], environment: str, named: str
) -> None:
    ran = openstack(*arguments, environment={**credentials(cloud), "OS_SCOPE": environment})
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"openstack: {named} can't be understood, so nothing was sent\n{CARET}")
    assert cloud.asked == []
