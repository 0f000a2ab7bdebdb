"""An upload in pieces to a real OCI registry, whose Locations name its own address (H10 of the field reports)."""

import hashlib
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from cheops.lab.lab import Lab

SCOPE = "{registry: Site2}"
WAYS = {
    "no scope": ("", {}),
    "header": ("", {"X-Scope": SCOPE}),
    "header, by the agent": ("", {"X-Scope": "{registry: (Site2)}"}),
    "prefix": (f"/~scope/{quote(SCOPE, safe='')}", {}),
}


@pytest.fixture(scope="module")
def lab(lab_of: Callable[..., Lab]) -> Lab:
    assert shutil.which("docker-registry"), "this test needs Debian's docker-registry: apt-get install docker-registry"
    return lab_of(Path(__file__).parent / "apps" / "registry", sites=2)


def send(
    method: str, url: str, headers: Mapping[str, str], data: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, data=data, headers=dict(headers), method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()


@pytest.mark.parametrize("way", WAYS)
def test_an_upload_stays_on_its_site_and_its_locations_on_the_client_s_front(lab: Lab, way: str) -> None:
    prefix, headers = WAYS[way]
    front = lab.site("Site1").front("registry")
    pieces = [os.urandom(200_000), os.urandom(3_000_000)]
    digest = "sha256:" + hashlib.sha256(b"".join(pieces)).hexdigest()

    status, reply, _ = send("POST", f"{front}{prefix}/v2/demo/blobs/uploads/", headers, b"")
    assert status == 202
    for piece in pieces:
        assert reply["location"].startswith(f"{front}{prefix}/v2/demo/blobs/uploads/")
        octets = {"Content-Type": "application/octet-stream"}
        status, reply, body = send("PATCH", reply["location"], {**headers, **octets}, piece)
        assert status == 202, body
    more = "&" if urlsplit(reply["location"]).query else "?"
    status, reply, body = send("PUT", f"{reply['location']}{more}digest={quote(digest)}", headers, b"")
    assert status == 201, body
    assert reply["location"] == f"{front}{prefix}/v2/demo/blobs/{digest}"

    status, _, body = send("GET", reply["location"], headers)
    assert (status, body) == (200, b"".join(pieces))
    holder, other = ("Site1", "Site2") if way == "no scope" else ("Site2", "Site1")
    assert send("HEAD", f"{lab.site(holder).backend('registry')}/v2/demo/blobs/{digest}", {})[0] == 200
    assert send("HEAD", f"{lab.site(other).backend('registry')}/v2/demo/blobs/{digest}", {})[0] == 404
