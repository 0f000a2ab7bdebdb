"""`cheops lab`: sites on this machine, to try things out."""

import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cheops.cli.admin import in_folder
from cheops.cli.tables import table

if TYPE_CHECKING:
    from cheops.lab.lab import Lab

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("lab")
def lab_commands() -> None:
    """Run several sites on this machine, and cut the links between them."""


_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_oneway = click.option("--oneway", is_flag=True, help="Only what the first one sends to the second.")


def _lab(folder: Path) -> "Lab":
    from cheops.lab.lab import Lab

    return Lab.at(folder)


@lab_commands.command()
@click.option("--sites", default=3, show_default=True, help="How many.")
@click.option(
    "--app", default="shop", show_default=True, help="An example, or a folder with application.yaml and lab.yaml."
)
@click.option("--net", default="127.0.34", show_default=True, help="The sites' addresses: NET.1, NET.2, …")
@in_folder
@_as_json
def up(sites: int, app: str, net: str, folder: Path, as_json: bool) -> None:
    """Start the sites, and wait until all is ready.

    Each site has an agent, an Envoy and an instance of the application.
    """
    from cheops.lab.lab import Lab

    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # clears up, as Ctrl-C does
    click.echo(f"Starting {_count(sites)} in {folder} …", err=True)
    lab = Lab.up(folder, app=app, sites=sites, net=net)
    status = lab.status()
    if as_json:
        click.echo(json.dumps(status, indent=2))
        return
    click.echo(f"{status['application']} on {_count(sites)}, ready in {time.monotonic() - began:.1f} s.\n")
    click.echo(_addresses(status))
    click.echo("\nTry:")
    for line in _tour(lab):
        click.echo(f"  {line}")


def _count(sites: int) -> str:
    return "1 site" if sites == 1 else f"{sites} sites"


def _addresses(status: dict[str, Any]) -> str:
    rows = [[name, *site["services"].values(), site["admin"]] for name, site in status["sites"].items()]
    services = next(iter(status["sites"].values()))["services"]
    return table(["site", *services, "admin"], rows)


def _tour(lab: "Lab") -> Sequence[str]:
    first = lab.sites[0]
    own = first.tour or [f"curl -i {first.front(service)}/" for service in first.services]
    cuts = [f"cheops lab cut {first.name} {lab.sites[1].name}", "cheops lab heal"] if len(lab.sites) > 1 else []
    return [*own, "cheops lab status", *cuts, "cheops lab down"]


@lab_commands.command()
@in_folder
@_as_json
def status(folder: Path, as_json: bool) -> None:
    """Show what runs, by pid, and how the links are."""
    found = _lab(folder).status()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    rows = [
        [name, "yes" if site["ready"] else "no", *(_pid(pid) for pid in site["pids"].values())]
        for name, site in found["sites"].items()
    ]
    click.echo(table(["site", "ready", *next(iter(found["sites"].values()))["pids"]], rows))
    if shared := found["shared"]:
        click.echo(f"\nShared by them: {', '.join(f'{name} {_pid(pid)}' for name, pid in shared.items())}")
    if found["links"]["pid"] is None:
        click.echo("\nThe links are down, so no site reaches another: cheops lab down, and up again.")
    elif ways := found["links"]["ways"]:
        click.echo("")
        click.echo(table(["from", "to", "state", "delay"], [_way(way) for way in ways]))


def _pid(pid: int | None) -> str:
    return f"up {pid}" if pid else "down"


def _way(way: dict[str, Any]) -> list[str]:
    return [way["from"], way["to"], way["state"], f"{way['delay_ms']:g} ms"]


@lab_commands.command()
@click.argument("one")
@click.argument("other")
@_oneway
@in_folder
def cut(one: str, other: str, oneway: bool, folder: Path) -> None:
    """Cut the link between two sites.

    Its connections break off, and new ones are refused.
    """
    _lab(folder).cut(one, other, oneway=oneway)


@lab_commands.command()
@click.argument("one")
@click.argument("other")
@_oneway
@in_folder
def blackhole(one: str, other: str, oneway: bool, folder: Path) -> None:
    """Let what two sites send each other vanish."""
    _lab(folder).blackhole(one, other, oneway=oneway)


@lab_commands.command()
@click.argument("one", required=False)
@click.argument("other", required=False)
@in_folder
def heal(one: str | None, other: str | None, folder: Path) -> None:
    """End what cut and blackhole did.

    It heals the link between two sites, or all links if none are named. A delay stays.
    """
    if one and not other:
        raise click.UsageError("Name two sites, or none for all links.")
    _lab(folder).heal(one, other)


@lab_commands.command()
@click.argument("one")
@click.argument("other")
@click.argument("round_trip")
@in_folder
def delay(one: str, other: str, round_trip: str, folder: Path) -> None:
    """Let a round trip between two sites take time.

    ROUND_TRIP is written 20ms, 1.5s or 800us; 0ms takes the delay away.
    """
    _lab(folder).delay(one, other, round_trip)


@lab_commands.command()
@click.argument("site")
@click.argument("what", metavar="agent|envoy|app|NAME")
@in_folder
def kill(site: str, what: str, folder: Path) -> None:
    """Kill what runs on SITE, with SIGKILL.

    That is its agent, its Envoy, its application, or the application's process NAME alone.
    """
    killed = _lab(folder).kill(site, what)
    for name, pid in killed.items():
        click.echo(f"Killed {name} of {site}, process {pid}.")
    if not killed:
        click.echo(f"{what} of {site} doesn't run.")


@lab_commands.command()
@click.argument("site")
@click.argument("what", metavar="agent|envoy|app|NAME")
@in_folder
def restart(site: str, what: str, folder: Path) -> None:
    """Start what doesn't run, or end it and start it.

    It waits until all is ready, and runs the `after` of lab.yaml again for the application.
    """
    lab = _lab(folder)
    lab.restart(site, what)
    pids = lab.site(site).status()["pids"]
    names = lab.site(site).applications if what == "app" else (what,)
    click.echo(f"{site} is back: {', '.join(f'{name} is process {pids[name]}' for name in names)}.")


@lab_commands.command()
@click.argument("site")
@in_folder
def wipe(site: str, folder: Path) -> None:
    """Take away what the agent of SITE keeps, and start it anew."""
    _lab(folder).wipe(site)
    click.echo(f"{site} is back, and remembers nothing.")


@lab_commands.command()
@in_folder
def join(folder: Path) -> None:
    """Let one more site join.

    It reaches the others directly: no link of the lab is between them, to be cut or delayed.
    """
    site = _lab(folder).join()
    click.echo(f"{site.name} has joined: {', '.join(f'{name} at {site.front(name)}' for name in site.services)}.")


@lab_commands.command()
@click.argument("site")
@click.argument("what", metavar="[agent|envoy|access|NAME]", required=False)
@click.option("-n", "--lines", default=10, show_default=True, help="How many of the last lines.")
@in_folder
def logs(site: str, what: str | None, lines: int, folder: Path) -> None:
    """Print where the logs of SITE are, and how they end."""
    found = _lab(folder).site(site)
    for name in [what] if what else found.logs():
        click.echo(f"==> {found.log(name)}")
        for line in found.last_lines(name, lines):
            click.echo(line)


@lab_commands.command()
@in_folder
def down(folder: Path) -> None:
    """End every process of the lab and remove its folder."""
    from cheops.lab.ending import end_lab

    if not end_lab(folder.resolve()):
        click.echo(f"No lab runs in {folder}.")
