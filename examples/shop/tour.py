"""A guided tour: three sites of the shop, and what they can do together. Run it with `make run`.

Every step prints the request, its scope, which site's services served it, and what the user would have had without
Cheops. It checks what it shows and ends with status 1 if anything is off; the lab is gone afterwards in any case.
"""

import argparse
import base64
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cheops.errors import CheopsError
from cheops.lab.lab import Lab

BOLD, DIM, GREEN, RED, END = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else ("",) * 5
)
PRODUCTS = "/v1/buckets/shop/collections/products/records"
CHEOPS = Path(sys.executable).parent / "cheops"
NEAR = "{catalog: around(Site1, 50ms)}"
BOTH = "{catalog: Site1 & Site2}"
ALL = "{catalog: Site1 % Site2 % Site3}"
SALES = "/v1/buckets/shop/collections/sales"
SELLER = "Basic " + base64.b64encode(b"shop:shop").decode()  # who may write into the catalog


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: Any
    seconds: float


class Tour:
    """Sends, tells and checks."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.failures: list[str] = []
        self._step = 0

    def title(self, text: str) -> None:
        self._step += 1
        print(f"\n{BOLD}{self._step}. {text}{END}")

    def say(self, text: str) -> None:
        print(f"   {text}")

    def check(self, what: str, holds: bool) -> None:
        print(f"   {GREEN}✓{END} {what}" if holds else f"   {RED}✗ {what}{END}")
        if not holds:
            self.failures.append(what)

    def ask(
        self,
        site: str,
        service: str,
        path: str,
        scope: str | None = None,
        order: object = None,
        show: bool = True,
        method: str | None = None,
    ) -> Answer:
        """Sends a request to a front and tells what came back; a method that is named is the seller's."""
        url = self.lab.site(site).front(service) + path
        data = json.dumps(order).encode() if order else None
        headers = {"Content-Type": "application/json"} | ({"X-Scope": scope} if scope else {})
        headers |= {"Authorization": SELLER} if method else {}
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        answer = send(request)
        if show:
            with_scope = f"  {BOLD}X-Scope: {scope}{END}" if scope else f"  {DIM}(no scope){END}"
            self.say(f"{request.get_method()} {url}{with_scope}")
            self.say(f"{DIM}→ {answer.status}{END} {brief(answer.body)}")
            for name in ("Cheops-Outcome", "Cheops-Around"):
                if name.lower() in answer.headers:
                    self.say(f"{DIM}{name}: {answer.headers[name.lower()]}{END}")
        return answer

    def cheops(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command of cheops, as in the folder of the lab."""
        self.say(f"$ cheops {shlex.join(words)}")
        environment = os.environ | {"CHEOPS_LAB": str(self.lab.folder)}
        return subprocess.run(
            [CHEOPS, *words], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def trace(self, request_id: str, calls: int) -> list[str]:
        """Who was called under a request id and answered, told from the access logs of all sites."""
        found: list[dict[str, Any]] = []

        def complete() -> bool:
            sites = (self.lab.site(name) for name in ("Site1", "Site2", "Site3"))
            lines = [line for site in sites for line in site.access_log() if line["id"] == request_id]
            found[:] = sorted(filter(leads, lines), key=lambda line: line["time"])
            return len([line for line in found if line["status"] < 500]) >= calls

        until(complete, f"{calls} lines about {request_id} in the access logs")
        for line in found:
            failed = f": {line['status']}" if line["status"] >= 500 else ""
            self.say(f"{DIM}│{END} {line['site']}: {sender(line)} sent {line['method']} to {told(line)}{failed}")
        return [told(line) for line in found if line["status"] < 500]


def leads(line: dict[str, Any]) -> bool:
    """Whether it tells where a request went; a front leaves to the agent what has more than one choice."""
    return line["listener"] in ("front", "egress") and line["to"] != "agent"


def sender(line: dict[str, Any]) -> str:
    return f"the front of {line['service']}" if line["listener"] == "front" else "the agent"


def told(line: dict[str, Any]) -> str:
    kind, _, name = line["to"].partition("/")
    return f"{line['service']} of {line['site'] if kind == 'local' else name}"


def send(request: urllib.request.Request) -> Answer:
    """Any answer is an answer; an error is one too."""
    began = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            status, headers, body = reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            status, headers, body = error.code, error.headers, error.read()
    low = {name.lower(): value for name, value in headers.items()}
    value = json.loads(body) if "json" in low.get("content-type", "") else body.decode(errors="replace")
    return Answer(status=status, headers=low, body=value, seconds=time.monotonic() - began)


def brief(body: Any) -> str:
    """What matters of a body, on one line."""
    match body:
        case {"lines": lines, "total": total}:
            parts = [f"{line['quantity']} × {line['title']} at {line['unit_price'] / 100:.2f}" for line in lines]
            return f"an order: {', '.join(parts)}; total {total / 100:.2f}"
        case {"data": [{"cheops_site": _}, *_] as sales}:
            return "sales: " + ", ".join(f"{sale['sku']} at {sale['cheops_site']}" for sale in sales)
        case {"data": [*products]}:
            return "products: " + ", ".join(
                f"{p['id']} {p['price'] / 100:.2f}" for p in sorted(products, key=lambda p: p["id"])
            )
        case {"detail": detail, **rest}:
            return f"{detail}" + (f" ({rest['hint']})" if rest.get("hint") else "")
        case {"data": {"id": _, **product}}:
            return f"a product: {', '.join(f'{name} {product[name]}' for name in product if name != 'last_modified')}"
        case {"error": error}:
            return str(error)
    return str(body)[:100]


def until(holds: Callable[[], bool], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds} s there was still not: {what}")
        time.sleep(0.05)


def order(sku: str) -> dict[str, object]:
    return {"customer": "Ada", "items": [{"sku": sku, "quantity": 2}]}


def autonomy(tour: Tour) -> None:
    tour.title("Every site is a whole shop of its own: without a scope, nothing leaves the site")
    for site, price in (("Site1", 450), ("Site2", 490), ("Site3", 420)):
        answer = tour.ask(site, "orders", "/orders", order=order("tea"))
        tour.check(f"tea is sold at {site}'s own price", answer.status == 201 and answer.body["total"] == 2 * price)


def sharing_one_service(tour: Tour) -> None:
    tour.title("Sharing: Site1 reads Site2's catalog; the client still talks to Site1")
    here = tour.ask("Site1", "catalog", PRODUCTS)
    there = tour.ask("Site1", "catalog", PRODUCTS, scope="{catalog: Site2}")
    ids = {product["id"] for product in there.body["data"]}
    tour.check("coffee, which only Site2 sells, is in the list", "coffee" in ids)
    tour.check("Site1's own list has none", "coffee" not in {product["id"] for product in here.body["data"]})
    tour.check("the reply names who served it", there.headers.get("cheops-served-by") == "Site2")
    tour.say("Without Cheops the user would need Site2's address, and an application that lets them change it.")


def sharing_in_a_workflow(tour: Tour) -> None:
    tour.title("Sharing inside a workflow: an order at Site1, priced from Site2's catalog")
    without = tour.ask("Site1", "orders", "/orders", order=order("coffee"))
    tour.check("without a scope, Site1 has no coffee", without.status == 422)
    answer = tour.ask("Site1", "orders", "/orders", scope="{orders: Site1, catalog: Site2}", order=order("coffee"))
    tour.check("with it, the order is made at Site2's price", answer.status == 201 and answer.body["total"] == 2 * 720)
    tour.say(
        "orders knows nothing of sites: it called its own catalog, and passed on the request id, as it always does:"
    )
    called = tour.trace(answer.headers["x-request-id"], calls=2)
    tour.check(
        "Site1's orders took the order, and its call to catalog went to Site2",
        called == ["orders of Site1", "catalog of Site2"],
    )
    tour.check("the order is kept at Site1", answer.body["id"] in kept(tour, "Site1"))
    tour.say("Without Cheops: 422, or a change in the code of orders.")


def kept(tour: Tour, site: str) -> set[str]:
    """The ids of the orders that a site has taken."""
    return {taken["id"] for taken in tour.ask(site, "orders", "/orders", show=False).body["orders"]}


def following_from_elsewhere(tour: Tour) -> None:
    tour.title("The scope follows, also when the first site only passes the request on")
    scope = "{orders: Site2, catalog: Site3}"
    answer = tour.ask("Site1", "orders", "/orders", scope=scope, order=order("chocolate"))
    tour.check("chocolate is sold by Site3 alone", answer.status == 201 and answer.body["total"] == 2 * 260)
    called = tour.trace(answer.headers["x-request-id"], calls=2)
    tour.check("asked at Site1, ordered at Site2, priced at Site3", called == ["orders of Site2", "catalog of Site3"])


def any_client(tour: Tour) -> None:
    tour.title("Any client: with a URL, or with `cheops run`")
    url = tour.lab.site("Site1").front("catalog")
    prefixed = f"/~scope/%7Bcatalog:%20Site2%7D{PRODUCTS}"
    answer = tour.ask("Site1", "catalog", prefixed)
    tour.check(
        "a client that can't set a header puts the scope into its URL", answer.headers["cheops-served-by"] == "Site2"
    )
    done = tour.cheops("run", "--scope", "{catalog: Site2}", "--", "curl", "-s", url + PRODUCTS)
    tour.say(f"{DIM}→{END} {brief(json.loads(done.stdout)) if done.stdout else done.stderr.strip()}")
    tour.check("curl, unchanged, has seen Site2's coffee", "coffee" in done.stdout)


def a_plan(tour: Tour) -> None:
    tour.title("A plan: what a scope would do, before anything is done")
    before = kept(tour, "Site1"), kept(tour, "Site2")
    scope = ("--scope", "{orders: Site2 ; Site1}")
    done = tour.cheops("plan", "--site", "Site1", *scope, "--data", json.dumps(order("tea")), "POST", "/orders")
    for line in (done.stdout or done.stderr).splitlines():
        if not line.startswith("     "):  # the headers, which the command prints as well
            tour.say(f"{DIM}│{END} {line}")
    steps = [line.partition(" (")[0] for line in done.stdout.splitlines() if line[:1].isdigit()]
    tour.check("Site2 would be asked, and Site1 if that can't", steps == ["1. Site2", "2. Site1"])
    tour.check("nothing was ordered", before == (kept(tour, "Site1"), kept(tour, "Site2")))


def otherwise(tour: Tour) -> None:
    tour.title("Otherwise: a site is lost, and who has named another one doesn't notice")
    for what in ("agent", "envoy", "app"):
        tour.lab.kill("Site2", what)
        tour.say(f"$ cheops lab kill Site2 {what}")
    only = tour.ask("Site1", "orders", "/orders", scope="{orders: Site2}", order=order("tea"))
    tour.check("503 for who insists on Site2", only.status == 503)
    answer = tour.ask("Site1", "orders", "/orders", scope="{orders: Site2 ; Site1}", order=order("tea"))
    tour.check("the order is made all the same, by Site1", answer.headers.get("cheops-served-by") == "Site1")
    tour.check("and kept there", answer.status == 201 and answer.body["id"] in kept(tour, "Site1"))
    tour.say("What a service calls by itself falls over as well; Site3 sells tea at 4.20:")
    scope = "{orders: Site1, catalog: Site2 ; Site3}"
    inner = tour.ask("Site1", "orders", "/orders", scope=scope, order=order("tea"))
    called = tour.trace(inner.headers["x-request-id"], calls=2)
    tour.check(
        "orders of Site1 was answered by Site3's catalog",
        inner.status == 201 and inner.body["total"] == 2 * 420 and called == ["orders of Site1", "catalog of Site3"],
    )
    tour.say("Without Cheops: an error, until Site2 is back or somebody has configured its users' applications anew.")
    tell_the_sites(tour)
    for what in ("app", "agent"):
        tour.lab.restart("Site2", what)
        tour.say(f"$ cheops lab restart Site2 {what}")
    until(lambda: state(tour, "Site2") == "up", "Site1 finds Site2 up")
    tour.check("Site1 finds Site2 up again", reads(tour, "{catalog: Site2}"))


def tell_the_sites(tour: Tour) -> None:
    until(lambda: state(tour, "Site2") == "down", "Site1 finds Site2 down")
    done = tour.cheops("sites", "--site", "Site1")
    for line in (done.stdout or done.stderr).splitlines():
        tour.say(f"{DIM}│{END} {line}")
    states = {row[0]: row[1] for row in map(str.split, done.stdout.splitlines()[1:])}
    tour.check("Site1 knows it by now", states == {"Site1": "here", "Site2": "down", "Site3": "up"})


def state(tour: Tour, peer: str) -> str:
    """How Site1 finds a peer."""
    sites = send(urllib.request.Request(tour.lab.site("Site1").admin + "/sites")).body
    return str({each["site"]: each["state"] for each in sites["peers"]}[peer])


def around(tour: Tour) -> None:
    tour.title("Around: the nearest site that can, by the times that the sites measure")
    tour.lab.kill("Site1", "catalog")
    tour.say("$ cheops lab kill Site1 catalog")
    for near, far, sku in (("Site2", "Site3", "coffee"), ("Site3", "Site2", "chocolate")):
        for other, round_trip in ((near, "5ms"), (far, "120ms")):
            tour.lab.delay("Site1", other, round_trip)
            tour.say(f"$ cheops lab delay Site1 {other} {round_trip}")
        until(lambda near=near: around_site1(tour) == ["Site1", near], f"Site1 finds {near} near", 40)
        answer = tour.ask("Site1", "catalog", PRODUCTS, scope=NEAR)
        served = answer.status == 200 and answer.headers.get("cheops-served-by") == near
        tour.check(f"{near} has served it, with its {sku}", served and sku in {p["id"] for p in answer.body["data"]})
    tour.say("Without Cheops: an error; or an application that measures, and knows every site.")
    for other in ("Site2", "Site3"):
        tour.lab.delay("Site1", other, "0ms")
    tour.lab.restart("Site1", "catalog")
    tour.say("$ cheops lab restart Site1 catalog")
    tour.check("Site1's catalog is back", reads(tour))


def around_site1(tour: Tour) -> list[str]:
    """The sites that are near enough, as an answer tells them."""
    told = tour.ask("Site1", "catalog", PRODUCTS, scope=NEAR, show=False).headers.get("cheops-around", "")
    return [each.partition(";")[0].strip() for each in told.split(",")]


def replication(tour: Tour) -> None:
    tour.title("Replication: one product on two sites, which stay the same, whatever happens to the link")
    path, cocoa = f"{PRODUCTS}/cocoa", {"title": "Cocoa, 250 g", "price": 350}
    made = tour.ask("Site1", "catalog", path, BOTH, {"data": cocoa}, method="PUT")
    tour.check("made on both sites", made.headers.get("cheops-outcome") == "Site1=201, Site2=201")
    changed = tour.ask("Site2", "catalog", path, order={"data": {"price": 360}}, method="PATCH")
    tour.check(
        "changed at Site2, without a scope, for both", changed.headers.get("cheops-outcome") == "Site1=200, Site2=200"
    )
    answer = tour.ask("Site1", "orders", "/orders", order=order("cocoa"))
    tour.check("Site1 sells it at that price", answer.status == 201 and answer.body["total"] == 2 * 360)
    tour.lab.cut("Site1", "Site2")
    tour.say("$ cheops lab cut Site1 Site2")
    for site, said in (("Site1", {"title": "Cocoa", "price": 370}), ("Site2", {"price": 380, "stock": 12})):
        done = tour.ask(site, "catalog", path, order={"data": said}, method="PATCH")
        tour.check(f"{site} goes on by itself", done.status == 200 and "pending" in done.headers["cheops-outcome"])
    tour.lab.heal("Site1", "Site2")
    tour.say("$ cheops lab heal Site1 Site2")
    until_the_same(tour)


def until_the_same(tour: Tour) -> None:
    """Both sites come to have what both have said, and tell what was said of one field on both sides."""
    done = tour.cheops("wait", "cocoa", "--converged", "--site", "Site1")
    shown(tour, done)
    both = [cocoa_at(tour, site) for site in ("Site1", "Site2")]
    tour.check("healed: both have the same", done.returncode == 0 and both[0] == both[1])
    wanted = {"id": "cocoa", "title": "Cocoa", "price": 380, "stock": 12}
    tour.check("of each field what was said of it last", both[0] == wanted)
    told = shown(tour, tour.cheops("resource", "show", "cocoa", "--site", "Site2"))
    tour.check("any site can tell all that was done", told.count(" equal ") == 2)
    lost = shown(tour, tour.cheops("conflicts", "--site", "Site1"))
    tour.check("the price that Site1 had said is a conflict", "price" in lost)
    tour.say("Without Cheops: a shared database, and no writes while the link is cut; or two prices from then on.")


def cocoa_at(tour: Tour, site: str) -> dict[str, Any]:
    """What the catalog of a site says of it, without the time of its own at which it was changed."""
    answer = tour.ask(site, "catalog", f"{PRODUCTS}/cocoa", method="GET")
    return {name: value for name, value in answer.body["data"].items() if name != "last_modified"}


def shown(tour: Tour, done: "subprocess.CompletedProcess[str]") -> str:
    """Tells what a command printed."""
    said = done.stdout + done.stderr
    for line in said.splitlines():
        tour.say(f"{DIM}│{END} {line}")
    return said


def cross(tour: Tour) -> None:
    tour.title(
        "Cross: one collection that spans the sites; what is sold is written down where it is sold, and read anywhere"
    )
    made = tour.ask("Site1", "catalog", SALES, ALL, {"data": {"kind": "sales"}}, method="PUT")
    tour.check("made on all three, or on none", made.headers.get("cheops-outcome", "").count("=201") == 3)
    sold = {site: sell(tour, site) for site in ("Site1", "Site2", "Site3")}
    tour.check("each site has written down its own", all(sold.values()))
    tour.check("any site lists all", listed(tour, "Site3") == {"Site1": 1, "Site2": 1, "Site3": 1})
    one = f"{SALES}/records/{sold['Site1']}"
    paid = tour.ask("Site3", "catalog", one, order={"data": {"paid": True}}, method="PATCH")
    tour.check("Site3 changes what is at Site1, by its id", paid.headers.get("cheops-served-by") == "Site1")
    for other in ("Site1", "Site3"):
        tour.lab.cut(other, "Site2")
        tour.say(f"$ cheops lab cut {other} Site2")
    tour.check("Site1 goes on selling, and so does Site2", bool(sell(tour, "Site1") and sell(tour, "Site2")))
    tour.check("Site1 lists what it can reach", listed(tour, "Site1", missing="Site2") == {"Site1": 2, "Site3": 1})
    tour.lab.heal()
    tour.say("$ cheops lab heal")
    whole = {"Site1": 2, "Site2": 2, "Site3": 1}
    until(lambda: listed(tour, "Site1", show=False) == whole, "Site1 reaches Site2 again")
    tour.check("healed: all of it is there, at any site", all(listed(tour, site) == whole for site in sold))
    tour.say("Without Cheops: a central database; or three lists, and somebody who adds them up.")


def sell(tour: Tour, site: str) -> str:
    """The id of what was sold there; "" if another site has written it down."""
    sale = {"data": {"sku": "tea", "price": 450}}
    answer = tour.ask(site, "catalog", f"{SALES}/records", order=sale, method="POST")
    here = answer.status == 201 and answer.headers.get("cheops-served-by") == site
    return str(answer.body["data"]["id"]) if here else ""


def listed(tour: Tour, site: str, missing: str = "", show: bool = True) -> dict[str, int] | None:
    """How many sales of each site a site lists; None if it doesn't say just which site is missing."""
    answer = tour.ask(site, "catalog", f"{SALES}/records", method="GET", show=show)
    told = {each.partition("=")[0]: each.partition("=")[2] for each in answer.headers["cheops-outcome"].split(", ")}
    if answer.status != 200 or [name for name, word in told.items() if word != "200"] != ([missing] if missing else []):
        return None
    return dict(Counter(sale["cheops_site"] for sale in answer.body["data"]))


def mistakes(tour: Tour) -> None:
    tour.title("A mistake is told where it stands, and nothing is sent anywhere")
    for scope, status in (
        ("{catalog: Site4}", 400),
        ("{catalog: Site1 &}", 400),
        ("{catalog: (Site1 ; Site2) % Site3}", 501),
    ):
        answer = tour.ask("Site1", "catalog", PRODUCTS, scope=scope)
        for line in answer.body.get("caret", "").splitlines():
            tour.say(f"    {DIM}{line}{END}")
        tour.check(f"the answer is {status}", answer.status == status)


def broken_links(tour: Tour) -> None:
    tour.title("A broken link: who needs it is told at once, and nobody else notices")
    for verb, doing in (("cut", tour.lab.cut), ("blackhole", tour.lab.blackhole)):
        doing("Site1", "Site2")
        tour.say(f"$ cheops lab {verb} Site1 Site2")
        answer = tour.ask("Site1", "catalog", PRODUCTS, scope="{catalog: Site2}")
        problem = answer.status == 503 and answer.body["site"] == "Site2"
        tour.check(f"503 naming Site2, in {answer.seconds:.2f} s (at most 2)", problem and answer.seconds <= 2)
        tour.check("Site1 works", tour.ask("Site1", "orders", "/orders", order=order("tea"), show=False).status == 201)
        other = tour.ask("Site1", "catalog", PRODUCTS, scope="{catalog: Site3}", show=False)
        tour.check("Site3 is reached as before", other.status == 200)
        tour.lab.heal("Site1", "Site2")
        tour.say("$ cheops lab heal Site1 Site2")
        until(lambda: reads(tour, "{catalog: Site2}"), "Site2 is reached again")
        tour.check("healed: Site2 is reached again", True)
    tour.say("Without Cheops the user would wait for a time-out, and then know no more than that.")


def reads(tour: Tour, scope: str | None = None, path: str = PRODUCTS) -> bool:
    return tour.ask("Site1", "catalog", path, scope=scope, show=False).status == 200


def killed_processes(tour: Tour) -> None:
    tour.title("Killed processes: Envoy comes back by itself, and the agent isn't needed for what Envoy can do alone")
    tour.lab.kill("Site1", "agent")
    tour.say("$ cheops lab kill Site1 agent")
    tour.check("requests without a scope are served", reads(tour, path=f"{PRODUCTS}/tea"))
    tour.check("and with a scope of one site", reads(tour, "{catalog: Site2}"))
    tour.lab.restart("Site1", "agent")
    tour.say("$ cheops lab restart Site1 agent")
    tour.lab.kill("Site1", "envoy")
    tour.say("$ cheops lab kill Site1 envoy")
    until(lambda: alive(tour), "Envoy is back")
    tour.check("Envoy is back, and Site2 is reached", True)


def alive(tour: Tour) -> bool:
    try:
        return reads(tour) and reads(tour, "{catalog: Site2}")
    except (urllib.error.URLError, ConnectionError):
        return False


STEPS = (
    autonomy,
    sharing_one_service,
    sharing_in_a_workflow,
    following_from_elsewhere,
    any_client,
    a_plan,
    otherwise,
    around,
    replication,
    cross,
    mistakes,
    broken_links,
    killed_processes,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--net", default="127.0.34", help="the sites' addresses: NET.1, NET.2, … (%(default)s)")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tour-") as parent:
        print(f"Starting three sites of the shop, at {args.net}.1 to .3 …", flush=True)
        with Lab.up(Path(parent).resolve() / "lab", app="shop", sites=3, net=args.net) as lab:
            print(f"… ready after {time.monotonic() - began:.1f} s, each with Envoy, agent, catalog and orders.")
            tour = Tour(lab)
            for step in STEPS:
                step(tour)
    print(f"\n{BOLD}The tour took {time.monotonic() - began:.0f} s; the lab is gone.{END}")
    if tour.failures:
        print(f"{RED}{len(tour.failures)} checks failed:{END} " + "; ".join(tour.failures))
        sys.exit(1)
    print(f"{GREEN}Everything it showed was checked.{END} Try it yourself: .venv/bin/cheops lab up")


if __name__ == "__main__":
    try:
        main()
    except CheopsError as error:
        sys.exit(f"tour: {error}")
