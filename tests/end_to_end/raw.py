"""Labs of the raw service: requests byte for byte, what reached whom, and settings that change while a site runs."""

import json
import os
import shutil
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from cheops.lab.lab import Lab
from cheops.lab.site import LabSite
from end_to_end.asking import ask, wait_for
from end_to_end.wire import Answer, Wire, request

RAW = Path(__file__).parent / "apps" / "raw"
PROCESSES = ("things", "identity")  # things serves a, b and c too
KINDS = ("header", "baggage", "request-id", "token-suffix")
CARRIERS = ("x-scope", "baggage", "x-request-id", "x-auth-token", "x-subject-token")


def raw_app(folder: Path, *services: str, carriers: Container[str] = KINDS) -> Path:
    """The raw application with some of its services, all of which are served, and with carriers of these kinds.

    Each front costs its Envoy an inotify instance, of which a user has 128: no more of them than a test needs.
    """
    shutil.copytree(RAW, folder)
    path = folder / "application.yaml"
    described = yaml.safe_load(path.read_text())
    described["services"] = {name: described["services"][name] for name in (*PROCESSES, *services)}
    for name in services:
        described["services"][name]["backend_port"] = described["services"]["things"]["backend_port"]
    described["carriers"] = [carrier for carrier in described["carriers"] if carrier["kind"] in carriers]
    path.write_text(yaml.safe_dump(described, sort_keys=False))
    return folder


def authority(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), parts.port or 80


def call(
    url: str, target: bytes, *headers: str | bytes, method: str = "GET", body: bytes | None = None, host: str = ""
) -> Answer:
    """One request on a connection of its own; `url` says where to, `target` goes on the wire as it is."""
    with Wire(authority(url)) as wire:
        wire.send(request(method, target, *headers, body=body, host=host or urlsplit(url).netloc))
        return wire.answer(method)


def reply(*lines: str, body: bytes = b"") -> bytes:
    """The target that makes the service answer just this."""
    head = "\r\n".join(("HTTP/1.1 " + lines[0], *lines[1:], f"Content-Length: {len(body)}"))
    return b"/answer?" + (head.encode() + b"\r\n\r\n" + body).hex().encode()


@dataclass(frozen=True, kw_only=True)
class Told:
    """A request as it reached a service."""

    target: str
    headers: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def lines(self, *names: str) -> list[str]:
        """The headers of these names as the service itself would send them on."""
        return [f"{key}: {value}" for key, value in self.headers if key in names]


def told(answer: Answer) -> Told:
    """What the service says of a request to /echo."""
    assert answer.status == 200, answer
    first, *lines = json.loads(answer.body)["head"].split("\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Told(target=first.split(" ")[1], headers=headers)


def problem(answer: Answer, status: int) -> dict[str, Any]:
    """The problem document of an answer that has to be one."""
    assert (answer.status, answer.values("content-type")) == (status, ["application/problem+json"]), answer
    document: dict[str, Any] = json.loads(answer.body)
    assert document["status"] == status
    assert {"type", "title", "detail", "code"} <= document.keys()
    return document


def mark() -> str:
    """A header by which a request is found again."""
    return f"X-Mark: {os.urandom(8).hex()}"


def reached(lab: Lab, marked: str) -> list[str]:
    """The services that a request with this mark has reached, as Site/process, once for each time.

    A service tells of a request once it is answered; so each is asked something else, which it tells of afterwards.
    """
    places = [(site, name) for site in lab.sites for name in PROCESSES]
    barrier = mark()
    for site, name in places:
        call(site.backend(name), b"/echo", barrier)
    for site, name in places:
        wait_for(
            lambda at=(site, name): any(_bears(line, barrier) for line in _seen(*at)), f"{name} of {site.name} tells"
        )
    return [f"{site.name}/{name}" for site, name in places for line in _seen(site, name) if _bears(line, marked)]


def _bears(line: str, marked: str) -> bool:
    """Whether the request itself has the header, and not the one that it shall make."""
    return marked[8:] in line and marked.lower() in json.loads(line)["head"].lower().split("\r\n")


def _seen(site: LabSite, name: str) -> list[str]:
    return (site.data.parent / "app" / f"{name}.jsonl").read_text().splitlines()


def access(lab: Lab, marked: str) -> list[dict[str, Any]]:
    """The lines of all access logs about requests whose path has this mark; none that is yet to be written is missed.

    Envoy writes its log in order, twice a second.
    """
    barrier = os.urandom(8).hex()
    for site in lab.sites:
        call(site.front("things"), f"/echo?{barrier}".encode())
    for site in lab.sites:
        wait_for(
            lambda site=site: any(barrier in str(line["path"]) for line in site.access_log()), "Envoy writes its log"
        )
    return [line for site in lab.sites for line in site.access_log() if marked in str(line["path"])]


# Settings


def settings_of(lab: Lab, site: str) -> Path:
    return lab.folder / site / "site.yaml"


def read_settings(path: Path) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load(path.read_text())
    return settings


def write_settings(path: Path, settings: dict[str, Any] | str) -> None:
    """As an editor does: whole, or not at all."""
    half = path.with_suffix(".half")
    half.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings, sort_keys=False))
    half.replace(path)


def agent_says(lab: Lab, site: str, event: str) -> list[dict[str, Any]]:
    """The lines of an agent's log with this event."""
    lines = lab.site(site).log("agent").read_text().splitlines()
    return [
        line for line in map(json.loads, (line for line in lines if line.startswith("{"))) if line["event"] == event
    ]


@contextmanager
def changed(lab: Lab, site: str, change: Callable[[dict[str, Any]], object]) -> Iterator[None]:
    """The site with other settings, and then again with those it had."""
    path = settings_of(lab, site)
    before = path.read_text()
    settings = yaml.safe_load(before)
    change(settings)
    take_up(lab, site, settings)
    try:
        yield
    finally:
        take_up(lab, site, before)


def take_up(lab: Lab, site: str, settings: dict[str, Any] | str) -> None:
    """Writes settings and returns once they are in force."""
    event = "changed settings are in force"
    already = len(agent_says(lab, site, event))
    write_settings(settings_of(lab, site), settings)
    wait_for(lambda: len(agent_says(lab, site, event)) > already, f"{site} takes up its changed settings")


def admin(lab: Lab, site: str, path: str) -> Any:
    return ask(lab.site(site).admin + path).json
