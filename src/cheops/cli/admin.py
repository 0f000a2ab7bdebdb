"""How commands reach a site's agent: its admin API, by --admin, by the name of a lab's site, or where it usually is."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cheops.errors import BadSettings, CheopsError, Fault

if TYPE_CHECKING:
    from cheops.config import Address

Command = TypeVar("Command", bound=Callable[..., Any])
USUAL = "127.0.0.1:7480"


class AgentDoesntAnswer(CheopsError):
    code, title, fault, retry = "no-agent", "No agent answers", Fault.CALLER, True


class AgentRefuses(CheopsError):
    code, title, fault = "agent-refuses", "The agent refuses", Fault.CALLER


@dataclass(frozen=True, kw_only=True)
class Admin:
    """The admin API of a site."""

    address: "Address"
    patience: float = 30.0  # seconds until it has answered

    def get(self, path: str) -> Any:
        """What it answers, as a JSON document. Raises AgentDoesntAnswer, AgentRefuses."""
        return self._ask("GET", path, None)

    def post(self, path: str, document: dict[str, Any] | None = None) -> Any:
        """The same, for what changes something."""
        return self._ask("POST", path, json.dumps(document or {}).encode())

    def put(self, path: str, document: dict[str, Any]) -> Any:
        """The same, for what takes the place of something."""
        return self._ask("PUT", path, json.dumps(document).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        import http.client

        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=self.patience)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            reply = connection.getresponse()
            content = reply.read()
            return self._understood(reply.status, content)
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            hint = "Name its admin address with --admin HOST:PORT, or a site of the lab with --site NAME."
            raise AgentDoesntAnswer(f"no agent answers at {self.address}: {why}", hint=hint) from error
        finally:
            connection.close()

    def _understood(self, status: int, content: bytes) -> Any:
        if status >= 400:
            raise AgentRefuses(_detail(content) or f"the agent at {self.address} answered {status}")
        found = json.loads(content)
        if not isinstance(found, dict):
            raise ValueError("what answers there isn't an agent")
        return found


def _detail(content: bytes) -> str:
    try:
        document = json.loads(content)
        detail, hint = document["detail"], document.get("hint")
        return f"{detail}\n{hint}" if hint else str(detail)
    except (ValueError, KeyError, TypeError):
        return ""


def in_folder(command: Command) -> Command:
    """Adds the option --dir; the command gets `folder`, that of the lab."""
    return click.option(
        "--dir",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="CHEOPS_LAB",
        default=Path(".lab"),
        show_default=True,
        show_envvar=True,
        help="The folder of the lab.",
    )(command)


def at_a_site(command: Command) -> Command:
    """Adds the options --site, --admin and --dir; the command gets `admin`, an Admin."""

    @functools.wraps(command)
    def with_admin(*args: Any, site: str | None, admin_address: str | None, folder: Path, **more: Any) -> Any:
        return command(*args, admin=_admin(site, admin_address, folder), **more)

    options = (
        click.option("--site", metavar="NAME", help="At this site: of the lab, or the one that runs here."),
        click.option(
            "--admin",
            "admin_address",
            metavar="HOST:PORT",
            envvar="CHEOPS_ADMIN",
            show_envvar=True,
            help=f"The address of its admin API.  [default: {USUAL}]",
        ),
        in_folder,
    )
    for option in reversed(options):
        option(with_admin)
    return with_admin  # type: ignore[return-value]


def _admin(site: str | None, address: str | None, folder: Path) -> Admin:
    if address:
        admin = Admin(address=_parsed(address))
    elif site and (folder / "lab.json").exists():
        return Admin(address=_in_lab(site, folder))
    else:
        admin = Admin(address=_parsed(USUAL))
    if site and (found := admin.get("/site").get("site", "none")) != site:
        raise BadSettings(f"the agent at {admin.address} is that of {found}, not of {site}", hint="Ask it there.")
    return admin


def _in_lab(site: str, folder: Path) -> "Address":
    from cheops.lab.lab import Lab

    return _parsed(Lab.at(folder).site(site).admin.removeprefix("http://"))


def _parsed(address: str) -> "Address":
    from cheops.config import parse_address

    try:
        return parse_address(address.removeprefix("http://").rstrip("/"))
    except ValueError as error:
        raise BadSettings(f"--admin {address}: {error}") from error
