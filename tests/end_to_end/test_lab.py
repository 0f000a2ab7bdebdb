"""The lab itself: real sites, real processes, real faults."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cheops.errors import BadSettings
from cheops.lab.description import find_app
from cheops.lab.errors import LabFailed
from cheops.lab.lab import Lab
from cheops.lab.processes import marked, read_record
from end_to_end.asking import Reply, ask, wait_for
from end_to_end.traces import Traces

CHEOPS = Path(sys.executable).parent / "cheops"
NOTES = Path(__file__).parent / "apps" / "notes"
COFFEE = {"customer": "Ada", "items": [{"sku": "coffee", "quantity": 2}]}
AT_ONCE = 2.0  # seconds in which a user must hear that a site can't be reached


def cheops(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "CHEOPS_LAB": str(folder), "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run([CHEOPS, "lab", *words], env=environment, text=True, capture_output=True, timeout=120)


def said(folder: Path, *words: str) -> str:
    done = cheops(folder, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def lab(shop: Lab) -> Iterator[Lab]:
    """The shop, mended after the test: no link is broken or slow, and everything runs."""
    yield shop
    shop.heal()
    for link in shop.links():
        shop.delay(link["from"], link["to"], "0ms")
    for site in shop.sites:
        pids = site.status()["pids"]
        for what in ("agent", *site.applications):
            if pids[what] is None:
                shop.restart(site.name, what)
    for site in shop.sites:
        for other in shop.sites:
            wait_for(lambda here=site, there=other: product(here, f"{{catalog: {there.name}}}").status == 200, "mended")


def product(site: Any, scope: str | None = None, sku: str = "tea") -> Reply:
    """What a site's catalog says of a product; everybody may read it."""
    return ask(f"{site.front('catalog')}/v1/buckets/shop/collections/products/records/{sku}", scope=scope)


def served(site: Any, scope: str | None = None) -> bool:
    with suppress(OSError):
        return product(site, scope).status == 200
    return False


def names(reply: Reply, site: str, within: float = AT_ONCE) -> str:
    """Checks that the reply is a problem that names a site, in time; answers the sentence."""
    assert reply.status == 503
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json["site"] == site
    assert site in reply.json["detail"]
    assert reply.seconds < within
    return str(reply.json["detail"])


def pids(lab: Lab, site: str) -> dict[str, int | None]:
    found: dict[str, int | None] = lab.site(site).status()["pids"]
    return found


# Sharing


def test_an_order_here_at_the_prices_of_another_site(shop: Lab) -> None:
    here = shop.site("Site1")
    ordered = ask(f"{here.front('orders')}/orders", "POST", send=COFFEE, scope="{orders: Site1, catalog: Site2}")
    assert ordered.status == 201
    assert ordered.json["total"] == 2 * 720
    assert ask(f"{here.front('orders')}/orders/{ordered.json['id']}").status == 200

    def seen_at_site2() -> list[dict[str, Any]]:
        lines = shop.site("Site2").access_log()
        return [line for line in lines if line["listener"] == "mesh" and "/records/coffee" in line["path"]]

    (line,) = wait_for(seen_at_site2, "the access log of Site2 tells of the call")
    assert line["peer"] == "spiffe://cheops/site/Site1"


def test_without_the_scope_there_is_no_coffee(shop: Lab) -> None:
    assert ask(f"{shop.site('Site1').front('orders')}/orders", "POST", send=COFFEE).status == 422


# Faults of processes


def test_a_killed_envoy_is_back_by_itself(lab: Lab) -> None:
    here = lab.site("Site1")
    killed = lab.kill("Site1", "envoy")
    wait_for(lambda: pids(lab, "Site1")["envoy"] not in (None, killed["envoy"]), "another Envoy runs")
    wait_for(lambda: served(here) and served(here, "{catalog: Site2}"), "requests work again")


def test_without_its_agent_a_site_serves_what_is_clear(lab: Lab) -> None:
    here = lab.site("Site1")
    lab.kill("Site1", "agent")
    assert product(here).status == 200
    assert product(here, "{catalog: Site1}").status == 200
    assert product(here, "{catalog: Site2}", "coffee").status == 200
    assert product(lab.site("Site2"), "{catalog: Site1}", "bread").status == 200
    assert "agent of Site1" in names(product(here, "{catalog: (Site2)}"), "Site1")


def test_a_new_agent_adopts_the_envoy(lab: Lab) -> None:
    before = pids(lab, "Site1")
    lab.kill("Site1", "agent")
    lab.restart("Site1", "agent")
    after = pids(lab, "Site1")
    assert after["envoy"] == before["envoy"]
    assert after["agent"] != before["agent"]
    assert product(lab.site("Site1"), "{catalog: (Site2)}", "coffee").status == 200


def test_a_service_that_was_killed_is_named_with_its_site(lab: Lab) -> None:
    killed = lab.kill("Site2", "catalog")
    assert killed.keys() == {"catalog"}
    for reply in (product(lab.site("Site1"), "{catalog: Site2}"), product(lab.site("Site2"))):
        assert "'catalog' of Site2" in names(reply, "Site2")
    assert lab.kill("Site2", "catalog") == {}
    assert lab.kill("Site2", "app").keys() == {"orders"}
    lab.restart("Site2", "app")
    assert product(lab.site("Site1"), "{catalog: Site2}", "coffee").status == 200


def test_restart_ends_what_runs_and_starts_it_again(lab: Lab) -> None:
    for what in ("envoy", "catalog", "agent"):
        before = pids(lab, "Site3")[what]
        lab.restart("Site3", what)
        assert pids(lab, "Site3")[what] not in (None, before)
    assert product(lab.site("Site3"), sku="chocolate").status == 200


# Faults of links


@pytest.mark.parametrize("scope", ["{{catalog: {0}}}", "{{catalog: ({0})}}"], ids=["envoy-alone", "by-the-agent"])
@pytest.mark.parametrize("fault", ["cut", "blackhole"])
def test_a_broken_link_is_told_at_once_and_breaks_no_other(lab: Lab, fault: str, scope: str) -> None:
    """From the first request, on a connection that was there, until the health check has noticed."""
    here = lab.site("Site1")
    assert product(here, scope.format("Site2")).status == 200
    getattr(lab, fault)("Site1", "Site2")
    first = product(here, scope.format("Site2"))
    names(first, "Site2")
    while names(reply := product(here, scope.format("Site2")), "Site2") and "no_healthy" not in reply.json["why"]:
        assert product(here, scope.format("Site3")).status == 200
    assert product(here, scope.format("Site3")).status == 200
    assert product(here).status == 200
    assert product(lab.site("Site3"), scope.format("Site2")).status == 200
    lab.heal("Site1", "Site2")
    wait_for(lambda: served(here, scope.format("Site2")), "the healed link works")


@pytest.mark.parametrize(("one", "other"), [("Site1", "Site2"), ("Site2", "Site1")])
def test_a_link_that_is_broken_one_way_is_told_too(lab: Lab, one: str, other: str) -> None:
    here = lab.site("Site1")
    assert product(here, "{catalog: Site2}").status == 200
    lab.blackhole(one, other, oneway=True)
    names(product(here, "{catalog: Site2}"), "Site2")


def test_a_delay_is_felt(lab: Lab) -> None:
    here = lab.site("Site1")
    lab.delay("Site1", "Site2", "200ms")
    assert product(here, "{catalog: Site2}").seconds >= 0.2
    assert product(here, "{catalog: Site2}").status == 200
    lab.delay("Site2", "Site1", "0ms")
    wait_for(lambda: product(here, "{catalog: Site2}").seconds < 0.2, "the delay is gone")


# Commands


def test_up_and_down_leave_nothing_behind(folder: Path, net: Callable[[], str]) -> None:
    address = net()
    words = ("--sites", "2", "--app", str(NOTES), "--net", address)
    up = json.loads(said(folder, "up", *words, "--json"))
    assert up["sites"]["Site2"]["address"] == f"{address}.2"
    traces = Traces.of(Lab.at(folder))
    assert len(traces.processes()) == 1 + 2 * 3  # links; agents, Envoys, processes
    assert (
        ask(up["sites"]["Site2"]["services"]["notes"]).body.decode()
        == f"Site2 keeps its {{notes}} at {address}.2:8600\n"
    )

    again = cheops(folder, "up", *words)
    assert again.returncode == 1
    assert "runs in" in again.stderr

    status = said(folder, "status")
    assert "Site1  Site2  open" in status
    assert "down" not in status

    said(folder, "down")
    assert traces.left() == []
    assert said(folder, "down").startswith("No lab runs")
    assert "no lab runs" in cheops(folder, "status").stderr


def test_commands_break_and_mend(lab: Lab) -> None:
    said(lab.folder, "cut", "Site1", "Site2", "--oneway")
    said(lab.folder, "blackhole", "Site2", "Site3")
    said(lab.folder, "delay", "Site1", "Site3", "20ms")
    status = json.loads(said(lab.folder, "status", "--json"))
    ways = {(way["from"], way["to"]): (way["state"], way["delay_ms"]) for way in status["links"]["ways"]}
    assert ways == {
        ("Site1", "Site2"): ("cut", 0),
        ("Site2", "Site1"): ("open", 0),
        ("Site1", "Site3"): ("open", 10),
        ("Site3", "Site1"): ("open", 10),
        ("Site2", "Site3"): ("blackhole", 0),
        ("Site3", "Site2"): ("blackhole", 0),
    }
    said(lab.folder, "heal", "Site2", "Site3")
    assert "blackhole" not in said(lab.folder, "status")
    said(lab.folder, "heal")
    assert "cut" not in said(lab.folder, "status")
    assert said(lab.folder, "kill", "Site3", "orders").startswith("Killed orders of Site3, process ")
    assert "doesn't run" in said(lab.folder, "kill", "Site3", "orders")
    assert "down" in said(lab.folder, "status")
    assert "orders is process" in said(lab.folder, "restart", "Site3", "orders")


def test_commands_say_what_is_wrong(lab: Lab) -> None:
    for words, what in {
        ("cut", "Site1", "Site9"): "Site1, Site2, Site3",
        ("delay", "Site1", "Site2", "20"): "20ms",
        ("kill", "Site9", "agent"): "Site1, Site2, Site3",
        ("kill", "Site1", "catalogue"): "agent, envoy, app, catalog, orders",
        ("logs", "Site1", "app"): "agent, envoy, access, catalog, orders",
        ("heal", "Site1"): "two sites, or none",
    }.items():
        done = cheops(lab.folder, *words)
        assert done.returncode
        assert what in done.stderr


def test_logs_say_where_they_are_and_how_they_end(lab: Lab) -> None:
    path, *lines = said(lab.folder, "logs", "Site1", "agent", "-n", "3").splitlines()
    assert path == f"==> {lab.folder}/Site1/log/agent.log"
    assert 1 <= len(lines) <= 3
    wait_for(lambda: lab.site("Site1").access_log(), "Envoy writes its access log")
    assert "==> " + str(lab.site("Site1").log("access")) in said(lab.folder, "logs", "Site1")


def test_the_tour_works(lab: Lab) -> None:
    tour = [subprocess.run(["bash", "-c", line], capture_output=True, check=True) for line in lab.sites[0].tour]
    tea, no_coffee, coffee = (json.loads(done.stdout) for done in tour)
    assert {entry["id"] for entry in tea["data"]} == {"tea", "bread"}
    assert no_coffee["catalog"]["status"] == 404
    assert coffee["total"] == 1440


# When it doesn't come up


def application(folder: Path, lab: str) -> Path:
    """The notes with another lab.yaml."""
    folder.mkdir()
    for file in NOTES.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "lab.yaml").write_text(lab)
    return folder


def no_trace(folder: Path) -> bool:
    return Traces(folder, ()).left() == []


def test_a_process_that_fails_is_told_with_the_end_of_its_log(
    folder: Path, tmp_path: Path, net: Callable[[], str]
) -> None:
    command = "import sys; sys.exit('no ink left')"
    app = application(tmp_path / "app", f'processes: {{notes: {{command: ["{{python}}", -c, "{command}"]}}}}\n')
    up = cheops(folder, "up", "--app", str(app), "--net", net())
    assert up.returncode == 1
    assert "notes of Site" in up.stderr
    assert "no ink left" in up.stderr
    assert no_trace(folder)


def test_an_agent_that_fails_is_told_with_the_end_of_its_log(
    folder: Path, net: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHEOPS_ENVOY", "/bin/false")
    with pytest.raises(LabFailed, match=r"agent of Site1 has ended by itself\n(.*\n)*.*Envoy ended with status 1"):
        Lab.up(folder, app=str(NOTES), sites=1, net=net())
    assert no_trace(folder)


def test_an_after_that_fails_is_told(folder: Path, tmp_path: Path, net: Callable[[], str]) -> None:
    text = (NOTES / "lab.yaml").read_text() + "after: [sh, -c, 'echo spilt; exit 3']\n"
    with pytest.raises(LabFailed, match=r"`after` on Site1 ended with status 3\n(.*\n)*.*spilt"):
        Lab.up(folder, app=str(application(tmp_path / "app", text)), sites=1, net=net())
    assert no_trace(folder)


def test_an_address_in_use_is_named(folder: Path, net: Callable[[], str]) -> None:
    address = net()
    with socket.create_server((f"{address}.2", 8600)):
        up = cheops(folder, "up", "--app", str(NOTES), "--net", address)
    assert up.returncode == 1
    assert f"{address}.2:8600" in up.stderr
    assert "--net" in up.stderr
    assert no_trace(folder)


def test_a_folder_with_something_in_it_is_left_alone(folder: Path, net: Callable[[], str]) -> None:
    folder.mkdir()
    (folder / "precious").write_text("mine")
    with pytest.raises(LabFailed, match="isn't empty"):
        Lab.up(folder, app=str(NOTES), net=net())
    assert [path.name for path in folder.iterdir()] == ["precious"]


def test_an_application_that_needs_more_says_what_to_do(folder: Path, tmp_path: Path, net: Callable[[], str]) -> None:
    text = (NOTES / "lab.yaml").read_text() + "needs: {inkpot: pip install inkpot}\n"
    with pytest.raises(BadSettings, match=r"'inkpot'\npip install inkpot"):
        Lab.up(folder, app=str(application(tmp_path / "app", text)), net=net())
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_that_is_broken_off_clears_up(folder: Path, net: Callable[[], str], number: signal.Signals) -> None:
    with _up_that_never_is(folder, net()) as up:
        up.send_signal(number)
        assert up.wait(60) != 0
    assert no_trace(folder)


def test_down_clears_up_after_an_up_that_was_killed(folder: Path, net: Callable[[], str]) -> None:
    with _up_that_never_is(folder, net()) as up:
        up.kill()
    (folder / "lab.json").write_text("{")  # the worst: it says nothing of what runs
    assert marked(folder)
    said(folder, "down")
    assert no_trace(folder)


def _up_that_never_is(folder: Path, net: str) -> "subprocess.Popen[bytes]":
    """`cheops lab up` that waits for a process that is never ready; the rest runs."""
    app = folder.parent / "app"
    text = (NOTES / "lab.yaml").read_text().replace("ready: http://{backend.notes}", "ready: http://{address}:9")
    words = ["up", "--app", str(application(app, text)), "--sites", "2", "--net", net, "--dir", str(folder)]
    up = subprocess.Popen([CHEOPS, "lab", *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def all_run() -> bool:
        with suppress(LabFailed):
            return len(read_record(folder).running) == 1 + 2 * 2 and len(marked(folder)) == 1 + 2 * 3
        return False

    wait_for(all_run, "everything runs that will")
    return up


def test_an_unknown_application_is_told_with_the_examples() -> None:
    with pytest.raises(BadSettings, match="shop"):
        find_app("shopp")
