"""The agent's spans: they join what came and what is sent, and a collector that is away costs nothing."""

import sys
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from cheops.agent import _spans
from cheops.config import Traces
from cheops.errors import BadSettings
from cheops.model import Request
from cheops.observe.spans import Spans
from cheops.observe.watch import Exchange
from values import SHOP, request, site_of

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ANSWERED = Exchange(service="catalog", kind="otherwise", site="Site2", status=200, outcome="answered_2xx", seconds=0.1)
FAILED = Exchange(service="catalog", kind="none", site="", status=503, outcome="refused:cant-keep", seconds=0.1)


def traced(
    asked: Request, exchange: Exchange = ANSWERED, sample: float = 1.0
) -> tuple[Request, Sequence[ReadableSpan]]:
    """The request as it goes on, and the spans that are sent."""
    exporter = InMemorySpanExporter()
    spans = Spans("Site1", sample, exporter)
    onward, tell = spans.begin(asked)
    tell(exchange)
    spans.close()
    return onward, exporter.get_finished_spans()


def traceparent(asked: Request) -> list[str]:
    (value,) = asked.values(b"traceparent")
    return value.decode().split("-")


def test_a_span_joins_the_trace_that_came_and_what_is_sent_joins_the_span() -> None:
    asked = request("catalog", traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="a=b", x_scope="{catalog: (Site2)}")
    onward, (span,) = traced(asked)
    assert span.context
    assert span.parent
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert traceparent(onward) == ["00", TRACE, f"{span.context.span_id:016x}", "01"]
    assert onward.values(b"tracestate") == [b"a=b"]
    assert (onward.target, onward.values(b"x-scope")) == (asked.target, asked.values(b"x-scope"))


def test_what_a_span_says() -> None:
    _, (span,) = traced(request("catalog", x_scope="{catalog: (Site2)}"))
    assert (span.name, span.kind, span.resource.attributes["service.name"]) == (
        "agent catalog",
        SpanKind.SERVER,
        "cheops-Site1",
    )
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "cheops.site": "Site1",
        "cheops.listener": "agent",
        "cheops.service": "catalog",
        "cheops.scope": "{catalog: (Site2)}",
        "cheops.kind": "otherwise",
        "cheops.outcome": "answered_2xx",
        "cheops.served_by": "Site2",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_a_refusal_that_isn_t_the_caller_s_fault_is_an_error() -> None:
    _, (span,) = traced(request("catalog"), FAILED)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "refused:cant-keep")


def test_a_trace_that_isn_t_sampled_stays_so() -> None:
    onward, sent = traced(request("catalog", traceparent=f"00-{TRACE}-{PARENT}-00"))
    assert sent == ()
    assert (traceparent(onward)[1], traceparent(onward)[3]) == (TRACE, "00")


def test_one_that_is_sampled_too_however_few_begin_here() -> None:
    _, sent = traced(request("catalog", traceparent=f"00-{TRACE}-{PARENT}-01"), sample=1e-9)
    assert len(sent) == 1
    _, sent = traced(request("catalog"), sample=1e-9)
    assert sent == ()


@pytest.mark.parametrize("nonsense", ["", "00-0-0-01", f"00-{'0' * 32}-{PARENT}-01", "\xff"])
def test_nonsense_begins_a_new_trace(nonsense: str) -> None:
    onward, (span,) = traced(request("catalog", traceparent=nonsense))
    assert span.parent is None
    assert span.context
    assert traceparent(onward)[1] == f"{span.context.trace_id:032x}"


class Away(SpanExporter):
    """A collector that takes nothing until it is back."""

    def __init__(self) -> None:
        self.back, self.asked = False, 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked += 1
        return SpanExportResult.SUCCESS if self.back else SpanExportResult.FAILURE


def test_a_collector_that_is_away_is_told_once_and_holds_up_nothing() -> None:
    away = Away()
    spans = Spans("Site1", 1.0, away)

    def one() -> None:
        spans.begin(request("catalog"))[1](ANSWERED)
        spans.flush()

    with capture_logs() as logs:
        one()
        one()
        away.back = True
        one()
        away.back = False
        one()
        asked = away.asked
        spans.begin(request("catalog"))[1](ANSWERED)
        spans.close()
    assert [(line["log_level"], "lost" in line["event"]) for line in logs] == [
        ("warning", True),
        ("info", False),
        ("warning", True),
    ]
    assert away.asked == asked  # who didn't answer isn't waited for at the end


def test_without_the_extra_it_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_of(SHOP)
    traces = Traces.model_validate({"endpoint": "http://127.0.0.1:4318"})
    object.__setattr__(site, "settings", site.settings.model_copy(update={"traces": traces}))
    monkeypatch.delitem(sys.modules, "cheops.observe.spans")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(BadSettings, match=r"cheops\[traces\]"), _spans(site):
        pass


def test_without_the_setting_there_are_none() -> None:
    with _spans(site_of(SHOP)) as spans:
        assert spans == ()
