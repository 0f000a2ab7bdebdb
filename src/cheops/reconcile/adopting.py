"""Makes a replicated resource of one that a service has already: what it is now becomes its creation.

What a site sets itself isn't part of it, as far as the description says so; its content is read and kept like any large
body. Not promised: that a service takes in a creation all that it shows of a resource.
"""

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

from cheops.applications import Application, Resource
from cheops.applications.concern import item_of
from cheops.applications.credentials import secret_headers
from cheops.applications.fields import body_of_one, text_at, without
from cheops.applications.rids import new_rid, rid_of
from cheops.errors import CantAdopt, SiteUnreachable
from cheops.model import Headers, Reply, Request
from cheops.ports import Blobs, Transport
from cheops.reconcile.book import Book
from cheops.reconcile.engine import Engine
from cheops.reconcile.exchange import Exchange
from cheops.reconcile.ledger import Draft, Ledger
from cheops.reconcile.outcomes import version_after
from cheops.reconcile.service import kept
from cheops.record.operation import Birth, Body, Kind, Operation, Recorded, State
from cheops.record.resource import Summary

BUSY_SECONDS = 10.0


class Adopter:
    """Adopts resources of this site. `digits` gives random hexadecimal digits."""

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        exchange: Exchange,
        blobs: Blobs,
        transport: Transport,
        application: Callable[[], Application],
        digits: Callable[[int], str],
    ) -> None:
        self._ledger, self._engine, self._exchange = ledger, engine, exchange
        self._blobs, self._transport, self._application, self._digits = blobs, transport, application, digits

    async def adopt(self, service: str, kind: str, local_id: str, sites: Sequence[str], request: Request) -> str:
        """The rid of a resource of this site that from now on is held by these sites. Raises CantAdopt, StoreFailed.

        `request` is that of who wants it: it is done with its credentials.
        """
        application = self._application()
        rules = application.services[service].resources[kind]
        secrets = secret_headers(request.headers, request.service, application)
        chosen = local_id if rules.client_id == "accepted" else ""
        rid = rid_of(service, kind, rules.collection, chosen) if chosen else new_rid(self._digits)
        birth = Birth(service=service, type=kind, collection=rules.collection, chosen=chosen)
        place = item_of(Summary(rid=local_id, service=service, type=kind, collection=rules.collection), application)
        content = await self._read(service, place, secrets)
        inner = body_of_one(content, rules)
        if not isinstance(inner, dict):
            raise CantAdopt(f"{service}/{kind} {local_id} can't be replicated: it isn't a JSON object")
        body = self._creation(inner, rules, keep_id=bool(chosen))
        headers = (("content-type", "application/json"),)
        target = rules.collection
        recorded = Recorded(
            method="POST", target=target, headers=headers, body=Body(inline=body, size=len(body)), secret=bool(secrets)
        )
        name = text_at(inner, rules.name) if rules.name else ""
        await self._add(rid, recorded, Kind.CREATE, "", birth, name, tuple(sites), local_id, secrets)
        if rules.content:
            await self._content(rid, service, rules, local_id, secrets, tuple(sites))
        return rid

    def _creation(self, inner: dict[str, object], rules: Resource, *, keep_id: bool) -> bytes:
        own = {*rules.set_by_site, *rules.revision, *(() if keep_id else (rules.id,))}
        left = without(inner, frozenset(own))
        said = {name: value for name, value in left.items() if value is not None}
        return json.dumps({rules.one: said} if rules.one else said, ensure_ascii=False).encode()

    async def _read(self, service: str, target: str, secrets: Headers) -> bytes:
        reply = await self._get(service, target, secrets)
        _, content = await kept(reply)
        return content

    async def _get(self, service: str, target: str, secrets: Headers) -> Reply:
        request = Request(service=service, method="GET", target=target.encode("latin1"), headers=secrets)
        try:
            reply = await self._transport.send(request, site=self._ledger.here)
        except SiteUnreachable as error:
            raise CantAdopt(f"{target} can't be read: {error.detail}") from error
        if reply.status >= 300:
            await reply.body.aclose()
            raise CantAdopt(f"{target} can't be read at {self._ledger.here}: the service answers {reply.status}")
        return reply

    async def _content(
        self, rid: str, service: str, rules: Resource, local_id: str, secrets: Headers, sites: tuple[str, ...]
    ) -> None:
        assert rules.content
        reply = await self._get(service, rules.content.path.replace("{id}", local_id), secrets)
        body = await self._blobs.keep(_closing(reply))
        target = rules.content.path.replace("{id}", local_id if rules.client_id == "accepted" else rid)
        recorded = Recorded(
            method=rules.content.method,
            target=target,
            headers=(("content-type", rules.content.media_type),),
            body=body,
            secret=bool(secrets),
        )
        facet = target.rpartition("/")[2]
        await self._add(rid, recorded, Kind.REPLACE, facet, None, "", sites, "", secrets)

    async def _add(
        self,
        rid: str,
        recorded: Recorded,
        kind: Kind,
        facet: str,
        birth: Birth | None,
        name: str,
        sites: tuple[str, ...],
        local_id: str,
        secrets: Headers,
    ) -> None:
        """The operation that would have made what is there; here it counts as done."""
        here = self._ledger.here
        others = [site for site in sites if site != here]

        def make(book: Book | None, draft: Draft) -> Operation:
            op = Operation(
                rid=rid,
                author=draft.author,
                n=draft.n,
                stamp=draft.stamp,
                after=draft.after,
                kind=kind,
                facet=facet,
                request=recorded,
                birth=replace(birth, name=name) if birth else None,
                placement=sites if birth else (),
            )
            self._exchange.lend(rid, op.dot, secrets, others)
            return op

        async with self._engine.in_its_place(rid, BUSY_SECONDS):
            book, op = await self._ledger.append(rid, make)
            before = book.outcome(op.dot, here)
            if before:
                now = self._ledger.now()
                self._ledger.unsent.discard((rid, op.dot))
                run = 1 + max((outcome.run for outcome in book.own(here).values()), default=0)
                version = version_after(before, now)
                known = replace(before, status=200, local_id=local_id, code="adopted", at=now, version=version)
                await self._ledger.report(replace(known, state=State.DONE, run=run))


async def _closing(reply: Reply) -> AsyncGenerator[bytes, None]:
    async for chunk in reply.body:
        yield chunk
