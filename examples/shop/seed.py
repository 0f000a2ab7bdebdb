"""Seed: fills a site's catalog with the products that this site sells.

The sites' catalogs overlap and differ on purpose: tea has another price everywhere, coffee is sold at Site2 only,
chocolate at Site3 only. What is there already is left as it is, so seeding twice changes nothing.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import sys
import time
import urllib.error
import urllib.request
import zlib
from typing import Any

PRODUCTS: dict[str, dict[str, dict[str, Any]]] = {
    "Site1": {"tea": {"title": "Tea, 100 g", "price": 450}, "bread": {"title": "Bread, 1 kg", "price": 380}},
    "Site2": {"tea": {"title": "Tea, 100 g", "price": 490}, "coffee": {"title": "Coffee, 250 g", "price": 720}},
    "Site3": {"tea": {"title": "Tea, 100 g", "price": 420}, "chocolate": {"title": "Chocolate, 100 g", "price": 260}},
}
EVERYONE_READS = {"read": ["system.Everyone"]}
USER = "shop:shop"  # creates the bucket, so it may write into it
# No proxy of the environment: catalog is on this machine or next to it.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def products(site: str) -> dict[str, dict[str, Any]]:
    """The products of `site`, by sku; a site without a catalog of its own sells tea, at 5.00 to 9.99."""
    tea = {"title": "Tea, 100 g", "price": 500 + zlib.crc32(site.encode()) % 500}
    return PRODUCTS.get(site, {"tea": tea})


def wait_until_up(catalog: str, seconds: float) -> None:
    """Raises TimeoutError when catalog is not up after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            OPENER.open(f"{catalog}/__heartbeat__", timeout=max(0.1, deadline - time.monotonic())).close()
            return
        except (OSError, http.client.HTTPException) as error:  # refused, reset, not HTTP yet, 503
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{catalog} is not up after {seconds:g} s: {error}") from error
            time.sleep(0.1)


def create(url: str, body: dict[str, Any]) -> None:
    """PUTs `body` unless the object exists. Raises urllib.error.HTTPError when catalog refuses."""
    request = urllib.request.Request(url, json.dumps(body).encode(), method="PUT")
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", f"Basic {base64.b64encode(USER.encode()).decode()}")
    request.add_header("If-None-Match", "*")
    try:
        OPENER.open(request, timeout=10).close()
    except urllib.error.HTTPError as error:
        if error.code != 412:
            raise
        error.close()


def seed(catalog: str, site: str) -> None:
    bucket = f"{catalog}/buckets/shop"
    create(bucket, {"permissions": EVERYONE_READS})
    create(f"{bucket}/collections/products", {"permissions": EVERYONE_READS})
    for sku, product in products(site).items():
        create(f"{bucket}/collections/products/records/{sku}", {"data": product})


def main() -> int:
    parser = argparse.ArgumentParser(description="Fill a site's catalog.")
    parser.add_argument("--catalog", required=True, metavar="URL", help="such as http://127.0.0.1:8888/v1")
    parser.add_argument("--site", required=True)
    parser.add_argument("--wait", type=float, default=30, help="seconds that catalog has to come up (%(default)s)")
    args = parser.parse_args()
    catalog = args.catalog.rstrip("/")
    try:
        wait_until_up(catalog, args.wait)
        seed(catalog, args.site)
    except urllib.error.HTTPError as error:
        with error:
            print(f"seed: {error.url} answered {error.code}: {error.read().decode(errors='replace')}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"seed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
