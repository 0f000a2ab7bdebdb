"""What Prometheus is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from cheops import __version__
from cheops.model import PeerState, PeerView, RoundTrip
from cheops.observe.metrics import Metrics, Now
from cheops.observe.watch import Exchange
from values import SHOP, request, site_of, view_of

Labels = tuple[tuple[str, str], ...]


@dataclass
class Site1:
    """A site whose metrics are looked at."""

    peers: Mapping[str, PeerView] = field(default_factory=dict)
    starts: int = 1

    def __post_init__(self) -> None:
        view = view_of(site_of(SHOP))
        now = Now(view=lambda: view, peers=lambda: self.peers, envoy_starts=lambda: self.starts)
        self.metrics = Metrics(now)

    def serves(
        self, service: str = "catalog", site: str = "Site2", kind: str = "sharing", seconds: float = 0.2
    ) -> None:
        _, tell = self.metrics.begin(request(service))
        tell(Exchange(service=service, kind=kind, site=site, status=200, outcome="answered_2xx", seconds=seconds))

    def says(self, name: str) -> dict[Labels, float]:
        """The samples of this name by their labels."""
        text, media_type = self.metrics.text("")
        assert media_type.startswith("text/plain; version=")
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
            if sample.name == name
        }


def requests(service: str, site: str, kind: str = "sharing") -> Labels:
    return (("kind", kind), ("outcome", "answered_2xx"), ("service", service), ("site", site))


def test_requests_are_counted() -> None:
    here = Site1()
    here.serves()
    here.serves()
    here.serves("orders", "", "around")
    assert here.says("cheops_requests_total") == {
        requests("catalog", "Site2"): 2,
        requests("orders", "none", "around"): 1,
    }


def test_a_request_isn_t_handed_on_changed() -> None:
    asked = request("catalog")
    assert Site1().metrics.begin(asked)[0] is asked


def test_names_that_the_site_doesn_t_know_are_one() -> None:
    """However many there are, the labels stay few."""
    here = Site1()
    for number in range(100):
        here.serves(f"service{number}", f"Peer{number}")
    assert here.says("cheops_requests_total") == {requests("other", "other"): 100}
    assert set(here.says("cheops_request_seconds_count")) == {(("kind", "sharing"), ("service", "other"))}


def test_how_long_they_took() -> None:
    here = Site1()
    here.serves(seconds=0.2)
    here.serves(seconds=3)
    of = (("kind", "sharing"), ("service", "catalog"))
    assert here.says("cheops_request_seconds_count") == {of: 2}
    assert here.says("cheops_request_seconds_sum") == {of: pytest.approx(3.2)}
    buckets = {dict(labels)["le"]: count for labels, count in here.says("cheops_request_seconds_bucket").items()}
    assert (buckets["0.1"], buckets["0.25"], buckets["2.5"], buckets["5.0"], buckets["+Inf"]) == (0, 1, 1, 2, 2)


def test_peers_are_told_as_they_are_at_the_scrape() -> None:
    here = Site1()
    assert here.says("cheops_peer_up") == {}
    near = RoundTrip(us=1500, spread_us=10, age=1)
    here.peers = {
        "Site2": PeerView(state=PeerState.UP, since=1, round_trip=near),
        "Site3": PeerView(state=PeerState.SUSPECT, since=1),
    }
    assert here.says("cheops_peer_up") == {(("peer", "Site2"),): 1, (("peer", "Site3"),): 0}
    assert here.says("cheops_peer_round_trip_seconds") == {(("peer", "Site2"),): 0.0015}
    states = {labels for labels, value in here.says("cheops_peer_state").items() if value}
    assert states == {(("peer", "Site2"), ("state", "up")), (("peer", "Site3"), ("state", "suspect"))}
    assert len(here.says("cheops_peer_state")) == 2 * len(PeerState)


def test_who_says_so_and_how_often_envoy_was_started() -> None:
    here = Site1(starts=3)
    assert here.says("cheops_info") == {(("site", "Site1"), ("version", __version__)): 1}
    assert here.says("cheops_envoy_starts_total") == {(): 3}
    assert here.says("process_resident_memory_bytes")[()] > 1e6


def test_two_agents_in_one_process_have_metrics_of_their_own() -> None:
    one, other = Site1(), Site1()
    one.serves()
    assert other.says("cheops_requests_total") == {}


def test_open_metrics_are_told_to_whoever_asks_for_them() -> None:
    here = Site1()
    here.serves()
    text, media_type = here.metrics.text("application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    assert "cheops_requests" in {family.name for family in openmetrics(text.decode())}


def test_where_the_rest_is_counted_stands_beside_the_name() -> None:
    text, _ = Site1().metrics.text("")
    helped = [line for line in text.decode().splitlines() if line.startswith("# HELP cheops_requests_total ")]
    assert "/metrics/envoy" in helped[0]
