"""`cheops site`: makes sites."""

import datetime
from pathlib import Path

import click

from cheops.errors import BadSettings


@click.group("site")
def site_commands() -> None:
    """Make a site."""


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
    from cheops.applications import find_application, is_bundled, read_application
    from cheops.sites.making import ADMIN_PORT, MESH_PORT, Wanted, make_site, services_of

    if not application and not services:
        raise click.UsageError("Say what runs there: --application FILE, or --service NAME=FRONT,BACKEND.")
    description = find_application(application, Path.cwd()) if application else None
    described = read_application(description) if description else None
    named = application if application and is_bundled(application) else str(description) if description else None
    folder = folder or Path(name)
    chosen = services_of(described, address, backend_address or address) if described and not services else {}
    made = make_site(
        Wanted(
            name=name,
            folder=folder,
            deployment=deployment,
            mesh=f"{address}:{MESH_PORT}",
            admin=f"127.0.0.1:{ADMIN_PORT}",
            services={**chosen, **dict(_service(text) for text in services)},
            application=named,
            number=number,
        ),
        datetime.datetime.now(datetime.UTC),
    )
    click.echo(
        f"{made.settings} describes {name}, number {made.number}; its certificate ends on {made.until:%Y-%m-%d}."
    )
    click.echo(f"Start it:  cheops agent --config {made.settings}")
    if made.peers:
        click.echo(f"It knows {', '.join(made.peers)}. Let them know it, under `peers:` of their site.yaml:")
        click.echo(f"  {name}: {{number: {made.number}, mesh: '{address}:{MESH_PORT}'}}")


def _service(text: str) -> tuple[str, tuple[str, str]]:
    from cheops.config import parse_address

    name, _, addresses = text.partition("=")
    front, _, backend = addresses.partition(",")
    try:
        return name, (str(parse_address(front)), str(parse_address(backend)))
    except ValueError as error:
        raise BadSettings(f"--service {text}: {error}", hint="Write it NAME=FRONT,BACKEND.") from error
