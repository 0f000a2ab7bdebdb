"""Who is there and how far, on real sites: what tests/stories/membership tells on a virtual clock."""

import datetime
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cheops.cli.admin import Admin
from cheops.config import parse_address
from cheops.lab.lab import Lab
from cheops.ports import HEARTBEAT
from cheops.sites.invitation import invite_site
from end_to_end.asking import wait_for
from end_to_end.raw import admin, agent_says, call, problem, raw_app, read_settings, settings_of, write_settings

SUSPECT_SECONDS, DOWN_SECONDS = 3.0, 5.0
FLAPS, FLAPS_SECONDS = 200, 60.0
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@pytest.fixture(scope="module")
def whole_lab(lab_of: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return lab_of(raw_app(tmp_path_factory.mktemp("raw") / "app"), sites=3)


@pytest.fixture
def lab(whole_lab: Lab) -> Iterator[Lab]:
    """The lab, all of whose sites find each other up."""
    yield whole_lab
    whole_lab.heal()


@pytest.fixture(autouse=True)
def everybody_is_up(lab: Lab) -> None:
    wait_for(
        lambda: all(state == "up" for site in lab.sites for state in states(lab, site.name).values()), "all are up", 90
    )


def found(lab: Lab, at: str) -> dict[str, dict[str, Any]]:
    """How a site finds its peers, by name."""
    return {peer["site"]: peer for peer in admin(lab, at, "/sites")["peers"]}


def states(lab: Lab, at: str) -> dict[str, str]:
    return {name: peer["state"] for name, peer in found(lab, at).items()}


def post(lab: Lab, at: str, path: str, **document: Any) -> Any:
    return Admin(address=parse_address(lab.site(at).admin.removeprefix("http://"))).post(path, document)


def noticed(lab: Lab, at: str, peer: str, since: float) -> None:
    """Waits until a peer is found suspect, then down, in the time that is promised."""
    for state, seconds in (("suspect", SUSPECT_SECONDS), ("down", DOWN_SECONDS)):
        worse = ("down",) if state == "down" else ("suspect", "down")
        wait_for(lambda worse=worse: states(lab, at)[peer] in worse, f"{at} finds {peer} {state}", 20)
        assert time.monotonic() - since < seconds + 0.3, f"{peer} was found {state} too late"  # we look now and then


def kill_site(lab: Lab, name: str) -> None:
    for what in ("agent", "envoy", "app"):  # the agent would start Envoy again
        lab.kill(name, what)


def test_a_death_is_noticed_and_a_return_too(lab: Lab) -> None:
    kill_site(lab, "Site3")
    noticed(lab, "Site1", "Site3", time.monotonic())
    assert states(lab, "Site2")["Site3"] in ("suspect", "down")
    lab.restart("Site3", "agent")
    lab.restart("Site3", "app")
    wait_for(lambda: states(lab, "Site1")["Site3"] == "up", "Site3 is found up again")


def test_l6_a_blackhole_is_noticed_by_both_and_by_nobody_else(lab: Lab) -> None:
    lab.blackhole("Site1", "Site2")
    began = time.monotonic()
    noticed(lab, "Site1", "Site2", began)
    wait_for(lambda: states(lab, "Site2")["Site1"] == "down", "Site2 too")
    assert states(lab, "Site1")["Site3"] == states(lab, "Site2")["Site3"] == "up"
    lab.heal()
    wait_for(lambda: states(lab, "Site1")["Site2"] == states(lab, "Site2")["Site1"] == "up", "healed")


def test_a_way_that_is_lost_one_way_only(lab: Lab) -> None:
    """What Site1 sends to Site2 vanishes: Site1 still hears the heartbeats of Site2, and says so."""
    lab.blackhole("Site1", "Site2", oneway=True)
    wait_for(lambda: states(lab, "Site1")["Site2"] == "down", "Site1 gets no answers")
    wait_for(lambda: states(lab, "Site2")["Site1"] == "down", "neither does Site2, whose replies vanish")
    lab.heal()


def test_an_agent_that_is_away_leaves_its_site_up(lab: Lab) -> None:
    lab.kill("Site2", "agent")
    wait_for(lambda: found(lab, "Site1")["Site2"]["agent_away"], "it is told")
    assert states(lab, "Site1")["Site2"] == "up"
    assert call(lab.site("Site1").front("things"), b"/echo", "X-Scope: {things: Site2}").status == 200
    lab.restart("Site2", "agent")
    wait_for(lambda: not found(lab, "Site1")["Site2"]["agent_away"], "it is back")


def test_a_flapping_link_settles(lab: Lab) -> None:
    """200 times in 60 s; then it is up again within a minute and a half, and has changed its state a few times only."""
    before = len(changes(lab, "Site1", "Site2"))
    end, pause = time.monotonic() + FLAPS_SECONDS, FLAPS_SECONDS / FLAPS / 2
    flaps = 0
    while flaps < FLAPS:
        lab.cut("Site1", "Site2")
        time.sleep(pause)
        lab.heal("Site1", "Site2")
        time.sleep(max(0.0, min(pause, end - time.monotonic())))
        flaps += 1
    wait_for(lambda: states(lab, "Site1")["Site2"] == "up", "it is up once it is stable", 90)
    assert len(changes(lab, "Site1", "Site2")) - before <= 12
    assert states(lab, "Site1")["Site3"] == "up"


def changes(lab: Lab, at: str, peer: str) -> list[str]:
    return [
        line["event"]
        for event in ("up", "suspect", "down")
        for line in agent_says(lab, at, event)
        if line.get("of") == peer
    ]


def test_a_clock_that_is_an_hour_off_does_no_harm(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FAKETIME, "the Debian package faketime is missing: apt-get install faketime"
    with monkeypatch.context() as patched:
        patched.setenv("LD_PRELOAD", str(FAKETIME[0]))
        patched.setenv("FAKETIME", "+3600s")
        patched.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        lab.kill("Site2", "agent")  # its Envoy goes on, whose timers libfaketime would stop
        lab.restart("Site2", "agent")
    wait_for(lambda: (found(lab, "Site1")["Site2"]["clock_offset"] or 0) > 3500, "the offset is seen", 20)
    assert 3590 < found(lab, "Site1")["Site2"]["clock_offset"] < 3610
    assert -3610 < found(lab, "Site2")["Site1"]["clock_offset"] < -3590

    def all_up() -> bool:
        return set(states(lab, "Site1").values()) == set(states(lab, "Site2").values()) == {"up"}

    wait_for(all_up, "all are up all the same", 20)
    lab.kill("Site2", "agent")
    lab.restart("Site2", "agent")
    wait_for(lambda: abs(found(lab, "Site1")["Site2"]["clock_offset"]) < 10, "and that it is right again")


def test_a_wiped_site_is_recognised_and_told_everything(lab: Lab) -> None:
    before = found(lab, "Site1")["Site2"]["incarnation"]
    lab.wipe("Site2")
    wait_for(lambda: found(lab, "Site1")["Site2"]["incarnation"] not in ("", before), "it is another incarnation")
    assert [line["of"] for line in agent_says(lab, "Site1", "wiped")] == ["Site2"]
    wait_for(lambda: set(states(lab, "Site2").values()) == {"up"}, "it knows the others again")


def test_who_calls_itself_by_another_name_is_refused(lab: Lab) -> None:
    tls = lab.folder / "Site2" / "tls"
    message = '{"site":["Site3",3,"127.0.0.1:1",99,0]}'
    done = subprocess.run(
        [
            *("curl", "-sk", "--http2", "--cert", str(tls / "site.pem"), "--key", str(tls / "site.key")),
            *("-H", "cheops-service: cheops", "--data", message, "-w", "\n%{http_code}"),
            f"https://{lab.site('Site1').address}:7443{HEARTBEAT}",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.endswith("403")
    assert "Site2 calls itself Site3" in done.stdout


def test_how_far_the_sites_are(lab: Lab) -> None:
    lab.delay("Site1", "Site2", "40ms")
    wait_for(lambda: found(lab, "Site1")["Site2"]["round_trip"]["ms"] > 40, "the delay is measured")
    assert found(lab, "Site1")["Site3"]["round_trip"]["ms"] < 40
    lab.delay("Site1", "Site2", "0ms")
    wait_for(lambda: found(lab, "Site1")["Site2"]["round_trip"]["ms"] < 25, "and that it is gone", 60)


def test_p8_sites_join_leave_and_are_removed_while_all_run(lab: Lab) -> None:
    """Site3 is away while Site4 joins, and hears of it all the same; then Site4 leaves, is let in again, dies, and is
    removed; with its old certificate it isn't let in any more.
    """
    kill_site(lab, "Site3")
    site4 = lab.join()
    wait_for(lambda: states(lab, "Site2").get("Site4") == "up", "Site2 hears of Site4")
    lab.restart("Site3", "agent")
    lab.restart("Site3", "app")
    wait_for(lambda: states(lab, "Site3").get("Site4") == "up", "Site3 hears of it later")
    wait_for(lambda: served(lab, "Site3", "Site4"), "scopes may name it")
    everyone = {"Site1": "up", "Site2": "up", "Site3": "up"}
    wait_for(lambda: states(lab, "Site4") == everyone, "it knows them all")

    post(lab, "Site4", "/leave")
    for name in ("Site1", "Site2", "Site3"):
        wait_for(lambda name=name: "Site4" not in states(lab, name), f"{name} hears that it has left")
    wait_for(lambda: "unknown site 'Site4'" in refusal(lab, "Site1", "Site4"), "scopes can't name it any more")
    wait_for(
        lambda: "it has left; it needs a new certificate" in " ".join(admin(lab, "Site4", "/readyz")["warnings"]),
        "told",
    )

    certify(lab, "Site4")
    lab.restart("Site4", "agent")
    wait_for(lambda: states(lab, "Site1").get("Site4") == "up", "a new certificate lets it in again")

    kill_site(lab, "Site4")
    wait_for(lambda: states(lab, "Site1")["Site4"] == "down", "Site4 is dead")
    refused = call(lab.site("Site1").admin, b"/sites/Site4/remove", "content-type: application/json",
                   method="POST", body=b"{}")  # fmt: skip
    assert "hasn't left by itself" in problem(refused, 400)["detail"]
    post(lab, "Site1", "/sites/Site4/remove", force=True)
    for name in ("Site1", "Site2", "Site3"):
        wait_for(lambda name=name: "Site4" not in states(lab, name), f"{name} hears that it was removed")

    lab.restart("Site4", "agent")
    wait_for(lambda: "Site4 was removed" in warnings(lab, "Site4"), "it is told", 60)
    assert all("Site4" not in states(lab, name) for name in ("Site1", "Site2", "Site3"))
    answer = call(site4.front("things"), b"/echo", "X-Scope: {things: Site1}")
    assert answer.status in (400, 403)
    certify(lab, "Site4")
    lab.restart("Site4", "agent")
    lab.restart("Site4", "app")
    wait_for(lambda: states(lab, "Site2").get("Site4") == "up", "a new certificate lets it in again")


def warnings(lab: Lab, at: str) -> str:
    return " ".join(admin(lab, at, "/readyz")["warnings"])


def refusal(lab: Lab, at: str, by: str) -> str:
    """What is said to who names a site that isn't there; nothing if it serves."""
    answer = call(lab.site(at).front("things"), b"/echo", f"X-Scope: {{things: {by}}}")
    return str(problem(answer, 400)["detail"]) if answer.status == 400 else ""


def served(lab: Lab, at: str, by: str) -> bool:
    return call(lab.site(at).front("things"), b"/echo", f"X-Scope: {{things: {by}}}").status == 200


def certify(lab: Lab, name: str) -> None:
    """Gives a site a new certificate, by another invitation."""
    now = datetime.datetime.now(datetime.UTC)
    invitation = invite_site(lab.folder / "deployment", name, None, now, again=True)
    tls = lab.folder / name / "tls"
    for file, content in (("site.key", invitation.key), ("site.pem", invitation.certificate)):
        half = tls / f"{file}.half"
        half.write_text(content)
        half.chmod(0o600)
        half.replace(tls / file)


def test_a_site_that_learns_no_others_has_those_that_are_listed(lab: Lab) -> None:
    path = settings_of(lab, "Site1")
    settings = read_settings(path)
    before = path.read_text()
    settings["mesh"]["learn"] = False
    write_settings(path, settings)
    wait_for(lambda: set(states(lab, "Site1")) == {"Site2", "Site3"}, "Site4 isn't one of them")
    write_settings(path, before)
    wait_for(lambda: set(states(lab, "Site1")) == {"Site2", "Site3", "Site4"}, "and now it is")
