"""Two sites of Envoys alone, whose service `things` has replicated resources, and doors behind which no agent decides.

So what Envoy does is seen without what an agent would make of it. Each site serves `things` and `spread` (managed, and
the latter's span sites), and `other`.
"""

import asyncio
import datetime
import itertools
import json
import os
import signal
import socket as sockets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cheops.config import Settings, Site
from cheops.intercept.envoy.binary import find_envoy
from cheops.intercept.envoy.process import Envoy
from cheops.sites.certificates import Authority, issue, make_authority
from end_to_end.asking import wait_for
from end_to_end.wire import Answer, Wire, request
from values import application

APPS = Path(__file__).parent / "apps"
Run = Callable[[Any], Any]
"""Runs a coroutine, and gives what it returns."""
NUMBERS = {"Site1": 1, "Site2": 2}
DESCRIBED = application("""
    carriers: [{kind: header}, {kind: request-id, header: X-Request-ID}]
    services:
      things: {number: 1, aliases: [thing], resources: &nets {
        net: {collection: /echo/nets, lists: [/echo/all/nets], span: {children: {port: {}}}},
        port: {collection: "/echo/nets/{net}/ports", lists: [/echo/ports]},
        router: {collection: /echo/routers}}}
      other: {number: 2, resources: *nets}
      spread: {number: 3, aliases: [wide], resources: *nets}
""")


@dataclass
class Managed:
    """One site: its Envoy, its two services in one process, and its door in another."""

    site: Site
    envoy: Envoy
    run: Run
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def envoy_pid(self) -> int:
        return int(json.loads((self.site.run / "envoy.json").read_text())["pid"])

    def take_up(self, site: Site) -> None:
        """Other settings."""
        self.run(self.envoy.apply(site))

    def start(self, name: str) -> None:
        """Starts `things` or `door`, and waits until it listens."""
        seen = ["--seen", str(self.seen(name))]
        backend = self.site.settings.services["things"].backend
        socket = self.site.run / "door.sock"
        script, where = ("raw", str(backend)) if name == "things" else ("door", str(socket))
        arguments = [sys.executable, str(APPS / script / "server.py"), where, *seen]
        self.processes[name] = subprocess.Popen(arguments)
        wait_for(self._door_is_open if name == "door" else self._serves, f"{name} listens")

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def _door_is_open(self) -> bool:
        with sockets.socket(sockets.AF_UNIX) as trial, suppress(OSError):
            trial.connect(str(self.site.run / "door.sock"))
            return True
        return False

    def _serves(self) -> bool:
        with suppress(OSError):
            return self.backend(b"/echo").status == 200
        return False

    def seen(self, name: str) -> Path:
        return self.site.data / f"{name}.jsonl"

    def backend(self, target: bytes) -> Answer:
        at = self.site.settings.services["things"].backend
        with Wire((at.host, at.port)) as wire:
            wire.send(request("GET", target))
            return wire.answer()

    def address(self, service: str = "things") -> tuple[str, int]:
        front = self.site.settings.services[service].front
        return front.host, front.port

    def ask(
        self,
        method: str,
        target: bytes,
        *headers: str,
        body: bytes | None = None,
        service: str = "things",
    ) -> Answer:
        """What the front answers."""
        with Wire(self.address(service)) as wire:
            wire.send(request(method, target, *headers, body=body))
            return wire.answer(method)

    def door_saw(self, marked: str) -> list[dict[str, Any]]:
        """The requests with this header that came to the door."""
        path = self.seen("door")
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        name, _, value = marked.lower().partition(": ")
        return [line for line in lines if [name, value] in line["headers"]]

    def service_saw(self, marked: str) -> list[str]:
        """The heads of the requests with this header that came to the service, which tells of them once they are
        answered.
        """
        barrier = f"/echo?{os.urandom(6).hex()}"
        self.backend(barrier.encode())
        path = self.seen("things")
        wait_for(lambda: barrier in path.read_text(), "the service has told")
        heads = [json.loads(line)["head"] for line in path.read_text().splitlines()]
        return [head for head in heads if marked.lower() in head.lower().split("\r\n")]


@contextmanager
def managed_sites(folder: Path, net: str) -> Iterator[dict[str, Managed]]:
    """Both, running, with everything that belongs to them; all of it ends with the context."""
    now = datetime.datetime.now(datetime.UTC)
    authority = make_authority(folder / "authority", "test", now)
    with _loop() as run:
        made = {name: _made(name, net, folder, authority, now, run) for name in NUMBERS}
        try:
            for one in made.values():
                run(one.envoy.start())
                one.start("things")
                one.start("door")
            for one, other in itertools.permutations(made.values(), 2):
                scope = f"X-Scope: {{things: {other.site.name}}}"
                wait_for(lambda one=one, scope=scope: one.ask("GET", b"/echo", scope).status == 200, "they meet")
            yield made
        finally:
            for one in made.values():
                for name in list(one.processes):
                    one.kill(name)
                run(one.envoy.stop())


def _made(name: str, net: str, folder: Path, authority: Authority, now: datetime.datetime, run: Run) -> Managed:
    at = {site: f"{net}.{number}" for site, number in NUMBERS.items()}
    issue(authority, name, folder / name / "tls", now)
    services = {
        "things": {"front": f"{at[name]}:8700", "backend": f"{at[name]}:18700"},
        "other": {"front": f"{at[name]}:8701", "backend": f"{at[name]}:18700"},
        "spread": {"front": f"{at[name]}:8702", "backend": f"{at[name]}:18700"},
    }
    settings = {
        "site": name,
        "number": NUMBERS[name],
        "mesh": {"listen": f"{at[name]}:7443", "deployment": "test", "authority": "../authority/authority.pem"},
        "admin": {"listen": "127.0.0.1:7480"},
        "services": services,
        "peers": {
            other: {"number": number, "mesh": f"{at[other]}:7443"} for other, number in NUMBERS.items() if other != name
        },
        "envoy": {"workers": 1, "drain_seconds": 1},
    }
    (folder / name / "data" / "run").mkdir(parents=True)
    site = Site(settings=Settings.model_validate(settings), application=DESCRIBED, folder=folder / name)
    site = replace(site, managed=frozenset({"things", "spread"}), spanned=frozenset({"spread"}))
    return Managed(site=site, envoy=Envoy(site, find_envoy()), run=run)


@contextmanager
def _loop() -> Iterator[Run]:
    """An event loop in a thread of its own, and what runs a coroutine there."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
