"""How commands reach an agent, and what they say when they don't: `cheops sites`, `cheops site leave` and `remove`."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cheops.cli import cheops
from cheops.cli.admin import AgentDoesntAnswer, AgentRefuses
from cheops.cli.sites import age
from cheops.errors import BadSettings, CheopsError
from played import playing

PEER = {
    "site": "Site2",
    "number": 2,
    "mesh": "10.0.0.2:7443",
    "state": "up",
    "since": 200.0,
    "round_trip": {"ms": 12.345, "spread_ms": 0.5, "age": 0.4},
    "incarnation": "0123456789",
    "version": "1.2",
    "clock_offset": -0.0123,
    "agent_away": False,
    "note": "",
}
UNHEARD = {
    **PEER,
    "site": "Site10",
    "state": "suspect",
    "since": 3.25,
    "round_trip": None,
    "incarnation": "",
    "version": "",
    "clock_offset": None,
    "note": "no route to host",
}
SITES = {"site": "Site1", "incarnation": "abcdef0123", "version": "1.2", "peers": [PEER, UNHEARD]}
ANSWERS: dict[str, tuple[int, Any]] = {
    "GET /site": (200, {"site": "Site1"}),
    "GET /sites": (200, SITES),
    "POST /leave": (200, {"done": "Site1 leaves; its agent can be stopped in a few seconds"}),
    "POST /sites/Site2/remove": (200, {"done": "Site2 is removed; to come back it needs a new certificate"}),
}


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cheops, arguments, env=environment)


def fails(*arguments: str, **environment: str) -> CheopsError:
    """The error that `cheops` tells and ends with."""
    result = run(*arguments, **environment)
    assert isinstance(result.exception, CheopsError), result.output
    return result.exception


def test_the_sites_in_a_table() -> None:
    with playing(ANSWERS) as agent:
        result = run("sites", "--admin", agent.address)
    assert result.exit_code == 0
    lines = [line.split("  ") for line in result.stdout.splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert rows == [
        ["site", "state", "for", "round trip", "measured", "clock", "version", "incarnation", "note"],
        ["Site1", "here", "1.2", "abcdef01"],
        ["Site2", "up", "3 min", "12.3 ± 0.5 ms", "0.4 s ago", "-0.012 s", "1.2", "01234567"],
        ["Site10", "suspect", "3.2 s", "-", "-", "-", "-", "-", "no route to host"],
    ]


def test_and_as_json() -> None:
    with playing(ANSWERS) as agent:
        result = run("sites", "--json", "--admin", f"http://{agent.address}/")
    assert json.loads(result.stdout) == SITES
    assert agent.paths == ["GET /sites"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (119.94, "119.9 s"), (120, "2 min"), (7_199, "120 min"), (7_200, "2 h"), (172_800, "2 d")],
)
def test_a_time_in_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_the_address_may_stand_in_the_environment() -> None:
    with playing(ANSWERS) as agent:
        assert run("sites", CHEOPS_ADMIN=agent.address).exit_code == 0


def test_a_site_that_is_named_is_the_one_that_is_asked(tmp_path: Path) -> None:
    with playing(ANSWERS) as agent:
        assert run("sites", "--site", "Site1", "--admin", agent.address, "--dir", str(tmp_path)).exit_code == 0
        error = fails("site", "leave", "--site", "Site2", "--admin", agent.address, "--dir", str(tmp_path))
    assert isinstance(error, BadSettings)
    assert error.detail == f"the agent at {agent.address} is that of Site1, not of Site2"
    assert "POST /leave" not in agent.paths


def test_leaving_and_removing_say_what_was_done() -> None:
    with playing(ANSWERS) as agent:
        left, removed = (
            run("site", "leave", "--admin", agent.address),
            run("site", "remove", "Site2", "--force", "--admin", agent.address),
        )
    assert left.stdout == "Site1 leaves; its agent can be stopped in a few seconds\n"
    assert removed.stdout == "Site2 is removed; to come back it needs a new certificate\n"
    assert [(path, json.loads(body)) for path, _, body in agent.asked] == [
        ("POST /leave", {}),
        ("POST /sites/Site2/remove", {"force": True}),
    ]


def test_force_is_not_said_unless_it_is() -> None:
    refusal = {"detail": "Site2 hasn't left by itself", "hint": "If it won't come back, say --force."}
    with playing({"POST /sites/Site2/remove": (400, refusal)}) as agent:
        error = fails("site", "remove", "Site2", "--admin", agent.address)
    assert isinstance(error, AgentRefuses)
    assert str(error) == "Site2 hasn't left by itself\nIf it won't come back, say --force."
    assert json.loads(agent.asked[0][2]) == {"force": False}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/../leave", "a%2F..%2Fleave"),
        ("Site 2", "Site%202"),
        ("é", "%C3%A9"),
        ("a?b#c", "a%3Fb%23c"),
        ("%2e", "%252e"),
    ],
)
def test_a_name_is_one_word_of_the_path(name: str, path: str) -> None:
    with playing({}) as agent:
        assert isinstance(fails("site", "remove", name, "--admin", agent.address), AgentRefuses)
    assert agent.paths == [f"POST /sites/{path}/remove"]


@contextmanager
def saying(content: bytes) -> Iterator[str]:
    """An address where somebody answers whatever comes with these bytes, and ends."""
    from threading import Thread

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(content)

        thread = Thread(target=serve)
        thread.start()
        yield "{}:{}".format(*server.getsockname())
        thread.join()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "{}:{}".format(*server.getsockname())
    error = fails("sites", "--admin", address)
    assert isinstance(error, AgentDoesntAnswer)
    assert error.detail == f"no agent answers at {address}: Connection refused"
    assert "--admin HOST:PORT" in error.hint


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\n\r\n[1]",
        b"HTTP/1.1 200 OK\r\n\r\n\xff",
    ],
)
def test_what_listens_there_is_no_agent(content: bytes) -> None:
    with saying(content) as address:
        error = fails("sites", "--admin", address)
    assert isinstance(error, AgentDoesntAnswer)
    assert error.detail.startswith(f"no agent answers at {address}: ")
    assert error.detail[len(f"no agent answers at {address}: ") :]


@pytest.mark.parametrize("said", [b"", b"<html>", b'"no"', b"[]", b"{}", b"7"])
def test_a_refusal_without_a_sentence(said: bytes) -> None:
    with playing({"GET /sites": (500, said)}) as agent:
        error = fails("sites", "--admin", agent.address)
    assert isinstance(error, AgentRefuses)
    assert error.detail == f"the agent at {agent.address} answered 500"


def test_another_server_is_not_the_site_that_is_named(tmp_path: Path) -> None:
    with playing({"GET /site": (200, {"hello": 1})}) as agent, pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        error = fails("sites", "--site", "Site1", "--admin", agent.address)
    assert error.detail == f"the agent at {agent.address} is that of none, not of Site1"


@pytest.mark.parametrize("address", ["7480", "localhost", "a b:1", "127.0.0.1:0", "127.0.0.1:99999", "https://a:1"])
def test_an_address_that_is_none(address: str) -> None:
    error = fails("sites", "--admin", address)
    assert isinstance(error, BadSettings)
    assert error.detail.startswith(f"--admin {address}: an address is written host:port")
