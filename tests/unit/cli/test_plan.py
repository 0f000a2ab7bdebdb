"""`cheops plan`, as a user sees it: the admin API says where the fronts are, a front shows the plan."""

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
from cheops.errors import BadSettings, CheopsError
from cheops.model import Distances, PeerState, PeerView, RoundTrip
from cheops.plan import make_plan, show
from cheops.scope import parse
from played import Answers, Playing, playing
from values import SHOP, request, site_of, view_of


def shown(scope: str = "{orders: Site2 ; Site3}", **headers: str) -> dict[str, Any]:
    """A plan as an agent shows it."""
    view = view_of(site_of(SHOP))
    down, up = PeerView(state=PeerState.DOWN, since=1.0), PeerView(state=PeerState.UP, since=1.0)
    trips = {"Site2": RoundTrip(us=0.0, spread_us=1.0, age=2.0), "Site3": RoundTrip(us=1_500.0, spread_us=1.0, age=2.0)}
    view = type(view)(
        site=view.site,
        names=view.names,
        site_numbers=view.site_numbers,
        service_numbers=view.service_numbers,
        peers={"Site2": down, "Site3": up},
        distances={"Site2": Distances(of=trips)},
    )
    plan = make_plan(view.names.resolve(parse(scope)), "orders", view)
    return show(plan, [request("orders", "/orders", **headers)] * len(plan.forwards), view)


class World:
    """An admin API, and one front for all services."""

    def __init__(self, admin: Playing, front: Playing) -> None:
        self.admin, self.front = admin, front

    def run(self, *arguments: str, stdin: str | bytes = "") -> Result:
        return CliRunner().invoke(cheops, ["plan", "--admin", self.admin.address, *arguments], input=stdin)

    def fails(self, *arguments: str) -> CheopsError:
        result = self.run(*arguments)
        assert isinstance(result.exception, CheopsError), result.output
        return result.exception


@contextmanager
def world(answers: Answers) -> Iterator[World]:
    with playing(answers) as front, playing({}) as admin:
        services = {"catalog": ["Kinto"], "orders": ["order"]}
        entries = {name: {"front": front.address, "aliases": aliases} for name, aliases in services.items()}
        entries["catalog"]["front"] = "127.0.0.1:1"
        admin.answers["GET /site"] = (200, {"site": "Site1", "services": entries})
        yield World(admin, front)


ORDERS: Answers = {"GET /orders": (200, shown()), "POST /orders?a=%2f": (200, shown())}


def test_the_plan_in_lines() -> None:
    with world({"GET /orders": (200, shown("{orders: Site2 ; Site3}", x_auth_token="s3cret"))}) as at:
        result = at.run("--scope", "{orders: Site2 ; Site3}", "get", "/orders")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "A request for 'orders' at Site1: otherwise.",
        "1. Site3 (up): GET /orders",
        "     x-auth-token: …",
        "2. Site2 (down): GET /orders",
        "     x-auth-token: …",
        "Down: Site2.",
        "If a site is lost before it can have executed the request, the next one is asked. If it is lost later, a read "
        "goes on to the next; a write is answered 504, and nobody else is asked.",
    ]
    (asked,) = at.front.asked
    assert (asked[1]["x-scope"], asked[1]["cheops-plan"]) == ("{orders: Site2 ; Site3}", "only")


def test_who_is_near_is_told() -> None:
    scope = "{orders: around(Site2, 10ms)}"
    with world({"GET /orders": (200, shown(scope))}) as at:
        lines = at.run("--scope", scope, "GET", "/orders").stdout.splitlines()
    assert "Near enough: Site3 1.5 ms (2 s old)." in lines  # Site2 is down


def test_and_as_json() -> None:
    with world(ORDERS) as at:
        assert json.loads(at.run("--json", "--service", "orders", "GET", "/orders").stdout) == shown()
    assert at.front.asked[0][1]["x-scope"] == "{}"


@pytest.mark.parametrize("word", ["orders", "order", "ORDERS", "Order"])
@pytest.mark.parametrize("by", ["scope", "option"])
def test_a_service_has_many_names(word: str, by: str) -> None:
    named = ("--scope", f"{{{word}: Site2}}") if by == "scope" else ("--service", word)
    with world(ORDERS) as at:
        assert at.run(*named, "GET", "/orders").exit_code == 0
    assert at.front.paths == ["GET /orders"]


def test_the_path_may_be_the_url_of_a_front() -> None:
    with world(ORDERS) as at:
        assert at.run("POST", f"http://{at.front.address}/orders?a=%2f").exit_code == 0
        assert at.run("GET", f"http://{at.front.address}").exit_code == 1
    assert at.front.paths == ["POST /orders?a=%2f", "GET /"]


def test_headers_and_a_body_go_with_it(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"of a file")
    usual = ("--service", "orders", "POST", "/orders?a=%2f")
    with world(ORDERS) as at:
        at.run("-H", "X-One: 1 2 ", "-H", "X-Two:", "--data", "plain", *usual)
        at.run("--data", f"@{tmp_path / 'body'}", *usual)
        at.run("--data", "@-", *usual, stdin=b"of \xff input")
    assert [body for _, _, body in at.front.asked] == [b"plain", b"of a file", b"of \xff input"]
    headers = at.front.asked[0][1]
    assert (headers["x-one"], headers["x-two"], headers["x-scope"]) == ("1 2", "", "{}")


def test_what_the_user_says_of_the_scope_is_the_option_s() -> None:
    with world(ORDERS) as at:
        at.run("-H", "X-Scope: {orders: Site3}", "--scope", "{orders: Site2}", "GET", "/orders")
    assert at.front.asked[0][1]["x-scope"] == "{orders: Site2}"


def test_a_bad_scope_has_a_caret_and_asks_nobody() -> None:
    with world(ORDERS) as at:
        result = at.run("--scope", "{orders: Site1 & }", "GET", "/orders")
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert lines[:2] == ["{orders: Site1 & }", "                 ^"]
    assert lines[2].startswith("column 18: a site is expected here")
    assert at.admin.asked == at.front.asked == []


def test_a_scope_that_only_the_site_can_judge_is_told_in_its_words() -> None:
    problem = {"detail": "column 10: unknown site 'Site9'", "hint": "near names are Site1, Site2, Site3"}
    with world({"GET /orders": (400, problem)}) as at:
        error = at.fails("--scope", "{orders: Site9}", "GET", "/orders")
    assert isinstance(error, AgentRefuses)
    assert str(error) == "column 10: unknown site 'Site9'\nnear names are Site1, Site2, Site3"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--scope", "{nothing: Site1}", "GET", "/x"], "there is no service 'nothing' here"),
        (["--service", "nothing", "GET", "/x"], "there is no service 'nothing' here"),
        (["GET", "/x"], "which service is it for?"),
        (["--scope", "Site2", "GET", "/x"], "which service is it for?"),
        (["--scope", "{orders: Site1, catalog: Site2}", "GET", "/x"], "which service is it for?"),
    ],
)
def test_which_service_it_is_for_has_to_be_clear(arguments: list[str], sentence: str) -> None:
    with world({}) as at:
        error = at.fails(*arguments)
    assert (error.detail, error.hint) == (sentence, "Name it with --service: catalog, Kinto, orders, order.")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["GET", "orders"], "'orders' is no path"),
        (["GET", "https://127.0.0.1/orders"], "'https://127.0.0.1/orders' is no path"),
        (["-H", "X-One", "GET", "/orders"], "-H 'X-One' is no header"),
        (["-H", "X-One: a\nb: c", "GET", "/orders"], "GET /orders can't be asked at "),
        (["GET", "/a b"], "GET /a b can't be asked at "),
        (["GET", "/é"], "GET /é can't be asked at "),
        (["--data", "@/does/not/exist", "POST", "/orders"], "--data @/does/not/exist: it can't be read: No such file"),
    ],
)
def test_what_cannot_be_asked(arguments: list[str], sentence: str) -> None:
    with world({}) as at:
        error = at.fails("--service", "orders", *arguments)
    assert isinstance(error, BadSettings)
    assert error.detail.startswith(sentence)
    assert at.front.asked == []


def test_a_front_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "{}:{}".format(*server.getsockname())
    with world({}) as at:
        error = at.fails("GET", f"http://{address}/x")
    assert isinstance(error, AgentDoesntAnswer)
    assert error.detail == f"no front answers at {address}: Connection refused"


@pytest.mark.parametrize(
    ("status", "said"), [(200, b"<html>"), (200, b"[]"), (200, b"{}"), (200, b"\xff"), (500, b""), (403, b'{"no": 1}')]
)
def test_what_answers_there_is_no_front(status: int, said: bytes) -> None:
    """A service without Cheops before it knows nothing of plans."""
    with world({"GET /orders": (status, said)}) as at:
        error = at.fails("--service", "orders", "GET", "/orders")
    assert isinstance(error, AgentRefuses)
    assert error.detail.startswith(f"{at.front.address} answered {status}, and no plan")
