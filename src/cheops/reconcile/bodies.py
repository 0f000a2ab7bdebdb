"""The large bodies of operations: fetched from whoever has them, forgotten once every holder is through with them."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

import structlog

from cheops.errors import BlobDamaged, CheopsError
from cheops.ports import BLOBS, CONTENT, Blobs, Transport
from cheops.reconcile.book import Book
from cheops.reconcile.ledger import Ledger
from cheops.record.operation import FINAL, Body, Operation

log = structlog.get_logger("bodies")


class Bodies:
    """What is kept beside the store of the site's ledger."""

    def __init__(self, ledger: Ledger, blobs: Blobs, transport: Transport) -> None:
        self._ledger, self._blobs, self._transport = ledger, blobs, transport

    async def fetch(self, op: Operation, holders: Sequence[str]) -> None:
        """Sees to it that the body of an operation is here, if anybody can be asked for it; its author comes first."""
        body = op.request.body if op.request else None
        if body is None or not body.sha256 or self._blobs.has(body.sha256):
            return
        others = [site for site in dict.fromkeys((op.site, *holders)) if site != self._ledger.here]
        for site in others:
            try:
                await self._blobs.fetch(body, partial(self._from, site, BLOBS + body.sha256))
                return
            except BlobDamaged as error:
                log.error("a body isn't what it should be", site=site, detail=error.detail)
            except CheopsError as error:
                log.info("a body can't be fetched", site=site, detail=error.detail)
        await self._fetch_from_service(op, body, others)

    async def _fetch_from_service(self, op: Operation, body: Body, others: Sequence[str]) -> None:
        """Once every holder was through with it the body wasn't kept; their services have it."""
        for site in others:
            path = f"{CONTENT}?rid={op.rid}&author={op.author}&n={op.n}"
            try:
                await self._blobs.fetch(body, partial(self._past, site, path))
                return
            except CheopsError as error:
                log.info("a body can't be fetched from a service", site=site, detail=error.detail)

    async def _past(self, site: str, path: str, offset: int) -> AsyncGenerator[bytes, None]:
        """What comes from an offset on; services aren't asked for ranges, which not all of them have."""
        async with aclosing(self._transport.fetch(path, site=site)) as whole:
            async for chunk in whole:
                if offset < len(chunk):
                    yield chunk[offset:]
                offset = max(offset - len(chunk), 0)

    def _from(self, site: str, path: str, offset: int) -> AsyncGenerator[bytes, None]:
        return self._transport.fetch(path, site=site, offset=offset)

    async def tidy(self, book: Book) -> None:
        """Forgets the bodies and operations that nobody needs any more."""
        store = self._ledger.store
        for op in book.log.operations.values():
            body = op.request.body if op.request else None
            if body and body.sha256 and self._blobs.has(body.sha256) and self._through(book, op):
                await store.release_blob(book.rid, op.dot)
                if not await store.blob_users(body.sha256) and not self._ledger.keeping[body.sha256]:
                    self._blobs.drop(body.sha256)
        await self._ledger.prune(book)

    def _through(self, book: Book, op: Operation) -> bool:
        outcomes = [book.outcome(op.dot, site) for site in book.concerned()]
        return all(outcome and outcome.state in FINAL for outcome in outcomes)
