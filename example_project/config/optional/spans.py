"""Spans of this process and their export. Imported only if the environment enables tracing."""

from __future__ import annotations

import os

import django
from celery import current_app
from django.apps import apps
from django.http import HttpRequest, HttpResponse
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from .span_exporter import FilteredSpanExporter

SERVICE = "myometrics"


def trace_this_process() -> None:
    """Instrument requests, tasks, and calls to PostgreSQL and Redis; export the spans."""
    if not apps.ready:
        # Web processes only: Celery's have done both, and must not configure logging again. A
        # message's span ends only if its task is registered.
        django.setup()
        current_app.loader.import_default_modules()
    if "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        os.environ.setdefault("OTEL_SERVICE_NAME", SERVICE)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(FilteredSpanExporter()))
    trace.set_tracer_provider(provider)
    DjangoInstrumentor().instrument(response_hook=_set_request_id)
    celery = CeleryInstrumentor()  # type: ignore[no-untyped-call]
    for instrumentor in (celery, PsycopgInstrumentor(), RedisInstrumentor()):
        instrumentor.instrument()


def export_remaining_spans() -> None:
    """Export the remaining spans, and stop recording."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def _set_request_id(span: trace.Span, request: HttpRequest, response: HttpResponse) -> None:
    span.set_attribute("myometrics.request_id", request.request_id)  # type: ignore[attr-defined]
