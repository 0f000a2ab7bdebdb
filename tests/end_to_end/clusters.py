"""What is asked of a lab of Kubernetes clusters, at its fronts and at its backends."""

import json
from typing import Any

from cheops.lab.lab import Lab
from end_to_end.asking import Reply, ask, wait_for
from end_to_end.raw import admin

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
MERGE = "application/merge-patch+json"
ALL = "{kubernetes: Site1 % Site2 % Site3}"


def deployment(name: str, replicas: int | None = 10, **metadata: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}}
    spec: dict[str, Any] = {"selector": {"matchLabels": labels}, "template": template}
    spec |= {} if replicas is None else {"replicas": replicas}
    meta = {"name": name, "labels": labels, **metadata}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def call(
    lab: Lab, site: str, method: str, path: str, body: Any = None, scope: str | None = None, **headers: str
) -> Reply:
    kind = MERGE if method == "PATCH" else "application/json"
    return ask(lab.site(site).front("kubernetes") + path, method, scope=scope, send=body, Content_Type=kind, **headers)


def made(lab: Lab, name: str, replicas: int = 10, scope: str = ALL, site: str = "Site1") -> str:
    """Makes a whole; its rid."""
    reply = call(lab, site, "POST", DEPLOYMENTS, deployment(name, replicas), scope)
    assert reply.status == 201, reply.body
    return reply.headers["cheops-resource"]


def whole(lab: Lab, site: str, name: str) -> Any:
    reply = call(lab, site, "GET", f"{DEPLOYMENTS}/{name}")
    assert reply.status == 200, reply.body
    return reply.json


def all_up(lab: Lab) -> None:
    """What spans sites is made when all are known to be up."""

    def up() -> bool:
        return all(peer["state"] == "up" for site in lab.sites for peer in admin(lab, site.name, "/sites")["peers"])

    wait_for(up, "all are up", 60)


def part(lab: Lab, site: str, name: str) -> Any:
    """What the cluster itself has; None if it has nothing of the name."""
    reply = ask(lab.site(site).backend("kubernetes") + f"{DEPLOYMENTS}/{name}")
    return reply.json if reply.status == 200 else None


def shares(lab: Lab, name: str) -> list[int | None]:
    """What the cluster of each site is to run."""
    parts = (part(lab, site.name, name) for site in lab.sites)
    return [one["spec"]["replicas"] if one else None for one in parts]


def has_shares(lab: Lab, name: str, *wanted: int | None) -> None:
    wait_for(lambda: shares(lab, name) == list(wanted), f"{name} is divided into {wanted}", 60)


def ready(lab: Lab, site: str, name: str, number: int) -> None:
    """The whole has so many replicas, wanted and ready, as a site tells it."""

    def told() -> bool:
        found = whole(lab, site, name)
        return (found["spec"]["replicas"], found["status"].get("readyReplicas")) == (number, number)

    wait_for(told, f"{site} tells of {number} ready replicas", 60)


def outcomes(reply: Reply) -> dict[str, str]:
    return dict(one.split("=", 1) for one in reply.headers["cheops-outcome"].split(", "))


def bodies(reply: Reply) -> dict[str, Any]:
    """By site, what a plan says would be sent."""
    assert reply.status == 200, reply.body
    return {step["site"]: json.loads(step["request"]["body"]) for step in reply.json["steps"]}
