"""`cheops verify` and `cheops repair`."""

import json
from dataclasses import asdict, replace
from typing import Any

from click.testing import CliRunner, Result

from cheops.cli import cheops
from cheops.errors import BadRequest
from cheops.reconcile.audit import Mended, Repaired
from cheops.reconcile.drift import FieldVerified, SiteVerified, Verified
from cheops.reconcile.showing import ResourceListed
from played import Answers, Playing, playing

RID = "c4e1aaaa-bbbb-8ccc-8ddd-eeeeeeeeeeee"
OTHER = RID.replace("e", "f").replace("c4f1", "c4e1")
RESOURCE = ResourceListed(rid=RID, service="image", type="images", name="debian", placement=["Site1", "Site2"])
EQUAL = Verified(
    resource=RESOURCE,
    state="equal",
    sites=[SiteVerified(site="Site1", state="equal"), SiteVerified(site="Site2", state="equal")],
    fields=[],
)
DRIFTED = Verified(
    resource=RESOURCE,
    state="drifted",
    sites=[SiteVerified(site="Site1", state="equal"), SiteVerified(site="Site2", state="drifted", why="price")],
    fields=[
        FieldVerified(
            facet="", path="price", says=2, operation="Site1.0a/2", values={"Site1": 2, "Site2": 7}, drifted=["Site2"]
        ),
        FieldVerified(facet="file", path="", says=None, operation="", values={"Site1": "x" * 100}, drifted=["Site2"]),
    ],
)


def run(answers: Answers, *arguments: str) -> tuple[Result, Playing]:
    with playing(answers) as agent:
        return CliRunner().invoke(cheops, [*arguments, "--admin", agent.address]), agent


def verify(found: Verified, rid: str = RID) -> tuple[str, tuple[int, Any]]:
    return f"GET /resources/{rid}/verify?timeout=10", (200, asdict(found))


def listed(*found: ResourceListed) -> Answers:
    return {"GET /resources?limit=1000": (200, {"resources": [asdict(each) for each in found], "next": ""})}


def test_equal_replicas_are_one_line() -> None:
    result, _ = run(dict([verify(EQUAL)]), "verify", RID)
    assert (result.exit_code, result.stdout) == (0, f"{RID}  image/images debian: equal\n")


def test_drift_is_told_by_site_and_field_and_ends_with_1() -> None:
    result, _ = run(dict([verify(DRIFTED)]), "verify", RID)
    assert result.exit_code == 1
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        f"{RID}  image/images debian: drifted",
        "  site   state    why",
        "  Site1  equal    -",
        "  Site2  drifted  price",
        "",
        "  field  the log says  by          Site1" + " " * 57 + "Site2",
        "  price  2             Site1.0a/2  2" + " " * 61 + "7",
        "  file   nothing       -           " + "x" * 59 + "…  -",
        "",
    ]


def test_what_waits_is_no_drift_but_what_cannot_be_read_is_not_known_to_be_well() -> None:
    for state, status in (("pending", 0), ("skipped", 0), ("unreadable", 1), ("absent", 1)):
        assert run(dict([verify(replace(EQUAL, state=state))]), "verify", RID)[0].exit_code == status


def test_all_resources_and_what_is_inside_of_others_last() -> None:
    inside = replace(RESOURCE, rid=OTHER, parent=RID)
    answers = listed(inside, RESOURCE) | dict([verify(EQUAL), verify(DRIFTED, OTHER)])
    result, agent = run(answers, "verify", "--all")
    assert result.exit_code == 1
    assert result.stdout.endswith("2 resources: 1 equal, 1 drifted.\n")
    assert [path.split("?")[0] for path in agent.paths[1:]] == [
        f"GET /resources/{RID}/verify",
        f"GET /resources/{OTHER}/verify",
    ]
    result, _ = run(answers, "verify", "--all", "--json")
    assert [json.loads(line)["state"] for line in result.stdout.splitlines()] == ["equal", "drifted"]
    result, _ = run(listed(), "verify", "--all")
    assert (result.exit_code, result.stdout) == (0, "0 resources.\n")


def test_a_repair_says_what_was_done_where() -> None:
    told = [Mended(site="Site2", done=True, what="Site1.0a/2 executed again")]
    answers: Answers = {
        f"POST /resources/{RID}/repair?timeout=3": (200, asdict(Repaired(told=told, verified=EQUAL))),
        "GET /find?name=debian": (200, asdict(RESOURCE)),
    }
    result, _ = run(answers, "repair", "debian", "--timeout", "3")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["  Site2: Site1.0a/2 executed again", f"{RID}  image/images debian: equal"]
    told = [Mended(site="Site2", done=False, what="the log says nothing of file; change it by a request")]
    answers[f"POST /resources/{RID}/repair?timeout=3"] = (200, asdict(Repaired(told=told, verified=DRIFTED)))
    result, _ = run(answers, "repair", "debian", "--timeout", "3")
    assert result.exit_code == 1
    assert "Site2: not mended: the log says nothing of file" in result.stdout


def test_of_what_must_be_said() -> None:
    for arguments in (("verify",), ("repair",), ("verify", RID, "--all")):
        result, agent = run({}, *arguments)
        assert isinstance(result.exception, BadRequest)
        assert not agent.paths
