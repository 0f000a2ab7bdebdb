"""An agent of a site that only tells what came in at its door, whole: with 200, or the status that X-Agent says, and
served by the site that X-Other-Site says.

It tells in JSON: {"service", "method", "target": latin-1 text, "headers": [[name, value]], "bytes", "sha256", "rss"},
where the last is the process's memory in bytes. X-Location comes back as Location. Every request is also a line of the
file named by --seen.
"""

import argparse
import asyncio
import hashlib
import json
import os
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import uvicorn

from cheops.intercept.door import Door
from cheops.model import Reply, Request


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def told(request: Request, seen: Path) -> bytes:
    size, digest = 0, hashlib.sha256()
    if request.body:
        async for chunk in request.body:
            size += len(chunk)
            digest.update(chunk)
    found = {
        "service": request.service,
        "method": request.method,
        "target": request.target.decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers],
        "bytes": size,
        "sha256": digest.hexdigest(),
        "rss": resident(),
    }
    with seen.open("a") as file:
        file.write(json.dumps(found) + "\n")
    return json.dumps(found).encode()


async def once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def door(seen: Path) -> Door:
    async def serve(request: Request) -> Reply:
        body = await told(request, seen)
        (status,) = request.values(b"x-agent") or [b"200"]
        names = {b"x-other-site": b"cheops-served-by", b"x-location": b"location"}
        headers = tuple((name, value) for asked, name in names.items() for value in request.values(asked))
        return Reply(status=int(status), headers=headers, body=once(b"" if request.method == "HEAD" else body))

    return Door(serve)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("socket", type=Path)
    parser.add_argument("--seen", type=Path, required=True)
    args = parser.parse_args()
    args.socket.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(args.socket))
    config = uvicorn.Config(
        door(args.seen), http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, date_header=False, timeout_keep_alive=75,
    )  # fmt: skip
    asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


main()
