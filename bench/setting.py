"""Everything that is measured, set up: two sites in a lab, and the rivals beside them."""

import http.client
import json
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.errors import BenchFailed
from bench.machine import Cores, pin
from bench.rivals import rivals
from bench.variants import Address, End, Ends, Places, Variant, variants
from cheops.carry.request_id import encode
from cheops.lab.lab import Lab
from cheops.lab.site import LabSite
from cheops.sites.making import MESH_PORT

APP = Path(__file__).parent / "app"
SERVICES = {"items": 1, "sink": 2}  # and their numbers, as application.yaml gives them
PATIENCE = 20


def net(number: int) -> str:
    """The beginning of loopback addresses that no other lab here is likely to use."""
    return f"127.{60 + os.getpid() % 180}.{number}"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The variants, each of which goes the way that is meant; and the pids of all that runs for them."""

    variants: list[Variant]
    proxies: frozenset[int]
    services: frozenset[int]

    def pin(self, cores: Cores) -> None:
        """From now on; this process and the clients that it starts go with the services."""
        pin(self.proxies, cores.proxies)
        pin([*self.services, os.getpid()], cores.others)


@contextmanager
def setting(folder: Path) -> Iterator[Setting]:
    """Starts all of it; it ends with the context. Raises BenchFailed, or CheopsError as the lab does."""
    with Lab.up(folder / "lab", app=str(APP), sites=2, net=net(1)) as lab:
        one, two = lab.sites
        _meet_directly(lab)
        folders = (lab.folder / "Site1", lab.folder / "Site2")
        with rivals(folder, f"{net(2)}.1", _backend(one), _backend(two), folders) as others:
            found = variants(_places(one, two, others.__dict__))
            _check(found, one)
            made = Setting(
                variants=found,
                proxies=frozenset(pid for variant in found for end in variant.ends for pid in end.pids),
                services=frozenset(_pid(site, name) for site in lab.sites for name in site.applications),
            )
            yield made


def _places(one: LabSite, two: LabSite, others: dict[str, Ends]) -> Places:
    draw = random.SystemRandom()
    return Places(
        backend=_backend(one),
        front=_front(one, one),
        front_to_peer=_front(one, one, two),
        marked={
            name: "req-"
            + encode([(service, site) for service in SERVICES.values()], lambda n: f"{draw.getrandbits(4 * n):0{n}x}")
            for name, site in {"Site1": 1, "Site2": 2}.items()
        },
        **others,
    )


def address_of(url: str) -> Address:
    parts = urlsplit(url)
    return str(parts.hostname), parts.port or 80


def _backend(site: LabSite) -> Ends:
    return {name: End(address=address_of(site.backend(name))) for name in SERVICES}


def _front(at: LabSite, *passing: LabSite) -> Ends:
    pids = tuple(_pid(site, what) for site in passing for what in ("envoy", "agent"))
    return {name: End(address=address_of(at.front(name)), pids=pids) for name in SERVICES}


def _pid(site: LabSite, what: str) -> int:
    pid = site.status()["pids"][what]
    if not pid:
        raise BenchFailed(f"{what} of {site.name} has ended")
    return int(pid)


# The lab's links between sites are a Python process, which no deployment has.


def _meet_directly(lab: Lab) -> None:
    """Lets each site reach the other's mesh without the lab's link between."""
    for site, other in zip(lab.sites, reversed(lab.sites), strict=True):
        settings = lab.folder / site.name / "site.yaml"
        link = re.compile(rf"({other.name}: \{{number: \d+, mesh: )'[^']+'")
        text, changed = link.subn(rf"\g<1>'{other.address}:{MESH_PORT}'", settings.read_text())
        if changed != 1:
            raise BenchFailed(f"{settings} doesn't name {other.name} as expected")
        half = settings.with_suffix(".half")
        half.write_text(text)
        half.replace(settings)
    for site, other in zip(lab.sites, reversed(lab.sites), strict=True):
        _until_met(site, other)


def _until_met(site: LabSite, other: LabSite) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        status, _, body = ask(address_of(site.admin), "/site")
        peer = json.loads(body)["peers"][other.name] if status == 200 else {}
        if peer.get("mesh") == f"{other.address}:{MESH_PORT}" and peer["reachable"]:
            return
        time.sleep(0.1)
    raise BenchFailed(f"{site.name} doesn't reach {other.name} directly")


# Nothing is measured before it is seen to go the way that is meant.


def ask(
    address: Address, path: str, headers: dict[str, str] | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body of a GET."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers=headers or {})
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()
    finally:
        connection.close()


def _check(found: list[Variant], site: LabSite) -> None:
    for variant in found:
        status, headers, body = ask(variant.items.address, f"/check/{variant.key}", variant.headers_for("items"))
        by = headers.get("cheops-served-by")
        if (status, len(body), by) != (200, 1024, variant.served_by):
            raise BenchFailed(f"{variant.name}: {status}, {len(body)} bytes, served by {by}: {body[:300]!r}")
    end = time.monotonic() + PATIENCE
    wanted = {f"/check/{variant.key}": variant.to for variant in found if variant.to}
    while (seen := _logged(site)) != wanted:
        if time.monotonic() > end:
            raise BenchFailed(f"the access log says {seen}, which should be {wanted}")
        time.sleep(0.1)


def _logged(site: LabSite) -> dict[str, str]:
    """For each checked path, where the front sent it."""
    lines = (line for line in site.access_log() if line["listener"] == "front")
    return {line["path"]: line["to"] for line in lines if line["path"].startswith("/check/")}
