"""What python-openstackclient reads of a plugin: an API by name, its client, and options for every command.

How a scope gets onto every request, by supported means only:

1. `build_option_parser` adds `--scope` to the client's own options. The client looks for those in the whole command
   line, so they may stand before or after the command's name.
2. The client hands its options to openstacksdk as settings of the cloud. `vendor_hook` is one: a function that is
   called with each new connection. The option sets it to `header.send_scope`.
3. A connection and all clients of other services share one keystoneauth session, whose `additional_headers` go with
   every request: authentication, discovery and redirects too.

A mistake in a scope ends the client while it reads its command line: nothing has been sent yet. What is not promised: a
scope for a single line of an interactive shell, which gives the one that it was started with to all its commands.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from cheops_openstackclient.admin import DEFAULT_URL, Admin
from cheops_openstackclient.scope import ScopeError, canonical, parse

API_NAME: Final = "cheops"
API_VERSION_OPTION: Final = "os_cheops_api_version"
DEFAULT_API_VERSION: Final = "1"
API_VERSIONS: Final = ("1",)

SEND_SCOPE: Final = "cheops_openstackclient.header:send_scope"

# Commands that have a `--scope` of their own, which they keep after their name. Of the 977 that come with
# python-openstackclient none has, nor an option that ours could be taken for.
WITH_THEIR_OWN: Final = (
    ("optimize", "audittemplate", "create"),  # python-watcherclient
)
_THEIRS: Final = "\0"  # no argument of a process can contain it


def make_client(instance: Any) -> Admin:
    """What commands find as `client_manager.cheops`: the admin API of the agent that --cheops-admin names."""
    return Admin(instance.get_configuration()["cheops_admin"])


def build_option_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options of every command, with ours among them."""
    # Not left in the environment: openstacksdk makes settings of every OS_*, which it then formats with str.format
    # (`{compute: Site1}` is a KeyError), and which make it prefer the environment to the only cloud of clouds.yaml.
    environment = os.environ.pop("OS_SCOPE", "")
    options = _Options(prog=parser.prog, description=parser.description, parents=[parser], add_help=False)
    options.add_argument(
        "--scope",
        "--os-scope",
        metavar="<scope>",
        dest="cheops_scope",
        action=_UseScope,
        type=partial(_understood, environment=environment),
        default=environment or None,
        help="Sites that collaborate on this command, such as '{compute: Site1, image: Site2}' (Env: OS_SCOPE)",
    )
    options.add_argument(
        "--cheops-admin",
        metavar="<url>",
        default=os.environ.get("CHEOPS_ADMIN") or DEFAULT_URL,
        help=f"Admin API of a site's Cheops agent, default={DEFAULT_URL} (Env: CHEOPS_ADMIN)",
    )
    options.set_defaults(vendor_hook=SEND_SCOPE if environment else None)
    return options


class _UseScope(argparse.Action):
    """Keeps the scope, and asks for the hook that sends it: a command without a scope is the stock client's."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.vendor_hook = SEND_SCOPE


class _Options(argparse.ArgumentParser):
    """The client's options, which leave alone a `--scope` that belongs to a command."""

    def parse_known_args(  # type: ignore[override]  # a second overload types namespaces that nobody uses here
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        arguments = list(sys.argv[1:] if args is None else args)
        ours = _end_of_ours(arguments)
        theirs = [_THEIRS + each if _is_scope(each) else each for each in arguments[ours:]]
        found, rest = super().parse_known_args(arguments[:ours] + theirs, namespace)
        return found, [each.removeprefix(_THEIRS) for each in rest]


def _end_of_ours(arguments: list[str]) -> int:
    """Where the name of a command with a `--scope` of its own ends; the end of the arguments if there is none."""
    for start in range(len(arguments)):
        for name in WITH_THEIR_OWN:
            if tuple(arguments[start : start + len(name)]) == name:
                return start + len(name)
    return len(arguments)


def _is_scope(argument: str) -> bool:
    return argument.partition("=")[0] == "--scope"


def _understood(text: str, *, environment: str) -> list[str]:
    """The canonical text of a scope, alone in a list; a mistake in it ends the process with status 2.

    A list, because openstacksdk formats the strings among its settings with str.format, and leaves lists alone.
    """
    try:
        return [canonical(parse(text))]
    except ScopeError as error:
        name = "OS_SCOPE" if text == environment else "--scope"
        sys.stderr.write(f"openstack: {name} can't be understood, so nothing was sent\n{error.caret()}\n")
        raise SystemExit(2) from error
