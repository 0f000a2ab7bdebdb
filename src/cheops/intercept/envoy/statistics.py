"""Envoy's own statistics, as it writes them for Prometheus."""

from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
from yarl import URL

from cheops.errors import DataPlaneFailed
from cheops.model import Reply

_SECONDS = 30  # to be answered, all in all


async def statistics(socket: Path, query: str) -> Reply:
    """What the Envoy whose admin socket this is answers to `/stats/prometheus?query`; nothing of it is held.

    Raises DataPlaneFailed if it doesn't answer, also in the middle of the reply.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(path=str(socket)), timeout=aiohttp.ClientTimeout(total=_SECONDS)
    )
    try:
        reply = await session.get(URL(f"http://envoy/stats/prometheus?{query}", encoded=True))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        await session.close()
        raise DataPlaneFailed(f"Envoy doesn't tell its statistics: {error}", hint="See /readyz.") from error
    headers = ((b"content-type", reply.headers.get("content-type", "text/plain").encode()),)
    return Reply(status=reply.status, headers=headers, body=_body(session, reply))


async def _body(session: aiohttp.ClientSession, reply: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in reply.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise DataPlaneFailed(f"Envoy broke off in the middle of its statistics: {error}") from error
    finally:
        reply.close()
        await session.close()
