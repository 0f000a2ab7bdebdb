"""This site's own service, in its own ids: what operations need of it besides being executed."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import IO

from cheops.applications import Application, Resource
from cheops.applications.translate import Translated, at_site, rids_in
from cheops.errors import NoIdThere, Refused
from cheops.model import Headers, Reply, Request
from cheops.ports import Blobs, Credentials, Transport
from cheops.reconcile.book import Book
from cheops.reconcile.ledger import Ledger
from cheops.record.operation import Body, Operation, Recorded

IN_MEMORY = 1 << 20  # bytes of a reply; a longer one goes through a file


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """`seconds`: how long a service may take until its reply begins; `host` is that of the front of a service here."""

    application: Application
    seconds: float = 60.0
    host: Callable[[str], str] = lambda service: "localhost"
    carry: Callable[[Request, Mapping[str, str]], Request] = field(default=lambda request, _: request)


class Service:
    """The services of the site `here`. `settings` may change between two requests."""

    def __init__(
        self, ledger: Ledger, transport: Transport, blobs: Blobs, credentials: Credentials, settings: Settings
    ) -> None:
        self._ledger, self._transport, self._blobs, self._credentials = ledger, transport, blobs, credentials
        self.settings = settings

    @property
    def _here(self) -> str:
        return self._ledger.here

    def rules(self, book: Book) -> Resource | None:
        service = self.settings.application.services.get(book.summary.service)
        return service.resources.get(book.summary.type) if service else None

    async def localise(
        self, recorded: Recorded, body: bytes | None, shares: Mapping[str, str] | None = None
    ) -> Translated:
        """The request with this site's own ids, and those of other sites where their services are used. Raises Waits
        if one isn't known here yet.
        """
        rids = rids_in(recorded.target, recorded.headers, body)
        if not rids:
            return Translated(target=recorded.target, headers=recorded.headers, body=body)
        ids = await self._ledger.local_ids(rids, self._here)
        for rid in rids - ids.keys() if shares else ():
            book = await self._ledger.book(rid)
            site = shares.get(book.summary.service) if book and shares else None
            if book and site and (local := book.local_id(site)):
                ids[rid] = local
        try:
            return at_site(recorded.target, recorded.headers, body, ids, self._here)
        except NoIdThere as unknown:
            raise Waits("waits-for-reference", unknown.detail) from unknown

    def blob(self, body: Body) -> AsyncGenerator[bytes, None]:
        if not self._blobs.has(body.sha256):
            raise Waits("waits-for-body", f"its body ({body.size:,} bytes) hasn't been fetched yet")
        return self._blobs.read(body.sha256)

    async def get(self, book: Book, target: str, credentials: Headers) -> tuple[int, Headers, bytes]:
        """A read of this site's service. Raises SiteUnreachable, TimeoutError."""
        request = Request(
            service=book.summary.service,
            method="GET",
            target=target.encode("latin1"),
            headers=(
                (b"host", self.settings.host(book.summary.service).encode()),
                (b"accept", b"application/json"),
                *credentials,
            ),
        )
        async with asyncio.timeout(self.settings.seconds):
            reply = await self._transport.send(request, site=self._here)
            _, content = await kept(reply)
        return reply.status, reply.headers, content

    async def content(self, book: Book, op: Operation) -> AsyncGenerator[bytes, None]:
        """What this site's service has where an operation has put a body: for who is to have it too, once the body
        itself isn't kept any more. Raises Refused, SiteUnreachable, CredentialsFailed.
        """
        assert op.request
        try:
            place = await self.localise(replace(op.request, body=None), None)
        except Waits as waits:
            raise Refused(waits.why, site=self._here, answer=404) from waits
        credentials = await self._credentials.headers(book.summary.service) or ()
        headers = ((b"host", self.settings.host(book.summary.service).encode()), *credentials)
        request = Request(
            service=book.summary.service, method="GET", target=place.target.encode("latin1"), headers=headers
        )
        reply = await self._transport.send(request, site=self._here)
        async with aclosing(reply.body) as body:
            if reply.status != 200:
                raise Refused(f"the service answered {reply.status}", site=self._here, answer=reply.status)
            async for chunk in body:
                yield chunk


class Waits(Exception):
    """Something is missing that will come."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code, self.why = code, why


async def kept(reply: Reply) -> tuple[Reply, bytes]:
    """The reply with its body in memory, or in a file if it is long; and the body, or its beginning."""
    beginning = bytearray()
    async with aclosing(reply.body) as body:
        async for chunk in body:
            beginning += chunk
            if len(beginning) > IN_MEMORY:
                spooled = await _spool(bytes(beginning), body)
                return replace(reply, body=_read_file(spooled)), bytes(beginning[:IN_MEMORY])
    content = bytes(beginning)
    return replace(reply, body=once(content)), content


async def _spool(beginning: bytes, rest: AsyncGenerator[bytes, None]) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(beginning)
    async for chunk in rest:
        await asyncio.to_thread(file.write, chunk)
    return file


async def _read_file(file: IO[bytes]) -> AsyncGenerator[bytes, None]:
    with file:
        file.seek(0)
        while chunk := await asyncio.to_thread(file.read, 1 << 18):
            yield chunk


async def once(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content
