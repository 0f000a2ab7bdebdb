"""Carries out any plan; alone owns time-outs and retries.

A request goes to one site only, and once; of several choices the next is asked only if the one before can't have
executed it, or if executing it twice is nothing (RFC 9110, 9.2.1: safe methods). Envoy bounds how long a site may take
to accept a connection; how long a service takes to answer is its own business, except where there is another choice.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from enum import Enum, auto

from cheops.bodies import Ending, KeptBody
from cheops.errors import MaybeExecuted, NobodyCan, SiteUnreachable
from cheops.intercept.envoy.names import EXECUTED
from cheops.model import Reply, Request
from cheops.ports import KeptScopes, Transport

_EXECUTED = EXECUTED.encode()
OUTCOME = b"cheops-outcome"
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_DISCARDED = 64 << 10  # bytes of a reply that nobody gets; beyond them the connection is given up


@dataclass(frozen=True, kw_only=True, slots=True)
class Sending:
    """A request as it is sent to `site`; `keep` is the scope (UUID, text) that must be on disk before, if any; `door`:
    it goes to the agent there.
    """

    site: str
    request: Request
    keep: tuple[str, str] | None = None
    door: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How much of a body is kept to be sent again, in bytes, and how long a choice may take, once it has all of the
    request, until its reply begins, in seconds.
    """

    keep_bytes: int = 4 << 20
    seconds: float = 60.0


class Came(Enum):
    """What came of asking a site."""

    ANSWER = auto()
    UNABLE = auto()  # the service itself says that it can't: 502, 503, 504
    NOT_EXECUTED = auto()
    MAYBE_EXECUTED = auto()


# Whether the next choice is asked: (what came of this one, the method is safe).
GOES_ON = {
    (Came.ANSWER, True): False,
    (Came.ANSWER, False): False,
    (Came.UNABLE, True): True,
    (Came.UNABLE, False): False,
    (Came.NOT_EXECUTED, True): True,
    (Came.NOT_EXECUTED, False): True,
    (Came.MAYBE_EXECUTED, True): True,
    (Came.MAYBE_EXECUTED, False): False,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Executor:
    """What carries out plans: the way to the sites, and the place where scopes are kept."""

    transport: Transport
    kept: KeptScopes
    patience: Patience

    async def execute(self, sendings: Sequence[Sending]) -> Reply:
        """The reply to a request; `sendings` are its plan's forwards. Raises what the transport and the store raise,
        NobodyCan if none of the choices takes it, and MaybeExecuted.
        """
        if len(sendings) == 1:
            return await self._send(sendings[0])
        return await _FirstAble(self, sendings).reply()

    async def _send(self, sending: Sending) -> Reply:
        if sending.keep:
            self.kept.keep(*sending.keep)
        if sending.door:
            return await self.transport.send(sending.request, site=sending.site, door=True)
        return await self.transport.send(sending.request, site=sending.site)


class _FirstAble:
    """One request that goes to the first of several sites that can."""

    def __init__(self, executor: Executor, sendings: Sequence[Sending]) -> None:
        request = sendings[0].request
        self._executor, self._sendings = executor, sendings
        lengths = [int(value) for value in request.values(b"content-length")]
        length = lengths[0] if lengths else None
        self._body = KeptBody(request.body, executor.patience.keep_bytes, length) if request.body else None
        self._safe = request.method in SAFE
        self._tried: list[tuple[str, str]] = []

    async def reply(self) -> Reply:
        try:
            reply = await self._first()
        except BaseException:
            await self._close()
            raise
        return replace(reply, body=Ending(reply.body, self._close))  # a service may answer while it still reads

    async def _close(self) -> None:
        if self._body:
            await self._body.close()

    async def _first(self) -> Reply:
        for sending in self._sendings:
            came, reply = await self._ask(sending)
            last = sending is self._sendings[-1]
            if reply and (last or not GOES_ON[came, self._safe]) and came in (Came.ANSWER, Came.UNABLE):
                return self._told(reply)
            if reply:
                await _discard(reply)
            if not GOES_ON[came, self._safe]:
                raise self._maybe(sending.site)
            if self._body and not self._body.repeatable:
                break
        raise self._nobody()

    async def _ask(self, sending: Sending) -> tuple[Came, Reply | None]:
        request = sending.request if not self._body else replace(sending.request, body=self._body.again())
        task = asyncio.create_task(self._executor._send(replace(sending, request=request)))
        try:
            reply = await self._patiently(task)
        except SiteUnreachable as error:
            executed = error.members.get("executed", "unknown")
            return self._note(sending, _BY_EXECUTED[executed], error.members.get("why", "broken off")), None
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if reply is None:
            return self._note(sending, Came.MAYBE_EXECUTED, "no answer in time"), None
        return self._note(sending, self._came(reply), _word(reply)), reply

    async def _patiently(self, task: "asyncio.Task[Reply]") -> Reply | None:
        """The reply; None if it doesn't begin in time. Time is counted once the site has got the whole request."""
        if self._body:
            ended = asyncio.create_task(self._body.ended.wait())
            try:
                await asyncio.wait((task, ended), return_when=asyncio.FIRST_COMPLETED)
            finally:
                ended.cancel()
        await asyncio.wait((task,), timeout=self._executor.patience.seconds)
        return await task if task.done() else None

    def _came(self, reply: Reply) -> Came:
        said = [value.decode("latin1") for name, value in reply.headers if name == _EXECUTED]
        if said:
            return _BY_EXECUTED.get(said[0], Came.MAYBE_EXECUTED)
        if reply.status not in (502, 503, 504):
            return Came.ANSWER
        # Who refuses before it has the whole request hasn't executed it.
        return Came.NOT_EXECUTED if self._body and not self._body.all_read else Came.UNABLE

    def _note(self, sending: Sending, came: Came, word: str) -> Came:
        self._tried.append((sending.site, word))
        return came

    def _told(self, reply: Reply) -> Reply:
        """The reply, with what came of those before if there are any."""
        if not self._tried[1:]:
            return reply
        outcome = ", ".join(f"{site}={word.replace(' ', '-')}" for site, word in self._tried)
        return replace(reply, headers=(*reply.headers, (OUTCOME, outcome.encode())))

    def _nobody(self) -> NobodyCan:
        service = self._sendings[0].request.service
        tried = [{"site": site, "why": word} for site, word in self._tried]
        said = ", ".join(f"{site}: {word}" for site, word in self._tried)
        left = [sending.site for sending in self._sendings[len(self._tried) :]]
        if not left:
            return NobodyCan(f"none of the sites can serve '{service}' now: {said}", tried=tried, executed="no")
        longest = self._executor.patience.keep_bytes
        return NobodyCan(
            f"'{service}' was refused ({said}) when more than {longest:,} bytes of the body were sent, "
            f"which is all that is kept to send it again; {', '.join(left)} wasn't asked",
            hint="Send the request again.",
            tried=tried,
            executed="no",
        )

    def _maybe(self, site: str) -> MaybeExecuted:
        left = [sending.site for sending in self._sendings[len(self._tried) :]]
        asked = f"; {', '.join(left)} wasn't asked, so that nothing is done twice" if left else ""
        return MaybeExecuted(
            f"{site} may have executed the request, but its answer is lost ({self._tried[-1][1]}){asked}",
            hint=f"Look on {site} whether it was, before you repeat it.",
            site=site,
            executed="unknown",
        )


_BY_EXECUTED = {"no": Came.NOT_EXECUTED, "unknown": Came.MAYBE_EXECUTED}


def _word(reply: Reply) -> str:
    said = dict(reply.headers).get(_EXECUTED)
    return {b"no": "unreachable", b"unknown": "broken off"}.get(said or b"", str(reply.status))


async def _discard(reply: Reply) -> None:
    """Reads what little there is, so that the connection can be used again."""
    left = _DISCARDED
    with suppress(SiteUnreachable):
        async with aclosing(reply.body) as body:
            async for chunk in body:
                left -= len(chunk)
                if left < 0:
                    return
