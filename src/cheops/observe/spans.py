"""The agent's part of a trace: a span for each request that it serves, between those of its Envoy.

It needs the extra `cheops[traces]`. Spans are sent in the background and in batches; a collector that doesn't answer
costs no request anything, and spans beyond a bound are lost. A span ends when the reply begins.
"""

import logging
from collections.abc import Sequence
from functools import partial

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cheops import __version__
from cheops.config import OTLP_PATH, Traces
from cheops.intercept.envoy.tracing import service_name
from cheops.model import Request
from cheops.observe.watch import Exchange, Told

EXPORT_SECONDS = 2.0  # for one batch; the last one may hold up the agent's end for as long
_JOINED_BY = (b"traceparent", b"tracestate")
_W3C = TraceContextTextMapPropagator()
log = structlog.get_logger("traces")


class Spans:
    """Makes spans for a site and sends them by `exporter`."""

    def __init__(self, site: str, sample: float, exporter: SpanExporter) -> None:
        self._site, self._telling = site, _Telling(exporter)
        resource = Resource({"service.name": service_name(site), "service.version": __version__})
        self._provider = TracerProvider(
            resource=resource, sampler=ParentBasedTraceIdRatio(sample), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._telling))
        self._tracer = self._provider.get_tracer("cheops")

    def begin(self, request: Request) -> tuple[Request, Told]:
        """The request with the span in its traceparent, so that what is sent for it joins there."""
        parent = _W3C.extract({name.decode(): _joined(request, name) for name in _JOINED_BY})
        span = self._tracer.start_span(f"agent {request.service}", parent, SpanKind.SERVER, self._attributes(request))
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, set_span_in_context(span))
        for name, value in carrier.items():
            request = request.with_header(name.encode(), value.encode())
        return request, partial(_end, span)

    def _attributes(self, request: Request) -> dict[str, str]:
        scopes = request.values(b"x-scope")
        return {
            "http.request.method": request.method,
            "cheops.site": self._site,
            "cheops.listener": "agent",
            "cheops.service": request.service,
            **({"cheops.scope": scopes[0].decode("latin1")} if scopes else {}),
        }

    def flush(self) -> None:
        """Sends what there is now. Blocks."""
        self._provider.force_flush()

    def close(self) -> None:
        """Sends what is left, for a few seconds at most. Blocks."""
        self._telling.ending = True
        self._provider.shutdown()


def otlp(traces: Traces) -> SpanExporter:
    """Sends spans to the collector of the settings."""
    return OTLPSpanExporter(endpoint=f"{traces.endpoint}{OTLP_PATH}", timeout=EXPORT_SECONDS)


def _joined(request: Request, name: bytes) -> str:
    return ",".join(value.decode("latin1") for value in request.values(name))


def _end(span: Span, exchange: Exchange) -> None:
    span.set_attributes(
        {
            "http.response.status_code": exchange.status,
            "cheops.kind": exchange.kind,
            "cheops.outcome": exchange.outcome,
            "cheops.served_by": exchange.site,
        }
    )
    if exchange.status >= 500:
        span.set_status(StatusCode.ERROR, exchange.outcome)
    span.end()


class _Telling(SpanExporter):
    """Says in the log once that the collector doesn't take spans, and once that it does again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter, self._fails = exporter, False
        self.ending = False
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it would say so at every batch

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.ending and self._fails:
            return SpanExportResult.FAILURE
        result = self._exporter.export(spans)
        fails = result is not SpanExportResult.SUCCESS
        if fails != self._fails:
            self._fails = fails
            (log.warning if fails else log.info)(_SAID[fails])
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


_SAID = {True: "the collector doesn't take spans; they are lost", False: "the collector takes spans again"}
