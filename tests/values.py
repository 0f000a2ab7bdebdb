"""Values that tests of several modules begin with: applications, sites, requests. Nothing here is a fake."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any, TypeVar

from cheops.applications import Application
from cheops.config import Settings, Site
from cheops.documents import parse_document
from cheops.model import Headers, Reply, Request, View
from cheops.web.admin import names_of

SITES = {"Site1": 1, "Site2": 2, "Site3": 3}
T = TypeVar("T")


def application(text: str) -> Application:
    """The application that a description says."""
    return parse_document(dedent(text), "application.yaml", Application)


SHOP = application("""
    application: shop
    carriers: [{kind: header}, {kind: request-id, header: X-Request-ID}]
    services:
      catalog: {number: 1, aliases: [kinto, products]}
      orders: {number: 2, aliases: [order]}
""")
OPENSTACK = application("""
    application: openstack
    carriers:
      - kind: header
      - kind: baggage
      - {kind: request-id, header: X-OpenStack-Request-ID, format: "req-{uuid}"}
      - {kind: token-suffix, headers: [X-Auth-Token, X-Subject-Token], cut_at: [identity]}
    services:
      compute: {number: 1, aliases: [nova]}
      image: {number: 2, aliases: [glance]}
      network: {number: 3, aliases: [neutron]}
      identity: {number: 4, aliases: [keystone]}
      placement: {number: 5}
      volume: {number: 62, aliases: [cinder, block-storage]}
""")
PLAIN = application("services: {catalog: {aliases: [kinto]}, orders: {}, 10ms: {}, true: {}}".replace("true", "'true'"))
"""By the conventions: X-Scope and baggage. Its services have names that JSON and durations could be mistaken for."""


def site_of(
    described: Application, name: str = "Site1", sites: Mapping[str, int] = SITES, folder: Path = Path("/srv/cheops")
) -> Site:
    """A site of a deployment of `sites`, which have these numbers, as its agent sees it. Addresses are made up."""
    listens = {service: f"127.0.0.1:{8001 + i}" for i, service in enumerate(described.services)}
    settings = {
        "site": name,
        "number": sites[name],
        "mesh": {"listen": "127.0.0.1:7443", "deployment": "test"},
        "admin": {"listen": "127.0.0.1:7480"},
        "services": {
            service: {"front": front, "backend": front.replace("800", "1800")} for service, front in listens.items()
        },
        "peers": {
            other: {"number": number, "mesh": f"10.0.0.{number % 256}:7443"}
            for other, number in sites.items()
            if other != name
        },
    }
    return Site(settings=Settings.model_validate(settings), application=described, folder=folder)


def view_of(site: Site) -> View:
    """What the site knows of itself and the others."""
    numbers = {name: service.number for name, service in site.application.services.items()}
    return View(
        site=site.name,
        names=names_of(site),
        site_numbers=site.site_numbers,
        service_numbers={name: number for name, number in numbers.items() if number is not None},
    )


def request(service: str, target: str = "/things/1", method: str = "GET", **headers: str) -> Request:
    """A request; `x_scope="…"` is a header."""
    pairs = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return Request(service=service, method=method, target=target.encode(), headers=pairs)


def digits(text: str = "0123456789abcdef") -> Callable[[int], str]:
    """Random digits that aren't: `text` again and again."""
    return lambda count: (text * (count // len(text) + 1))[:count]


async def chunks(*parts: bytes) -> AsyncGenerator[bytes, None]:
    """A body."""
    for part in parts:
        yield part


def reply(status: int = 200, *parts: bytes, headers: Headers = ()) -> Reply:
    return Reply(status=status, headers=headers, body=chunks(*parts))


async def whole(body: AsyncGenerator[bytes, None] | None) -> bytes:
    return b"".join([chunk async for chunk in body]) if body else b""


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that doesn't wait for anything."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise AssertionError("it waited for something")


def headers_of(pairs: Iterable[tuple[str, str]]) -> Headers:
    return tuple((name.lower().encode(), value.encode()) for name, value in pairs)
