"""Just enough of an OpenStack for the stock client, on one port.

Paths are `/<service type>/<the service's own path>`. Not a model of OpenStack: it answers what the tests ask.
"""

from typing import Any, Final

from server import Asked, Reply, Server

IMAGE: Final = {"id": "11111111-1111-4111-8111-111111111111", "name": "debian", "status": "active"}
FLAVOR: Final = {"id": "1", "name": "small", "ram": 64, "disk": 1, "vcpus": 1}
SERVER: Final = {
    "id": "22222222-2222-4222-8222-222222222222",
    "name": "my-vm",
    "status": "ACTIVE",
    "addresses": {},
    "image": {"id": IMAGE["id"]},
    "flavor": {"id": "1"},
}
NETWORK: Final = {"id": "33333333-3333-4333-8333-333333333333", "name": "lan", "subnets": []}
PROJECT: Final = {"id": "demo", "name": "demo", "domain_id": "default"}

_ENDPOINTS: Final = {
    "identity": "/identity/v3",
    "compute": "/compute/v2.1",
    "image": "/image",
    "network": "/network",
    "object-store": "/object-store/v1/demo",
}
_DOCUMENTS: Final[dict[str, Any]] = {
    "GET /compute/v2.1/servers/detail": {"servers": [SERVER]},
    f"GET /compute/v2.1/servers/{SERVER['id']}": {"server": SERVER},
    "GET /compute/v2.1/flavors/detail": {"flavors": [FLAVOR]},
    "GET /compute/v2.1/flavors/1": {"flavor": FLAVOR},
    "GET /image/v2/images": {"images": [IMAGE]},
    f"GET /image/v2/images/{IMAGE['id']}": IMAGE,
    "GET /network/v2.0/networks": {"networks": [NETWORK]},
    "GET /identity/v3/projects": {"projects": [PROJECT]},
    "GET /object-store/v1/demo": [{"name": "photos", "count": 0, "bytes": 0}],
}


def credentials(cloud: Server) -> dict[str, str]:
    """The environment with which the client finds the cloud."""
    return {
        "OS_AUTH_URL": f"{cloud.url}/identity/v3",
        "OS_USERNAME": "ada",
        "OS_PASSWORD": "secret",
        "OS_PROJECT_NAME": "demo",
        "OS_USER_DOMAIN_ID": "default",
        "OS_PROJECT_DOMAIN_ID": "default",
        "OS_IDENTITY_API_VERSION": "3",
    }


def cloud() -> Server:
    return Server(answer=_answer)


def _answer(cloud: Server, asked: Asked) -> Reply:
    wanted = str(asked).removesuffix("/")
    match wanted:
        case "POST /identity/v3/auth/tokens":
            return Reply(status=201, document={"token": _token(cloud.url)}, headers={"X-Subject-Token": "token"})
        case "GET /identity/v3":
            return Reply(document={"version": _version("v3.14", f"{cloud.url}/identity/v3/")})
        case "GET /compute/v2.1":
            return Reply(document={"version": _version("v2.1", f"{cloud.url}/compute/v2.1/")})
        case "GET /image":
            return Reply(document={"versions": [_version("v2.16", f"{cloud.url}/image/v2/")]})
        case "POST /compute/v2.1/servers":
            return Reply(status=202, document={"server": SERVER})
        case "POST /image/v2/images":
            return Reply(status=201, document={**IMAGE, "status": "queued"})
        case _ if wanted == f"PUT /image/v2/images/{IMAGE['id']}/file":
            return Reply(status=204)
        case _ if wanted in _DOCUMENTS:
            return Reply(document=_DOCUMENTS[wanted])
    return Reply(status=404, document={"error": {"message": f"{asked} isn't here"}})


def _version(name: str, url: str) -> dict[str, Any]:
    return {"id": name, "status": "CURRENT", "links": [{"rel": "self", "href": url}]}


def _token(url: str) -> dict[str, Any]:
    domain = {"id": "default", "name": "Default"}
    return {
        "methods": ["password"],
        "user": {"id": "ada", "name": "ada", "domain": domain},
        "project": {"id": "demo", "name": "demo", "domain": domain},
        "roles": [{"id": "member", "name": "member"}],
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "expires_at": "2099-01-01T00:00:00.000000Z",
        "catalog": [
            {
                "type": service,
                "name": service,
                "id": service,
                "endpoints": [{"id": service, "interface": "public", "region": "here", "url": url + path}],
            }
            for service, path in _ENDPOINTS.items()
        ],
    }
