"""`A ; B` and `around` on real sites: who is asked, what is executed, and that a body arrives whole."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cheops.lab.lab import Lab
from end_to_end.asking import wait_for
from end_to_end.raw import (
    admin,
    call,
    mark,
    problem,
    raw_app,
    reached,
    read_settings,
    reply,
    settings_of,
    write_settings,
)
from end_to_end.wire import Answer

MB = 1 << 20


@pytest.fixture(scope="module")
def whole_lab(lab_of: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return lab_of(raw_app(tmp_path_factory.mktemp("raw") / "app"), sites=3)


@pytest.fixture
def lab(whole_lab: Lab) -> Iterator[Lab]:
    """The lab, mended afterwards."""
    yield whole_lab
    whole_lab.heal()
    for site in whole_lab.sites:
        pids = site.status()["pids"]
        for what in ("agent", "things"):
            if pids[what] is None:
                whole_lab.restart(site.name, what)


def ask(lab: Lab, scope: str, *headers: str, target: bytes = b"/echo", method: str = "GET", body: bytes | None = None,
        at: str = "Site1") -> Answer:  # fmt: skip
    return call(
        lab.site(at).front("things"), target, f"X-Scope: {{things: {scope}}}", *headers, method=method, body=body
    )


def served_by(answer: Answer) -> list[str]:
    return answer.values("cheops-served-by")


def test_the_first_that_can(lab: Lab) -> None:
    assert served_by(ask(lab, "Site2 ; Site3")) == ["Site2"]
    assert served_by(ask(lab, "Site1 ; Site3")) == ["Site1"]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_link_that_is_cut(lab: Lab, method: str) -> None:
    lab.cut("Site1", "Site2")
    marked = mark()
    body = b"x" if method == "POST" else None
    answer = ask(lab, "Site2 ; Site3", marked, method=method, body=body)
    assert (answer.status, served_by(answer)) == (200, ["Site3"])
    assert reached(lab, marked) == ["Site3/things"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_service_that_is_down(lab: Lab, method: str) -> None:
    lab.kill("Site2", "things")
    answer = ask(lab, "Site2 ; Site3", method=method, body=b"x" if method == "POST" else None)
    assert (answer.status, served_by(answer)) == (200, ["Site3"])
    assert answer.values("cheops-outcome") == ["Site2=unreachable, Site3=200"]


def test_all_are_down(lab: Lab) -> None:
    for site in ("Site2", "Site3"):
        lab.kill(site, "things")
    found = problem(ask(lab, "Site2 ; Site3", method="POST", body=b"x"), 503)
    assert (found["code"], found["executed"]) == ("nobody-can", "no")
    assert [each["site"] for each in found["tried"]] == ["Site2", "Site3"]


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "409 Conflict", "500 Internal Server Error"])
def test_a_refusal_of_the_application_is_an_answer(lab: Lab, status: str) -> None:
    marked = mark()
    answer = ask(lab, "Site2 ; Site3", marked, target=reply(status, body=b"no"))
    assert (answer.status, served_by(answer)) == (int(status[:3]), ["Site2"])
    assert reached(lab, marked) == ["Site2/things"]


def test_a_read_goes_on_where_a_service_says_503_and_a_write_does_not(lab: Lab) -> None:
    busy = reply("503 Service Unavailable", body=b"busy")
    read, write = mark(), mark()
    assert ask(lab, "Site2 ; Site3", read, target=busy).status == 503  # of the last one
    assert reached(lab, read) == ["Site2/things", "Site3/things"]
    assert ask(lab, "Site2 ; Site3", write, target=busy, method="POST", body=b"x").status == 503
    assert reached(lab, write) == ["Site2/things"]


def test_a_write_that_may_have_been_executed_is_not_sent_again(lab: Lab) -> None:
    """The service reads it all and breaks off before it answers."""
    read, write = mark(), mark()
    found = problem(ask(lab, "Site2 ; Site3", write, target=b"/break", method="POST", body=b"x"), 504)
    assert (found["code"], found["site"], found["executed"]) == ("maybe-executed", "Site2", "unknown")
    assert "Site3 wasn't asked" in found["detail"]
    assert reached(lab, write) == ["Site2/things"]
    ask(lab, "Site2 ; Site3", read, target=b"/break")
    assert reached(lab, read) == ["Site2/things", "Site3/things"]


def upload(lab: Lab, scope: str, file: Path) -> dict[str, Any]:
    url = lab.site("Site1").front("things") + "/echo"
    done = subprocess.run(
        ["curl", "-sf", "-T", str(file), "-H", "Expect:", "-H", f"X-Scope: {{things: {scope}}}", url],
        capture_output=True,
        timeout=60,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("way", ["cut", "down"])
@pytest.mark.parametrize("size", [100_000, 64 * MB])
def test_a_body_arrives_whole_where_it_goes_in_the_end(lab: Lab, tmp_path: Path, way: str, size: int) -> None:
    """Nothing of the first choice takes a byte; Envoy may have read some of them, but less than the agent keeps."""
    if way == "cut":
        lab.cut("Site1", "Site2")
    else:
        lab.kill("Site2", "things")
    file = tmp_path / "body"
    content = bytes(range(256)) * (size // 256)
    file.write_bytes(content)
    told = upload(lab, "Site2 ; Site3", file)
    assert (told["bytes"], told["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("size", [0, 100_000, MB])
def test_a_write_into_a_blackhole_is_executed_once_or_told(lab: Lab, size: int) -> None:
    """Over a link that was open, nobody can say what arrived, now or later: 504. Else Site3 executes it, whole."""
    marked = mark()
    lab.blackhole("Site1", "Site2")
    answer = ask(lab, "Site2 ; Site3", marked, method="POST", body=b"x" * size)
    assert answer.status in (200, 504)
    if answer.status == 504:
        assert problem(answer, 504)["code"] == "maybe-executed"
    else:
        assert json.loads(answer.body)["sha256"] == hashlib.sha256(b"x" * size).hexdigest()
    lab.heal()
    assert reached(lab, marked) in ([["Site3/things"]] if answer.status == 200 else [[], ["Site2/things"]])


def states(lab: Lab) -> dict[str, str]:
    return {peer["site"]: peer["state"] for peer in admin(lab, "Site1", "/sites")["peers"]}


def test_a_site_that_is_known_to_be_down_is_not_waited_for(lab: Lab) -> None:
    lab.blackhole("Site1", "Site2")
    wait_for(lambda: states(lab)["Site2"] == "down", "Site1 finds Site2 down")
    answer = ask(lab, "Site2 ; Site3")
    assert served_by(answer) == ["Site3"]
    assert answer.values("cheops-outcome") == []  # nobody else was tried


def test_a_service_that_is_mute_is_waited_for_as_long_as_the_settings_say(lab: Lab) -> None:
    path = settings_of(lab, "Site1")
    before = path.read_text()
    settings = read_settings(path)
    settings["otherwise"]["patience_seconds"] = 0.5
    write_settings(path, settings)
    try:
        wait_for(lambda: ask(lab, "Site2 ; Site1", target=b"/mute?1").status == 503, "they are in force", 20)
        found = problem(ask(lab, "Site2 ; Site3", target=b"/mute?1", method="POST", body=b"x"), 504)
        assert "no answer in time" in found["detail"]
        assert ask(lab, "Site2", target=b"/mute?1").status == 200
    finally:
        write_settings(path, before)


# Around


def near(answer: Answer) -> list[str]:
    return [each.split(";")[0].strip() for each in ",".join(answer.values("cheops-around")).split(",")]


def test_around_picks_the_near_site_and_another_once_the_delays_change(lab: Lab) -> None:
    """Asked at Site3, which takes the distances of Site1 from Site1."""
    lab.delay("Site1", "Site2", "60ms")
    lab.delay("Site1", "Site3", "120ms")
    wait_for(lambda: near(ask(lab, "around(Site1, 100ms)", at="Site3")) == ["Site1", "Site2"], "Site2 is near", 60)
    lab.kill("Site1", "things")
    assert served_by(ask(lab, "around(Site1, 100ms)", at="Site3")) == ["Site2"]
    lab.delay("Site1", "Site2", "200ms")
    lab.delay("Site1", "Site3", "20ms")
    wait_for(lambda: near(ask(lab, "around(Site1, 100ms)", at="Site3")) == ["Site1", "Site3"], "now Site3 is", 60)
    assert served_by(ask(lab, "around(Site1, 100ms)", at="Site3")) == ["Site3"]
    for other in ("Site2", "Site3"):
        lab.delay("Site1", other, "0ms")


def test_what_a_site_said_last_of_its_distances_is_used_with_its_age(lab: Lab) -> None:
    ask(lab, "around(Site2, 3s)")
    lab.cut("Site1", "Site2")

    wait_for(lambda: states(lab)["Site2"] == "down", "Site1 finds Site2 down")
    answer = ask(lab, "around(Site2, 3s)")
    assert "Site2" not in near(answer)
    assert "Site3" in near(answer)
    (told,) = answer.values("cheops-around")
    assert min(float(each.partition("age=")[2]) for each in told.split(",")) > 1  # seconds: it was down for longer


def test_nobody_is_near_enough(lab: Lab) -> None:
    ask(lab, "around(Site2, 3s)")
    lab.cut("Site1", "Site2")
    wait_for(lambda: states(lab)["Site2"] == "down", "Site1 finds Site2 down")
    found = problem(ask(lab, "around(Site2, 1us)"), 503)
    assert found["code"] == "nobody-near"
    assert found["nearest"][0]["site"] == "Site2"
    assert "Site2 0.0ms (down)" in found["detail"]
    assert served_by(ask(lab, "around(Site2, 1us) ; Site3")) == ["Site3"]


# Plans


def test_w1_a_plan_is_shown_and_nothing_is_sent(lab: Lab) -> None:
    marked = mark()
    answer = ask(lab, "Site2 ; Site3", "Cheops-Plan: only", marked, method="POST", body=b"x", target=b"/echo?a=%2f")
    plan = json.loads(answer.body)
    assert (answer.status, plan["collaboration"]) == (200, "otherwise")
    asked = {step["site"]: (step["request"]["method"], step["request"]["target"]) for step in plan["steps"]}
    assert asked == dict.fromkeys(("Site2", "Site3"), ("POST", "/echo?a=%2f"))
    assert reached(lab, marked) == []


@pytest.mark.parametrize("scope", ["", "X-Scope: {things: Site2}", "X-Scope: {things: Site1}"])
def test_also_of_what_envoy_would_serve_alone(lab: Lab, scope: str) -> None:
    marked = mark()
    headers = [header for header in (scope, "Cheops-Plan: only", marked) if header]
    answer = call(lab.site("Site1").front("things"), b"/echo", *headers)
    assert json.loads(answer.body)["collaboration"] == "sharing"
    assert reached(lab, marked) == []


def test_another_value_is_refused(lab: Lab) -> None:
    marked = mark()
    answer = call(lab.site("Site1").front("things"), b"/echo", "Cheops-Plan: yes", marked)
    assert "has one value" in problem(answer, 400)["detail"]
    assert reached(lab, marked) == []
