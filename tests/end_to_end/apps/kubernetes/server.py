"""A service that speaks as a Kubernetes API server does of namespaces, config maps and deployments, and "runs" the
deployments' replicas: their status follows their spec a moment later.

Faithful: names and namespaces, 409 for what is there and for a stale resourceVersion, generations, /status and /scale,
merge patches, lists with continue and label selectors, watches. Not there: other patches, authentication, finalizers.
"""

import json
import sys
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from objects import TYPES, Event, Key, Object, Objects, Refused, matches, merged

MERGE = "application/merge-patch+json"
MOMENT = 0.3  # seconds, until replicas are started, and again until they are ready
OBJECTS = Objects()


class Asked:
    """What a URL names: the plural, the namespace ("" for none or all), the name ("" for the collection), the part."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.query = dict(parse_qsl(parts.query))
        path = [unquote(one) for one in parts.path.strip("/").split("/")]
        path = path[2:] if path[0] == "api" else path[3:]
        self.namespace = path[1] if path[0] == "namespaces" and len(path) > 2 and path[2] in TYPES else ""
        self.plural, self.name, self.part = [*(path[2:] if self.namespace else path), "", "", ""][:3]
        if self.plural not in TYPES or (self.part and self.plural != "deployments"):
            raise Refused(404, "NotFound", "the server could not find the requested resource")

    @property
    def key(self) -> Key:
        return self.plural, self.namespace, self.name

    @property
    def watches(self) -> bool:
        return self.query.get("watch") in ("1", "true")

    @property
    def filter(self) -> tuple[str, str, dict[str, str], str]:
        said = [
            tuple(one.replace("==", "=").split("=", 1)) for one in self.query.get("labelSelector", "").split(",") if one
        ]
        named = self.query.get("fieldSelector", "").removeprefix("metadata.name=")
        return self.plural, self.namespace, dict(said), self.name or named


def read(asked: Asked) -> Object:
    if asked.name:
        found = OBJECTS.get(asked.key)
        return scale_of(found) if asked.part == "scale" else found
    return listed(asked)


def listed(asked: Asked) -> Object:
    """A page of a list; `continue` has the name of the last one that was told."""
    after = json.loads(urlsafe_b64decode(asked.query.get("continue") or "W10="))
    items = [one for one in OBJECTS.among(*asked.filter) if _place(one) > after]
    page = items[: int(asked.query.get("limit") or 0) or None]
    metadata: Object = {"resourceVersion": str(OBJECTS.version)}
    if len(page) < len(items):
        metadata["continue"] = urlsafe_b64encode(json.dumps(_place(page[-1])).encode()).decode()
        metadata["remainingItemCount"] = len(items) - len(page)
    kind = TYPES[asked.plural]
    bare = [{name: value for name, value in one.items() if name not in ("kind", "apiVersion")} for one in page]
    return {"kind": f"{kind.kind}List", "apiVersion": kind.version, "metadata": metadata, "items": bare}


def _place(one: Object) -> list[str]:
    return [one["metadata"].get("namespace", ""), one["metadata"]["name"]]


def scale_of(found: Object) -> Object:
    metadata = {name: found["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
    spec, status = {"replicas": found["spec"]["replicas"]}, {"replicas": found["status"].get("replicas", 0)}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}


def table_of(told: Object) -> Object:
    """What kubectl prints, of which only the names are here."""
    rows = [{"cells": [one["metadata"]["name"]], "object": one} for one in told.get("items", [told])]
    columns = [{"name": "Name", "type": "string"}]
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": columns, "rows": rows}


def changed(asked: Asked, body: Object, *, patch: bool) -> Object:
    def change(old: Object) -> Object:
        if asked.part != "scale":
            return merged(old, body) if patch else body
        scale = merged(scale_of(old), body) if patch else body
        metadata = {**old["metadata"], **(scale.get("metadata") or {})}
        return {**old, "metadata": metadata, "spec": {**old["spec"], "replicas": scale["spec"]["replicas"]}}

    new = OBJECTS.update(asked.key, change, asked.part)
    return scale_of(new) if asked.part == "scale" else new


def watched(asked: Asked) -> Iterator[Object]:
    """What is there, unless a version is said to begin at; then each event."""
    end = time.monotonic() + float(asked.query.get("timeoutSeconds") or 3600)
    with OBJECTS.changed:
        since = int(asked.query.get("resourceVersion") or 0)
        first = [] if since else [{"type": "ADDED", "object": one} for one in OBJECTS.among(*asked.filter)]
        seen = next((n for n, e in enumerate(OBJECTS.events) if e.version > since), None) if since else None
        seen = len(OBJECTS.events) if seen is None else seen
    yield from first
    while time.monotonic() < end:
        with OBJECTS.changed:
            OBJECTS.changed.wait_for(lambda seen=seen: len(OBJECTS.events) > seen, timeout=end - time.monotonic())
            new, seen = OBJECTS.events[seen:], len(OBJECTS.events)
        yield from ({"type": event.kind, "object": event.object} for event in new if _concerns(asked, event))


def _concerns(asked: Asked, event: Event) -> bool:
    return matches(event.plural, event.object["metadata"].get("namespace", ""), event.object, *asked.filter)


def run_replicas() -> None:
    """The controller: what is wanted is started, and ready a moment later."""
    while True:
        time.sleep(MOMENT)
        with OBJECTS.changed:
            for key in [key for key in OBJECTS.kept if key[0] == "deployments"]:
                OBJECTS.update(key, _further, "status")


def _further(one: Object) -> Object:
    """As the conventions have it, a number that is 0 isn't said."""
    wanted, before = one["spec"]["replicas"], one["status"]
    ready = wanted if before.get("replicas") == wanted else min(before.get("readyReplicas", 0), wanted)
    numbers = {"replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready, "availableReplicas": ready}
    numbers |= {"unavailableReplicas": wanted - ready, "observedGeneration": one["metadata"]["generation"]}
    return {**one, "status": {name: number for name, number in numbers.items() if number}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path in ("/readyz", "/healthz"):
            return self.say(200, "ok")
        try:
            asked = Asked(self.path)
            if self.command == "GET" and asked.watches:
                return self.stream(asked)
            with OBJECTS.changed:
                status, told = self.executed(asked, body)
            return self.say(status, table_of(told) if self.wants_table() else told)
        except Refused as refused:
            return self.say(refused.status["code"], refused.status)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

    def executed(self, asked: Asked, body: bytes) -> tuple[int, Object]:
        if self.command in ("GET", "HEAD"):
            return 200, read(asked)
        if self.command == "DELETE":
            return 200, OBJECTS.delete(asked.key)
        said = self.understood(body)
        if self.command == "POST":
            return 201, OBJECTS.create(asked.plural, asked.namespace, said)
        return 200, changed(asked, said, patch=self.command == "PATCH")

    def wants_table(self) -> bool:
        return self.command == "GET" and ";as=Table;" in (self.headers.get("Accept") or "").partition(",")[0]

    def understood(self, body: bytes) -> Object:
        kind = (self.headers.get("Content-Type") or "application/json").partition(";")[0].strip()
        wanted = MERGE if self.command == "PATCH" else "application/json"
        if kind != wanted:
            message = f"the body of the request was in an unknown format - accepted media types include: {wanted}"
            raise Refused(415, "UnsupportedMediaType", message)
        try:
            said = json.loads(body)
        except ValueError as error:
            raise Refused(400, "BadRequest", str(error)) from error
        if not isinstance(said, dict):
            raise Refused(400, "BadRequest", "no object")
        return said

    def say(self, status: int, told: Any) -> None:
        content = told.encode() if isinstance(told, str) else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(told, str) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)

    def stream(self, asked: Asked) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in watched(asked):
            line = json.dumps(event).encode() + b"\n"
            self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


def main() -> None:
    host, port = sys.argv[1].split(":")
    with OBJECTS.changed:
        OBJECTS.create("namespaces", "", {"metadata": {"name": "default"}})
    threading.Thread(target=run_replicas, daemon=True).start()
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
