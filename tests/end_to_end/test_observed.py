"""What is seen of requests at real sites: metrics of agent and Envoy, and traces that join on the whole way."""

import os
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cheops.lab.lab import Lab
from cheops.lab.site import LabSite
from end_to_end.asking import ask, wait_for
from end_to_end.collector import Collector, Seen, collecting
from end_to_end.raw import agent_says, call, raw_app, read_settings, settings_of, told, write_settings

AGENT, DIRECT = "X-Scope: {things: (Site2)}", "X-Scope: {things: Site2}"
BY_AGENT = [
    ("cheops-Site1", "front things"),
    ("cheops-Site1", "agent things"),
    ("cheops-Site1", "egress things"),
    ("cheops-Site2", "mesh things"),
]


@pytest.fixture(scope="module")
def plain(lab_of: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return lab_of(raw_app(tmp_path_factory.mktemp("plain") / "app"))


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(lab_of: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Lab:
    lab = lab_of(raw_app(tmp_path_factory.mktemp("traced") / "app"))
    trace_to(collector.endpoint, lab)
    return lab


def trace_to(endpoint: str, lab: Lab) -> None:
    for site in lab.sites:
        path = settings_of(lab, site.name)
        write_settings(path, read_settings(path) | {"traces": {"endpoint": endpoint}})
        lab.restart(site.name, "agent")
    for site in lab.sites:  # their Envoys have started anew
        wait_for(lambda site=site: reaches_all(site), f"{site.name} reaches its peers")


def reaches_all(site: LabSite) -> bool:
    return all(peer["reachable"] for peer in ask(f"{site.admin}/site").json["peers"].values())


# Metrics


def counted(lab: Lab, path: str, name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels, among others."""
    answer = ask(lab.site("Site1").admin + path)
    assert answer.status == 200
    return sum(
        sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_the_agent_counts_what_it_serves_and_what_it_refuses(plain: Lab) -> None:
    front, count = plain.site("Site1").front("things"), partial(counted, plain, "/metrics", "cheops_requests_total")
    served = {"service": "things", "site": "Site2", "kind": "sharing", "outcome": "answered_2xx"}
    over = {"service": "things", "site": "Site1", "kind": "otherwise", "outcome": "answered_2xx"}
    refused = {"service": "things", "site": "none", "kind": "none", "outcome": "refused:bad-scope"}
    before = [count(**labels) for labels in (served, over, refused, {})]
    for scope in ("{things: (Site2)}", "{things: Site1 ; Site2}", "{things: Site9}"):
        call(front, b"/echo", f"X-Scope: {scope}")
    assert [count(**labels) for labels in (served, over, refused, {})] == [
        before[0] + 1,
        before[1] + 1,
        before[2] + 1,
        before[3] + 3,
    ]


def test_envoy_counts_what_it_serves_alone(plain: Lab) -> None:
    front = {"envoy_http_conn_manager_prefix": "front/things"}
    counter = "envoy_http_downstream_rq_xx_total"  # as the parser calls it; Envoy writes it without _total
    at_front = partial(counted, plain, "/metrics/envoy", counter, **front)
    to_peer = partial(
        counted, plain, "/metrics/envoy", "envoy_cluster_upstream_rq_total", envoy_cluster_name="site/Site2"
    )
    by_agent = partial(counted, plain, "/metrics", "cheops_requests_total")

    def counts_just_these() -> bool:
        """What agents ask each other meanwhile is counted too, so that one try may be off."""
        before = at_front(envoy_response_code_class="2"), to_peer(), by_agent()
        for headers in ([], [DIRECT]):
            told(call(plain.site("Site1").front("things"), b"/echo", *headers))
        after = at_front(envoy_response_code_class="2"), to_peer(), by_agent()
        return after == (before[0] + 2, before[1] + 1, before[2])

    wait_for(counts_just_these, "two requests at the front, one to the peer, none by the agent")


# Traces


def complete(collector: Collector, trace: str, spans: int) -> list[Seen]:
    """The spans of a trace, once there are so many: Envoy sends them every 5 s, the agent as often."""
    wait_for(lambda: len(collector.trace(trace)) >= spans, f"{spans} spans of {trace}")
    return collector.trace(trace)


def from_client(sampled: bool = True) -> tuple[str, str, str]:
    """A trace that a client begins: the header, the trace's id, and that of the client's span."""
    trace, span = os.urandom(16).hex(), os.urandom(8).hex()
    return f"traceparent: 00-{trace}-{span}-0{int(sampled)}", trace, span


def test_one_trace_joins_the_whole_way(traced: Lab, collector: Collector) -> None:
    seen = told(call(traced.site("Site1").front("things"), b"/echo", AGENT))
    (parent,) = seen.values("traceparent")
    _, trace, last, flags = parent.split("-")
    way = complete(collector, trace, len(BY_AGENT))
    assert [(span.service, span.name) for span in way] == BY_AGENT
    assert [span.parent for span in way] == ["", *(span.id for span in way[:-1])]
    assert (way[-1].id, flags) == (last, "01")  # the service goes on from there


def test_a_trace_of_the_client_s_goes_on(traced: Lab, collector: Collector) -> None:
    header, trace, client = from_client()
    told(call(traced.site("Site1").front("things"), b"/echo", AGENT, header))
    way = complete(collector, trace, len(BY_AGENT))
    assert [(span.service, span.name) for span in way] == BY_AGENT
    assert way[0].parent == client


def test_without_the_agent_it_joins_too(traced: Lab, collector: Collector) -> None:
    header, trace, _ = from_client()
    told(call(traced.site("Site1").front("things"), b"/echo", DIRECT, header))
    way = complete(collector, trace, 2)
    assert [(span.service, span.name) for span in way] == [BY_AGENT[0], BY_AGENT[-1]]
    assert way[1].parent == way[0].id


def test_what_the_client_doesn_t_want_traced_isn_t(traced: Lab, collector: Collector) -> None:
    unwanted, quiet, _ = from_client(sampled=False)
    seen = told(call(traced.site("Site1").front("things"), b"/echo", AGENT, unwanted))
    assert [value.split("-")[1::2] for value in seen.values("traceparent")] == [[quiet, "00"]]
    wanted, trace, _ = from_client()
    told(call(traced.site("Site1").front("things"), b"/echo", AGENT, wanted))
    complete(collector, trace, len(BY_AGENT))
    assert collector.trace(quiet) == []


def test_nothing_but_requests_is_traced(traced: Lab, collector: Collector) -> None:
    """Sites ask each other once a second whether they are well."""
    header, trace, _ = from_client()
    told(call(traced.site("Site1").front("things"), b"/echo", AGENT, header))
    complete(collector, trace, len(BY_AGENT))
    begun = {span.name for span in collector.spans if not span.parent}
    assert begun <= {"front things"}


def test_a_request_id_of_the_client_s_is_left_as_it_is(traced: Lab) -> None:
    """Envoy has a way of writing into it whether a request is traced."""
    given = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
    seen = told(call(traced.site("Site1").front("things"), b"/echo", f"X-Request-ID: {given}"))
    assert seen.values("x-request-id") == [given]


def test_without_the_setting_no_header_is_added(plain: Lab) -> None:
    for headers in ([], [AGENT], [DIRECT]):
        seen = told(call(plain.site("Site1").front("things"), b"/echo", *headers))
        assert seen.values("traceparent") + seen.values("tracestate") == []
    own = from_client()[0]
    assert told(call(plain.site("Site1").front("things"), b"/echo", AGENT, own)).lines("traceparent") == [own]


def test_a_collector_that_is_away_loses_spans_and_nothing_else(plain: Lab) -> None:
    """It changes the settings of its lab, so it is the last of those that use it."""
    with collecting() as gone:
        pass
    trace_to(gone.endpoint, plain)
    front, lost = plain.site("Site1").front("things"), "the collector doesn't take spans; they are lost"
    for headers in ([], [AGENT], [DIRECT]):
        assert told(call(front, b"/echo", *headers)).values("traceparent")
    wait_for(lambda: agent_says(plain, "Site1", lost), "the agent tells of it")
    assert told(call(front, b"/echo", AGENT)).values("traceparent")
    assert len(agent_says(plain, "Site1", lost)) == 1
    assert ask(plain.site("Site1").admin + "/readyz").json["ready"]
