"""OpenTelemetry tracing, if the environment enables it; otherwise nothing of it is imported.

Enabled by ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``), disabled by
``OTEL_SDK_DISABLED=true`` or ``OTEL_TRACES_EXPORTER=none``. OpenTelemetry's SDK reads all other
standard variables (service name, sampler, headers, limits). Needs the extra ``opentelemetry``.
"""

from __future__ import annotations

import os
import threading
from importlib.util import find_spec
from typing import Any

from django.core import checks

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
PROBES = "/livez,/readyz,/metrics"
NEEDED = (
    "opentelemetry.sdk",
    "opentelemetry.exporter.otlp.proto.http",
    *(f"opentelemetry.instrumentation.{name}" for name in ("celery", "django", "psycopg", "redis")),
)

_starting = threading.Lock()


def is_enabled() -> bool:
    """Return whether the environment names an endpoint for traces, and does not disable them."""
    if _variable("OTEL_SDK_DISABLED") == "true" or _variable("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(_variable(name) for name in ENDPOINTS)


def check_tracing(**kwargs: Any) -> list[checks.CheckMessage]:
    """W004: enabled, but not installed. W005: enabled with an unsupported protocol."""
    if not is_enabled():
        return []
    if missing := [name for name in NEEDED if not _is_installed(name)]:
        hint = 'Install the site with its extra: pip install "./example_project[opentelemetry]"'
        return [_warning(f"{missing[0]} is not installed", hint, "config.W004")]
    if (protocol := _protocol()) != PROTOCOL:
        hint = f"Set OTEL_EXPORTER_OTLP_PROTOCOL to {PROTOCOL}; its usual port is 4318."
        return [_warning(f"the protocol {protocol!r} is not supported", hint, "config.W005")]
    return []


def start_tracing() -> None:
    """Trace this process from now on, if enabled and installed; idempotent.

    Call it in the serving process, after the fork and before Django's handler is created: a
    middleware makes the spans of requests.
    """
    if is_enabled() and not check_tracing() and _starting.acquire(blocking=False):
        # Read when the instrumentation of Django is imported.
        os.environ.setdefault("OTEL_PYTHON_DJANGO_EXCLUDED_URLS", PROBES)
        from .spans import trace_this_process  # noqa: PLC0415

        trace_this_process()


def stop_tracing() -> None:
    """Export the remaining spans: Celery's processes end without running exit handlers."""
    if _starting.locked():
        from .spans import export_remaining_spans  # noqa: PLC0415

        export_remaining_spans()


def _warning(why: str, hint: str, number: str) -> checks.Warning:
    message = f"OpenTelemetry traces are enabled, but not sent: {why}."
    return checks.Warning(message, hint=hint, id=number)


def _protocol() -> str:
    return next((found for name in PROTOCOLS if (found := _variable(name))), PROTOCOL)


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip().lower()


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
