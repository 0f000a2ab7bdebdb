"""A list that several sites hold together: each resource once, page by page, and what is missing is said.

A page holds a page of each site; where the list goes on is our own link, in which each site's next page stands. Of a
replicated resource the first of its holders that answers tells. Not promised: one order for all; each site has its own.
"""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from cheops.applications import Resource
from cheops.applications.lists import listed, next_page, with_items, with_next
from cheops.applications.replies import made
from cheops.errors import BadRequest, SiteUnreachable
from cheops.execute import OUTCOME, Executor, Sending
from cheops.model import Reply, Request
from cheops.reconcile.asking import Held

PAGE = "cheops-page"
PAGES = (f"{PAGE}=", f"continue={PAGE}.")  # how a client says it: by our link, or as Kubernetes has it
RidsAt = Callable[[str, Request, Sequence[str]], Awaitable[dict[str, Held]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """A site's page: its reply with the body in `content`, or why there is none; `target` is what it was asked."""

    site: str
    target: str
    reply: Reply | None = None
    content: bytes = b""
    why: str = ""

    @property
    def word(self) -> str:
        return str(self.reply.status) if self.reply else self.why


class Union:
    """Unites what sites say; `rids_at` tells which of their items are replicas of the same."""

    def __init__(self, executor: Executor, here: str, rules: Resource | None, rids_at: RidsAt | None) -> None:
        self._executor, self._here, self._rules, self._rids_at = executor, here, rules, rids_at

    async def reply(self, sendings: Sequence[Sending], scope: str | None) -> Reply:
        """The union. If no site has a list to tell, the nearest reply. Raises SiteUnreachable, BadRequest."""
        target, pages = _asked(sendings[0].request.target.decode("latin1"))
        asked = [sending for sending in sendings if pages is None or sending.site in pages]
        targets = {sending.site: (pages or {}).get(sending.site, target) for sending in asked}
        parts = await asyncio.gather(*(self._part(sending, targets[sending.site]) for sending in asked))
        told = [part for part in parts if part.reply and part.reply.status < 300]
        lists = {part.site: items for part in told if (items := listed(part.content, self._rules)) is not None}
        outcome = ", ".join(f"{part.site}={part.word}" for part in parts)
        if not lists:
            return self._nearest(parts, outcome)
        items = await self._once_each(sendings[0].request, [part for part in told if part.site in lists], lists)
        first = next(part for part in told if part.site in lists)
        following = {
            part.site: page
            for part in told
            if part.reply and (page := next_page(part.target, part.reply.headers, part.content, self._rules))
        }
        return self._written(first, items, _next(sendings[0].request, target, following, scope), outcome, told)

    async def _part(self, sending: Sending, target: str) -> _Part:
        request = replace(sending.request, target=target.encode("latin1"), body=None)
        try:
            async with asyncio.timeout(self._executor.patience.seconds):
                reply = await self._executor.execute([replace(sending, request=request)])
                content = b"".join([chunk async for chunk in reply.body])
        except TimeoutError:
            return _Part(site=sending.site, target=target, why="no-answer-in-time")
        except SiteUnreachable:
            return _Part(site=sending.site, target=target, why="unreachable")
        executed = dict(reply.headers).get(b"cheops-executed")
        if executed is not None:
            missing = reply.status == 404
            return _Part(site=sending.site, target=target, why="no-such-service" if missing else "unreachable")
        return _Part(site=sending.site, target=target, reply=reply, content=content)

    def _nearest(self, parts: Sequence[_Part], outcome: str) -> Reply:
        """No site has told a list: what this site says, else the first that says anything."""
        answered = [part for part in parts if part.reply]
        if not answered:
            raise SiteUnreachable(f"none of the sites can be reached: {outcome}", site=self._here, executed="no")
        ordered = sorted(
            answered, key=lambda part: (part.reply is None or part.reply.status >= 300, part.site != self._here)
        )
        reply = ordered[0].reply
        assert reply
        headers = (*reply.headers, (OUTCOME, outcome.encode()))
        return replace(reply, headers=headers, body=_once(ordered[0].content))

    async def _once_each(
        self, request: Request, parts: Sequence[_Part], lists: dict[str, list[object]]
    ) -> list[object]:
        """All items; of those that are replicas of the same, the first site's."""
        ids = {site: [self._id(item) for item in items] for site, items in lists.items()}
        rids: dict[str, dict[str, Held]] = {}
        if self._rids_at:
            known = await asyncio.gather(*(self._rids_at(site, request, ids[site]) for site in lists))
            rids = dict(zip(lists, known, strict=True))
        sites = [part.site for part in parts]
        return [
            item
            for site in sites
            for one, item in zip(ids[site], lists[site], strict=True)
            if self._tells(site, rids.get(site, {}).get(one), sites)
        ]

    def _tells(self, site: str, replica: Held | None, sites: Sequence[str]) -> bool:
        return replica is None or site == next((other for other in sites if other in replica.holders), site)

    def _id(self, item: object) -> str:
        bare = self._rules.model_copy(update={"one": None}) if self._rules else None
        return made(200, (), json.dumps(item).encode(), bare).local_id

    def _written(self, first: _Part, items: list[object], url: str, outcome: str, told: Sequence[_Part]) -> Reply:
        assert first.reply
        body = with_items(first.content, self._rules, items)
        going_on = next((part for part in told if url and part.reply), first)
        if url:
            body = with_next(body, self._rules, going_on.content, url)
        dropped = {b"content-length", b"etag", b"last-modified", b"link", b"next-page", b"content-encoding"}
        headers = [pair for pair in first.reply.headers if pair[0] not in dropped]
        if url:
            headers += [(b"link", f'<{url}>; rel="next"'.encode()), (b"next-page", url.encode())]
        headers += [(b"content-length", str(len(body)).encode()), (OUTCOME, outcome.encode())]
        return replace(first.reply, headers=tuple(headers), body=_once(body))


def own_page(target: str) -> tuple[str, dict[str, Any] | None]:
    """The target without our own parameter, and what stands in that by site, if it is there. Raises BadRequest."""
    path, _, query = target.partition("?")
    pairs = [pair for pair in query.split("&") if pair]
    ours = [pair.removeprefix(mark) for pair in pairs for mark in PAGES if pair.startswith(mark)]
    rest = "&".join(pair for pair in pairs if not pair.startswith(PAGES))
    plain = path + (f"?{rest}" if rest else "")
    if not ours:
        return plain, None
    try:
        pages = json.loads(base64.urlsafe_b64decode(ours[0] + "=" * (-len(ours[0]) % 4)))
    except ValueError as error:
        raise not_ours("isn't one of ours") from error
    if not isinstance(pages, dict):
        raise not_ours("isn't one of ours")
    return plain, pages


def not_ours(what: str) -> BadRequest:
    return BadRequest(f"{PAGE} in the URL {what}", hint="Follow the links as they are.")


def _asked(target: str) -> tuple[str, dict[str, str] | None]:
    """The target without our own parameter, and what each site is to be asked, if that stands in it."""
    plain, pages = own_page(target)
    found = None if pages is None else {site: str(page) for site, page in pages.items()}
    if any(page.partition("?")[0] != plain.partition("?")[0] for page in (found or {}).values()):
        raise not_ours("leads elsewhere")
    return plain, found


def _next(request: Request, target: str, pages: dict[str, str], scope: str | None) -> str:
    """Where the list goes on, at the front that was asked; "" if it doesn't."""
    if not pages:
        return ""
    word = base64.urlsafe_b64encode(json.dumps(pages).encode()).decode().rstrip("=")
    prefix = f"/~scope/{quote(scope, safe='')}" if scope else ""
    host = next((value.decode("latin1") for value in request.values(b"host")), "")
    origin = f"http://{host}" if host else ""
    joint = "&" if "?" in target else "?"
    return f"{origin}{prefix}{target}{joint}{PAGE}={word}"


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
