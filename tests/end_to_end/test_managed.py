"""Services with replicated resources: Envoy serves what is found, and leaves the rest, and writes, to the agent."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cheops.model import Request
from cheops.transports.http import HttpTransport
from end_to_end.asking import wait_for
from end_to_end.conftest import short_folder, unused_net
from end_to_end.managed import Managed, managed_sites
from end_to_end.raw import mark, problem, reply
from end_to_end.wire import Answer, Wire, request
from values import request as ask_of
from values import whole as whole_of

MISSING = reply("404 Not Found", "X-Whose: the service's", body=b"not here")
WRITES = ("POST", "PUT", "PATCH", "DELETE", "PURGE", "PROPFIND")
MB = 1 << 20


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


def came(answer: Answer) -> dict[str, Any]:
    """The request as it came in at a door."""
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(answer.body)
    assert "rss" in found, "this is a service's answer"
    return found


def internal(headers: list[list[str]]) -> set[str]:
    return {name for name, _ in headers if name.startswith(("cheops-", "x-envoy-"))}


# Reads


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("scope", [[], ["X-Scope: {things: Site1}"], ["X-Scope: {things: Site2}"]])
def test_what_is_found_never_meets_an_agent(sites: dict[str, Managed], method: str, scope: list[str]) -> None:
    marked = mark()
    answer = sites["Site1"].ask(method, b"/echo", marked, *scope)
    assert answer.status == 200
    assert [site.door_saw(marked) for site in sites.values()] == [[], []]
    (head,) = [head for site in sites.values() for head in site.service_saw(marked)]
    assert not [line for line in head.lower().split("\r\n") if line.startswith(("cheops-service", "cheops-a", "x-env"))]


@pytest.mark.parametrize("at", ["Site1", "Site2"])
def test_what_is_not_found_is_asked_of_the_agent_where_the_service_is(sites: dict[str, Managed], at: str) -> None:
    marked = mark()
    found = came(sites["Site1"].ask("GET", MISSING, marked, f"X-Scope: {{things: {at}}}"))
    assert (found["service"], found["method"], found["target"].encode()) == ("things", "GET", MISSING)
    assert internal(found["headers"]) == {"cheops-via"}
    assert [name for name, site in sites.items() if site.door_saw(marked)] == [at]
    assert [(name, len(site.service_saw(marked))) for name, site in sites.items() if site.service_saw(marked)] == [
        (at, 1)
    ]


def test_a_target_comes_to_the_agent_byte_for_byte(one: Managed) -> None:
    odd = MISSING + b"&a//b/../%2e%2E/;c=%2F|[]{}"
    one.kill("things")  # it would take the target for a mistake
    assert came(one.ask("GET", odd))["target"].encode() == odd
    assert came(one.ask("POST", odd))["target"].encode() == odd


def test_the_agent_s_answer_stands_whatever_it_is(one: Managed) -> None:
    for status in (200, 404, 410, 503):
        marked = mark()
        answer = one.ask("GET", MISSING, marked, f"X-Agent: {status}")
        assert (answer.status, json.loads(answer.body)["service"]) == (status, "things")
        assert (len(one.door_saw(marked)), len(one.service_saw(marked))) == (1, 1)
        assert not answer.values("x-envoy-ratelimited")


def test_the_site_that_served_it_is_the_one_that_the_agent_names(one: Managed) -> None:
    answer = one.ask("GET", MISSING, "X-Scope: {things: Site1}", "X-Other-Site: Site9")
    assert answer.values("cheops-served-by") == ["Site9"]
    assert one.ask("GET", MISSING, "X-Scope: {things: Site1}").values("cheops-served-by") == ["Site1"]


@pytest.mark.parametrize("at", ["Site1", "Site2"])
def test_a_404_stays_what_it_is_from_the_moment_on_in_which_the_agent_dies(sites: dict[str, Managed], at: str) -> None:
    sites[at].kill("door")
    end = time.monotonic() + 1
    while time.monotonic() < end:
        answer = sites["Site1"].ask("GET", MISSING, f"X-Scope: {{things: {at}}}")
        assert (answer.status, answer.body, answer.values("x-whose")) == (404, b"not here", ["the service's"])


def test_and_the_service_sees_the_same_request_again(one: Managed) -> None:
    one.kill("door")
    marked = mark()
    one.ask("GET", MISSING, marked)
    first, again = one.service_saw(marked)
    assert first == again


def test_many_at_once_are_all_asked(one: Managed) -> None:
    """Envoy's default would be three retries at a time."""
    with_many = [Wire(one.address()) for _ in range(50)]
    for wire in with_many:
        wire.send(request("GET", MISSING))
    assert {wire.answer().status for wire in with_many} == {200}
    for wire in with_many:
        wire.socket.close()


def test_a_service_that_is_away_is_said_to_be_if_the_agent_is_too(one: Managed) -> None:
    one.kill("things")
    assert came(one.ask("GET", b"/echo"))["target"] == "/echo"
    one.kill("door")
    found = problem(one.ask("GET", b"/echo"), 503)
    assert (found["code"], found["executed"]) == ("unreachable", "no")
    assert "'things' of Site1 doesn't answer" in found["detail"]


def test_a_read_that_breaks_off_is_not_repeated(one: Managed) -> None:
    marked = mark()
    assert problem(one.ask("GET", b"/break", marked), 503)["code"] == "broken-off"
    assert (len(one.service_saw(marked)), one.door_saw(marked)) == (1, [])


@pytest.mark.parametrize("at", ["Site1", "Site2"])
def test_upgrades_are_the_service_s(sites: dict[str, Managed], at: str) -> None:
    scope, marked = f"X-Scope: {{things: {at}}}", mark()
    asks = ["Connection: Upgrade", "Upgrade: websocket", scope, marked]
    for method in ("GET", "POST"):  # kubectl exec comes as either
        with Wire(sites["Site1"].address()) as wire:
            wire.send(request(method, b"/upgrade", *asks))
            assert wire.head()[0] == 101
            wire.send(b"hello")
            assert wire.take(5) == b"hello"
    refused = sites["Site1"].ask("GET", MISSING, *asks)
    assert (refused.status, refused.body) == (404, b"not here")
    assert [site.door_saw(marked) for site in sites.values()] == [[], []]


def test_a_watch_is_not_held_up(one: Managed) -> None:
    """The first line is there before the last one is sent."""
    with Wire(one.address()) as wire:
        wire.send(request("GET", b"/lines?5"))
        wire.head()
        wire.chunk()
        came_first = time.time()
        *_, last = [json.loads(wire.chunk())["sent"] for _ in range(4)]
        assert came_first < last


# Writes


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("at", ["Site1", "Site2"])
def test_writes_go_to_the_agent_of_the_site_that_the_scope_names(
    sites: dict[str, Managed], method: str, at: str
) -> None:
    target, scope = b"/echo//a/%2F?b=c", f"{{things: {at}}}"
    prefix = f"/~scope/%7Bthings:%20{at}%7D".encode()
    for prefixed, headers in ((b"", [f"X-Scope: {scope}"]), (prefix, [])):
        marked = mark()
        found = came(sites["Site1"].ask(method, prefixed + target, marked, *headers, body=b"abc"))
        assert (found["service"], found["method"], found["target"].encode()) == ("things", method, target)
        assert (found["bytes"], found["sha256"]) == (3, hashlib.sha256(b"abc").hexdigest())
        assert ["x-scope", scope] in found["headers"]
        assert internal(found["headers"]) == {"cheops-via"}
        assert [name for name, site in sites.items() if site.door_saw(marked)] == [at]
        assert [site.service_saw(marked) for site in sites.values()] == [[], []]


def test_without_a_scope_they_go_to_the_agent_here(one: Managed) -> None:
    for target in (b"/echo?a=b", b"/~scope/%7Bthings:%20Site1%20;%20Site2%7D/echo"):
        found = came(one.ask("POST", target, body=b"abc"))
        assert (found["target"].encode(), found["bytes"]) == (target, 3)
        assert [value for name, value in found["headers"] if name == "cheops-via"] == ["Site1/things;"]


@pytest.mark.parametrize("at", ["Site1", "Site2"])
def test_where_a_write_leads_is_mended_as_ever(sites: dict[str, Managed], at: str) -> None:
    """What the client does next comes back with its scope."""
    prefix = f"/~scope/%7Bthings:%20{at}%7D"
    for prefixed in ("", prefix):
        answer = sites["Site1"].ask("POST", f"{prefixed}/things".encode(), "X-Location: /things/5", body=b"x")
        assert answer.values("location") == [f"{prefixed}/things/5"]


def test_those_of_other_services_go_where_they_always_did(one: Managed) -> None:
    marked = mark()
    assert one.ask("POST", b"/echo", marked, body=b"x", service="other").status == 200
    missing = one.ask("GET", MISSING, marked, service="other")
    assert (missing.status, missing.body) == (404, b"not here")
    assert (len(one.service_saw(marked)), one.door_saw(marked)) == (2, [])


def test_a_plan_is_asked_of_the_agent_here(one: Managed) -> None:
    found = came(one.ask("POST", b"/echo", "X-Scope: {things: Site2}", "Cheops-Plan: only", body=b""))
    assert ["x-scope", "{things: Site2}"] in found["headers"]


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_circle_is_noticed(one: Managed, method: str) -> None:
    assert problem(one.ask(method, b"/echo", "Cheops-Via: Site1/things;"), 508)["code"] == "circle"


def test_a_client_cannot_say_what_only_we_may(one: Managed) -> None:
    marked = mark()
    forged = [f"{name}: 2" for name in ("Cheops-Attempt", "Cheops-Door", "Cheops-Service", "Cheops-To", "Cheops-Path")]
    assert one.ask("GET", b"/echo", marked, *forged).status == 200
    (head,) = one.service_saw(marked)
    assert internal([[line.partition(":")[0]] * 2 for line in head.split("\r\n")[1:]]) == {"cheops-via"}


@pytest.mark.parametrize("at", ["Site1", "Site2"])
def test_while_the_agent_is_away_a_write_is_refused_in_words(sites: dict[str, Managed], at: str) -> None:
    other = "Site2" if at == "Site1" else "Site1"
    sites[at].kill("door")
    found = problem(sites["Site1"].ask("POST", b"/echo", f"X-Scope: {{things: {at}}}", body=b"x"), 503)
    assert (found["code"], found["site"], found["executed"]) == ("agent-away", at, "no")
    assert "writes of spread, things" in found["detail"]
    came(sites["Site1"].ask("POST", b"/echo", f"X-Scope: {{things: {other}}}", body=b"x"))


@pytest.mark.parametrize("at", ["Site1", "Site2"])
def test_a_large_body_streams_to_the_agent(sites: dict[str, Managed], at: str) -> None:
    size, block, digest = 100 * MB, os.urandom(MB), hashlib.sha256()
    with Wire(sites["Site1"].address(), timeout=60) as wire:
        headers = [f"X-Scope: {{things: {at}}}", f"Content-Length: {size}"]
        wire.send(request("PUT", b"/echo", *headers))
        for _ in range(size // MB):
            wire.send(block)
            digest.update(block)
        found = came(wire.answer())
    assert (found["bytes"], found["sha256"]) == (size, digest.hexdigest())
    assert found["rss"] < 128 * MB
    assert resident(sites[at].envoy_pid) < 200 * MB


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("at", ["Site1", "Site2"])
def test_a_client_that_waits_for_100_continue_gets_it(sites: dict[str, Managed], at: str) -> None:
    with Wire(sites["Site1"].address()) as wire:
        headers = [f"X-Scope: {{things: {at}}}", "Expect: 100-continue", "Content-Length: 3"]
        wire.send(request("PUT", b"/echo", *headers))
        assert wire.head()[0] == 100
        wire.send(b"abc")
        assert came(wire.answer())["bytes"] == 3


# What an agent sends


async def sent(one: Managed, asked: Request, *, site: str, door: bool) -> tuple[int, dict[str, Any]]:
    async with HttpTransport(one.site.name, one.site.run / "egress.sock") as transport:
        reply = await transport.send(asked, site=site, door=door)
        return reply.status, json.loads(await whole_of(reply.body))


@pytest.mark.parametrize("service", ["things", "other"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_agent_passes_a_request_on_to_that_of_another_site_as_it_came(
    one: Managed, service: str, method: str
) -> None:
    target = "/~scope/%7Ba%7D//x/%2F?y=[|]"
    scope = "{things: Site1 & Site2}"
    asked = ask_of(service, target, method, x_scope=scope, cheops_passed="Site1")
    status, found = one.run(sent(one, asked, site="Site2", door=True))
    assert (status, found["service"], found["method"], found["target"]) == (200, service, method, target)
    assert internal(found["headers"]) == {"cheops-passed"}
    assert ["x-scope", scope] in found["headers"]


def test_what_it_sends_to_its_own_service_does_not_come_back_to_it(one: Managed) -> None:
    for method in ("GET", "POST"):
        marked = mark()
        asked = ask_of("things", "/echo", method, x_mark=marked.partition(": ")[2])
        status, found = one.run(sent(one, asked, site="Site1", door=False))
        assert (status, "rss" in found) == (200, False)
        assert (len(one.service_saw(marked)), one.door_saw(marked)) == (1, [])


def test_what_it_sends_to_another_site_meets_the_agent_there_if_it_is_a_write(one: Managed) -> None:
    for method, meets in (("GET", False), ("POST", True)):
        asked = ask_of("things", "/echo", method)
        status, found = one.run(sent(one, asked, site="Site2", door=False))
        assert (status, "rss" in found) == (200, meets)


# Changes


def test_a_service_becomes_managed_and_is_so_no_more_without_a_connection_lost(one: Managed) -> None:
    with Wire(one.address()) as kept:

        def status(method: str, target: bytes) -> bool:
            kept.send(request(method, target, body=b"x" if method == "POST" else None))
            answer = kept.answer()
            return b'"rss"' in answer.body

        assert status("POST", b"/echo")
        one.take_up(replace(one.site, managed=frozenset()))
        wait_for(lambda: not status("POST", b"/echo") and not status("GET", MISSING), "nothing is managed")
        one.take_up(one.site)
        wait_for(lambda: status("POST", b"/echo") and status("GET", MISSING), "it is managed again")
