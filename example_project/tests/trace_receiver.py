"""A receiver of OpenTelemetry traces: OTLP over HTTP."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class TraceReceiver(ThreadingHTTPServer):
    """Keeps the received bytes, resources and spans."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[bytes] = []
        self.paths: set[str] = set()

    @property
    def url(self):
        """The value of ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def requests(self):
        """The decoded requests."""
        return [ExportTraceServiceRequest.FromString(body) for body in list(self.received)]

    @property
    def services(self):
        """The names of the services in the received spans."""
        resources = [sent.resource for request in self.requests for sent in request.resource_spans]
        pairs = [pair for resource in resources for pair in resource.attributes]
        return {pair.value.string_value for pair in pairs if pair.key == "service.name"}

    @property
    def spans(self):
        """All spans so far, of all processes."""
        scopes = [
            scope
            for request in self.requests
            for sent in request.resource_spans
            for scope in sent.scope_spans
        ]
        return [span for scope in scopes for span in scope.spans]


class _Handler(BaseHTTPRequestHandler):
    server: TraceReceiver

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.paths.add(self.path)
        self.server.received.append(body)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()
        self.wfile.write(ExportTraceServiceResponse().SerializeToString())

    def log_message(self, format, *arguments):
        """Do not log."""


@contextmanager
def trace_receiver():
    """A receiver that listens while the block runs."""
    with TraceReceiver() as receiver:
        listening = threading.Thread(target=receiver.serve_forever, daemon=True)
        listening.start()
        yield receiver
        receiver.shutdown()
        listening.join()
