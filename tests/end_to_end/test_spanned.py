"""Services with resources that span sites: of their reads, those that concern such a resource meet the agent."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from end_to_end.asking import wait_for
from end_to_end.conftest import short_folder, unused_net
from end_to_end.managed import Managed, managed_sites
from end_to_end.raw import mark, problem
from end_to_end.wire import Wire, request

CONCERNED = (
    b"/echo/nets",
    b"/echo/nets/?name=a%2Fb&limit=3",
    b"/echo/all/nets",
    b"/echo/nets/5b0",
    b"/echo/nets/5b0/ports?watch=false",
    b"/echo/ports",
)
OTHERS = (
    b"/echo",
    b"/echo/routers",
    b"/echo/routers?next=/echo/nets",
    b"/echo/nets/5b0/ports/9",
    b"/echo/nets?watch=true",
    b"/echo/nets?a=b&watch=1&c=d",
    b"/echo/nets/5b0?watch=True",
)


@pytest.fixture(scope="module")
def whole() -> Iterator[dict[str, Managed]]:
    with short_folder() as folder, managed_sites(folder, unused_net()) as sites:
        yield sites


@pytest.fixture
def sites(whole: dict[str, Managed]) -> Iterator[dict[str, Managed]]:
    """Both, with all of their processes again after the test."""
    yield whole
    for site in whole.values():
        for name in {"things", "door"} - site.processes.keys():
            site.start(name)


@pytest.fixture
def one(sites: dict[str, Managed]) -> Managed:
    return sites["Site1"]


def met(sites: dict[str, Managed], marked: str) -> list[str]:
    """What a request came to, of all that there is."""
    return [
        f"{name} {what}"
        for name, site in sites.items()
        for what, saw in (("agent", site.door_saw(marked)), ("service", site.service_saw(marked)))
        for _ in saw
    ]


@pytest.mark.parametrize("target", CONCERNED)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_of_what_spans_sites_meets_the_agent_alone(
    sites: dict[str, Managed], method: str, target: bytes
) -> None:
    marked = mark()
    assert sites["Site1"].ask(method, target, marked, service="spread").status == 200
    assert met(sites, marked) == ["Site1 agent"]
    (seen,) = sites["Site1"].door_saw(marked)
    assert (seen["service"], seen["method"], seen["target"].encode()) == ("spread", method, target)


@pytest.mark.parametrize("target", OTHERS)
@pytest.mark.parametrize("scope", [[], ["X-Scope: {spread: Site1}"]])
def test_other_reads_and_watches_never_do(sites: dict[str, Managed], target: bytes, scope: list[str]) -> None:
    marked = mark()
    assert sites["Site1"].ask("GET", target, marked, *scope, service="spread").status == 200
    assert met(sites, marked) == ["Site1 service"]


@pytest.mark.parametrize("service", ["things", "other"])
@pytest.mark.parametrize("target", CONCERNED)
def test_nor_do_reads_of_services_that_have_nothing_of_the_kind(
    sites: dict[str, Managed], service: str, target: bytes
) -> None:
    """`things` has replicated resources, and the same description."""
    marked = mark()
    assert sites["Site1"].ask("GET", target, marked, service=service).status == 200
    assert met(sites, marked) == ["Site1 service"]


@pytest.mark.parametrize("method", ["OPTIONS", "POST"])
def test_other_methods_do_as_they_did(sites: dict[str, Managed], method: str) -> None:
    marked = mark()
    body = b"x" if method == "POST" else None
    assert sites["Site1"].ask(method, b"/echo/nets", marked, body=body, service="spread").status == 200
    assert met(sites, marked) == ["Site1 agent" if method == "POST" else "Site1 service"]


@pytest.mark.parametrize("word", ["spread", "wide"])
@pytest.mark.parametrize(("at", "meets"), [("Site1", "Site1 agent"), ("Site2", "Site2 service")])
def test_one_with_a_scope_goes_to_the_site_that_it_names(
    sites: dict[str, Managed], word: str, at: str, meets: str
) -> None:
    """There it is asked for the site's own part."""
    text = f"{{{word}: {at}}}"
    prefix = f"/~scope/%7B{word}:%20{at}%7D".encode()
    for prefixed, headers in ((b"", [f"X-Scope: {text}"]), (prefix, [])):
        marked = mark()
        target = prefixed + b"/echo/nets/5b0"
        assert sites["Site1"].ask("GET", target, marked, *headers, service="spread").status == 200
        assert met(sites, marked) == [meets]


def test_several_sites_are_the_agent_s(sites: dict[str, Managed]) -> None:
    marked = mark()
    scope = "X-Scope: {spread: Site1 % Site2}"
    assert sites["Site1"].ask("GET", b"/echo/nets", marked, scope, service="spread").status == 200
    assert met(sites, marked) == ["Site1 agent"]


def test_a_plan_is_asked_of_the_agent_here(sites: dict[str, Managed]) -> None:
    marked = mark()
    headers = ["X-Scope: {spread: Site2}", "Cheops-Plan: only", marked]
    assert sites["Site1"].ask("GET", b"/echo/nets", *headers, service="spread").status == 200
    assert met(sites, marked) == ["Site1 agent"]


def test_an_upgrade_is_the_service_s(sites: dict[str, Managed]) -> None:
    marked = mark()
    upgrade = ["Connection: Upgrade", "Upgrade: websocket"]
    assert sites["Site1"].ask("GET", b"/echo/nets", *upgrade, marked, service="spread").status == 200
    assert met(sites, marked) == ["Site1 service"]


def test_a_circle_is_noticed(one: Managed) -> None:
    asked = one.ask("GET", b"/echo/nets", "Cheops-Via: Site1/spread;", service="spread")
    assert problem(asked, 508)["code"] == "circle"


def test_while_the_agent_is_away_a_part_is_not_taken_for_the_whole(one: Managed) -> None:
    one.kill("door")
    found = problem(one.ask("GET", b"/echo/nets", service="spread"), 503)
    assert (found["code"], found["executed"]) == ("agent-away", "no")
    assert "reads of what spans sites in spread" in found["detail"]
    assert one.ask("GET", b"/echo/routers", service="spread").status == 200


def test_a_service_has_its_first_and_loses_its_last_without_a_connection_lost(one: Managed) -> None:
    with Wire(one.address("spread")) as kept:

        def meets_agent() -> bool:
            kept.send(request("GET", b"/echo/nets"))
            return "rss" in json.loads(kept.answer().body)

        assert meets_agent()
        one.take_up(replace(one.site, spanned=frozenset()))
        wait_for(lambda: not meets_agent(), "none is there")
        one.take_up(one.site)
        wait_for(meets_agent, "there is one again")
