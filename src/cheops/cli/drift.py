"""`cheops verify`, `cheops repair`: whether replicas are alike, as the services tell them; the log executed again."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import click

from cheops.cli.admin import Admin, at_a_site
from cheops.cli.resources import pages, rid_of
from cheops.cli.tables import table
from cheops.errors import BadRequest

WELL = frozenset({"equal", "pending", "skipped"})
ANSWER_SECONDS = 60.0  # beyond what the sites may read: a repair does more than that
LONGEST = 60  # characters of a value in a table
Command = Callable[..., Any]


def _of_what(command: Command) -> Command:
    options = (
        click.argument("resource", required=False),
        click.option("--all", "everything", is_flag=True, help="All resources that the site holds."),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0.1),
            default=10.0,
            show_default=True,
            metavar="SECONDS",
            help="That each site may take to read one resource.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line, one for each resource."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_of_what
@at_a_site
def verify(resource: str | None, everything: bool, timeout: float, as_json: bool, admin: Admin) -> None:
    """Compare the replicas of RESOURCE, as the services of its sites tell them. Nothing is written.

    What sites set themselves is left out. Ends with status 1 if a replica has drifted, is absent or can't be read.
    """
    admin, states = _patient(admin, timeout), []
    for rid in _rids(admin, resource, everything):
        found = admin.get(f"/resources/{rid}/verify?timeout={timeout:g}")
        states.append(found["state"])
        click.echo(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(_verified(found)))
    _end(states, as_json)


@click.command()
@_of_what
@at_a_site
def repair(resource: str | None, everything: bool, timeout: float, as_json: bool, admin: Admin) -> None:
    """Execute the log of RESOURCE again at sites whose replica isn't as it says, or is absent.

    Ends with status 1 if a replica still isn't.
    """
    admin, states = _patient(admin, timeout), []
    for rid in _rids(admin, resource, everything):
        found = admin.post(f"/resources/{rid}/repair?timeout={timeout:g}")
        states.append(found["verified"]["state"])
        click.echo(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(_repaired(found)))
    _end(states, as_json)


def _patient(admin: Admin, timeout: float) -> Admin:
    return replace(admin, patience=2 * timeout + ANSWER_SECONDS)


def _rids(admin: Admin, resource: str | None, everything: bool) -> Iterator[str]:
    """What is inside of others comes after all that isn't, so that it has something to be in."""
    if everything == bool(resource):
        raise BadRequest("it isn't said of which resource", hint="Name one, or say --all.")
    if resource:
        yield rid_of(admin, resource)
        return
    found = pages(admin, "/resources", "resources", {})
    yield from (each["rid"] for each in sorted(found, key=lambda each: bool(each["parent"])))


def _end(states: list[str], as_json: bool) -> None:
    if not as_json and len(states) != 1:
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        click.echo(f"{len(states)} resources{counts and f': {counts}'}.")
    sys.exit(0 if WELL.issuperset(states) else 1)


def _verified(found: dict[str, Any]) -> list[str]:
    about = found["resource"]
    head = f"{about['rid']}  {about['service']}/{about['type']} {about['name']}".rstrip()
    lines = [f"{head}: {found['state']}"]
    if found["state"] in ("equal", "skipped"):
        return lines
    rows = [[site["site"], site["state"], site["why"] or "-"] for site in found["sites"]]
    lines += _inside(table(("site", "state", "why"), rows))
    if found["fields"]:
        sites = [site["site"] for site in found["sites"]]
        fields = [_field(each, sites) for each in found["fields"]]
        lines += ["", *_inside(table(("field", "the log says", "by", *sites), fields))]
    return [*lines, ""]


def _inside(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def _field(each: dict[str, Any], sites: list[str]) -> list[str]:
    name = ":".join(filter(None, (each["facet"], each["path"]))) or "its content"
    says = _value(each["says"]) if each["operation"] else "nothing"
    has = [_value(each["values"][site]) if site in each["values"] else "-" for site in sites]
    return [name, says, each["operation"] or "-", *has]


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _repaired(found: dict[str, Any]) -> list[str]:
    told = [f"  {each['site']}: {'' if each['done'] else 'not mended: '}{each['what']}" for each in found["told"]]
    return [*told, *_verified(found["verified"])]
