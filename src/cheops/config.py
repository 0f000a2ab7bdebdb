"""The settings of a site: what stands in site.yaml, checked.

The settings are a value: an agent that sees a changed file reads a new one and compares. Nothing here opens a
socket or looks whether an address can be used.
"""

import ipaddress
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    model_validator,
)

from cheops.applications import Application, Service, find_application, read_application
from cheops.applications.description import OneSpelling, ServiceName
from cheops.credential_settings import Keystone, ServiceCredentials
from cheops.documents import Document, Misplaced, mistake_in, read_document
from cheops.errors import BadSettings

OTLP_PORT = 4318  # of OTLP over HTTP, as its specification says
OTLP_PATH = "/v1/traces"  # where spans go, below a collector's path
DEPLOYMENT = r"^[a-z0-9.-]+$"
UNIX_PATH_LIMIT = 107  # bytes: sun_path of unix(7), less the final NUL


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """A place to listen or to call: a host's address (or name) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_literal(self) -> bool:
        """Whether the host is an IP address; 999.1.1.1 is a name, though hardly anybody's."""
        try:
            return bool(ipaddress.ip_address(self.host))
        except ValueError:
            return False

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_address(text: Any) -> Address:
    """`host:port` or `[v6]:port`. Raises ValueError with what would be right."""
    if isinstance(text, Address):
        return text
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:\[\]/]+)):(\d{1,5})", text) if isinstance(text, str) else None
    if not found or not 1 <= int(found[3]) <= 65535 or (found[1] and not _is_v6(found[1])):
        raise ValueError("an address is written host:port, such as 10.0.0.5:8888, or [fd00::5]:8888")
    return Address(host=found[1] or found[2], port=int(found[3]))


def _is_v6(text: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def _listens(address: Address) -> Address:
    try:
        ipaddress.ip_address(address.host)
    except ValueError as error:
        raise ValueError("an address to listen on is a number, such as 10.0.0.5:8888 or 0.0.0.0:8888") from error
    return address


def _site_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise ValueError("a site's name is made of letters, digits, '_', '.' and '-', at most 63 of them")
    return name


Callable_ = Annotated[Address, BeforeValidator(parse_address), PlainSerializer(str)]
Listening = Annotated[Callable_, AfterValidator(_listens)]
SiteName = Annotated[str, AfterValidator(_site_name)]
LAST_NUMBER = 1023  # of a site: ten bits of a request id
SiteNumber = Annotated[int, Field(ge=1, le=LAST_NUMBER)]


class Mesh(Document):
    """The site's end of the links between sites; files are relative to site.yaml.

    `advertise` is where others reach it, if that isn't `listen`; `learn`: sites that others tell of become peers.
    """

    listen: Listening
    advertise: Callable_ | None = None
    learn: bool = True
    deployment: str = Field(pattern=DEPLOYMENT)
    certificate: Path = Path("tls/site.pem")
    key: Path = Path("tls/site.key")
    authority: Path = Path("tls/authority.pem")


class Admin(Document):
    """Where the admin API listens: on loopback only."""

    listen: Listening

    @model_validator(mode="after")
    def _is_loopback(self) -> "Admin":
        if not self.listen.is_loopback:
            raise Misplaced("the admin API listens on loopback only, such as 127.0.0.1:7480", "listen")
        return self


class Front(Document):
    """A service of this site: where its front listens, where the service itself does, and which peers may call it."""

    front: Listening
    backend: Callable_
    open_to: tuple[SiteName, ...] | None = None
    aliases: tuple[ServiceName, ...] = ()
    number: int | None = Field(default=None, ge=1, le=62)

    @model_validator(mode="after")
    def _is_no_circle(self) -> "Front":
        if self.front == self.backend:
            what = "this is the address of the front, so requests would go round in circles"
            raise Misplaced(what, "backend")
        return self


class Peer(Document):
    """Another site: its number, which all sites agree on, and where its mesh listens."""

    number: SiteNumber
    mesh: Callable_


class Otherwise(Document):
    """Under `A ; B`: how much of a body is kept to be sent to B, and how long A may take to begin its answer."""

    keep_bytes: int = Field(default=4 << 20, ge=0, le=1 << 30)
    patience_seconds: float = Field(default=60, gt=0, le=86_400)


@dataclass(frozen=True, kw_only=True, slots=True)
class Collector:
    """Where spans go: an OTLP/HTTP receiver at `address`, below `path`, which is empty or begins with `/`."""

    address: Address
    path: str = ""

    def __str__(self) -> str:
        return f"http://{self.address}{self.path}"


def parse_collector(text: Any) -> Collector:
    """`http://host[:port][/path]`. Raises ValueError with what would be right."""
    if isinstance(text, Collector):
        return text
    pattern = r"http://(\[[^\]/]*\]|[^\s:/?#@\[\]]+)(?::(\d+))?((?:/[\w.~%-]+)*)/?"
    found = re.fullmatch(pattern, text, re.ASCII) if isinstance(text, str) else None
    if not found:
        raise ValueError(
            "a collector is written http://host:port, such as http://127.0.0.1:4318; "
            "one that is far away is reached through one on this machine"
        )
    return Collector(
        address=parse_address(f"{found[1]}:{found[2] or OTLP_PORT}"), path=found[3].removesuffix(OTLP_PATH)
    )


class Traces(Document):
    """Where spans of requests go, by OTLP over HTTP, and of how many of the traces that begin here: 1 is all."""

    endpoint: Annotated[Collector, BeforeValidator(parse_collector), PlainSerializer(str)]
    sample: float = Field(default=1.0, gt=0, le=1)


class Store(Document):
    """Where the operation log is: a file of the site's data, or a database that several agents may share."""

    url: SecretStr | None = None
    owner: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")


class Envoy(Document):
    """What may be tuned of the data plane."""

    workers: int = Field(default=2, ge=1, le=64)
    log_level: str = Field(default="warning", pattern="^(trace|debug|info|warning|error)$")
    drain_seconds: int = Field(default=10, ge=1, le=3600)


class Settings(Document):
    """site.yaml. Paths are relative to it; `application` names a description that comes with Cheops, or a file."""

    site: SiteName
    number: SiteNumber
    data: Path = Path("data")
    application: str | None = None
    mesh: Mesh
    admin: Admin
    services: Annotated[dict[ServiceName, Front], OneSpelling] = Field(min_length=1)
    peers: dict[SiteName, Peer] = {}
    otherwise: Otherwise = Otherwise()
    credentials: dict[ServiceName, ServiceCredentials] = {}
    traces: Traces | None = None
    envoy: Envoy = Envoy()
    store: Store = Store()

    @model_validator(mode="after")
    def _sites_are_clear(self) -> "Settings":
        if self.site in self.peers:
            raise Misplaced("this is the site itself; peers are the others", "peers", self.site)
        numbers = {self.number: self.site}
        for name, peer in self.peers.items():
            if peer.number in numbers:
                what = f"{numbers[peer.number]} has the number {peer.number} already; each site has its own"
                raise Misplaced(what, "peers", name, "number")
            numbers[peer.number] = name
        return self

    @model_validator(mode="after")
    def _addresses_are_clear(self) -> "Settings":
        users: dict[Address, str] = {self.mesh.listen: "mesh"}
        fronts = ((front.front, ("services", name, "front")) for name, front in self.services.items())
        for address, path in ((self.admin.listen, ("admin", "listen")), *fronts):
            if address in users:
                raise Misplaced(f"{users[address]} listens on {address} already", *path)
            users[address] = path[-2]
        return self

    @model_validator(mode="after")
    def _services_are_clear(self) -> "Settings":
        if self.application is None:
            self.by_convention()
        for name, front in self.services.items():
            for field in ("aliases", "number") if self.application else ():
                if field in front.model_fields_set:
                    what = f"this stands in the description, {self.application}; take it out here"
                    raise Misplaced(what, "services", name, field)
        return self

    @model_validator(mode="after")
    def _credentials_are_clear(self) -> "Settings":
        for name, wanted in self.credentials.items():
            if name not in self.services:
                raise Misplaced(
                    f"the site runs no such service; it runs: {', '.join(self.services)}", "credentials", name
                )
            if isinstance(wanted, Keystone) and not wanted.auth_url and wanted.identity not in self.services:
                what = f"auth_url is needed, since the site runs no '{wanted.identity}' itself"
                raise Misplaced(what, "credentials", name)
        return self

    def by_convention(self) -> Application:
        """The services as an application that has no description. Raises Misplaced if they contradict each other."""
        services = {name: Service(number=f.number, aliases=f.aliases) for name, f in self.services.items()}
        try:
            return Application(services=services)
        except ValidationError as error:
            raise error.errors()[0]["ctx"]["error"] from error


@dataclass(frozen=True, kw_only=True)
class Site:
    """A site as its agent sees it: the settings with their paths made absolute, and the application's description.

    `managed` are the services whose writes, and reads that miss, are the agent's; `spanned` are those of them that have
    resources that span sites, reads of which are the agent's too.
    """

    settings: Settings
    application: Application
    folder: Path
    departed: frozenset[str] = frozenset()
    managed: frozenset[str] = frozenset()
    spanned: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.settings.site

    @property
    def data(self) -> Path:
        return self.folder / self.settings.data

    @property
    def run(self) -> Path:
        """The folder of sockets and pid files."""
        return self.data / "run"

    @property
    def site_numbers(self) -> dict[str, int]:
        return {self.name: self.settings.number, **{name: peer.number for name, peer in self.settings.peers.items()}}

    @property
    def site_names(self) -> tuple[str, ...]:
        return (self.name, *self.settings.peers)

    @property
    def advertised(self) -> Address:
        """Where the other sites reach this one's mesh."""
        return self.settings.mesh.advertise or self.settings.mesh.listen

    def with_peers(self, peers: Mapping[str, Peer], departed: Collection[str]) -> "Site":
        """The same site with these peers; those that have departed may not call its services any more."""
        return replace(
            self, settings=self.settings.model_copy(update={"peers": dict(peers)}), departed=frozenset(departed)
        )

    @property
    def description(self) -> Path | None:
        """The file of the application's description."""
        named = self.settings.application
        return find_application(named, self.folder) if named else None

    @property
    def store_url(self) -> str:
        """Of the operation log; it may hold a password."""
        url = self.settings.store.url
        return url.get_secret_value() if url else f"sqlite:///{self.data / 'log.db'}"

    def file(self, path: Path) -> Path:
        return self.folder / path


def read_site(path: Path) -> Site:
    """The site that site.yaml at `path` describes. Raises BadSettings."""
    path = path.absolute()
    settings = read_document(path, Settings)
    site = Site(settings=settings, application=_application(settings, path), folder=path.parent)
    longest = max(
        len(str(site.run / name).encode()) for name in ("door.sock", "mesh.sock", "envoy.sock", "egress.sock")
    )
    if longest > UNIX_PATH_LIMIT:
        what = f"the folder's path is {longest - UNIX_PATH_LIMIT} bytes too long for unix sockets"
        raise mistake_in(path, Misplaced(what, "data"))
    return site


def _application(settings: Settings, path: Path) -> Application:
    """The description; without one, the services of site.yaml by the conventions of REST."""
    if settings.application is None:
        return settings.by_convention()
    application = read_application(_described(settings.application, path))
    for name in settings.services:
        if name not in application.services:
            known = ", ".join(application.services)
            what = f"{application.application} has no such service; it has: {known}"
            raise mistake_in(path, Misplaced(what, "services", name))
    return application


def _described(name: str, path: Path) -> Path:
    try:
        return find_application(name, path.parent)
    except BadSettings as error:
        raise mistake_in(path, Misplaced(str(error), "application")) from error
