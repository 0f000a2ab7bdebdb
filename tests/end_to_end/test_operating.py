"""The commands of operators on real sites: a resource moves, a refused operation is dropped, a conflict is settled."""

import json
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Callable

import pytest

from cheops.lab.lab import Lab
from end_to_end.asking import ask, wait_for
from end_to_end.test_replication import AUTHORIZATION, RECORDS, SECRET, at_backend, call, make


@pytest.fixture(scope="module")
def lab(lab_of: Callable[..., Lab]) -> Lab:
    """Its records may be written by anybody who says a name."""
    lab = lab_of("shop", sites=3)
    seeder = "Basic " + b64encode(b"shop:shop").decode()
    for site in lab.sites:
        url = site.backend("catalog") + "/v1/buckets/shop"
        everybody = {"permissions": {"write": ["system.Authenticated"]}}
        assert ask(url, "PATCH", send=everybody, Authorization=seeder, Content_Type="application/json").status == 200
    return lab


def cheops(lab: Lab, site: str, *arguments: str, status: int = 0) -> str:
    """What a command says at a site."""
    command = [sys.executable, "-m", "cheops", *arguments, "--admin", lab.site(site).admin]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def pending(lab: Lab, rid: str, site: str) -> list[str]:
    """The operations on a resource that wait at a site, as Site1 knows it."""
    found = json.loads(cheops(lab, "Site1", "operations", "--pending", "--on", site, "--json"))["operations"]
    return [each["operation"]["operation"] for each in found if each["resource"]["rid"] == rid]


def test_a_resource_is_seen_and_moves(lab: Lab) -> None:
    """Site3 has no credentials of its own, so it can't be filled: that is told, with what to do, and settled."""
    rid = make(lab, "moving", price=1).headers["cheops-resource"]
    assert rid in cheops(lab, "Site1", "resources")
    shown = cheops(lab, "Site3", "resource", "show", "moving")
    assert shown.startswith(f"{rid}  catalog/")
    assert "held by Site1 & Site2" in shown
    assert SECRET not in shown
    assert AUTHORIZATION not in shown
    assert "moves it" in cheops(lab, "Site2", "resource", "scope", rid, "{catalog: Site1 & Site2 & Site3}")
    said = cheops(lab, "Site2", "wait", rid, "--converged", "--timeout", "3", status=1)
    assert "site.yaml has none for 'catalog'" in said
    assert "Give the site credentials" in cheops(lab, "Site1", "operations", "--pending", "--on", "Site3")
    creation = wait_for(lambda: pending(lab, rid, "Site3"), "Site1 knows that Site3 waits", 10)[0]
    assert "is dropped at Site3" in cheops(lab, "Site1", "drop", rid, creation, "--on", "Site3")
    dropped = "Site3: dropped: dropped by command"
    wait_for(lambda: dropped in cheops(lab, "Site1", "resource", "show", rid), "Site1 hears of it", 10)
    assert "moves it" in cheops(lab, "Site2", "resource", "scope", rid, "{catalog: Site1}")
    assert "are through with" in cheops(lab, "Site2", "wait", rid, "--converged")
    assert at_backend(lab, "Site3", f"{RECORDS}/moving") is None
    assert at_backend(lab, "Site2", f"{RECORDS}/moving") is not None, "it keeps its copy"


def test_a_conflict_is_listed_and_done_again(lab: Lab) -> None:
    rid = make(lab, "twice", price=1).headers["cheops-resource"]
    lab.cut("Site1", "Site2")
    for site, price in (("Site1", 2), ("Site2", 3)):
        patched = call(lab, site, "PATCH", f"{RECORDS}/twice", {"price": price}, Prefer="wait=1")
        assert patched.status == 200, patched.body
    lab.heal()
    wait_for(lambda: rid in cheops(lab, "Site1", "conflicts"), "a conflict", 30)
    found = json.loads(cheops(lab, "Site1", "conflicts", "--json"))["conflicts"]
    (conflict,) = [each for each in found if each["resource"] == rid]
    assert "price" in " ".join(conflict["fields"])
    assert "does it again" in cheops(lab, "Site3", "conflict", "apply", rid, conflict["loser"])
    said = cheops(lab, "Site1", "wait", rid, "--converged", "--timeout", "2", status=1)
    assert "site.yaml has none for 'catalog'" in said
    assert rid not in cheops(lab, "Site1", "conflicts")


def test_metrics(lab: Lab) -> None:
    make(lab, "measured")
    with urllib.request.urlopen(f"{lab.site('Site1').admin}/metrics", timeout=10) as page:
        text = page.read().decode()
    assert 'cheops_operations{site="Site1",state="done"}' in text
    assert "cheops_convergence_seconds_bucket" in text
    assert 'cheops_oldest_pending_seconds{peer="Site2"}' in text
    assert "cheops_store_failures_total 0.0" in text
