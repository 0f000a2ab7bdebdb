"""One more agent of a site, which executes what is due in the store that they share; the wires are another's.

It sends through the Envoy of the agent beside it. Whatever it has claimed when it dies is another's to do once the
lease has ended. Not promised: that it serves anything; clients and peers meet the agent that has the fronts.
"""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import structlog

from cheops.config import read_site
from cheops.credentials.site import SiteCredentials
from cheops.errors import BadSettings
from cheops.replicating import replicating, view_of
from cheops.sites.memory import PeersInMemory
from cheops.stores.kept import KeptFiles
from cheops.transports.http import HttpTransport

log = structlog.get_logger("worker")


async def work(path: Path) -> None:
    """Until SIGTERM or SIGINT. Raises BadSettings if the site's store is its own, and StoreFailed."""
    site = read_site(path)
    if site.settings.store.url is None:
        raise BadSettings(
            "store: a second agent needs a store that several can use",
            hint="Write store: {url: postgresql+psycopg://…} in site.yaml.",
        )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        credentials = await stack.enter_async_context(SiteCredentials(site, time.monotonic, os.environ))
        transport = await stack.enter_async_context(HttpTransport(site.name, site.run / "egress.sock"))
        kept = KeptFiles(site.data / "kept", time.time)
        parts = await stack.enter_async_context(
            replicating(site, view_of(site), transport, credentials, PeersInMemory(), kept, alone=False)
        )
        log.info("ready", site=site.name)
        working = asyncio.create_task(parts.parts.work())
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        stopped.cancel()
        if working in done:
            working.result()
