"""`cheops resources`, `resource show`, `resource scope`, `wait`: replicated resources, and what is left to be done."""

import json
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import click

from cheops.cli.admin import Admin, at_a_site
from cheops.cli.sites import age
from cheops.cli.tables import table

TURN_SECONDS = 20.0  # that the agent is asked to wait at a time
_RID = re.compile(r"c4e1[0-9a-f]{4}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@click.command()
@click.option("--service", metavar="NAME", help="Those of one service.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@at_a_site
def resources(service: str | None, as_json: bool, admin: Admin) -> None:
    """List the replicated resources that a site holds."""
    found = pages(admin, "/resources", "resources", {"service": service})
    if as_json:
        click.echo(json.dumps({"resources": found}, indent=2, ensure_ascii=False))
    elif found:
        rows = [[r["rid"], f"{r['service']}/{r['type']}", r["name"], held_by(r)] for r in found]
        click.echo(table(("resource", "of", "name", "held by"), rows))
    else:
        click.echo("No replicated resources. A scope with & makes one: --scope '{image: Site1 & Site2}'.")


@click.group("resource")
def resource_commands() -> None:
    """Show a replicated resource, and say which sites hold it."""


@resource_commands.command()
@click.argument("resource")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@at_a_site
def show(resource: str, as_json: bool, admin: Admin) -> None:
    """Show where RESOURCE is, what was done to it, and what came of it at each site.

    RESOURCE is its rid, its id at the site, or its name.
    """
    found = admin.get(f"/resources/{rid_of(admin, resource)}")
    click.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else "\n".join(_shown(found)))


@resource_commands.command()
@click.argument("resource")
@click.argument("scope")
@click.option(
    "--leave",
    type=click.Choice(["keep", "delete"]),
    default="keep",
    show_default=True,
    help="What a site that holds it no longer does with its copy.",
)
@at_a_site
def scope(resource: str, scope: str, leave: str, admin: Admin) -> None:
    """Have RESOURCE held by the sites of SCOPE, such as '{image: Site1 & Site3}'; new ones are filled first.

    What spans sites is extended, and left, with '{network: Site1 % Site3}'; '…, prime: Site3' makes another site its
    prime, also when the old one is lost.
    """
    rid = rid_of(admin, resource)
    made = admin.put(f"/resources/{rid}/placement", {"scope": scope, "leave": leave})
    click.echo(f"{made['operation']} moves it. Wait until it is done:  cheops wait {rid} --converged")


@click.command()
@click.argument("resource")
@click.option("--converged", is_flag=True, required=True, help="Until all sites that hold it are through with it.")
@click.option("--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, metavar="SECONDS")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@at_a_site
def wait(resource: str, converged: bool, timeout: float, as_json: bool, admin: Admin) -> None:
    """Wait until all sites that hold RESOURCE are through with all that was done to it.

    Ends with status 1, and says what is left, when time is up or only a command helps.
    """
    end = time.monotonic() + timeout
    rid = rid_of(admin, resource)
    while True:
        turn = min(max(end - time.monotonic(), 0.0), TURN_SECONDS)
        found = admin.get(f"/resources/{rid}/converged?timeout={turn:.3f}")
        stuck = not any(each["ends"] for each in found["left"])
        if found["converged"] or stuck or time.monotonic() >= end:
            break
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif found["converged"]:
        click.echo(f"All sites that hold {rid} are through with all that was done to it.")
    else:
        click.echo("\n".join(_left(rid, found["left"], timeout, stuck)), err=True)
    sys.exit(0 if found["converged"] else 1)


def _left(rid: str, left: list[dict[str, Any]], timeout: float, stuck: bool) -> list[str]:
    when = ", and waiting doesn't help" if stuck else f" after {timeout:g} s"
    lines = [f"Not all sites are through with {rid}{when}:"]
    for each in left:
        lines.append(
            f"  {each['operation']} at {each['site']}, {each['state']} for {ago(each['since'])}: {each['why']}"
        )
        lines += [f"    {each['todo']}"] if each["todo"] else []
    return lines


def rid_of(admin: Admin, word: str) -> str:
    """The rid of what a word of the user's means. Raises AgentRefuses, with what it may be."""
    if _RID.fullmatch(word):
        return word
    return str(admin.get(f"/find?name={quote(word, safe='')}")["rid"])


def pages(admin: Admin, path: str, member: str, query: dict[str, str | None], most: int | None = None) -> list[Any]:
    """The items of all pages, or the first `most` of them."""
    found: list[Any] = []
    after = ""
    while True:
        asked = {
            **query,
            "after": after or None,
            "limit": str(min(1000, (most or 1000) - len(found)) if most else 1000),
        }
        words = "&".join(f"{name}={quote(value, safe='')}" for name, value in asked.items() if value is not None)
        page = admin.get(f"{path}?{words}")
        found += page[member]
        after = page["next"]
        if not after or (most and len(found) >= most):
            return found


def ago(seconds: float) -> str:
    """How long ago a time is, given in seconds since 1970."""
    return age(max(time.time() - seconds, 0.0)) if seconds else "an unknown time"


def when(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC" if seconds else "-"


def _shown(found: dict[str, Any]) -> list[str]:
    """A resource in lines."""
    about = found["resource"]
    gone = ", deleted" if about["gone"] else ""
    lines = [
        f"{about['rid']}  {about['service']}/{about['type']} {about['name']}{gone}".rstrip(),
        f"held by {held_by(about)}, as {found['seen_from']} knows it",
        *([f"inside of {about['parent']}"] if about["parent"] else []),
        *([f"refers to {', '.join(found['refers'])}"] if found["refers"] else []),
        "",
        table(("site", "state", "id there", "why"), [_site(site) for site in found["sites"]]),
        "",
    ]
    for op in found["operations"]:
        lines += _operation(op, _sign(about))
    for conflict in found["conflicts"]:
        lines.append(_conflict(conflict))
    return lines


def _site(site: dict[str, Any]) -> list[str]:
    return [site["site"], site["state"], site["local_id"] or "-", site["why"]]


def held_by(about: dict[str, Any]) -> str:
    """The sites of a resource as a scope names them; the prime of one that spans them is told too."""
    sites = _sign(about).join(about["placement"])
    return f"{sites}, prime: {about['prime']}" if about["prime"] else sites


def _sign(about: dict[str, Any]) -> str:
    return " % " if about["prime"] else " & "


def _operation(op: dict[str, Any], sign: str) -> list[str]:
    marks = [
        *([f"superseded by {op['superseded_by']}"] if op["superseded_by"] else []),
        *(["withdrawn: nobody has accepted it"] if op["withdrawn"] else []),
        *(["what it comes after hasn't arrived yet"] if op["held"] else []),
        *([f"{op['again']} again"] if op["again"] else []),
    ]
    what = f"{op['method']} {op['target']}" if op["method"] else sign.join(op["placement"])
    lines = [f"{op['operation']}  {op['kind']}  {when(op['at'])}  {what}".rstrip()]
    lines += [f"  {'; '.join(marks)}"] if marks else []
    lines += [f"  body: {op['body']}"] if op["body"] else []
    for outcome in op["outcomes"]:
        lines += told(outcome)
    return lines


def told(outcome: dict[str, Any]) -> list[str]:
    """An outcome in lines: what, since when, why, and what to do."""
    status = f" ({outcome['status']})" if outcome["status"] else ""
    since = f" for {ago(outcome['since'])}" if outcome["state"] in ("pending", "begun", "asks") else ""
    why = f": {outcome['why']}" if outcome["why"] else ""
    lines = [f"  {outcome['site']}: {outcome['state']}{status}{since}{why}"]
    return [*lines, *([f"    {outcome['todo']}"] if outcome["todo"] else [])]


def _conflict(conflict: dict[str, Any]) -> str:
    settled = " (settled since)" if conflict["settled"] else f"; to do it again: {conflict['apply']}"
    fields = ", ".join(conflict["fields"])
    return f"conflict: {conflict['winner']} won over {conflict['loser']}, {fields}{settled}"
