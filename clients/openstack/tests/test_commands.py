"""`openstack scope check` and `openstack site list` against an agent's replies, and without an agent."""

import json
import socket
from collections.abc import Iterator

import pytest

from cheops_openstackclient.admin import Admin, NotUnderstood
from conftest import Openstack
from server import Asked, Reply, Server, serving

CARET = "{image: Site9}\n        ^\ncolumn 9: unknown site 'Site9': known sites are Site1, Site2"
SITE = {
    "site": "Site1",
    "number": 1,
    "application": "openstack",
    "services": {"image": {"front": "127.0.1.1:9292", "backend": "127.0.1.1:19292", "aliases": ["glance"]}},
    "peers": {
        "Site2": {"number": 2, "mesh": "127.0.1.2:7443", "reachable": True},
        "Site3": {"number": 3, "mesh": "127.0.1.3:7443", "reachable": False},
    },
}
REPLIES = {
    "/site": Reply(document=SITE),
    "/healthz/site": Reply(document={"status": "alive"}),
    "/scope?text=%7BGlance%3A+Site2%7D": Reply(document={"canonical": "{image: Site2}"}),
    "/scope?text=Site2&service=glance": Reply(document={"canonical": "{image: Site2}"}),
    "/scope?text=Site2&service=mail": Reply(status=404, document={"detail": "there is no service 'mail' here"}),
    "/scope?text=%7Bimage%3A+Site9%7D": Reply(
        status=400, document={"message": "unknown site 'Site9'", "hint": "", "column": 9, "caret": CARET}
    ),
}


def _answer(_: Server, asked: Asked) -> Reply:
    return REPLIES.get(asked.target, Reply(status=404, document="<h1>not found</h1>"))


@pytest.fixture
def agent() -> Iterator[Server]:
    with serving(Server(answer=_answer)) as server:
        yield server


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_the_sites(openstack: Openstack, agent: Server) -> None:
    environment = {"CHEOPS_ADMIN": agent.url, "http_proxy": "http://127.0.0.1:1"}
    ran = openstack("site", "list", "-f", "json", environment=environment)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == [
        {"Site": "Site1", "Number": 1, "State": "here", "Mesh": ""},
        {"Site": "Site2", "Number": 2, "State": "reachable", "Mesh": "127.0.1.2:7443"},
        {"Site": "Site3", "Number": 3, "State": "unreachable", "Mesh": "127.0.1.3:7443"},
    ]


def test_what_a_scope_means_here(openstack: Openstack, agent: Server) -> None:
    ran = openstack("scope", "check", "{Glance: Site2}", "-f", "json", "--cheops-admin", agent.url, environment={})
    assert (ran.returncode, ran.stderr) == (0, "")
    meaning = {"canonical": "{image: Site2}", "checked": "syntax and names", "agent": agent.url}
    assert json.loads(ran.stdout) == meaning


def test_a_name_that_isnt_known_is_pointed_at(openstack: Openstack, agent: Server) -> None:
    ran = openstack("scope", "check", "{image: Site9}", environment={"CHEOPS_ADMIN": agent.url})
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", f"{CARET}\n")


def test_without_an_agent_the_syntax_is_checked(openstack: Openstack, nobody: str) -> None:
    ran = openstack("scope", "check", "{glance:Site9}", "-f", "json", environment={"CHEOPS_ADMIN": nobody})
    assert ran.returncode == 0
    assert json.loads(ran.stdout) == {"canonical": "{glance: Site9}", "checked": "syntax", "agent": ""}
    assert ran.stderr.startswith(f"only the syntax was checked: no agent answers at {nobody}; ")


def test_and_a_mistake_in_it_pointed_at(openstack: Openstack, nobody: str) -> None:
    ran = openstack("scope", "check", "{image: }", environment={"CHEOPS_ADMIN": nobody})
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("{image: }\n        ^\ncolumn 9: a site is expected here")


def test_without_an_agent_no_sites_are_known(openstack: Openstack, nobody: str) -> None:
    ran = openstack("site", "list", environment={"CHEOPS_ADMIN": nobody})
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"no agent answers at {nobody}; name an agent's admin API with --cheops-admin" in ran.stderr


def test_a_location_alone_means_something_for_a_service(agent: Server) -> None:
    assert Admin(agent.url).meaning("Site2", service="glance") == "{image: Site2}"


def test_a_service_that_isnt_there(agent: Server) -> None:
    with pytest.raises(NotUnderstood, match="answers 404: there is no service 'mail' here"):
        Admin(agent.url).meaning("Site2", service="mail")


@pytest.mark.parametrize("path", ["/elsewhere", "/healthz"])
def test_something_else_that_answers_is_told_from_an_agent(agent: Server, path: str) -> None:
    with pytest.raises(NotUnderstood, match=r"no agent of Cheops.*name an agent's admin API"):
        Admin(agent.url + path).site()
