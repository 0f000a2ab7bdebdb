"""What is compared with what: the one table."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Address = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class End:
    """Where a client sends its requests, and the pids of the proxies that they pass from there on."""

    address: Address
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way from the client to a service. In headers, SERVICE stands for the service that the request is for.

    `served_by` and `to` are what a reply and our access log say if a request really goes the way that is meant; None:
    nobody says.
    """

    key: str
    name: str
    items: End
    sink: End | None = None  # None: uploads aren't measured
    headers: Mapping[str, str] = field(default_factory=dict)
    baseline: str | None = None  # the key of what it is compared with
    logged: str | None = None  # the key of the baseline that writes the same access log
    target: float | None = None  # of the throughput, as a share of the baseline's
    at_rate: bool = False  # whether it is measured at a constant rate too
    without_agent: str | None = None  # the key of the same way without the agent
    served_by: str | None = None
    to: str | None = None

    @property
    def ends(self) -> list[End]:
        return [self.items, self.sink] if self.sink else [self.items]

    def head(self, what: str, service: str, end: End, length: int) -> bytes:
        """The head of a request, such as "POST /read", with a body of `length` bytes."""
        host, port = end.address
        headers = {"Host": f"{host}:{port}", "Content-Length": str(length), **self.headers_for(service)}
        lines = [f"{what} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode()

    def headers_for(self, service: str) -> dict[str, str]:
        return {name: value.replace("SERVICE", service) for name, value in self.headers.items()}


Ends = Mapping[str, End]
"""By service."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where everything listens. `marked` are request ids that carry a site, by its name."""

    backend: Ends
    envoy: Ends
    logged: Ends
    envoys: Ends
    envoys_logged: Ends
    haproxy: Ends
    haproxy_lua: Ends
    front: Ends
    front_to_peer: Ends  # the same addresses, but two sites at work
    marked: Mapping[str, str]


TARGET = 0.9
TWO = "{items: SITE, sink: SITE}"
AGENT = "{SERVICE: (SITE)}"  # Envoy leaves parentheses to the agent


def variants(at: Places) -> list[Variant]:
    """All variants, in the order in which they are measured and shown."""
    return [
        _plain("direct", "the service directly", at.backend, at_rate=True),
        _plain("envoy", "Envoy, minimal", at.envoy, at_rate=True),
        _plain("logged", "Envoy, minimal, with our JSON access log", at.logged, baseline="envoy"),
        _ours("front", "front, no scope", at, None, target=TARGET, at_rate=True),
        _ours("here", "front, `{items: Site1}`: here", at, "Site1", target=TARGET, at_rate=True),
        _ours("here-lua", "front, two bindings: here, by Lua", at, "Site1", scope=TWO),
        _ours("here-id", "front, a marked request id: here, by Lua", at, "Site1", scope=None),
        _plain("envoys", "two Envoys, minimal, HTTP/2 and mutual TLS between", at.envoys, at_rate=True),
        _plain(
            "envoys-logged", "the same two Envoys, each with our JSON access log", at.envoys_logged, baseline="envoys"
        ),
        _ours("there", "front, `{items: Site2}`: another site", at, "Site2", target=TARGET, at_rate=True),
        _ours("there-lua", "front, two bindings: another site, by Lua", at, "Site2", scope=TWO),
        _ours("there-id", "front, a marked request id: another site, by Lua", at, "Site2", scope=None),
        _ours("agent-here", "agent, `{items: (Site1)}`: here", at, "Site1", scope=AGENT, to="agent", at_rate=True),
        _ours(
            "agent-there", "agent, `{items: (Site2)}`: another site", at, "Site2", scope=AGENT, to="agent", at_rate=True
        ),
        _plain("haproxy", "HAProxy, minimal", at.haproxy, baseline="envoy"),
        Variant(
            key="haproxy-lua",
            name="HAProxy, `{items: Site1}`: here, by Lua",
            items=at.haproxy_lua["items"],
            headers={"X-Scope": "{SERVICE: Site1}"},
            baseline="haproxy",
        ),
    ]


def _plain(key: str, name: str, ends: Ends, *, baseline: str | None = None, at_rate: bool = False) -> Variant:
    return Variant(key=key, name=name, items=ends["items"], sink=ends.get("sink"), baseline=baseline, at_rate=at_rate)


def _ours(
    key: str,
    name: str,
    at: Places,
    site: str | None,
    *,
    scope: str | None = "{SERVICE: SITE}",
    to: str | None = None,
    target: float | None = None,
    at_rate: bool = False,
) -> Variant:
    """A way through the front of Site1 to `site`; None: without a scope. A `scope` of None: a marked request id."""
    there = site == "Site2"
    ends = at.front_to_peer if there else at.front
    return Variant(
        key=key,
        name=name,
        items=ends["items"],
        sink=ends["sink"],
        headers=_headers(at, site, scope) if site else {},
        baseline="envoys" if there else "envoy",
        logged="envoys-logged" if there else "logged",
        target=target,
        at_rate=at_rate,
        served_by=site,
        without_agent=("there" if there else "here") if to == "agent" else None,
        to=to or ("site/Site2" if there else "local/items"),
    )


def _headers(at: Places, site: str, scope: str | None) -> dict[str, str]:
    return {"X-Scope": scope.replace("SITE", site)} if scope else {"X-Request-ID": at.marked[site]}
