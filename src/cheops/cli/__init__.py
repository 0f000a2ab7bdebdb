"""The commands of Cheops."""

import sys

import click

from cheops import __version__
from cheops.cli.agent import agent, worker
from cheops.cli.drift import repair, verify
from cheops.cli.lab import lab_commands
from cheops.cli.operations import conflict_commands, conflicts, done, drop, operations, retry
from cheops.cli.plan import plan
from cheops.cli.resources import resource_commands, resources, wait
from cheops.cli.run import run
from cheops.cli.scope import scope_commands
from cheops.cli.site import site_commands
from cheops.cli.sites import sites
from cheops.errors import CheopsError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cheops")
def cheops() -> None:
    """Lets whole instances of an application, one on every site, collaborate request by request."""


for command in (
    agent,
    worker,
    conflict_commands,
    conflicts,
    done,
    drop,
    lab_commands,
    operations,
    plan,
    repair,
    resource_commands,
    resources,
    retry,
    run,
    scope_commands,
    site_commands,
    sites,
    verify,
    wait,
):
    cheops.add_command(command)


def main() -> None:
    """Runs the command; an error of ours is told in words, and ends with status 1."""
    try:
        cheops()
    except CheopsError as error:
        click.echo(f"cheops: {error}", err=True)
        sys.exit(1)
