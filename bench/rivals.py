"""What our front is compared with: Envoy and HAProxy as somebody would configure them who only wants them to pass on.

Envoy: one listener, one route, one cluster, one worker, no log, and for the rest what Envoy does by default.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from bench.processes import running
from bench.variants import Address, End, Ends
from cheops.intercept.envoy.binary import find_envoy
from cheops.intercept.envoy.names import typed

FIRST_PORT = 11000
Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rivals:
    envoy: Ends
    logged: Ends
    envoys: Ends
    envoys_logged: Ends
    haproxy: Ends
    haproxy_lua: Ends


@contextmanager
def rivals(folder: Path, host: str, here: Ends, there: Ends, sites: tuple[Path, Path]) -> Iterator[Rivals]:
    """Starts all, at ports of `host`. `here` and `there` are backends; `sites` are the folders of two sites."""
    ports = ((host, FIRST_PORT + number) for number in count())
    with ExitStack() as stack:

        def envoy(name: str, backend: Address, **more: Any) -> End:
            return stack.enter_context(_envoy(folder / name, next(ports), backend, **more))

        def two_envoys(name: str, backend: Address, **more: Any) -> End:
            far = envoy(f"{name}-far", backend, from_peer=_shows(sites[1]), **more)
            near = envoy(f"{name}-near", far.address, to_peer=_shows(sites[0]), **more)
            return End(address=near.address, pids=near.pids + far.pids)

        log = _our_log(sites[0])
        balanced = {name: next(ports) for name in ("items", "sink", "lua")}
        balancer = stack.enter_context(_haproxy(folder / "haproxy", balanced, here, there))
        yield Rivals(
            envoy={name: envoy(f"envoy-{name}", end.address) for name, end in here.items()},
            logged={"items": envoy("envoy-logged", here["items"].address, log=log)},
            envoys_logged={"items": two_envoys("envoys-logged", there["items"].address, log=log)},
            envoys={name: two_envoys(f"envoys-{name}", end.address) for name, end in there.items()},
            haproxy={name: End(address=balanced[name], pids=(balancer,)) for name in ("items", "sink")},
            haproxy_lua={"items": End(address=balanced["lua"], pids=(balancer,))},
        )


@contextmanager
def _envoy(path: Path, listen: Address, backend: Address, **more: Any) -> Iterator[End]:
    file = path.with_suffix(".json")
    file.write_text(json.dumps(minimal(listen, backend, **more)).replace(_LOG_FILE, str(path.with_suffix(".access"))))
    arguments = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "--file-flush-interval-msec")
    with running((find_envoy(), "-c", str(file), *arguments, "500"), path.with_suffix(".log"), [listen]) as pid:
        yield End(address=listen, pids=(pid,))


def minimal(
    listen: Address,
    backend: Address,
    *,
    log: Document | None = None,
    to_peer: Document | None = None,
    from_peer: Document | None = None,
) -> Document:
    """A whole configuration. `to_peer` makes the cluster one of HTTP/2 over TLS, `from_peer` the listener."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "backend"}}
    manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="minimal",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[{"name": "router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router")}],
        access_log=[log] if log else [],
    )
    chain: Document = {"filters": [{"name": "http", "typed_config": manager}]}
    if from_peer:
        chain["transport_socket"] = _tls("DownstreamTlsContext", from_peer, require_client_certificate=True)
    listener = {"name": "minimal", "address": _socket(listen), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [_cluster(backend, to_peer)]}}


def _cluster(backend: Address, to_peer: Document | None) -> Document:
    endpoint = {"lb_endpoints": [{"endpoint": {"address": _socket(backend)}}]}
    cluster: Document = {"name": "backend", "load_assignment": {"cluster_name": "backend", "endpoints": [endpoint]}}
    if not to_peer:
        return cluster
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = typed(kind, explicit_http_config={"http2_protocol_options": {}})
    tls = _tls("UpstreamTlsContext", to_peer)
    return cluster | {"typed_extension_protocol_options": {kind: http2}, "transport_socket": tls}


def _socket(address: Address) -> Document:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}


def _tls(kind: str, shows: Document, **more: Any) -> Document:
    context = typed(f"envoy.extensions.transport_sockets.tls.v3.{kind}", common_tls_context=shows, **more)
    return {"name": "tls", "typed_config": context}


def _shows(site: Path) -> Document:
    """A site's certificate, and the authority of those that it takes."""
    chain, key, authority = (
        {"filename": str(site / "tls" / name)} for name in ("site.pem", "site.key", "authority.pem")
    )
    return {
        "alpn_protocols": ["h2"],
        "tls_certificates": [{"certificate_chain": chain, "private_key": key}],
        "validation_context": {"trusted_ca": authority},
    }


_LOG_FILE = "/access log/"


def _our_log(site: Path) -> Document:
    """The access log of our front, as the agent wrote it down for Envoy, but into a file that is still to be named."""
    listeners = json.loads((site / "data" / "envoy" / "listeners.json").read_text())["resources"]
    front = next(listener for listener in listeners if listener["name"] == "front/items")
    log: Document = front["filter_chains"][0]["filters"][0]["typed_config"]["access_log"][0]
    log["typed_config"]["path"] = _LOG_FILE
    return log


@contextmanager
def _haproxy(path: Path, at: dict[str, Address], here: Ends, there: Ends) -> Iterator[int]:
    file = path.with_suffix(".cfg")
    file.write_text(haproxy(at, here, there))
    command = ("haproxy", "-db", "-q", "-f", str(file))
    with running(command, path.with_suffix(".log"), list(at.values())) as pid:
        yield pid


def haproxy(at: dict[str, Address], here: Ends, there: Ends) -> str:
    """A whole configuration: one thread, connections kept, no log; `lua` is where haproxy.lua chooses."""
    items, sink, lua = (f"{at[name][0]}:{at[name][1]}" for name in ("items", "sink", "lua"))
    servers = {"here": here["items"], "there": there["items"], "sink": here["sink"]}
    backends = "".join(
        f"backend {name}\n  server one {end.address[0]}:{end.address[1]}\n" for name, end in servers.items()
    )
    return f"""\
global
  nbthread 1
  maxconn 4000
  lua-load {Path(__file__).parent / "haproxy.lua"}
defaults
  mode http
  timeout connect 1s
  timeout client 1h
  timeout server 1h
  http-reuse always
frontend items
  bind {items}
  default_backend here
frontend sink
  bind {sink}
  default_backend sink
frontend chosen
  bind {lua}
  http-request lua.choose
  http-request deny deny_status 400 unless {{ var(txn.to) -m found }}
  use_backend %[var(txn.to)]
{backends}"""
