"""Orders: takes the shop's orders, at the prices of its catalog.

Orders live in memory; prices and totals are integers of cents. Every reply, and every call to catalog, carries the
X-Request-ID of the request that caused it.
"""

import argparse
import json
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from yarl import URL

log = logging.getLogger("orders")
request_id: ContextVar[str] = ContextVar("request_id")


def problem(kind: type[web.HTTPError], error: str, **detail: Any) -> web.HTTPError:
    return kind(text=json.dumps({"error": error, **detail}), content_type="application/json")


def read_order(text: str) -> tuple[str, list[tuple[str, int]]]:
    order = json.loads(text)
    items = [(item["sku"], item["quantity"]) for item in order["items"]]
    right = all(isinstance(sku, str) and sku and type(quantity) is int and quantity > 0 for sku, quantity in items)
    if not (isinstance(order["customer"], str) and items and right):
        raise ValueError("customer and sku must be text, quantity a positive integer, and at least one item ordered")
    return order["customer"], items


class Orders:
    def __init__(self, catalog: str, currency: str, timeout: float) -> None:
        self.products = f"{catalog.rstrip('/')}/buckets/shop/collections/products/records"
        self.currency, self.timeout = currency, timeout
        self.orders: dict[str, dict[str, Any]] = {}

    async def open_session(self, app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.timeout)) as self.http:
            yield

    async def create(self, request: web.Request) -> web.Response:
        try:
            customer, items = read_order(await request.text())
        except (ValueError, LookupError, TypeError) as error:
            raise problem(web.HTTPBadRequest, f"this is not an order: {error!r}") from error
        lines = [await self.line(sku, quantity) for sku, quantity in items]
        total = sum(line["quantity"] * line["unit_price"] for line in lines)
        id = str(uuid.uuid4())
        order = {"id": id, "customer": customer, "lines": lines, "total": total, "currency": self.currency}
        self.orders[id] = order
        headers = {"Location": f"{request.scheme}://{request.host}/orders/{id}"}
        return web.json_response(order, status=201, headers=headers)

    async def line(self, sku: str, quantity: int) -> dict[str, Any]:
        status, body = await self.ask_catalog(sku)
        detail = {"sku": sku, "catalog": {"status": status, "body": body}}
        match status, body:
            case 200, {"data": {"price": int(price), **product}}:
                return {"sku": sku, "quantity": quantity, "unit_price": price, "title": product.get("title", sku)}
            case ((400 | 404), _):  # 400: not even a possible sku
                raise problem(web.HTTPUnprocessableEntity, f"catalog has no product {sku!r}", **detail)
            case None, _:
                raise problem(web.HTTPBadGateway, "catalog can't be reached", **detail)
        raise problem(web.HTTPBadGateway, f"catalog gave no price of {sku!r}: it answered {status}", **detail)

    async def ask_catalog(self, sku: str) -> tuple[int | None, Any]:
        """The status and body of catalog's answer; no status when it gave none."""
        url = URL(f"{self.products}/{quote(sku, safe='')}", encoded=True)
        try:
            async with self.http.get(url, headers={"X-Request-ID": request_id.get()}) as reply:
                text = await reply.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError) as error:
            return None, str(error) or f"no answer within {self.timeout:g} s"
        try:
            return reply.status, json.loads(text)
        except ValueError:
            return reply.status, text

    async def all(self, request: web.Request) -> web.Response:
        return web.json_response({"orders": list(self.orders.values())})

    async def one(self, request: web.Request) -> web.Response:
        if (order := self.orders.get(request.match_info["id"])) is None:
            raise problem(web.HTTPNotFound, f"there is no order {request.match_info['id']!r}")
        return web.json_response(order)


async def health(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


@web.middleware
async def with_request_id(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    request_id.set(request.headers.get("X-Request-ID") or str(uuid.uuid4()))
    return await handler(request)


async def sign_and_log(request: web.Request, reply: web.StreamResponse) -> None:
    reply.headers["X-Request-ID"] = request_id.get()
    log.info("%s %s %s %s", request_id.get(), request.method, request.path_qs, reply.status)


def application(orders: Orders) -> web.Application:
    app = web.Application(middlewares=[with_request_id])
    app.cleanup_ctx.append(orders.open_session)
    app.on_response_prepare.append(sign_and_log)
    app.add_routes([web.post("/orders", orders.create), web.get("/orders", orders.all)])
    app.add_routes([web.get("/orders/{id}", orders.one), web.get("/health", health)])
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="The orders of a shop.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--bind", metavar="HOST:PORT", help="host and port in one word")
    parser.add_argument("--catalog", required=True, metavar="URL", help="such as http://127.0.0.1:8888/v1")
    parser.add_argument("--currency", default="EUR")
    parser.add_argument("--timeout", type=float, default=10, help="seconds that catalog has to answer (%(default)s)")
    args = parser.parse_args()
    host, port = args.bind.rsplit(":", 1) if args.bind else (args.host, args.port)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    app = application(Orders(args.catalog, args.currency, args.timeout))
    web.run_app(app, host=host, port=int(port), access_log=None, print=log.info, shutdown_timeout=10)


if __name__ == "__main__":
    main()
