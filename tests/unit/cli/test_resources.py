"""`cheops resources`, `resource`, `operations`, `retry`, `drop`, `done`, `conflicts`, `conflict apply` and `wait`."""

import json
import time
from dataclasses import asdict, replace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cheops.cli import cheops
from cheops.cli.admin import AgentRefuses
from cheops.errors import BadRequest
from cheops.reconcile.listing import AtSite
from cheops.reconcile.operating import Told
from cheops.reconcile.showing import (
    ConflictShown,
    Left,
    OperationShown,
    OutcomeShown,
    ResourceListed,
    ResourceShown,
    SiteOfResource,
)
from played import Answers, Playing, playing

RID = "c4e1aaaa-bbbb-8ccc-8ddd-eeeeeeeeeeee"
OP = "Site1.0a/2"
NOW = time.time()
RESOURCE = ResourceListed(rid=RID, service="image", type="images", name="debian", placement=["Site1", "Site2"])
REFUSED = OutcomeShown(
    site="Site2",
    state="refused",
    since=NOW - 3 * 3600,
    status=413,
    why="the service answered 413",
    todo="cheops retry …",
)
PENDING = OutcomeShown(site="Site1", state="pending", since=NOW - 7200, why="no route to host", todo="Look at it.")
CHANGE = OperationShown(
    operation=OP,
    site="Site1",
    kind="merge",
    at=1_700_000_000,
    method="PATCH",
    target=f"/v2/images/{RID}",
    body="12 bytes, SHA-256 ab",
    superseded_by="Site2.0b/1",
    outcomes=[PENDING, REFUSED],
)
CONFLICT = ConflictShown(
    resource=RID,
    winner="Site2.0b/1",
    loser=OP,
    fields=["name", "size"],
    settled=False,
    winner_site="Site2",
    loser_site="Site1",
    winner_kind="merge",
    loser_kind="replace",
    loser_since=1_700_000_000,
    apply=f"cheops conflict apply {RID} {OP}",
)
SHOWN = ResourceShown(
    resource=RESOURCE,
    seen_from="Site1",
    refers=[],
    sites=[
        SiteOfResource(site="Site1", state="pending", local_id="1f"),
        SiteOfResource(site="Site2", state="failed", local_id="", why=f"{OP}: full"),
    ],
    operations=[CHANGE],
    conflicts=[CONFLICT],
)
LEFT = Left(
    site="Site2", operation=OP, state="pending", since=NOW - 7200, why="no route to host", todo="Look at it.", ends=True
)


def run(answers: Answers, *arguments: str) -> tuple[Result, Playing]:
    with playing(answers) as agent:
        return CliRunner().invoke(cheops, [*arguments, "--admin", agent.address]), agent


def page(member: str, *items: Any, after: str = "") -> tuple[int, Any]:
    return 200, {member: [asdict(item) for item in items], "next": after}


def test_resources_in_a_table_of_all_pages() -> None:
    other = replace(RESOURCE, rid=RID.replace("e", "f"), name="fedora")
    answers = {
        "GET /resources?service=image&limit=1000": page("resources", RESOURCE, after=RID),
        f"GET /resources?service=image&after={RID}&limit=1000": page("resources", other),
    }
    result, _ = run(answers, "resources", "--service", "image")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines == [
        ["resource", "of", "name", "held", "by"],
        [RID, "image/images", "debian", "Site1", "&", "Site2"],
        [other.rid, "image/images", "fedora", "Site1", "&", "Site2"],
    ]
    result, _ = run(answers, "resources", "--service", "image", "--json")
    assert [each["name"] for each in json.loads(result.stdout)["resources"]] == ["debian", "fedora"]
    assert "No replicated resources" in run({"GET /resources?limit=1000": page("resources")}, "resources")[0].stdout


def test_a_resource_is_shown_by_its_name() -> None:
    answers = {
        "GET /find?name=my%20image%2F1": (200, asdict(RESOURCE)),
        f"GET /resources/{RID}": (200, asdict(SHOWN)),
    }
    result, agent = run(answers, "resource", "show", "my image/1")
    assert result.exit_code == 0
    assert len(agent.paths) == 2
    assert result.stdout.splitlines() == [
        f"{RID}  image/images debian",
        "held by Site1 & Site2, as Site1 knows it",
        "",
        "site   state    id there  why",
        "Site1  pending  1f",
        f"Site2  failed   -         {OP}: full",
        "",
        f"{OP}  merge  2023-11-14 22:13:20 UTC  PATCH /v2/images/{RID}",
        "  superseded by Site2.0b/1",
        "  body: 12 bytes, SHA-256 ab",
        "  Site1: pending for 2 h: no route to host",
        "    Look at it.",
        "  Site2: refused (413): the service answered 413",
        "    cheops retry …",
        f"conflict: Site2.0b/1 won over {OP}, name, size; to do it again: cheops conflict apply {RID} {OP}",
    ]
    result, agent = run(answers, "resource", "show", RID, "--json")
    assert json.loads(result.stdout) == asdict(SHOWN)
    assert agent.paths == [f"GET /resources/{RID}"]


def test_what_spans_its_sites_is_told_with_their_sign_and_its_prime() -> None:
    whole = replace(RESOURCE, prime="Site2")
    placed = replace(CHANGE, kind="place", method="", placement=["Site1", "Site2"])
    shown = replace(SHOWN, resource=whole, operations=[placed])
    result, _ = run({f"GET /resources/{RID}": (200, asdict(shown))}, "resource", "show", RID)
    assert "held by Site1 % Site2, prime: Site2, as Site1 knows it" in result.stdout.splitlines()
    assert "place  2023-11-14 22:13:20 UTC  Site1 % Site2" in result.stdout
    result, _ = run({"GET /resources?limit=1000": page("resources", whole)}, "resources")
    assert result.stdout.splitlines()[1].endswith("Site1 % Site2, prime: Site2")


def test_an_ambiguous_name_is_refused_with_what_it_may_be() -> None:
    problem = {"detail": "'debian' may be any of 2 resources: …", "hint": "Name it by its rid."}
    result, _ = run({"GET /find?name=debian": (409, problem)}, "resource", "show", "debian")
    assert isinstance(result.exception, AgentRefuses)
    assert result.exception.detail == "'debian' may be any of 2 resources: …\nName it by its rid."


def test_a_resource_moves() -> None:
    path = f"PUT /resources/{RID}/placement"
    result, agent = run(
        {path: (200, {"operation": "Site1.0a/3"})},
        *("resource", "scope", RID, "{image: Site1 & Site3}", "--leave", "delete"),
    )
    assert result.exit_code == 0
    assert f"cheops wait {RID} --converged" in result.stdout
    assert json.loads(agent.asked[0][2]) == {"scope": "{image: Site1 & Site3}", "leave": "delete"}
    _, agent = run({path: (200, {"operation": "Site1.0a/3"})}, "resource", "scope", RID, "Site1")
    assert json.loads(agent.asked[0][2]) == {"scope": "Site1", "leave": "keep"}


def at_site(outcome: OutcomeShown) -> AtSite:
    return AtSite(resource=RESOURCE, operation=replace(CHANGE, outcomes=[]), outcome=outcome)


def test_operations_that_failed_or_wait() -> None:
    answers = {
        "GET /operations?state=failed&limit=1000": page("operations", at_site(REFUSED)),
        "GET /operations?state=pending&limit=1000": page("operations", at_site(PENDING)),
        "GET /operations?state=pending&site=Site3&limit=5": page("operations"),
    }
    result, _ = run(answers, "operations")
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in result.stdout.splitlines()]
    what = f"PATCH /v2/images/{RID}"
    assert rows == [
        ["resource", "operation", "what", "at", "state", "for", "why"],
        [RID, OP, what, "Site2", "refused (413)", "3 h", "the service answered 413"],
        [RID, OP, what, "Site1", "pending", "2 h", "no route to host"],
        [],
        ["What to do:"],
        ["cheops retry …"],
        ["Look at it."],
    ]
    result, _ = run(answers, "operations", "--failed", "--json")
    assert [each["outcome"]["site"] for each in json.loads(result.stdout)["operations"]] == ["Site2"]
    assert run(answers, "operations", "--pending", "--on", "Site3", "--limit", "5")[0].stdout == "None.\n"


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("retry", RID, OP), f"/operations/{RID}/{OP}/retry"),
        (("drop", RID, OP, "--on", "Site2"), f"/operations/{RID}/{OP}/drop?site=Site2"),
        (("done", RID, OP, "--on", "Site2", "--id", "a b"), f"/operations/{RID}/{OP}/done?site=Site2&id=a%20b"),
    ],
)
def test_operations_are_settled(arguments: tuple[str, ...], path: str) -> None:
    told = Told(site="Site2", done=True, what=f"{OP} is tried again at Site2")
    result, agent = run({f"POST {path}": (200, {"told": [asdict(told)]})}, *arguments)
    assert (result.exit_code, result.stdout) == (0, f"{OP} is tried again at Site2.\n")
    assert agent.paths == [f"POST {path}"]


def test_a_site_that_doesn_t_take_the_command() -> None:
    told = [Told(site="Site2", done=True, what="it is dropped"), Told(site="Site3", done=False, what="unreachable")]
    answers = {f"POST /operations/{RID}/{OP}/drop": (200, {"told": [asdict(each) for each in told]})}
    result, _ = run(answers, "drop", RID, OP)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "it is dropped.\n", "at Site3: unreachable\n")


@pytest.mark.parametrize("name", ["2", "Site1.0a", "/2", "Site1.0a/two"])
def test_what_is_no_operation(name: str) -> None:
    result, agent = run({}, "retry", RID, name)
    assert isinstance(result.exception, BadRequest)
    assert agent.paths == []


def test_conflicts() -> None:
    answers = {
        "GET /conflicts?limit=1000": page("conflicts", CONFLICT),
        "GET /conflicts?settled=true&limit=1000": page("conflicts", replace(CONFLICT, settled=True)),
        f"POST /conflicts/{RID}/{OP}/apply": (200, {"operation": "Site1.0a/3"}),
    }
    result, _ = run(answers, "conflicts")
    row = [cell.strip() for cell in result.stdout.splitlines()[1].split("  ") if cell.strip()]
    said = ["Site2.0b/1 (merge)", f"{OP} (replace)", "name, size", "2023-11-14 22:13:20 UTC", CONFLICT.apply]
    assert row == [RID, *said]
    assert run(answers, "conflicts", "--settled")[0].stdout.splitlines()[1].endswith("settled")
    assert run({"GET /conflicts?limit=1000": page("conflicts")}, "conflicts")[0].stdout == "None.\n"
    result, _ = run(answers, "conflict", "apply", RID, OP)
    assert result.stdout == f"Site1.0a/3 does it again. Wait until it is done:  cheops wait {RID} --converged\n"


def waiting(*left: Left, timeout: str = "0.000") -> Answers:
    found = {"converged": not left, "left": [asdict(each) for each in left]}
    return {f"GET /resources/{RID}/converged?timeout={timeout}": (200, found)}


def test_waiting_until_all_are_equal() -> None:
    result, _ = run(waiting(), "wait", RID, "--converged", "--timeout", "0")
    assert (result.exit_code, result.stdout) == (
        0,
        f"All sites that hold {RID} are through with all that was done to it.\n",
    )


def test_waiting_in_vain_says_what_is_left() -> None:
    result, _ = run(waiting(LEFT), "wait", RID, "--converged", "--timeout", "0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"Not all sites are through with {RID} after 0 s:",
        f"  {OP} at Site2, pending for 2 h: no route to host",
        "    Look at it.",
    ]
    result, _ = run(waiting(LEFT), "wait", RID, "--converged", "--timeout", "0", "--json")
    assert (result.exit_code, json.loads(result.stdout)["converged"]) == (1, False)


def test_waiting_ends_at_once_if_only_a_command_helps() -> None:
    result, agent = run(
        waiting(replace(LEFT, ends=False), timeout="20.000"), "wait", RID, "--converged", "--timeout", "600"
    )
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Not all sites are through with {RID}, and waiting doesn't help:\n")
    assert len(agent.paths) == 1


def test_for_what_it_waits_must_be_said() -> None:
    assert run({}, "wait", RID)[0].exit_code == 2
