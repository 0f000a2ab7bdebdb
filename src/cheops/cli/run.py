"""`cheops run`: any command-line client, with a scope."""

import ctypes
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from cheops.errors import DataPlaneFailed
from cheops.intercept.envoy.binary import find_envoy
from cheops.intercept.envoy.forward_proxy import forward_proxy
from cheops.scope import ScopeError, canonical, parse

START_SECONDS = 10
_ENCRYPTED = (
    "cheops run: a tunnel was refused, as HTTPS asks for one: no scope can be put into what is encrypted. "
    "Use the front's http:// address."
)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--scope", "text", required=True, metavar="SCOPE", help="Such as '{compute: Site1, image: Site2}'.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(text: str, command: tuple[str, ...]) -> None:
    """Run COMMAND with a scope on all that it sends over plain HTTP:

    cheops run --scope '{orders: Site2}' -- curl http://127.0.34.1:8080/orders

    It sets HTTP_PROXY to a proxy that lives as long as the command; the exit status is the command's.
    """
    try:
        scope = canonical(parse(text))
    except ScopeError as error:
        click.echo(error.caret(), err=True)
        sys.exit(2)
    _handle(lambda number: sys.exit(128 + number))  # until there is a command to pass signals on to
    with _proxy(scope) as proxy:
        addresses = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy"), f"http://127.0.0.1:{proxy.port}")
        status = _run(command, {**_without_proxies(os.environ), **addresses})
        if proxy.refused_tunnels():
            click.echo(_ENCRYPTED, err=True)
    sys.exit(status)


def _without_proxies(environment: "os._Environ[str]") -> dict[str, str]:
    """Without HTTPS proxies, so that HTTPS fails at our proxy and not silently around it, and without exceptions."""
    named = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
    return {key: value for key, value in environment.items() if key.lower() not in named}


def _run(command: tuple[str, ...], environment: dict[str, str]) -> int:
    try:
        child = subprocess.Popen(command, env=environment)
    except OSError as error:
        click.echo(f"cheops run: {command[0]}: {error.strerror}", err=True)
        return 127 if isinstance(error, FileNotFoundError) else 126
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command too
    _handle(child.send_signal)
    status = child.wait()
    return status if status >= 0 else 128 - status


def _handle(what: Callable[[int], Any]) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as after nohup
            signal.signal(number, lambda number, _: what(number))


@dataclass(frozen=True, kw_only=True)
class _Proxy:
    port: int
    admin: Path

    def refused_tunnels(self) -> bool:
        return bool(re.search(r"direct_response: [1-9]", _ask(self.admin, "/stats?filter=rq_direct_response")))


@contextmanager
def _proxy(scope: str) -> Iterator[_Proxy]:
    """A proxy that adds the scope."""
    with tempfile.TemporaryDirectory(prefix="cheops-") as name:
        folder = Path(name)
        (folder / "envoy.json").write_text(json.dumps(forward_proxy(scope, folder)))
        arguments = [find_envoy(), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--disable-hot-restart"]
        with (folder / "log").open("wb") as log:
            envoy = subprocess.Popen(
                [*arguments, "--log-level", "error"],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                process_group=0,  # a signal of the terminal isn't for it
                preexec_fn=_end_with_parent,
            )
        try:
            yield _Proxy(port=_port(envoy, folder), admin=folder / "envoy.sock")
        finally:
            envoy.kill()
            envoy.wait()


def _end_with_parent() -> None:
    """Lets the kernel end this process when its parent does, even by SIGKILL (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _port(envoy: "subprocess.Popen[bytes]", folder: Path) -> int:
    """The port that Envoy chose, once it listens. Raises DataPlaneFailed."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and envoy.poll() is None:
        answer = _ask(folder / "envoy.sock", "/listeners?format=json")
        listening = json.loads(answer)["listener_statuses"] if answer else []
        if listening:
            return int(listening[0]["local_address"]["socket_address"]["port_value"])
        time.sleep(0.01)
    why = (folder / "log").read_text(errors="replace")[-500:] or f"it wasn't ready in {START_SECONDS} s"
    raise DataPlaneFailed(f"the proxy of cheops run didn't start: {why}")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=1)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _ask(path: Path, target: str) -> str:
    """What Envoy's admin interface answers; nothing while it doesn't."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", target)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
