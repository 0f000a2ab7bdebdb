"""What test_cross_kubernetes.py sees of a stand-in, seen of real API servers on two sites: `make kubernetes`.

There are no machines, so this test says in their place that pods are ready.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cheops.lab.lab import Lab
from end_to_end.asking import ask, wait_for
from end_to_end.clusters import (
    DEPLOYMENTS,
    MERGE,
    all_up,
    bodies,
    call,
    deployment,
    has_shares,
    made,
    outcomes,
    part,
    ready,
    shares,
    whole,
)
from end_to_end.conftest import unused_net
from end_to_end.test_operating import cheops

ROOT = Path(__file__).parents[2]
BOTH = "{kubernetes: Site1 % Site2}"
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def whole_lab() -> Iterator[Lab]:
    """In the checkout, so that what was built is found again in .lab-cache."""
    app = Path(__file__).parent / "apps" / "kube-apiserver"
    with Lab.up(ROOT / ".lab-kubernetes", app=str(app), sites=2, net=unused_net()) as lab:
        for site in lab.sites:
            named = f"{site.backend('kubernetes')}/api/v1/namespaces/default"
            wait_for(lambda named=named: ask(named).status == 200, "the namespace is there", 60)
        yield lab


@pytest.fixture
def lab(whole_lab: Lab) -> Lab:
    """The lab, once all of it is up."""
    whole_lab.heal()
    all_up(whole_lab)
    return whole_lab


def start_pods(lab: Lab, name: str, *numbers: int) -> None:
    """Says of each site's pods of a deployment that they are ready, once there are as many as are wanted."""
    state = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    for site, number in zip(lab.sites, numbers, strict=True):
        url = site.backend("kubernetes") + PODS
        pods = wait_for(lambda url=url, number=number: _pods(url, name, number), f"{number} pods of {name}", 60)
        for pod in pods:
            patched = ask(f"{url}/{pod}/status", "PATCH", send={"status": state}, Content_Type=MERGE)
            assert patched.status == 200, patched.body


def _pods(url: str, name: str, number: int) -> list[str]:
    items: list[dict[str, Any]] = ask(f"{url}?labelSelector=app%3D{name}").json["items"]
    alive = [pod["metadata"]["name"] for pod in items if "deletionTimestamp" not in pod["metadata"]]
    return alive if len(alive) == number else []


def kubectl(lab: Lab, site: str, *arguments: str) -> str:
    """What kubectl says at a front."""
    command = ["kubectl", "--server", lab.site(site).front("kubernetes"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ten_are_divided_and_seen_as_ten(lab: Lab) -> None:
    reply = call(lab, "Site1", "POST", DEPLOYMENTS, deployment("web", 9), BOTH)
    assert reply.status == 201, reply.body
    assert (reply.json["spec"]["replicas"], shares(lab, "web")) == (9, [5, 4])
    start_pods(lab, "web", 5, 4)
    for site in ("Site1", "Site2"):
        ready(lab, site, "web", 9)
        told = kubectl(lab, site, "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}/{.spec.replicas}")
        assert told == "9/9"
        assert kubectl(lab, site, "get", "deployments", "-o", "name").split() == ["deployment.apps/web"]
        assert kubectl(lab, site, "get", "deployments").count("web") == 1
    (item,) = call(lab, "Site2", "GET", "/apis/apps/v1/deployments").json["items"]
    assert (item["cheops_site"], item["spec"]["replicas"]) == ("Site1 % Site2", 9)


def test_kubectl_scales_and_replaces_the_whole(lab: Lab) -> None:
    made(lab, "scaled", scope=BOTH)
    kubectl(lab, "Site2", "scale", "deployment", "scaled", "--replicas=7")
    has_shares(lab, "scaled", 4, 3)
    read = whole(lab, "Site2", "scaled")
    read["spec"]["replicas"] = 4
    reply = call(lab, "Site2", "PUT", f"{DEPLOYMENTS}/scaled", read)
    assert (reply.status, reply.json["spec"]["replicas"]) == (200, 4), reply.body
    has_shares(lab, "scaled", 2, 2)
    start_pods(lab, "scaled", 2, 2)
    ready(lab, "Site1", "scaled", 4)


def test_a_name_that_is_taken_is_made_nowhere(lab: Lab) -> None:
    url = lab.site("Site2").backend("kubernetes") + DEPLOYMENTS
    assert ask(url, "POST", send=deployment("taken", 1), Content_Type="application/json").status == 201
    assert call(lab, "Site1", "POST", DEPLOYMENTS, deployment("taken"), BOTH).status == 409
    assert shares(lab, "taken") == [None, 1]


def test_a_cut_site_follows(lab: Lab) -> None:
    made(lab, "cut", scope=BOTH)
    lab.cut("Site1", "Site2")
    reply = call(lab, "Site1", "PATCH", f"{DEPLOYMENTS}/cut", {"spec": {"replicas": 4}}, Prefer="wait=5")
    assert outcomes(reply) == {"Site1": "200", "Site2": "pending"}
    assert shares(lab, "cut") == [2, 5]
    lab.heal()
    has_shares(lab, "cut", 2, 2)


def test_a_site_leaves_and_joins_again(lab: Lab) -> None:
    rid = made(lab, "moving", scope=BOTH)
    cheops(lab, "Site1", "resource", "scope", rid, "{kubernetes: Site1}", "--leave", "delete")
    has_shares(lab, "moving", 10, None)
    cheops(lab, "Site1", "resource", "scope", rid, BOTH)
    has_shares(lab, "moving", 5, 5)


def test_the_plan_shows_each_part_and_a_deletion_takes_all(lab: Lab) -> None:
    plan = call(lab, "Site1", "POST", DEPLOYMENTS, deployment("gone"), BOTH, Cheops_Plan="only")
    assert [body["spec"]["replicas"] for body in bodies(plan).values()] == [5, 5]
    assert part(lab, "Site1", "gone") is None
    rid = made(lab, "gone", scope=BOTH)
    assert kubectl(lab, "Site2", "delete", "deployment", "gone", "--wait=false")
    has_shares(lab, "gone", None, None)
    assert json.loads(cheops(lab, "Site1", "resource", "show", rid, "--json"))["resource"]["gone"]
