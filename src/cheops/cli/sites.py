"""`cheops sites`: how the sites are, as one of them finds them."""

import json
import time
from typing import Any

import click

from cheops.cli.admin import Admin, at_a_site
from cheops.cli.tables import table

_HEAD = ("site", "state", "for", "round trip", "measured", "clock", "version", "incarnation", "note")


@click.command()
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@at_a_site
def sites(watch: bool, as_json: bool, admin: Admin) -> None:
    """Show the sites: whether they are up, since when, and how far they are."""
    while True:
        found = admin.get("/sites")
        if as_json:
            click.echo(json.dumps(found, indent=None if watch else 2))
        else:
            if watch:
                click.clear()
            click.echo(_shown(found))
        if not watch:
            return
        time.sleep(1)


def _shown(found: dict[str, Any]) -> str:
    here = [found["site"], "here", "", "", "", "", found["version"], found["incarnation"][:8], ""]
    return table(_HEAD, [here, *map(_row, found["peers"])])


def _row(peer: dict[str, Any]) -> list[str]:
    trip, offset = peer["round_trip"], peer["clock_offset"]
    return [
        peer["site"],
        peer["state"],
        age(peer["since"]),
        f"{trip['ms']:.1f} ± {trip['spread_ms']:.1f} ms" if trip else "-",
        f"{age(trip['age'])} ago" if trip else "-",
        f"{offset:+.3f} s" if offset is not None else "-",
        peer["version"] or "-",
        peer["incarnation"][:8] or "-",
        peer["note"],
    ]


def age(seconds: float) -> str:
    """A time in the unit that suits it: 1.5 s, 12 min, 3 h, 2 d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"
