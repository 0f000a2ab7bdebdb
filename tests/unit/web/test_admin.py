"""The admin API: is the site well, what is it made of, what does a scope mean here."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest

from asgi import Answer, call
from cheops import __version__
from cheops.config import Site
from cheops.errors import BadRequest
from cheops.model import PeerState, PeerView, RoundTrip
from cheops.web.admin import SiteState, admin_api
from values import OPENSTACK, SHOP, site_of


@dataclass
class Members:
    """What the API asks of the membership, and tells it."""

    incarnation: str = "abc"
    found: dict[str, PeerView] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def peers(self) -> dict[str, PeerView]:
        return self.found

    def leave(self) -> None:
        self.told.append("leave")

    def remove(self, name: str, *, force: bool) -> None:
        if not force:
            raise BadRequest(f"{name} hasn't left by itself", hint="say --force")
        self.told.append(f"remove {name}")


@dataclass
class Agent:
    """What the API asks the agent for."""

    site: Site = field(default_factory=lambda: site_of(SHOP))
    reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    peers: dict[str, bool] = field(default_factory=dict)
    members: Members = field(default_factory=Members)

    def answers(self, target: str, method: str = "GET", body: bytes = b"") -> Answer:
        async def reasons() -> list[str]:
            return self.reasons

        async def peers() -> dict[str, bool]:
            return self.peers

        state = SiteState(
            site=lambda: self.site,
            reasons=reasons,
            warnings=lambda: self.warnings,
            peers=peers,
            membership=self.members,
        )
        return call(admin_api(state), target, method, body)


def test_an_agent_that_answers_lives() -> None:
    answer = Agent(reasons=["Envoy isn't ready"]).answers("/healthz")
    assert (answer.status, answer.json) == (200, {"status": "alive", "version": __version__})


def test_a_site_without_reasons_against_it_is_ready() -> None:
    answer = Agent(warnings=["the changed settings aren't in force"]).answers("/readyz")
    assert (answer.status, answer.json) == (
        200,
        {"ready": True, "reasons": [], "warnings": ["the changed settings aren't in force"]},
    )


def test_else_it_says_why_not() -> None:
    answer = Agent(reasons=["Envoy refused mesh.json"]).answers("/readyz")
    assert (answer.status, answer.json["ready"], answer.json["reasons"]) == (503, False, ["Envoy refused mesh.json"])


def test_what_the_site_is_made_of() -> None:
    assert Agent(peers={"Site2": True}).answers("/site").json == {
        "site": "Site1",
        "number": 1,
        "application": "shop",
        "services": {
            "catalog": {"front": "127.0.0.1:8001", "backend": "127.0.0.1:18001", "aliases": ["kinto", "products"]},
            "orders": {"front": "127.0.0.1:8002", "backend": "127.0.0.1:18002", "aliases": ["order"]},
        },
        "peers": {
            "Site2": {"number": 2, "mesh": "10.0.0.2:7443", "reachable": True},
            "Site3": {"number": 3, "mesh": "10.0.0.3:7443", "reachable": False},
        },
    }


def test_changed_settings_are_seen() -> None:
    agent = Agent()
    agent.site = site_of(OPENSTACK, "Site2")
    assert (agent.answers("/site").json["site"], agent.answers("/site").json["application"]) == ("Site2", "openstack")


def scope(text: str, service: str | None = None) -> Answer:
    return Agent().answers(f"/scope?text={quote(text)}" + (f"&service={quote(service)}" if service else ""))


@pytest.mark.parametrize(
    ("text", "service", "canonical"),
    [
        ("{Kinto:Site2,order : 'Site1'}", None, "{catalog: Site2, orders: Site1}"),
        ("{catalog: Site1&Site2||Site3}", None, "{catalog: Site1 & Site2 ; Site3}"),
        ("{}", None, "{}"),
        ("Site2", "orders", "{orders: Site2}"),
        ("Site2", "Kinto", "{catalog: Site2}"),
        ("{catalog: Site2}", "orders", "{catalog: Site2}"),
    ],
)
def test_what_a_scope_means(text: str, service: str | None, canonical: str) -> None:
    answer = scope(text, service)
    assert (answer.status, answer.json) == (200, {"canonical": canonical})


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("{catalog: Site9}", 11, "unknown site 'Site9'"),
        ("{catalogue: Site1}", 2, "unknown service 'catalogue'"),
        ("{catalog: Site1", 16, "`,` or `}` is expected here, not the end"),
        ("Site2", 1, "a location alone binds the service of a request, and here is none"),
        ("", 1, "the scope is empty"),
    ],
)
def test_where_a_scope_is_wrong(text: str, column: int, message: str) -> None:
    answer = scope(text)
    assert (answer.status, answer.json["column"], answer.json["message"]) == (400, column, message)
    assert answer.json["hint"]
    assert "^" in answer.json["caret"] or not text


@pytest.mark.parametrize("service", ["nothing", "prime", "a b", "é"])
@pytest.mark.parametrize("text", ["Site2", "{catalog: Site2}"])
def test_a_service_that_is_none(service: str, text: str) -> None:
    answer = scope(text, service)
    assert (answer.status, answer.json) == (
        404,
        {"detail": f"there is no service '{service}' here; there are: catalog, orders"},
    )


def test_a_scope_has_to_be_given() -> None:
    assert Agent().answers("/scope").status == 422


def test_it_describes_itself() -> None:
    described: dict[str, Any] = Agent().answers("/openapi.json").json
    assert {"/healthz", "/readyz", "/site", "/scope"} <= described["paths"].keys()
    assert "503" in described["paths"]["/readyz"]["get"]["responses"]
    assert Agent().answers("/docs").status == 200


def test_how_the_sites_are() -> None:
    trip = RoundTrip(us=4_321.0, spread_us=500.0, age=0.26)
    site2 = PeerView(state=PeerState.UP, since=12.34, round_trip=trip, incarnation="def", agent_away=True, note="far")
    answer = Agent(members=Members(found={"Site2": site2})).answers("/sites")
    assert answer.json == {
        "site": "Site1",
        "incarnation": "abc",
        "version": __version__,
        "peers": [
            {
                "site": "Site2",
                "number": 2,
                "mesh": "10.0.0.2:7443",
                "state": "up",
                "since": 12.3,
                "round_trip": {"ms": 4.321, "spread_ms": 0.5, "age": 0.3},
                "incarnation": "def",
                "version": "",
                "clock_offset": None,
                "agent_away": True,
                "note": "its agent doesn't run; far",
            }
        ],
    }


def test_who_leaves_and_who_is_removed() -> None:
    agent = Agent()
    assert agent.answers("/leave", "POST", b"{}").status == 200
    refused = agent.answers("/sites/Site2/remove", "POST", b"{}")
    assert (refused.status, refused.json["detail"], refused.json["hint"]) == (
        400,
        "Site2 hasn't left by itself",
        "say --force",
    )
    assert agent.answers("/sites/Site2/remove", "POST", b'{"force": true}').status == 200
    assert agent.members.told == ["leave", "remove Site2"]
