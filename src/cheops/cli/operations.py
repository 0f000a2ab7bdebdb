"""`cheops operations`, `retry`, `drop`, `done`, `conflicts`, `conflict apply`: what waits or failed, settled."""

import json
import sys
from typing import Any
from urllib.parse import quote

import click

from cheops.cli.admin import Admin, at_a_site
from cheops.cli.resources import ago, pages, rid_of, when
from cheops.cli.tables import table
from cheops.errors import BadRequest


@click.command()
@click.option("--pending", "state", flag_value="pending", help="Those that wait.")
@click.option("--failed", "state", flag_value="failed", help="Those that were refused, or that ask somebody.")
@click.option(
    "--all", "state", flag_value="all", help="All of them.  [default: those that wait, and those that failed]"
)
@click.option("--on", metavar="SITE", help="Those of one site.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="At most so many of each.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@at_a_site
def operations(state: str | None, on: str | None, limit: int, as_json: bool, admin: Admin) -> None:
    """List operations on replicated resources: what they wait for, since when, and what to do."""
    states = [state] if state else ["failed", "pending"]
    found = [
        each
        for name in states
        for each in pages(admin, "/operations", "operations", {"state": name, "site": on}, limit)
    ]
    if as_json:
        click.echo(json.dumps({"operations": found}, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(_listed(found)) if found else "None.")


def _listed(found: list[dict[str, Any]]) -> list[str]:
    head = ("resource", "operation", "what", "at", "state", "for", "why")
    lines = table(head, [_row(each) for each in found]).splitlines()
    todos = dict.fromkeys(each["outcome"]["todo"] for each in found if each["outcome"]["todo"])
    return [*lines, *(["", "What to do:"] if todos else []), *(f"  {todo}" for todo in todos)]


def _row(each: dict[str, Any]) -> list[str]:
    op, outcome = each["operation"], each["outcome"]
    status = f" ({outcome['status']})" if outcome["status"] else ""
    return [
        each["resource"]["rid"],
        op["operation"],
        f"{op['method']} {op['target']}" if op["method"] else op["kind"],
        outcome["site"],
        f"{outcome['state']}{status}",
        ago(outcome["since"]),
        outcome["why"] or "-",
    ]


def _on(command: Any) -> Any:
    return click.option("--on", metavar="SITE", help="At this site.  [default: where it failed, else where it waits]")(
        command
    )


@click.command()
@click.argument("resource")
@click.argument("operation")
@_on
@at_a_site
def retry(resource: str, operation: str, on: str | None, admin: Admin) -> None:
    """Try OPERATION of RESOURCE again: what was refused, or what waits, at once."""
    _settle("retry", resource, operation, on, admin)


@click.command()
@click.argument("resource")
@click.argument("operation")
@_on
@at_a_site
def drop(resource: str, operation: str, on: str | None, admin: Admin) -> None:
    """Drop OPERATION of RESOURCE: it won't be executed there."""
    _settle("drop", resource, operation, on, admin)


@click.command()
@click.argument("resource")
@click.argument("operation")
@click.option("--id", "local_id", metavar="ID", help="The id, at that site, of what it made.")
@_on
@at_a_site
def done(resource: str, operation: str, local_id: str | None, on: str | None, admin: Admin) -> None:
    """Say that OPERATION of RESOURCE was executed, where that isn't known and you have looked."""
    _settle("done", resource, operation, on, admin, local_id)


def _settle(
    what: str, resource: str, operation: str, on: str | None, admin: Admin, local_id: str | None = None
) -> None:
    path = f"/operations/{rid_of(admin, resource)}/{_operation(operation)}/{what}"
    query = [f"{name}={quote(word, safe='')}" for name, word in (("site", on), ("id", local_id)) if word]
    told = admin.post(path + (f"?{'&'.join(query)}" if query else ""))["told"]
    for each in told:
        click.echo(f"{each['what']}." if each["done"] else f"at {each['site']}: {each['what']}", err=not each["done"])
    sys.exit(0 if all(each["done"] for each in told) else 1)


def _operation(name: str) -> str:
    author, _, n = name.rpartition("/")
    if not author or not n.isdecimal():
        raise BadRequest(f"'{name}' doesn't name an operation", hint="It is AUTHOR/N, as `cheops operations` tells it.")
    return f"{quote(author, safe='')}/{n}"


@click.command()
@click.option("--settled", is_flag=True, help="Those too that something later has settled.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@at_a_site
def conflicts(settled: bool, as_json: bool, admin: Admin) -> None:
    """List what was said on two sites at once: which one holds, and which doesn't."""
    found = pages(admin, "/conflicts", "conflicts", {"settled": "true" if settled else None})
    if as_json:
        click.echo(json.dumps({"conflicts": found}, indent=2, ensure_ascii=False))
    elif not found:
        click.echo("None.")
    else:
        head = ("resource", "holds", "doesn't", "fields", "said", "to do it again")
        click.echo(table(head, [_conflict(each) for each in found]))


def _conflict(each: dict[str, Any]) -> list[str]:
    return [
        each["resource"],
        f"{each['winner']} ({each['winner_kind']})",
        f"{each['loser']} ({each['loser_kind']})",
        ", ".join(each["fields"]),
        when(each["loser_since"]),
        "settled" if each["settled"] else each["apply"],
    ]


@click.group("conflict")
def conflict_commands() -> None:
    """Settle a conflict."""


@conflict_commands.command("apply")
@click.argument("resource")
@click.argument("operation")
@at_a_site
def apply_again(resource: str, operation: str, admin: Admin) -> None:
    """Do OPERATION of RESOURCE again, which lost a conflict: it now comes last, on all sites that hold it."""
    rid = rid_of(admin, resource)
    made = admin.post(f"/conflicts/{rid}/{_operation(operation)}/apply")
    click.echo(f"{made['operation']} does it again. Wait until it is done:  cheops wait {rid} --converged")
