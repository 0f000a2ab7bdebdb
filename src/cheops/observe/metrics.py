"""What Prometheus is told: the requests that the agent served, and how the peers are now.

Labels have few values: services and sites are those that the site knows, any other is "other"; kinds and outcomes are
words of Cheops. What Envoy serves alone isn't counted here, but by Envoy: see intercept/envoy/statistics.py.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from cheops import __version__
from cheops.model import PeerState, PeerView, Request, View
from cheops.observe.watch import Exchange, Told

OTHER = "other"
NOBODY = "none"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ELSEWHERE = "what Envoy serves alone is counted at /metrics/envoy"


@dataclass(frozen=True, kw_only=True)
class Now:
    """What is asked at each scrape."""

    view: Callable[[], View]
    peers: Callable[[], Mapping[str, PeerView]]
    envoy_starts: Callable[[], int]


class Metrics:
    """The metrics of one agent, in a registry of their own."""

    def __init__(self, now: Now) -> None:
        self._now, self._registry = now, CollectorRegistry()
        self._requests = Counter(
            "cheops_requests",
            f"Requests that the agent has served or refused; {ELSEWHERE}.",
            ("service", "site", "kind", "outcome"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "cheops_request_seconds",
            f"Seconds from a request's arrival at the agent until its reply began; {ELSEWHERE}.",
            ("service", "kind"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._registry.register(_AtScrape(now))
        ProcessCollector(registry=self._registry)

    def add(self, collector: Collector) -> None:
        """Tells this too, at each scrape."""
        self._registry.register(collector)

    def begin(self, request: Request) -> tuple[Request, Told]:
        return request, self._count

    def _count(self, exchange: Exchange) -> None:
        names = self._now.view().names
        service = _known(exchange.service, names.services)
        site = _known(exchange.site, names.sites) if exchange.site else NOBODY
        self._requests.labels(service, site, exchange.kind, exchange.outcome).inc()
        self._seconds.labels(service, exchange.kind).observe(exchange.seconds)

    def text(self, accept: str) -> tuple[bytes, str]:
        """All metrics and their media type: OpenMetrics if `accept` asks for it, else Prometheus' own text."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


def _known(word: str, words: Container[str]) -> str:
    return word if word in words else OTHER


@dataclass(frozen=True)
class _AtScrape(Collector):
    now: Now

    def collect(self) -> Iterator[Metric]:
        info = {"version": __version__, "site": self.now.view().site}
        yield InfoMetricFamily("cheops", "The version of the agent and the name of its site.", value=info)
        starts = self.now.envoy_starts()
        yield CounterMetricFamily("cheops_envoy_starts", "Envoys that this agent has started.", value=starts)
        yield from _of_peers(self.now.peers())


def _of_peers(peers: Mapping[str, PeerView]) -> Iterator[Metric]:
    up = GaugeMetricFamily("cheops_peer_up", "1 if the peer is up, else 0.", labels=["peer"])
    states = GaugeMetricFamily("cheops_peer_state", "1 at the state of the peer.", labels=["peer", "state"])
    round_trips = GaugeMetricFamily(
        "cheops_peer_round_trip_seconds", "The round trip to the peer, smoothed, as last measured.", labels=["peer"]
    )
    for name, peer in peers.items():
        up.add_metric([name], peer.state is PeerState.UP)
        for state in PeerState:
            states.add_metric([name, state.value], peer.state is state)
        if peer.round_trip:
            round_trips.add_metric([name], peer.round_trip.us / 1e6)
    yield from (up, states, round_trips)
