"""Filter spans before export: only attributes without personal data.

Instrumentations record client addresses, whole URLs, exception texts and more, and each version may
add attributes. Hence an allowlist, not a blocklist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Link, Status
from opentelemetry.util.types import AttributeValue

ALLOWED_ATTRIBUTES = frozenset(
    {
        # requests, by the older names and by those of OTEL_SEMCONV_STABILITY_OPT_IN=http
        "http.method",
        "http.request.method",
        "http.route",
        "http.scheme",
        "url.scheme",
        "http.status_code",
        "http.response.status_code",
        "http.flavor",
        "network.protocol.version",
        "myometrics.request_id",
        # PostgreSQL and Redis
        "db.system",
        "db.system.name",
        "db.name",
        "db.namespace",
        "db.operation.name",
        "db.redis.database_index",
        "db.redis.args_length",
        "db.redis.pipeline_length",
        # Celery
        "celery.action",
        "celery.task_name",
        "celery.state",
        "celery.retries",
        "messaging.message.id",
        "messaging.message_id",
        "messaging.destination",
        "messaging.destination_kind",
        # failures
        "error.type",
        "exception.type",
        "exception.escaped",
    }
)
STATEMENTS = frozenset({"db.statement", "db.query.text"})
LITERAL = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b")


class FilteredSpanExporter(OTLPSpanExporter):
    """Sends spans as OTLP over HTTP, without personal data."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send ``spans``; returns the result of the transfer."""
        return super().export([without_personal_data(span) for span in spans])


def without_personal_data(span: ReadableSpan) -> ReadableSpan:
    """Return ``span`` with allowed attributes only: no exception text, no values in statements."""
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_attributes(span.attributes or {}),
        events=[Event(e.name, _attributes(e.attributes or {}), e.timestamp) for e in span.events],
        links=[Link(link.context) for link in span.links],
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _attributes(found: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    allowed = {name: value for name, value in found.items() if name in ALLOWED_ATTRIBUTES}
    statements = {name: value for name, value in found.items() if name in STATEMENTS}
    return allowed | {name: LITERAL.sub("?", str(value)) for name, value in statements.items()}
