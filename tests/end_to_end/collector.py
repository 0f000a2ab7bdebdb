"""A collector of spans, as small as OTLP over HTTP lets it be."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A span that was sent; ids are in hexadecimal digits, `parent` is empty if it has none."""

    service: str
    name: str
    trace: str
    id: str
    parent: str


@dataclass
class Collector:
    """What was sent so far, and where to send."""

    endpoint: str
    spans: list[Seen] = field(default_factory=list)

    def trace(self, trace: str) -> list[Seen]:
        """The spans of a trace, each after its parent."""
        left, way = [span for span in self.spans if span.trace == trace], list[Seen]()
        while left:
            known = {span.id for span in way}
            following = [span for span in left if span.parent in known] or [
                span for span in left if span.parent not in {other.id for other in left}
            ]
            way += following
            left = [span for span in left if span not in following]
        return way


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        server.collector = collector  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        sent = ExportTraceServiceRequest.FromString(self._body())
        self.server.collector.spans += _spans_of(sent)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def _body(self) -> bytes:
        if length := self.headers["content-length"]:
            return self.rfile.read(int(length))
        body = b""
        while size := int(self.rfile.readline(), 16):  # Envoy sends chunks (RFC 9112, 7.1)
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def _spans_of(sent: ExportTraceServiceRequest) -> Iterator[Seen]:
    for resource in sent.resource_spans:
        names = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            yield Seen(
                service=names["service.name"],
                name=span.name,
                trace=span.trace_id.hex(),
                id=span.span_id.hex(),
                parent=span.parent_span_id.hex(),
            )
