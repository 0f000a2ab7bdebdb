"""`cheops scope check`: what a scope means, or where it is wrong. Needs no agent; knows no sites."""

import json
import sys
from typing import Final, NoReturn

import click

from cheops.scope import (
    Around,
    Cross,
    Location,
    Otherwise,
    Replicas,
    Scope,
    ScopeError,
    SiteName,
    Spread,
    canonical,
    duration_text,
    parse,
    parts_of,
)

_AROUND: Final = {
    Spread.FIRST: "the nearest that can, of the sites within {} of {}",
    Spread.EACH: "a copy on each of the sites within {} of {}",
    Spread.ACROSS: "one resource across the sites within {} of {}",
}
# operator: (its name in JSON, its meaning)
_JOINED: Final[dict[type, tuple[str, str]]] = {
    Replicas: ("replicas", "a copy on each of"),
    Cross: ("cross", "one resource across"),
    Otherwise: ("otherwise", "the first that can, of"),
}


@click.group("scope")
def scope_commands() -> None:
    """Read scopes, like {compute: Site1, image: Site2 & Site3}."""


@scope_commands.command()
@click.argument("text")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(text: str, as_json: bool) -> None:
    """Print the canonical form of TEXT and its tree, or the mistake in it (exit code 2). `-` reads standard input."""
    written = sys.stdin.buffer.read().decode(errors="surrogateescape") if text == "-" else text
    try:
        scope = parse(written)
    except ScopeError as error:
        _refuse(error, as_json)
    if as_json:
        click.echo(json.dumps({"canonical": canonical(scope), "tree": _scope_document(scope)}, indent=2))
    else:
        click.echo("\n".join([canonical(scope), "", *_scope_lines(scope)]))


def _refuse(error: ScopeError, as_json: bool) -> NoReturn:
    if as_json:
        about = {"error": error.code, "position": error.position, "column": error.column}
        click.echo(json.dumps({**about, "message": error.message, "hint": error.hint}, indent=2))
    else:
        click.echo(error.caret(), err=True)
    sys.exit(2)


def _scope_document(scope: Scope) -> dict[str, object]:
    return {
        "bindings": [{"service": each.service, "location": _document(each.location)} for each in scope.bindings],
        "prime": scope.prime.name if scope.prime else None,
        "bare": _document(scope.bare) if scope.bare else None,
    }


def _document(location: Location) -> dict[str, object]:
    match location:
        case SiteName():
            return {"site": location.name}
        case Around(centre=centre, within_us=within_us, spread=spread):
            return {"around": {"centre": centre, "within_us": within_us, "spread": spread.name.lower()}}
        case Replicas() | Cross() | Otherwise():
            return {_JOINED[type(location)][0]: [_document(part) for part in parts_of(location)]}


def _scope_lines(scope: Scope) -> list[str]:
    entries = [(binding.service, binding.location) for binding in scope.bindings]
    if scope.bare:
        entries.append(("the service that the request is for", scope.bare))
    if scope.prime:
        entries.append(("prime", scope.prime))
    lines = [line for title, location in entries for line in (title, *_indented(_lines(location)))]
    return lines or ["everything local"]


def _lines(location: Location) -> list[str]:
    match location:
        case SiteName():
            return [location.name]
        case Around():
            return [_AROUND[location.spread].format(duration_text(location.within_us), location.centre)]
        case Replicas() | Cross() | Otherwise():
            below = (line for part in parts_of(location) for line in _indented(_lines(part)))
            return [_JOINED[type(location)][1], *below]


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
