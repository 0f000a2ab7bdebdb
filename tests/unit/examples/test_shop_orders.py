"""The sample application by itself, without Cheops: its services are started as lab.yaml says, front = backend.

A real Kinto answers where its own words matter; a scripted catalog stands in for one that fails, hangs or is watched.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

SHOP = Path(__file__).parents[3] / "examples" / "shop"
LAB = yaml.safe_load((SHOP / "lab.yaml").read_text())
TEA = {"customer": "Ada", "items": [{"sku": "tea", "quantity": 2}]}


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: Any


def call(at: str, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    """One request to host:port; header names are written with underscores."""
    connection = http.client.HTTPConnection(at, timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body), named)
        answer = connection.getresponse()
        return Reply(status=answer.status, headers=dict(answer.getheaders()), body=json.loads(answer.read()))
    finally:
        connection.close()


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found


def answers(url: str) -> bool:
    parts = urlsplit(url)
    try:
        return call(parts.netloc, "GET", parts.path).status == 200
    except OSError:
        return False


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def running(command: list[str], ready: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            wait_for(lambda: process.poll() is not None or answers(ready), ready)
            assert process.poll() is None, log.read_text()
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def orders_command(at: str, catalog: str, *options: str) -> list[str]:
    host, port = at.split(":")
    command = [sys.executable, str(SHOP / "orders.py"), "--host", host, "--port", port]
    return [*command, "--catalog", f"http://{catalog}/v1", *options]


@dataclass(frozen=True, kw_only=True)
class Site:
    places: dict[str, str]
    catalog: str
    orders: str
    catalog_log: Path

    def fill(self, text: str) -> str:
        return re.sub(r"\{([a-z.]+)\}", lambda found: self.places[found[1]], text)

    @contextmanager
    def process(self, name: str) -> Iterator[None]:
        told = LAB["processes"][name]
        for template, target in told.get("files", {}).items():
            Path(self.fill(target)).write_text(self.fill((SHOP / template).read_text()))
        log = Path(self.places["data"]) / f"{name}.log"
        with running([self.fill(word) for word in told["command"]], self.fill(told["ready"]), log):
            yield

    def seed(self) -> None:
        subprocess.run([self.fill(word) for word in LAB["after"]], check=True, timeout=30)

    def seen_by_catalog(self, request_id: str) -> list[str]:
        """The paths that catalog's log shows for this request id."""
        lines = (json.loads(line) for line in self.catalog_log.read_text().splitlines() if line.startswith("{"))
        fields = [line["Fields"] for line in lines if line["Type"] == "request.summary"]
        return [seen["path"] for seen in fields if seen["rid"] == request_id]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("site1")
    catalog, orders = free_address(), free_address()
    places = {"python": sys.executable, "folder": str(SHOP), "site": "Site1", "address": "127.0.0.1", "data": str(data)}
    for kind in ("front", "backend"):
        places |= {f"{kind}.catalog": catalog, f"{kind}.orders": orders}
    site = Site(places=places, catalog=catalog, orders=orders, catalog_log=data / "catalog.log")
    with site.process("catalog"), site.process("orders"):
        site.seed()
        yield site


@dataclass
class ScriptedCatalog:
    """Answers every request with the same status and body, once `may_answer` is set, and keeps what it received."""

    status: int = 200
    body: bytes = b'{"data": {"title": "Tea, 100 g", "price": 450}}'
    may_answer: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)
    received: list[dict[str, str]] = field(default_factory=list)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                script.received.append({name.lower(): value for name, value in self.headers.items()})
                script.asked.set()
                script.may_answer.wait(10)
                self.send_response(script.status)
                self.send_header("Content-Length", str(len(script.body)))
                self.end_headers()
                self.wfile.write(script.body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    @contextmanager
    def serving(self) -> Iterator[str]:
        with ThreadingHTTPServer(("127.0.0.1", 0), self.handler()) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            try:
                yield f"127.0.0.1:{server.server_port}"
            finally:
                self.may_answer.set()
                server.shutdown()
                thread.join()


@pytest.fixture(scope="module")
def _script() -> ScriptedCatalog:
    return ScriptedCatalog()


@pytest.fixture(scope="module")
def watched(_script: ScriptedCatalog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an orders service whose catalog is scripted, gives up after 0.3 s and sells in francs."""
    at, log = free_address(), tmp_path_factory.mktemp("watched") / "orders.log"
    with _script.serving() as catalog:
        command = orders_command(at, catalog, "--timeout", "0.3", "--currency", "CHF")
        with running(command, f"http://{at}/health", log):
            yield at


@pytest.fixture
def script(_script: ScriptedCatalog) -> ScriptedCatalog:
    """The scripted catalog as new: it sells tea, at once."""
    _script.status, _script.body = ScriptedCatalog.status, ScriptedCatalog.body
    _script.received.clear()
    _script.may_answer.set()
    return _script


@pytest.fixture(scope="module")
def seeding() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shop_seed", SHOP / "seed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_order_has_the_prices_of_its_catalog(site: Site) -> None:
    items = [{"sku": "tea", "quantity": 2}, {"sku": "bread", "quantity": 1}]
    reply = call(site.orders, "POST", "/orders", {"customer": "Ada", "items": items})
    assert reply.status == 201
    assert uuid.UUID(reply.body.pop("id"))
    assert reply.body == {
        "customer": "Ada",
        "lines": [
            {"sku": "tea", "quantity": 2, "unit_price": 450, "title": "Tea, 100 g"},
            {"sku": "bread", "quantity": 1, "unit_price": 380, "title": "Bread, 1 kg"},
        ],
        "total": 1280,
        "currency": "EUR",
    }


def test_location_is_absolute_and_built_from_the_host_received(site: Site) -> None:
    reply = call(site.orders, "POST", "/orders", TEA, Host="shop.example:99")
    assert reply.headers["Location"] == f"http://shop.example:99/orders/{reply.body['id']}"


def test_an_order_is_found_again_alone_and_in_the_list(site: Site) -> None:
    order = call(site.orders, "POST", "/orders", TEA).body
    alone = call(site.orders, "GET", f"/orders/{order['id']}")
    assert (alone.status, alone.body) == (200, order)
    all_of_them = call(site.orders, "GET", "/orders")
    assert all_of_them.status == 200
    assert order in all_of_them.body["orders"]


def test_an_order_that_is_not_there_is_404_in_json(site: Site) -> None:
    reply = call(site.orders, "GET", "/orders/nope", X_Request_ID="lost-1")
    assert (reply.status, reply.body) == (404, {"error": "there is no order 'nope'"})
    assert reply.headers["Content-Type"].startswith("application/json")
    assert reply.headers["X-Request-ID"] == "lost-1"


def test_health(site: Site) -> None:
    reply = call(site.orders, "GET", "/health")
    assert (reply.status, reply.body) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("sku", "said", "words"),
    [
        pytest.param("coffee", 404, {"id": "coffee", "resource_name": "record"}, id="sold elsewhere"),
        pytest.param("a/b?c", 404, "The resource you are looking for could not be found.", id="not one segment"),
        pytest.param("..", 400, "path: Invalid object id", id="not a possible id"),
    ],
)
def test_an_unknown_product_is_422_with_what_catalog_said(site: Site, sku: str, said: int, words: Any) -> None:
    reply = call(site.orders, "POST", "/orders", {"customer": "Ada", "items": [{"sku": sku, "quantity": 1}]})
    assert (reply.status, reply.body["error"], reply.body["sku"]) == (422, f"catalog has no product {sku!r}", sku)
    assert reply.body["catalog"]["status"] == said
    assert words in reply.body["catalog"]["body"].values()


def test_a_refused_order_is_not_kept(site: Site) -> None:
    before = call(site.orders, "GET", "/orders").body
    items = [*TEA["items"], {"sku": "coffee", "quantity": 1}]
    assert call(site.orders, "POST", "/orders", {"customer": "Ada", "items": items}).status == 422
    assert call(site.orders, "GET", "/orders").body == before


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"customer": "Ada"', id="cut"),
        pytest.param(b'{"customer": "\xff"}', id="not UTF-8"),
        pytest.param([TEA], id="a list"),
        pytest.param({"items": TEA["items"]}, id="nobody"),
        pytest.param({"customer": "Ada"}, id="no items"),
        pytest.param({"customer": "Ada", "items": []}, id="empty"),
        pytest.param({"customer": "Ada", "items": ["tea"]}, id="bare sku"),
        pytest.param({"customer": "Ada", "items": [{"sku": "", "quantity": 1}]}, id="empty sku"),
        pytest.param({"customer": "Ada", "items": [{"sku": "tea", "quantity": 0}]}, id="none of it"),
        pytest.param({"customer": "Ada", "items": [{"sku": "tea", "quantity": True}]}, id="a truth"),
    ],
)
def test_what_is_not_an_order_is_400_and_catalog_is_not_asked(site: Site, body: Any) -> None:
    reply = call(site.orders, "POST", "/orders", body, X_Request_ID=(mine := str(uuid.uuid4())))
    assert reply.status == 400
    assert reply.body["error"].startswith("this is not an order: ")
    assert reply.headers["X-Request-ID"] == mine
    assert site.seen_by_catalog(mine) == []


def test_the_request_id_reaches_the_real_catalog_and_comes_back(site: Site) -> None:
    reply = call(site.orders, "POST", "/orders", TEA, X_Request_ID="trial-42")
    assert reply.headers["X-Request-ID"] == "trial-42"
    seen = wait_for(lambda: site.seen_by_catalog("trial-42"), "the request in catalog's log")
    assert seen == ["/v1/buckets/shop/collections/products/records/tea"]


def test_a_request_without_id_gets_one(site: Site) -> None:
    given = call(site.orders, "POST", "/orders", TEA).headers["X-Request-ID"]
    assert uuid.UUID(given).version == 4
    assert wait_for(lambda: site.seen_by_catalog(given), "the request in catalog's log")


def test_nothing_but_the_request_id_is_passed_on(watched: str, script: ScriptedCatalog) -> None:
    sent = {"Authorization": "Bearer t", "Cookie": "a=b", "X_Scope": "{catalog: Site2}", "Baggage": "scope=x"}
    reply = call(watched, "POST", "/orders", TEA, X_Request_ID="only-me", User_Agent="test", **sent)
    assert reply.status == 201
    (received,) = script.received
    assert received.pop("x-request-id") == "only-me"
    assert received.pop("user-agent") != "test"
    assert received.keys() == {"host", "accept", "accept-encoding"}


def test_the_currency_is_an_option(watched: str, script: ScriptedCatalog) -> None:
    assert call(watched, "POST", "/orders", TEA).body["currency"] == "CHF"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(503, {"title": "Site2 is unreachable", "detail": "since 12:03"}, id="a problem"),
        pytest.param(500, "upstream connect error", id="text"),
        pytest.param(401, {"message": "Please authenticate"}, id="refused"),
        pytest.param(200, {"data": {"title": "Tea"}}, id="no price"),
        pytest.param(200, {"data": {"price": "4.50"}}, id="not in cents"),
        pytest.param(200, "<html>", id="not JSON"),
    ],
)
def test_a_catalog_that_fails_is_502_with_its_own_words(
    watched: str, script: ScriptedCatalog, status: int, body: Any
) -> None:
    script.status, script.body = status, body.encode() if isinstance(body, str) else json.dumps(body).encode()
    reply = call(watched, "POST", "/orders", TEA)
    assert reply.status == 502
    assert reply.body["error"] == f"catalog gave no price of 'tea': it answered {status}"
    assert reply.body["catalog"] == {"status": status, "body": body}


def test_a_catalog_that_hangs_is_502(watched: str, script: ScriptedCatalog) -> None:
    script.may_answer.clear()
    reply = call(watched, "POST", "/orders", TEA)
    assert (reply.status, reply.body["error"]) == (502, "catalog can't be reached")
    assert reply.body["catalog"] == {"status": None, "body": "no answer within 0.3 s"}


def test_a_catalog_that_is_not_there_is_502_and_orders_answers_on(tmp_path: Path) -> None:
    at, nobody = free_address(), free_address()
    with running(orders_command(at, nobody), f"http://{at}/health", tmp_path / "log"):
        reply = call(at, "POST", "/orders", TEA)
        assert (reply.status, reply.body["error"], reply.body["catalog"]["status"]) == (
            502,
            "catalog can't be reached",
            None,
        )
        assert nobody in reply.body["catalog"]["body"]
        assert call(at, "GET", "/orders").body == {"orders": []}


def test_a_stop_lets_the_order_under_way_finish(tmp_path: Path) -> None:
    at, script, replies = free_address(), ScriptedCatalog(), list[Reply]()
    with (
        script.serving() as catalog,
        running(orders_command(at, catalog), f"http://{at}/health", tmp_path / "log") as orders,
    ):
        customer = threading.Thread(target=lambda: replies.append(call(at, "POST", "/orders", TEA)))
        customer.start()
        assert script.asked.wait(10)
        orders.send_signal(signal.SIGTERM)
        wait_for(lambda: not answers(f"http://{at}/health"), "no new requests are taken")
        script.may_answer.set()
        customer.join(10)
        assert [reply.status for reply in replies] == [201]
        assert orders.wait(10) == 0


def test_seeding_again_changes_nothing(site: Site) -> None:
    records = "/v1/buckets/shop/collections/products/records"
    before = call(site.catalog, "GET", records)
    assert {product["id"]: product["price"] for product in before.body["data"]} == {"tea": 450, "bread": 380}
    site.seed()
    after = call(site.catalog, "GET", records)
    assert (after.body, after.headers["Etag"]) == (before.body, before.headers["Etag"])


def test_everyone_reads_the_products_and_only_the_shop_writes_them(site: Site) -> None:
    tea = "/v1/buckets/shop/collections/products/records/tea"
    assert call(site.catalog, "GET", tea).status == 200
    assert call(site.catalog, "PUT", tea, {"data": {"price": 1}}, Content_Type="application/json").status == 401
    stranger = {"Authorization": "Basic b3RoZXI6eA==", "Content_Type": "application/json"}
    assert call(site.catalog, "PUT", tea, {"data": {"price": 1}}, **stranger).status == 403


def test_the_sites_catalogs_overlap_and_differ(seeding: ModuleType) -> None:
    sold = {site: seeding.products(site) for site in ("Site1", "Site2", "Site3", "Berlin", "Paris")}
    assert {site: sorted(products) for site, products in sold.items()} == {
        "Site1": ["bread", "tea"],
        "Site2": ["coffee", "tea"],
        "Site3": ["chocolate", "tea"],
        "Berlin": ["tea"],
        "Paris": ["tea"],
    }
    assert len({products["tea"]["price"] for products in sold.values()}) == len(sold)


def test_seeding_gives_up_on_a_catalog_that_does_not_come_up() -> None:
    nobody = f"http://{free_address()}/v1"
    command = [sys.executable, str(SHOP / "seed.py"), "--catalog", nobody, "--site", "Site1", "--wait", "0.2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith(f"seed: {nobody} is not up after 0.2 s: ")


def test_the_description_and_the_lab_speak_of_the_same_services() -> None:
    description = yaml.safe_load((SHOP / "application.yaml").read_text())
    assert description["services"].keys() == LAB["processes"].keys()
    numbers = [service["number"] for service in description["services"].values()]
    assert len(set(numbers)) == len(numbers)
