"""Envoy's part of a trace: a span for every request at each listener, joined by W3C traceparent (Trace Context).

A trace begins at a front, or at a client that says so. What comes to mesh and egress with no trace begins none: those
are health checks and the agents' own talk.
"""

from typing import Any

from cheops.config import OTLP_PATH, Site, Traces
from cheops.intercept.envoy.names import COLLECTOR, typed

EXPORTED_AT_ONCE = 512  # spans; of Envoy's 5, a busy front would make thousands of calls a second
_SAMPLERS = "envoy.extensions.tracers.opentelemetry.samplers.v3"
_MILLION = 1_000_000


def service_name(site: str) -> str:
    """What a site is called in traces."""
    return f"cheops-{site}"


def tracing(of: Site, listener: str, service: str) -> dict[str, Any]:
    """What a listener's HTTP does for traces; nothing if the settings name no collector."""
    if of.settings.traces is None:
        return {}
    name = listener.partition("/")[0]
    return {
        "tracing": {
            "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": _tracer(of, of.settings.traces, name)},
            "operation": f"{name} {service}",
            "custom_tags": [
                {"tag": "cheops.site", "literal": {"value": of.name}},
                {"tag": "cheops.listener", "literal": {"value": name}},
                {"tag": "cheops.scope", "request_header": {"name": "x-scope"}},
            ],
        },
        "request_id_extension": _LEAVE_IDS,
    }


# Envoy would write into a client's X-Request-ID whether the request is traced.
_LEAVE_IDS = {
    "typed_config": typed(
        "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
        pack_trace_reason=False,
        use_request_id_for_trace_sampling=False,
    )
}


def _tracer(of: Site, traces: Traces, listener: str) -> dict[str, Any]:
    begun = traces.sample if listener == "front" else 0
    ratio = {"numerator": round(begun * _MILLION), "denominator": "MILLION"}
    root = {
        "name": "root",
        "typed_config": typed(f"{_SAMPLERS}.TraceIdRatioBasedSamplerConfig", sampling_percentage=ratio),
    }
    return typed(
        "envoy.config.trace.v3.OpenTelemetryConfig",
        http_service={"http_uri": {"uri": f"{traces.endpoint}{OTLP_PATH}", "cluster": COLLECTOR, "timeout": "2s"}},
        service_name=service_name(of.name),
        sampler={
            "name": "parent",
            "typed_config": typed(f"{_SAMPLERS}.ParentBasedSamplerConfig", wrapped_sampler=root),
        },
    )


def runtime(of: Site) -> dict[str, Any]:
    """What Envoy is told of traces as it starts."""
    return {"tracing.opentelemetry.min_flush_spans": EXPORTED_AT_ONCE} if of.settings.traces else {}
