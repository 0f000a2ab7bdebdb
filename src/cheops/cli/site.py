"""`cheops site`: makes sites, lets them in, and lets them go."""

import datetime
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from cheops.cli.admin import Admin, at_a_site
from cheops.errors import BadSettings

if TYPE_CHECKING:
    from cheops.sites.making import Wanted


@click.group("site")
def site_commands() -> None:
    """Make a site, let it in, and let it go."""


@site_commands.command()
@click.argument("name")
@click.option("--address", required=True, help="Where the site's fronts and mesh listen, such as 10.0.0.5.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to put the site.  [default: ./NAME]")
@click.option(
    "--deployment",
    type=click.Path(path_type=Path),
    default=Path("deployment"),
    show_default=True,
    help="The folder of the certificate authority and the list of sites; made if it isn't there.",
)
@click.option("--application", help="The description of the application: a file, or the name of one of Cheops' own.")
@click.option("--backend-address", help="Where the services themselves listen.  [default: the same as --address]")
@click.option("--service", "services", multiple=True, metavar="NAME=FRONT,BACKEND", help="A service: two host:port.")
@click.option("--number", type=click.IntRange(1, 1023), help="The site's number.  [default: the next one]")
def init(
    name: str,
    address: str,
    folder: Path | None,
    deployment: Path,
    application: str | None,
    backend_address: str | None,
    services: tuple[str, ...],
    number: int | None,
) -> None:
    """Make the site NAME: a commented site.yaml and its certificate; the first one makes the authority too."""
    from cheops.sites.making import make_site

    folder = folder or Path(name)
    wanted = _wanted(name, folder, address, application, backend_address, services, deployment, number)
    made = make_site(wanted, datetime.datetime.now(datetime.UTC))
    click.echo(
        f"{made.settings} describes {name}, number {made.number}; its certificate ends on {made.until:%Y-%m-%d}."
    )
    click.echo(f"Start it:  cheops agent --config {made.settings}")
    if made.peers:
        click.echo(f"It knows {', '.join(made.peers)}, which will know it once it has started.")


@site_commands.command()
@click.argument("name")
@click.option(
    "--deployment",
    type=click.Path(path_type=Path),
    default=Path("deployment"),
    show_default=True,
    help="The folder of the certificate authority and the list of sites.",
)
@click.option("--number", type=click.IntRange(1, 1023), help="The site's number.  [default: the next one]")
@click.option("--again", is_flag=True, help="It is on the list already, and needs a new certificate.")
def invite(name: str, deployment: Path, number: int | None, again: bool) -> None:
    """Print a token with which the site NAME joins the deployment.

    The token is a secret: whoever has it can be that site.
    """
    from cheops.sites.invitation import invite_site

    invitation = invite_site(deployment, name, number, datetime.datetime.now(datetime.UTC), again=again)
    click.echo("On the new site:  cheops site join - --address ADDRESS --application … < TOKEN", err=True)
    click.echo(invitation.token())


@site_commands.command()
@click.argument("token")
@click.option("--address", required=True, help="Where the site's fronts and mesh listen, such as 10.0.0.5.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to put the site.  [default: ./NAME]")
@click.option("--application", help="The description of the application: a file, or the name of one of Cheops' own.")
@click.option("--backend-address", help="Where the services themselves listen.  [default: the same as --address]")
@click.option("--service", "services", multiple=True, metavar="NAME=FRONT,BACKEND", help="A service: two host:port.")
def join(
    token: str,
    address: str,
    folder: Path | None,
    application: str | None,
    backend_address: str | None,
    services: tuple[str, ...],
) -> None:
    """Make the site that TOKEN of `cheops site invite` is for; `-` reads it from standard input.

    Once its agent runs, all other sites hear of it.
    """
    from cheops.sites.invitation import join_site, read_token

    invitation = read_token(sys.stdin.read() if token == "-" else token)
    folder = folder or Path(invitation.name)
    settings = join_site(invitation, _wanted(invitation.name, folder, address, application, backend_address, services))
    click.echo(f"{settings} describes {invitation.name}, number {invitation.number}.")
    click.echo(f"Start it:  cheops agent --config {settings}")


@site_commands.command()
@at_a_site
def leave(admin: Admin) -> None:
    """Let a site leave the deployment; its peers are told, and its services are its own again."""
    click.echo(admin.post("/leave")["done"])


@site_commands.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="It won't come back.")
@at_a_site
def remove(name: str, force: bool, admin: Admin) -> None:
    """Remove the site NAME, which is dead; every other site hears of it.

    To come back it needs a new certificate.
    """
    click.echo(admin.post(f"/sites/{quote(name, safe='')}/remove", {"force": force})["done"])


def _service(text: str) -> tuple[str, tuple[str, str]]:
    from cheops.config import parse_address

    name, _, addresses = text.partition("=")
    front, _, backend = addresses.partition(",")
    try:
        return name, (str(parse_address(front)), str(parse_address(backend)))
    except ValueError as error:
        raise BadSettings(f"--service {text}: {error}", hint="Write it NAME=FRONT,BACKEND.") from error


def _wanted(
    name: str,
    folder: Path,
    address: str,
    application: str | None,
    backend_address: str | None,
    services: tuple[str, ...],
    deployment: Path = Path("deployment"),
    number: int | None = None,
) -> "Wanted":
    from cheops.applications import find_application, is_bundled, read_application
    from cheops.sites.making import ADMIN_PORT, MESH_PORT, Wanted, services_of

    if not application and not services:
        raise click.UsageError("Say what runs there: --application FILE, or --service NAME=FRONT,BACKEND.")
    description = find_application(application, Path.cwd()) if application else None
    described = read_application(description) if description else None
    named = application if application and is_bundled(application) else str(description) if description else None
    chosen = services_of(described, address, backend_address or address) if described and not services else {}
    return Wanted(
        name=name,
        folder=folder,
        deployment=deployment,
        mesh=f"{address}:{MESH_PORT}",
        admin=f"127.0.0.1:{ADMIN_PORT}",
        services={**chosen, **dict(_service(text) for text in services)},
        application=named,
        number=number,
    )
