"""Makes a site: its number in the deployment, its certificate, and a commented site.yaml.

The deployment's folder holds the authority and sites.yaml, the list of sites that were made with it. Sites don't read
that folder: it can stay with whoever makes sites.
"""

import datetime
import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from cheops.applications import Application
from cheops.config import LAST_NUMBER, Callable_, Settings, SiteName, SiteNumber
from cheops.documents import Document, parse_document, read_document
from cheops.errors import BadSettings
from cheops.sites.certificates import Authority, issue, make_authority, read_authority

DEFAULT_DEPLOYMENT = "cheops"
MESH_PORT = 7443
ADMIN_PORT = 7480
SITE_YAML = "site.yaml"


class KnownSite(Document):
    """A site of the deployment; one that was invited says itself where its mesh listens."""

    number: SiteNumber
    mesh: Callable_ | None = None


class KnownSites(Document):
    """sites.yaml of a deployment."""

    sites: dict[SiteName, KnownSite] = Field(default={})


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a new site shall be. Addresses are `host:port`; `services` gives front and backend of each."""

    name: str
    folder: Path
    deployment: Path
    mesh: str
    admin: str
    services: dict[str, tuple[str, str]]
    application: str | None = None
    number: int | None = None
    peers: dict[str, KnownSite] | None = None  # else the sites that the deployment has
    workers: int | None = None
    credentials: Mapping[str, Any] = field(default_factory=dict)  # as site.yaml says them, for each service


@dataclass(frozen=True, kw_only=True)
class Made:
    """What was made, and when its certificate ends."""

    settings: Path
    number: int
    peers: tuple[str, ...]
    until: datetime.datetime


def make_site(wanted: Wanted, now: datetime.datetime) -> Made:
    """Writes site.yaml and tls/ into the folder. Raises BadSettings if a site is there, or the name is taken."""
    check_new(wanted.folder)
    with admitted(wanted.deployment, wanted.name, wanted.number, wanted.mesh, now) as admission:
        peers = admission.others if wanted.peers is None else wanted.peers
        text = site_yaml(wanted, admission.number, admission.authority.deployment, peers)
        wanted.folder.mkdir(parents=True, exist_ok=True)
        until = issue(admission.authority, wanted.name, wanted.folder / "tls", now)
        (wanted.folder / SITE_YAML).write_text(text)
    return Made(settings=wanted.folder / SITE_YAML, number=admission.number, peers=tuple(peers), until=until)


def check_new(folder: Path) -> None:
    """Raises BadSettings if a site is there."""
    if (folder / SITE_YAML).exists():
        what = f"{folder / SITE_YAML}: there is a site already"
        raise BadSettings(what, hint="Change it by hand, or name another --folder.")


@dataclass(frozen=True, kw_only=True)
class Admission:
    """A new site's number, who signs for it, and the sites that were there before it."""

    number: int
    authority: Authority
    others: dict[str, KnownSite]


@contextmanager
def admitted(
    deployment: Path,
    name: str,
    number: int | None,
    mesh: str | None,
    now: datetime.datetime,
    *,
    again: bool = False,
) -> Iterator[Admission]:
    """Puts a site on the deployment's list, once what is done with its admission has succeeded; `again`: one that is on
    it keeps its number. Raises BadSettings if it can't be had.
    """
    deployment.mkdir(parents=True, exist_ok=True)
    with _alone(deployment):
        authority = _authority(deployment, now)
        known = _known(deployment).sites
        if name in known and not again:
            raise BadSettings(
                f"{name} is a site of this deployment already, with number {known[name].number}",
                hint=f"Take another name, or remove it from {deployment / 'sites.yaml'} if it was never used.",
            )
        number = known[name].number if name in known else _number(number, known)
        others = {other: site for other, site in known.items() if other != name}
        yield Admission(number=number, authority=authority, others=others)
        mesh = mesh or (str(known[name].mesh) if name in known and known[name].mesh else None)
        _write_known(deployment, {**known, name: KnownSite.model_validate({"number": number, "mesh": mesh})})


def _number(wanted: int | None, known: dict[str, KnownSite]) -> int:
    """The number that is wanted, else the next one. Raises BadSettings if another site has it, or there is none."""
    owners = {site.number: name for name, site in known.items()}
    number = wanted or 1 + max(owners, default=0)
    if number in owners:
        raise BadSettings(f"{owners[number]} has the number {number} already", hint="Take another; each has its own.")
    if number > LAST_NUMBER:
        raise BadSettings(f"a site's number is at most {LAST_NUMBER}", hint="Name one that is free: --number N.")
    return number


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two sites made at once must not get one number."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _authority(folder: Path, now: datetime.datetime) -> Authority:
    if (folder / "authority.key").exists():
        return read_authority(folder)
    return make_authority(folder, DEFAULT_DEPLOYMENT, now)


def _known(folder: Path) -> KnownSites:
    path = folder / "sites.yaml"
    return read_document(path, KnownSites) if path.exists() else KnownSites()


def _write_known(folder: Path, sites: dict[str, KnownSite]) -> None:
    listed = {"sites": {name: site.model_dump(mode="json", exclude_none=True) for name, site in sites.items()}}
    half = folder / "sites.yaml.half"
    half.write_text(f"# The sites of this deployment. A number is never given twice.\n{_yaml(listed)}")
    half.replace(folder / "sites.yaml")


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def services_of(application: Application, address: str, backend_address: str) -> dict[str, tuple[str, str]]:
    """Front and backend of each service at the ports of the description. Raises BadSettings if it names none."""
    services = {}
    for name, service in application.services.items():
        if service.port is None or service.backend_port is None:
            raise BadSettings(
                f"the description gives no ports for '{name}'", hint=f"Name them: --service {name}=FRONT,BACKEND"
            )
        services[name] = (f"{address}:{service.port}", f"{backend_address}:{service.backend_port}")
    return services


def site_yaml(wanted: Wanted, number: int, deployment: str, others: Mapping[str, KnownSite]) -> str:
    """The commented settings. Raises BadSettings if they couldn't be used."""
    text = _site_yaml(wanted, number, deployment, others)
    parse_document(text, str(wanted.folder / SITE_YAML), Settings)  # before anything is written that others would meet
    return text


def _site_yaml(wanted: Wanted, number: int, deployment: str, others: Mapping[str, KnownSite]) -> str:
    services = "".join(
        f"  {_scalar(name)}:\n    front: {_scalar(front)}\n    backend: {_scalar(backend)}\n"
        for name, (front, backend) in wanted.services.items()
    )
    peers = "".join(
        f"  {_scalar(name)}: {{number: {site.number}, mesh: '{site.mesh}'}}\n"
        for name, site in others.items()
        if site.mesh
    )
    described = f"application: {_scalar(wanted.application or '')}"
    application = described if wanted.application else "# application: application.yaml"
    credentials = "".join(f"  {_scalar(name)}: {_flow(given)}\n" for name, given in wanted.credentials.items())
    return f"""\
# A site of Cheops. The agent takes up changes of services and peers by itself; a mistake is told in its log and at
# /readyz, and leaves everything as it was. Files are relative to this one.

site: {_scalar(wanted.name)}
number: {number}                  # what request ids carry; every site must know this site by the same number

# The description of the application; without one the conventions of REST hold.
{application}

data: data                 # what the agent keeps: Envoy's files, logs, scopes

# The site's end of the links between sites (mutual TLS). Open this port to the other sites, and only to them.
mesh:
  listen: {_scalar(wanted.mesh)}
  deployment: {deployment}
  certificate: tls/site.pem
  key: tls/site.key
  authority: tls/authority.pem

# The admin API: loopback only.
admin:
  listen: {_scalar(wanted.admin)}

# Clients and other services call a service at its front; the service itself listens at its backend.
# open_to: [Site2] lets only these sites use the service; without it all sites of the deployment may.
services:
{services}
# The other sites: their number, and where their mesh listens. Sites that these tell of become peers too, unless the
# mesh has `learn: false`; what stands here holds.
peers:{" {}" if not peers else ""}
{peers}
# Under a scope like A ; B: how much of a body is kept to be sent to B, and how long A may take to begin its answer.
otherwise:
  keep_bytes: 4194304
  patience_seconds: 60

# What the site itself shows to its services when it executes an operation on a replicated resource later than it was
# requested: docs/operating.md says which kinds there are.
{"credentials:" if credentials else "# credentials: {catalog: {kind: header, value_file: secrets/catalog}}"}
{credentials}
# Spans of requests go to this OpenTelemetry collector, by OTLP over HTTP (`pip install 'cheops[traces]'`). `sample` is
# the share of the traces that begin at this site's fronts.
# traces: {{endpoint: "http://127.0.0.1:4318", sample: 0.1}}

envoy:
  workers: {wanted.workers or 2}               # threads that serve requests
  drain_seconds: 10        # how long requests under way may take to finish when the agent ends
"""


def _flow(value: object) -> str:
    """A mapping as YAML writes it on one line."""
    return str(
        yaml.safe_dump(value, width=1 << 16, allow_unicode=True, default_flow_style=True, sort_keys=False)
    ).strip()


def _scalar(text: str) -> str:
    """A string as YAML writes it on one line: `no` and `1` and `[::1]:7443` would be something else without quotes."""
    return yaml.safe_dump(text, width=1 << 16, allow_unicode=True).removesuffix("\n").removesuffix("\n...")
