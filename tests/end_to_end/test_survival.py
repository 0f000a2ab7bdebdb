"""A site goes on while its settings change and its processes end and come back, until its last request is done."""

import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from cheops.intercept.envoy.binary import find_envoy
from cheops.lab.lab import Lab
from cheops.lab.site import LabSite
from end_to_end.asking import wait_for
from end_to_end.raw import (
    admin,
    agent_says,
    authority,
    call,
    changed,
    problem,
    raw_app,
    read_settings,
    settings_of,
    take_up,
    told,
    write_settings,
)
from end_to_end.wire import Wire, request

IN_FORCE_SECONDS = 3.0  # a changed setting; on a busy machine
CHANGES = 200
PAUSE = 0.02  # seconds between the requests of a client: two cores also run three sites
WELL = {"ready": True, "reasons": [], "warnings": []}


@pytest.fixture(scope="module")
def whole_lab(lab_of: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = lab_of(raw_app(tmp_path_factory.mktemp("raw") / "app", "a", "c"), sites=3)
    for site in lab.sites:  # their peers are those that are listed, and no others
        settings = read_settings(settings_of(lab, site.name))
        settings["mesh"]["learn"] = False
        write_settings(settings_of(lab, site.name), settings)
    return lab


@pytest.fixture
def lab(whole_lab: Lab) -> Iterator[Lab]:
    """The lab, as it was again after the test: with its settings, and all agents running."""
    before = {site.name: settings_of(whole_lab, site.name).read_text() for site in whole_lab.sites}
    yield whole_lab
    for site in whole_lab.sites:
        path = settings_of(whole_lab, site.name)
        if not path.exists() or path.read_text() != before[site.name]:
            write_settings(path, before[site.name])
        if site.status()["pids"]["agent"] is None:
            whole_lab.restart(site.name, "agent")
        wait_for(lambda name=site.name: admin(whole_lab, name, "/readyz") == WELL, f"{site.name} is well again")
    for here, there in itertools.product(whole_lab.sites, repeat=2):
        wait_for(lambda here=here, there=there: served(here, there.name), f"{here.name} reaches {there.name} again")


def served(site: LabSite, at: str) -> bool:
    with suppress(OSError):
        return call(site.front("things"), b"/echo", f"X-Scope: {{things: {at}}}").status == 200
    return False


def pids(lab: Lab, site: str) -> dict[str, int | None]:
    found: dict[str, int | None] = lab.site(site).status()["pids"]
    return found


def lives(pid: int | None) -> bool:
    try:
        return pid is not None and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# Load


class Client(threading.Thread):
    """One client that asks again and again, and takes down whatever isn't as it should be."""

    def __init__(self, front: str, scope: str, method: str, *, keeps_alive: bool, ended: threading.Event) -> None:
        super().__init__()
        self._host, self._port = authority(front)
        self._headers = {"X-Scope": scope} if scope else {}
        self._method, self._keeps_alive, self._ended = method, keeps_alive, ended
        self._body = os.urandom(3000) if method == "POST" else None
        self.done, self.failures = 0, list[str]()

    def run(self) -> None:
        connection = self._connect()
        while not self._ended.wait(PAUSE):
            try:
                self._ask(connection)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{datetime.now():%T.%f} {self._method} {self._headers}: {error!r}")
                connection.close()
            if not self._keeps_alive:
                connection.close()
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        """It connects by itself when it has to."""
        return http.client.HTTPConnection(self._host, self._port, timeout=20)

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        connection.request(self._method, "/echo", self._body, self._headers)
        reply = connection.getresponse()
        body = reply.read()
        if reply.status != 200 or json.loads(body)["bytes"] != len(self._body or b""):
            self.failures.append(
                f"{datetime.now():%T.%f} {self._method} {self._headers}: {reply.status} {body[:500]!r}"
            )
        self.done += 1


class Load:
    """Clients of Site1, and of Site2 that are sent to Site1, until it is left; then all must have been well."""

    def __init__(self, lab: Lab, *, by_agent: bool = True) -> None:
        here, there = (lab.site(name).front("things") for name in ("Site1", "Site2"))
        ways = [(here, ""), (here, "{things: Site2}"), (there, "{things: Site1}")]
        kinds = [(front, scope, method, True) for front, scope in ways for method in ("GET", "POST")]
        kinds += [(front, scope, "POST" if scope else "GET", False) for front, scope in ways]
        kinds += [(here, "{things: (Site2)}", "POST", True)] if by_agent else []
        self._ended = threading.Event()
        self.clients = [Client(*kind, keeps_alive=keeps_alive, ended=self._ended) for *kind, keeps_alive in kinds]

    def __enter__(self) -> "Load":
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for client in self.clients:
            client.join()

    def goes_on(self) -> None:
        """Returns once every client has been answered some times more."""
        before = [client.done + len(client.failures) for client in self.clients]
        wait_for(
            lambda: all(
                client.done + len(client.failures) >= so_far + 3
                for client, so_far in zip(self.clients, before, strict=True)
            ),
            "the load goes on",
        )

    @property
    def failures(self) -> list[str]:
        return [failure for client in self.clients for failure in client.failures]


# Settings that change


def test_two_hundred_changes_under_load_fail_no_request(lab: Lab) -> None:
    """Peers and services come and go, and what is open to whom changes; each is in force soon."""
    slowest = 0.0
    path = settings_of(lab, "Site1")
    before = path.read_text()
    settings = read_settings(path)
    peer, service, envoy = settings["peers"]["Site3"], settings["services"]["c"], pids(lab, "Site1")["envoy"]
    changes: list[tuple[Callable[[], Any], Callable[[], bool]]] = [
        (lambda: settings["peers"].pop("Site3"), lambda: "Site3" not in admin(lab, "Site1", "/site")["peers"]),
        (lambda: settings["services"].pop("c"), lambda: "c" not in admin(lab, "Site1", "/site")["services"]),
        (lambda: settings["services"]["a"].update(open_to=["Site3"]), lambda: status_of_a(lab) == 403),
        (lambda: settings["peers"].update(Site3=peer), lambda: "Site3" in admin(lab, "Site1", "/site")["peers"]),
        (lambda: settings["services"].update(c=service), lambda: "c" in admin(lab, "Site1", "/site")["services"]),
        (lambda: settings["services"]["a"].pop("open_to"), lambda: status_of_a(lab) == 200),
    ]
    with Load(lab) as load:
        load.goes_on()
        for number, (change, is_in_force) in zip(range(CHANGES), itertools.cycle(changes), strict=False):
            change()
            began = time.monotonic()
            write_settings(path, settings)
            wait_for(is_in_force, f"change {number} is in force", IN_FORCE_SECONDS)
            slowest = max(slowest, time.monotonic() - began)
        load.goes_on()
    take_up(lab, "Site1", before)
    assert load.failures == []
    assert sum(client.done for client in load.clients) > 5 * CHANGES
    assert slowest < IN_FORCE_SECONDS
    assert pids(lab, "Site1")["envoy"] == envoy
    assert admin(lab, "Site1", "/readyz") == WELL


def status_of_a(lab: Lab) -> int:
    """Of a request for the service a of Site1, that comes from Site2."""
    return call(lab.site("Site2").front("a"), b"/echo", "X-Scope: {a: Site1}").status


def test_a_service_that_comes_and_goes_answers_accordingly(lab: Lab) -> None:
    front = lab.site("Site1").front("c")
    with changed(lab, "Site1", lambda settings: settings["services"].pop("c")):
        wait_for(lambda: not connects(front), "nobody listens there any more")
    wait_for(lambda: connects(front), "somebody listens again")
    assert told(call(front, b"/echo/c")).target == "/echo/c"


def connects(url: str) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(authority(url)) == 0


def test_a_change_while_the_agent_is_away_is_in_force_once_it_is_back(lab: Lab) -> None:
    path = settings_of(lab, "Site1")
    before, settings = path.read_text(), read_settings(path)
    del settings["peers"]["Site3"]
    lab.kill("Site1", "agent")
    write_settings(path, settings)
    lab.restart("Site1", "agent")
    assert "Site3" not in admin(lab, "Site1", "/site")["peers"]
    refused = problem(call(lab.site("Site1").front("things"), b"/echo", "X-Scope: {things: Site3}"), 400)
    assert "Site3" in refused["detail"]
    write_settings(path, before)  # at once, while the agent has hardly begun
    wait_for(lambda: "Site3" in admin(lab, "Site1", "/site")["peers"], "this one isn't missed", IN_FORCE_SECONDS)


MISTAKES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a field": (lambda settings: settings.update(servces={}), "servces"),
    "an address": (lambda settings: settings["services"]["c"].update(front="here:8700"), "services.c.front"),
    "a port used twice": (
        lambda settings: settings["services"]["c"].update(front=settings["services"]["a"]["front"]),
        "a listens on",
    ),
    "a number used twice": (lambda settings: settings["peers"]["Site3"].update(number=2), "has the number 2"),
    "a service unheard of": (
        lambda settings: settings["services"].update(x={"front": "127.0.0.1:1", "backend": "127.0.0.1:2"}),
        "no such service",
    ),
    "its own front": (
        lambda settings: settings["services"]["c"].update(backend=settings["services"]["c"]["front"]),
        "circles",
    ),
    "what can't change": (lambda settings: settings.update(site="Site9"), "site"),
    "an address of nobody here": (
        lambda settings: settings["services"]["c"].update(front="192.0.2.77:80"),
        "192.0.2.77",
    ),
    "no certificate": (lambda settings: settings["mesh"].update(certificate="tls/none.pem"), "none.pem"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_changes_nothing_and_is_told(lab: Lab, mistake: str) -> None:
    change, what = MISTAKES[mistake]
    path, event = settings_of(lab, "Site1"), "the changed settings aren't in force"
    before, settings = path.read_text(), read_settings(path)
    described, already = admin(lab, "Site1", "/site"), len(agent_says(lab, "Site1", event))
    change(settings)
    with Load(lab) as load:
        load.goes_on()
        write_settings(path, settings)
        (warning,) = wait_for(lambda: admin(lab, "Site1", "/readyz")["warnings"][:1], "it is told")
        assert event in warning
        assert what in warning
        assert admin(lab, "Site1", "/readyz")["ready"]
        assert admin(lab, "Site1", "/site") == described
        assert any(what in line["detail"] for line in agent_says(lab, "Site1", event)[already:])
        assert told(call(lab.site("Site1").front("c"), b"/echo/c")).target == "/echo/c"
        load.goes_on()
        write_settings(path, before)
        wait_for(lambda: admin(lab, "Site1", "/readyz")["warnings"] == [], "it is mended")
        load.goes_on()
    assert load.failures == []
    with changed(lab, "Site1", lambda settings: settings["peers"].pop("Site3")):  # nothing has got stuck
        assert "Site3" not in admin(lab, "Site1", "/site")["peers"]


@pytest.mark.parametrize("text", ["", "{", "site: [", "- a\n- b\n", "\0", "site: Site1\nsite: Site2\n"])
def test_half_a_file_changes_nothing_and_is_told(lab: Lab, text: str) -> None:
    path = settings_of(lab, "Site1")
    before, described = path.read_text(), admin(lab, "Site1", "/site")
    path.write_text(text)
    (warning,) = wait_for(lambda: admin(lab, "Site1", "/readyz")["warnings"][:1], "it is told")
    assert "site.yaml" in warning
    assert admin(lab, "Site1", "/site") == described
    path.unlink()
    wait_for(lambda: "can't be read" in "".join(admin(lab, "Site1", "/readyz")["warnings"]), "it is missed")
    write_settings(path, before)
    wait_for(lambda: admin(lab, "Site1", "/readyz")["warnings"] == [], "it is mended")


def test_a_file_that_can_t_be_written_is_told_and_ends_nothing(lab: Lab) -> None:
    """As when the disk is full."""
    path, before = settings_of(lab, "Site1"), pids(lab, "Site1")
    settings, text = read_settings(path), path.read_text()
    del settings["peers"]["Site3"]
    in_the_way = lab.site("Site1").data / "envoy" / "clusters.half"
    in_the_way.mkdir()
    with Load(lab) as load:
        write_settings(path, settings)
        wait_for(lambda: "can't be written" in "".join(admin(lab, "Site1", "/readyz")["warnings"]), "it is told")
        assert "Site3" in admin(lab, "Site1", "/site")["peers"]
        load.goes_on()
        in_the_way.rmdir()
        take_up(lab, "Site1", text)
        load.goes_on()
    assert load.failures == []
    assert pids(lab, "Site1") == before
    assert admin(lab, "Site1", "/readyz") == WELL


# The end of a site


WAYS = ("", "{things: Site2}", "{things: (Site1)}", "{things: (Site2)}")


@contextmanager
def under_way(lab: Lab, scope: str) -> Iterator[Wire]:
    """A request that takes a second, of which the beginning has come."""
    with Wire(authority(lab.site("Site1").front("things"))) as wire:
        wire.send(request("GET", b"/lines?5", *([f"X-Scope: {scope}"] if scope else [])))
        assert wire.head()[0] == 200
        wire.chunk()
        yield wire


def finish(wire: Wire) -> None:
    """The rest of the reply comes, to its end."""
    assert [json.loads(wire.chunk()).keys() for _ in range(4)] == [{"sent"}] * 4
    assert wire.chunk() == b""


@pytest.mark.parametrize("site", ["Site1", "Site2"])
def test_a_site_that_is_ended_finishes_what_is_under_way(lab: Lab, site: str) -> None:
    """On every way; new connections are refused at once. Then agent and Envoy are gone."""
    ending = pids(lab, site)
    with ExitStack() as stack:
        wires = [stack.enter_context(under_way(lab, scope)) for scope in WAYS]
        os.kill(ending["agent"] or 0, signal.SIGTERM)
        wait_for(lambda: not connects(lab.site(site).front("things")), "nothing new begins", 1)
        for wire in wires:
            finish(wire)
    wait_for(lambda: not lives(ending["agent"]) and not lives(ending["envoy"]), f"{site} has ended", 10)
    assert not (lab.site(site).data / "run" / "envoy.json").exists()


def test_a_site_that_is_ended_while_idle_is_gone_at_once(lab: Lab) -> None:
    """Open connections on which nothing happens keep nobody waiting."""
    ending = pids(lab, "Site1")
    with Wire(authority(lab.site("Site1").front("things"))) as wire:
        wire.send(request("GET", b"/echo"))
        assert wire.answer().status == 200
        began = time.monotonic()
        os.kill(ending["agent"] or 0, signal.SIGINT)
        wait_for(lambda: not lives(ending["agent"]) and not lives(ending["envoy"]), "Site1 has ended", 10)
        assert time.monotonic() - began < 5


# Envoy ends


def test_a_killed_envoy_is_back_within_two_seconds(lab: Lab) -> None:
    site = lab.site("Site1")
    killed = lab.kill("Site1", "envoy")["envoy"]
    began = time.monotonic()
    wait_for(lambda: served(site, "Site1"), "Site1 serves again", 2)
    assert time.monotonic() - began < 2
    wait_for(lambda: served(site, "Site2"), "and reaches its peers", 2)
    assert pids(lab, "Site1")["envoy"] not in (None, killed)
    assert not lives(killed)


def times(lab: Lab, event: str) -> list[float]:
    return [datetime.fromisoformat(line["time"]).timestamp() for line in agent_says(lab, "Site1", event)]


def test_an_envoy_that_ends_again_and_again_is_started_more_and_more_slowly(lab: Lab) -> None:
    for number in range(1, 4):
        already = len(times(lab, "started"))
        lab.kill("Site1", "envoy")
        wait_for(lambda already=already: len(times(lab, "started")) > already, f"it is started after kill {number}")
    pauses = [
        next(start for start in times(lab, "started") if start > end) - end
        for end in times(lab, "ended by itself; starting it again")[-3:]
    ]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 0.3
    assert served(lab.site("Site1"), "Site1")


@pytest.fixture
def failing(
    folder: Path, tmp_path: Path, net: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Lab, Path]]:
    """A site whose Envoy can't be started while a file is there."""
    script, flag = tmp_path / "envoy", tmp_path / "fails"
    script.write_text(f'#!/bin/sh\n[ -e {flag} ] && exit 70\nexec {find_envoy()} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CHEOPS_ENVOY", str(script))
    with Lab.up(folder, app=str(raw_app(tmp_path / "app")), sites=1, net=net()) as lab:
        yield lab, flag


def test_an_envoy_that_can_t_be_started_is_tried_until_it_can(failing: tuple[Lab, Path]) -> None:
    lab, flag = failing
    flag.touch()
    lab.kill("Site1", "envoy")
    wait_for(lambda: len(times(lab, "doesn't start")) >= 4, "it is tried again and again")
    tried = times(lab, "doesn't start")
    pauses = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 1.5 * pauses[0]
    readiness = admin(lab, "Site1", "/readyz")
    assert not readiness["ready"]
    assert "Envoy" in readiness["reasons"][0]
    flag.unlink()
    wait_for(lambda: served(lab.site("Site1"), "Site1"), "Site1 serves again", 7)
    assert "status 70" in agent_says(lab, "Site1", "doesn't start")[-1]["detail"]


# The agent ends


def plain_spellings(lab: Lab) -> list[tuple[bytes, list[str]]]:
    """Targets and headers of requests that need no agent; all but the first two go from Site1 to Site2."""
    seen = told(call(lab.site("Site1").front("things"), b"/echo", "X-Scope: {things: Site2}", "X-Auth-Token: T"))
    scopes = [
        "{things:Site2}",
        '{"things": "Site2"}',
        "{STUFF: 'Site2'}",
        "Site2",
        "{ Site2 }",
        "{a: Site3, things: Site2}",
    ]
    return [
        (b"/echo", []),
        (b"/echo", ["X-Scope: {things: Site1}"]),
        *((b"/echo", [f"X-Scope: {scope}"]) for scope in scopes),
        *((b"/~scope/" + quote(scope, safe="").encode() + b"/echo", []) for scope in scopes),
        (b"/echo", [f"baggage: k=v,scope={quote('{things: Site2}')}"]),
        (b"/echo", seen.lines("x-request-id")),
        (b"/echo", seen.lines("x-auth-token")),
    ]


def test_without_its_agent_a_site_goes_on_and_the_next_agent_adopts_its_envoy(lab: Lab) -> None:
    spellings, front, envoy = plain_spellings(lab), lab.site("Site1").front("things"), pids(lab, "Site1")["envoy"]
    with Load(lab, by_agent=False) as load:
        load.goes_on()
        lab.kill("Site1", "agent")
        load.goes_on()
        for number, (target, headers) in enumerate(spellings):
            answer = call(front, target, *headers)
            assert told(answer).target == "/echo"
            assert answer.values("cheops-served-by") == ([] if number == 0 else ["Site1"] if number == 1 else ["Site2"])
        refused = problem(call(front, b"/echo", "X-Scope: {things: (Site2)}"), 503)
        assert refused["site"] == "Site1"
        assert "agent of Site1 doesn't run" in refused["detail"]
        lab.restart("Site1", "agent")
        load.goes_on()
    assert load.failures == []
    assert pids(lab, "Site1")["envoy"] == envoy
    assert agent_says(lab, "Site1", "adopted")[-1]["pid"] == envoy
    assert call(front, b"/echo", "X-Scope: {things: (Site2)}").status == 200
    with changed(lab, "Site1", lambda settings: settings["peers"].pop("Site3")):
        assert "Site3" not in admin(lab, "Site1", "/site")["peers"]


def test_an_adopted_envoy_is_supervised_and_ended_too(lab: Lab) -> None:
    lab.kill("Site1", "agent")
    lab.restart("Site1", "agent")
    lab.kill("Site1", "envoy")
    wait_for(lambda: served(lab.site("Site1"), "Site1"), "it is started again", 2)
    lab.kill("Site1", "agent")
    lab.restart("Site1", "agent")
    ending = pids(lab, "Site1")
    os.kill(ending["agent"] or 0, signal.SIGTERM)
    wait_for(lambda: not lives(ending["agent"]) and not lives(ending["envoy"]), "Site1 has ended", 10)


def test_a_request_under_way_survives_the_agent_unless_it_is_the_agent_s(lab: Lab) -> None:
    with under_way(lab, "") as here, under_way(lab, "{things: Site2}") as mesh:
        lab.kill("Site1", "agent")
        for wire in (here, mesh):
            finish(wire)


def test_a_second_agent_of_a_site_refuses_to_start(lab: Lab) -> None:
    before = pids(lab, "Site1")
    second = start_agent(settings_of(lab, "Site1"))
    assert second.returncode == 1
    assert "another agent of Site1 runs already" in second.stderr
    assert "End it first" in second.stderr
    assert pids(lab, "Site1") == before
    assert served(lab.site("Site1"), "Site2")
    assert call(lab.site("Site1").front("things"), b"/echo", "X-Scope: {things: (Site2)}").status == 200


@pytest.mark.parametrize("moved", [[], ["admin"], ["admin", "mesh"]], ids=" and ".join)
def test_so_does_one_with_a_copy_of_its_folder(lab: Lab, folder: Path, moved: list[str]) -> None:
    """Its Envoy would take half of the requests without a word, if only some of the addresses are changed."""
    shutil.copytree(settings_of(lab, "Site1").parent, folder, ignore=shutil.ignore_patterns("data", "app", "log"))
    settings = read_settings(folder / "site.yaml")
    for port, part in enumerate(moved, start=17990):
        settings[part]["listen"] = f"{lab.site('Site1').address}:{port}"
    write_settings(folder / "site.yaml", settings)
    second = start_agent(folder / "site.yaml")
    assert second.returncode == 1
    wanted = [settings["admin"]["listen"], settings["mesh"]["listen"], settings["services"]["things"]["front"]]
    assert f"nothing can listen on {wanted[len(moved)]}: Address already in use" in second.stderr
    assert not (folder / "data" / "run" / "envoy.json").exists()
    assert served(lab.site("Site1"), "Site2")


def start_agent(path: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "cheops", "agent", "--config", str(path)]
    return subprocess.run(command, text=True, capture_output=True, timeout=30, check=False)
