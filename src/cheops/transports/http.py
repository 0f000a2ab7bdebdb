"""Requests by HTTP through the site's own Envoy, which alone knows where a service or a peer is, and holds all TLS.

Bytes in, bytes out: nothing is decompressed, re-quoted, redirected or held. Not promised: trailers, which end here.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path

import aiohttp
from yarl import URL

from cheops.bodies import Ending
from cheops.errors import AgentAway, BadRequest, CheopsError, Refused, SiteUnreachable
from cheops.intercept.envoy.names import AGENT_AWAY, AGENT_SERVICE, DOOR, EXECUTED, PATH, SERVICE, TO, local, site
from cheops.model import Headers, Reply, Request

_URL = URL("http://egress/", encoded=True)  # the path goes in a header, past every parser
_HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
_CHUNK = 1 << 16
_SMALL = 16 << 10
STALL_SECONDS = 10.0  # without a byte, after which a body that is fetched won't come


class HttpTransport:
    """Sends through the unix socket of Envoy's egress listener. Open it as an async context."""

    def __init__(self, here: str, socket: Path, stall_seconds: float = STALL_SECONDS) -> None:
        self._here, self._socket, self._stall_seconds = here, socket, stall_seconds

    async def __aenter__(self) -> "HttpTransport":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(self._socket), limit=0, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            read_bufsize=_CHUNK,
            max_line_size=1 << 16,
            max_field_size=1 << 16,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, request: Request, *, site: str, door: bool = False) -> Reply:
        """The reply of the request's service on `site`, once its headers are there. Raises SiteUnreachable."""
        to = self._cluster(request.service, site)
        internal = [(TO, to), (SERVICE, request.service), (PATH, _as_text(request.target, "the URL"))]
        internal += [(DOOR, "yes")] if door else []
        headers = [*_end_to_end(request.headers), *internal]
        expects = b"100-continue" in (value.lower() for value in request.values(b"expect"))
        body = await _for_aiohttp(request, expects=expects)
        try:
            reply = await self._session.request(
                request.method, _URL, headers=headers, data=body, expect100=expects, allow_redirects=False
            )
        except aiohttp.ClientConnectorError as error:
            what = (
                f"the Envoy of {self._here} doesn't answer, so '{request.service}' of {site} can't be reached: {error}"
            )
            raise SiteUnreachable(what, site=site, executed="no") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            what = f"the Envoy of {self._here} broke off a request to '{request.service}' of {site}: {error}"
            raise SiteUnreachable(what, site=site, executed="unknown") from error
        content = Ending(_body(reply, site), partial(_release, reply))
        return Reply(status=reply.status, headers=_from_wire(reply.raw_headers), body=content)

    async def recall(self, uuid: str, *, site: str) -> str | None:
        """The scope that the agent of `site` keeps under `uuid`. Raises SiteUnreachable."""
        try:
            return (await self.ask(f"/kept/{uuid}", site=site)).decode(errors="replace")
        except Refused as error:
            if error.members["answer"] == 404:
                return None
            why = f"it answered {error.members['answer']}"
        except SiteUnreachable as error:
            why = error.members["why"]
        raise SiteUnreachable(f"the scope of this workflow is kept by {site}, which can't be asked: {why}", site=site)

    async def ask(self, path: str, *, site: str, body: bytes | None = None, seconds: float = 5) -> bytes:
        """What the agent of `site` answers. Raises SiteUnreachable, AgentAway, Refused."""
        method, timeout = "GET" if body is None else "POST", aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.request(
                method, _URL, headers=self._to_agent(path, site), data=body, timeout=timeout, allow_redirects=False
            ) as reply:
                content = await reply.read()
        except TimeoutError as error:
            raise _unreachable(site, f"it didn't answer in {seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(site, str(error)) from error
        if reply.status == 200:
            return content
        raise _refusal(reply, content, site)

    async def fetch(self, path: str, *, site: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """What the agent of `site` answers, from this byte on. Raises SiteUnreachable, AgentAway, Refused."""
        headers = self._to_agent(path, site) | ({"Range": f"bytes={offset}-"} if offset else {})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=self._stall_seconds)
        try:
            async with self._session.get(_URL, headers=headers, timeout=timeout, allow_redirects=False) as reply:
                if not _begins_at(reply, offset):
                    raise _refusal(reply, await reply.content.read(_CHUNK), site)
                async for chunk in reply.content.iter_any():
                    yield chunk
        except TimeoutError as error:
            raise _unreachable(site, f"nothing came for {self._stall_seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(site, f"it broke off: {error}") from error

    def _to_agent(self, path: str, site: str) -> dict[str, str]:
        return {TO: self._cluster(AGENT_SERVICE, site), SERVICE: AGENT_SERVICE, PATH: path, "Host": "mesh"}

    def _cluster(self, service: str, to: str) -> str:
        return local(service) if to == self._here else site(to)


def _begins_at(reply: aiohttp.ClientResponse, offset: int) -> bool:
    if offset == 0:
        return reply.status == 200
    return reply.status == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _refusal(reply: aiohttp.ClientResponse, content: bytes, site: str) -> CheopsError:
    """What an answer other than the one that is wanted means: of the agent itself, or of Envoy in its place."""
    status = reply.status
    if EXECUTED not in reply.headers:
        said = _member(content, "detail") or content[:200].decode(errors="replace")
        return Refused(f"the agent of {site} answered {status}: {said}", site=site, answer=status)
    kind = AgentAway if _member(content, "code") == AGENT_AWAY else SiteUnreachable
    why = f"it answered {status}"
    return kind(f"the agent of {site} can't be asked: {why}", site=site, why=why)


def _unreachable(site: str, why: str) -> SiteUnreachable:
    return SiteUnreachable(f"the agent of {site} can't be asked: {why}", site=site, why=why)


def _member(problem: bytes, name: str) -> str:
    """A member of a problem document; "" if it has none."""
    try:
        return str(json.loads(problem)[name])
    except (ValueError, KeyError, TypeError):
        return ""


def _end_to_end(headers: Headers) -> list[tuple[str, str]]:
    dropped = _HOP_BY_HOP | {b"expect"}
    return [
        (name.decode(), _as_text(value, f"the header {name.decode()}"))
        for name, value in headers
        if name not in dropped
    ]


async def _for_aiohttp(request: Request, *, expects: bool) -> bytes | AsyncGenerator[bytes, None] | None:
    """A small body whole, in one write with the headers, since its sender waits for nothing; any other as it comes."""
    if request.body is None:
        return None
    lengths = request.values(b"content-length")
    if expects or not lengths or int(lengths[0]) > _SMALL:
        return _headers_first(request.body)
    async with aclosing(request.body) as body:
        return b"".join([chunk async for chunk in body])


async def _headers_first(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """aiohttp holds the headers back until something of the body is there; a service may refuse before that."""
    yield b""
    async with aclosing(body):
        async for chunk in body:
            yield chunk


def _as_text(value: bytes, where: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"{where} has bytes that aren't UTF-8", hint="Percent-encode them.") from error


def _from_wire(headers: tuple[tuple[bytes, bytes], ...]) -> Headers:
    return tuple((name.lower(), value) for name, value in headers if name.lower() not in _HOP_BY_HOP)


async def _body(reply: aiohttp.ClientResponse, site: str) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in reply.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise SiteUnreachable(f"{site} broke off in the middle of its reply: {error}", site=site) from error


async def _release(reply: aiohttp.ClientResponse) -> None:
    """Gives the connection back if it can be used again."""
    reply.release() if reply.content.at_eof() else reply.close()
