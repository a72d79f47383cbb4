"""Metrics for Prometheus, with ``pip install myometrics-core[metrics]``.

Requests are counted by method, route and status, with their duration. Registered gauges are read at
each scrape. If the server has several processes, set ``PROMETHEUS_MULTIPROC_DIR``.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator, Mapping
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ..api.errors import json_error
from ..conf.core_settings import core_settings
from ..http.addresses import client_address, in_networks
from ..texts import encodable_text
from .metrics import gauge_values, observe_requests, register_gauge

__all__ = ["connect_prometheus"]

CONNECT_SECONDS = 2
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

requests_total = Counter(
    "myometrics_requests", "Completed requests.", ["method", "endpoint", "status"]
)
request_seconds = Histogram(
    "myometrics_request_duration_seconds",
    "Seconds from a request's arrival to its response.",
    ["method", "endpoint"],
    buckets=BUCKETS,
)


def connect_prometheus() -> None:
    """Count requests, and register the gauge of the task queue's length."""
    observe_requests("prometheus", _count)
    register_gauge(
        "myometrics_queued_tasks", "Tasks that wait for a worker in the broker.", queued_tasks
    )


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return all metrics as text.

    Access requires ``METRICS_TOKEN`` or a client address in ``METRICS_NETWORKS``. 404 if neither is
    configured; 401 for other clients.
    """
    networks = core_settings.METRICS_NETWORKS
    if not (core_settings.METRICS_TOKEN or networks):
        raise Http404
    if not (_has_token(request) or in_networks(client_address(request), networks)):
        refusal = json_error(401, "Metrics need their token.", "not_authenticated")
        refusal["WWW-Authenticate"] = "Bearer"
        return refusal
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(OwnProcessCollector())
    registry.register(GaugeCollector())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def queued_tasks() -> float | None:
    """Return the number of tasks in the default queue; ``None`` without a broker."""
    if core_settings.JOB_RUNNER != "celery":
        return None
    from celery import current_app  # noqa: PLC0415  (an optional dependency)

    with current_app.connection_for_read(connect_timeout=CONNECT_SECONDS) as connection:
        if connection.transport_cls == "memory":
            return None
        # In kombu 5.2.1, the oldest supported version, `default_channel` alone retries forever.
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_SECONDS)
        channel: Any = connection.default_channel
        queue = current_app.conf.task_default_queue
        try:
            return float(channel.queue_declare(queue, passive=True).message_count)
        except connection.channel_errors:
            return 0.0  # the queue does not exist yet or, with Redis, is empty


class GaugeCollector(Collector):
    """The registered gauges, read once per scrape, independent of the process that serves it."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for gauge, value in gauge_values():
            if isinstance(value, Mapping):
                family = GaugeMetricFamily(gauge.name, gauge.description, labels=[str(gauge.label)])
                for label, number in value.items():
                    family.add_metric([label], number)
                yield family
            else:
                yield GaugeMetricFamily(gauge.name, gauge.description, value=value)


def _count(method: str, endpoint: str, status: int, seconds: float) -> None:
    method = method if method in METHODS else "other"
    requests_total.labels(method, endpoint, str(status)).inc()
    request_seconds.labels(method, endpoint).observe(seconds)


class OwnProcessCollector(Collector):
    """The counters of this process."""

    def collect(self) -> Iterator[object]:  # type: ignore[override]
        yield from REGISTRY.collect()


def _has_token(request: HttpRequest) -> bool:
    token = core_settings.METRICS_TOKEN
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if not token or scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(encodable_text(given.strip()).encode(), token.encode())
