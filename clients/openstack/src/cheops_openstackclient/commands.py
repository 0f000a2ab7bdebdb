"""`openstack scope check` and `openstack site list`: what the agent of a site knows. No cloud, no token needed."""

import argparse
from typing import Any, Final

from osc_lib.command import command
from osc_lib.exceptions import CommandError

from cheops_openstackclient.admin import Admin, Mistake, NoAgent, NotUnderstood
from cheops_openstackclient.scope import ScopeError, canonical, parse

WRONG_SCOPE: Final = 2  # the status with which `cheops scope check` ends too


class CheckScope(command.ShowOne):
    """Say what a scope means on this site, or where it is wrong (status 2)

    Without an agent to ask, only the syntax is checked: the names of sites and services may still be wrong.
    """

    auth_required = False

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("text", metavar="<scope>", help="Such as '{compute: Site1, image: Site2}'")
        parser.add_argument(
            "--service", metavar="<service>", help="The service that a location without one is for, such as compute"
        )
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        try:
            return super().run(parsed_args)
        except (ScopeError, Mistake) as error:
            self.app.stderr.write(f"{error}\n")
            return WRONG_SCOPE

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[str, ...]]:
        syntax = canonical(parse(parsed_args.text))
        admin = _admin(self.app)
        try:
            found = (admin.meaning(parsed_args.text, parsed_args.service), "syntax and names", admin.url)
        except NoAgent as error:
            self.log.warning("only the syntax was checked: %s", error)
            found = (syntax, "syntax", "")
        except NotUnderstood as error:
            raise CommandError(str(error)) from error
        return ("canonical", "checked", "agent"), found


class ListSites(command.Lister):
    """List the sites of the deployment, as one of them sees them"""

    auth_required = False

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        admin = _admin(self.app)
        try:
            site = admin.site()
        except (NoAgent, NotUnderstood) as error:
            raise CommandError(str(error)) from error
        peers = [
            (name, peer["number"], "reachable" if peer["reachable"] else "unreachable", peer["mesh"])
            for name, peer in site["peers"].items()
        ]
        return ("Site", "Number", "State", "Mesh"), [(site["site"], site["number"], "here", ""), *peers]


def _admin(app: Any) -> Admin:
    """What `plugin.make_client` made. Any: the client manager gets its attributes from the plugins."""
    admin: Admin = app.client_manager.cheops
    return admin
