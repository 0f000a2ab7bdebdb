"""The objects of one cluster, and what Kubernetes' API conventions say of writing them. Nothing outlives the process.

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md
"""

import copy
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str, str]  # plural, namespace, name
OWN = ("uid", "creationTimestamp", "generation", "resourceVersion")  # of metadata: the server's own


@dataclass(frozen=True)
class Type:
    kind: str
    group: str
    namespaced: bool = True
    has_status: bool = False

    @property
    def version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"


TYPES = {
    "namespaces": Type("Namespace", "", namespaced=False),
    "configmaps": Type("ConfigMap", ""),
    "deployments": Type("Deployment", "apps", has_status=True),
}


class Refused(Exception):
    """An answer that is a Status of failure."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": details,
            "code": code,
        }


@dataclass(frozen=True)
class Event:
    version: int
    kind: str
    plural: str
    object: Object


@dataclass
class Objects:
    """All of them under one lock; `changed` is told of each event. A version counts all writes, as etcd's does."""

    version: int = 100
    kept: dict[Key, Object] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def get(self, key: Key) -> Object:
        if key not in self.kept:
            raise _no_such(key)
        return self.kept[key]

    def create(self, plural: str, namespace: str, body: Object) -> Object:
        new = copy.deepcopy(body)
        key = self._free(plural, namespace, new.setdefault("metadata", {}))
        new["metadata"] |= {"name": key[2], "uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": _now()}
        new |= {"kind": TYPES[plural].kind, "apiVersion": TYPES[plural].version}
        new.pop("status", None)
        return self._write(key, "ADDED", _defaulted(plural, namespace, new))

    def _free(self, plural: str, namespace: str, metadata: Object) -> Key:
        if metadata.pop("resourceVersion", None):
            raise Refused(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        name = metadata.get("name") or (metadata.get("generateName") or "") + uuid.uuid4().hex[:5]
        if TYPES[plural].namespaced:
            self.get(("namespaces", "", namespace))
        if (plural, namespace, name) in self.kept:
            raise Refused(409, "AlreadyExists", f'{_named(plural)} "{name}" already exists', name=name)
        return plural, namespace, name

    def update(self, key: Key, change: Callable[[Object], Object], part: str = "") -> Object:
        """Writes what `change` makes of an object: only its status if that is the `part`, else all but that."""
        old = self.get(key)
        said = change(copy.deepcopy(old))
        _check_same(key, old, said)
        new = copy.deepcopy(old)
        if part == "status":
            new["status"] = said.get("status", {})
        else:
            new = {**said, **{name: old[name] for name in ("kind", "apiVersion", "status") if name in old}}
            new["metadata"] = said.get("metadata", {}) | {name: old["metadata"][name] for name in OWN}
            new["metadata"]["name"] = key[2]
            new = _defaulted(key[0], key[1], new)
        return old if new == old else self._write(key, "MODIFIED", _counted(old, new))

    def delete(self, key: Key) -> Object:
        """The Status that says so. A namespace takes along what is in it."""
        gone = self.get(key)
        for inside in [other for other in self.kept if key[0] == "namespaces" and other[1] == key[2]]:
            self.delete(inside)
        self._write(key, "DELETED", gone)
        del self.kept[key]
        details = {"name": key[2], "group": TYPES[key[0]].group, "kind": key[0], "uid": gone["metadata"]["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def among(self, plural: str, namespace: str, labels: dict[str, str], name: str = "") -> Iterator[Object]:
        """In the order of their names; all namespaces if there is none."""
        for key in sorted(self.kept):
            if matches(key[0], key[1], self.kept[key], plural, namespace, labels, name):
                yield self.kept[key]

    def _write(self, key: Key, kind: str, new: Object) -> Object:
        self.version += 1
        new = {**new, "metadata": {**new["metadata"], "resourceVersion": str(self.version)}}
        self.kept[key] = new
        self.events.append(Event(self.version, kind, key[0], new))
        self.changed.notify_all()
        return new


def matches(
    plural: str, there: str, one: Object, wanted: str, namespace: str, labels: dict[str, str], name: str
) -> bool:
    has = one["metadata"].get("labels") or {}
    place = plural == wanted and namespace in ("", there) and name in ("", one["metadata"]["name"])
    return place and all(has.get(label) == value for label, value in labels.items())


def merged(old: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    kept = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = merged(kept.get(name), value)
    return kept


def _check_same(key: Key, old: Object, said: Object) -> None:
    """Who says a revision or a uid means that one."""
    metadata, own = said.get("metadata") or {}, old["metadata"]
    if metadata.get("name") not in (None, key[2]):
        raise Refused(
            400, "BadRequest", f"the name of the object ({metadata['name']}) isn't that of the URL ({key[2]})"
        )
    if metadata.get("resourceVersion") not in (None, "", own["resourceVersion"]):
        raise _conflict(key, "the object has been modified; please apply your changes to the latest version")
    if metadata.get("uid") not in (None, "", own["uid"]):
        raise _conflict(key, f"Precondition failed: UID in precondition: {metadata['uid']}")


def _counted(old: Object, new: Object) -> Object:
    """A generation counts the changes of what is wanted."""
    outside = ("metadata", "status")
    wanted = [{name: value for name, value in one.items() if name not in outside} for one in (old, new)]
    more = int(wanted[0] != wanted[1])
    return {**new, "metadata": {**new["metadata"], "generation": old["metadata"]["generation"] + more}}


def _defaulted(plural: str, namespace: str, new: Object) -> Object:
    if TYPES[plural].namespaced:
        new["metadata"]["namespace"] = namespace
    if plural == "namespaces":
        return {**new, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    if plural == "deployments":
        return {**new, "spec": {"replicas": 1, **(new.get("spec") or {})}, "status": new.get("status", {})}
    return new


def _no_such(key: Key) -> Refused:
    details = {"name": key[2], "group": TYPES[key[0]].group, "kind": key[0]}
    return Refused(404, "NotFound", f'{_named(key[0])} "{key[2]}" not found', **details)


def _conflict(key: Key, why: str) -> Refused:
    message = f'Operation cannot be fulfilled on {_named(key[0])} "{key[2]}": {why}'
    return Refused(409, "Conflict", message, name=key[2], group=TYPES[key[0]].group, kind=key[0])


def _named(plural: str) -> str:
    return plural + (f".{TYPES[plural].group}" if TYPES[plural].group else "")


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
