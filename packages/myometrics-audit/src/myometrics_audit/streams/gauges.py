"""Metrics of streams."""

from __future__ import annotations

from django.db.models import Count

from myometrics_core.observability import register_gauge
from myometrics_core.times import seconds_since

from .models import DeadLetter
from .options import stream_names
from .pending import pending_count, pending_since, position_of
from .services import configured_streams


def register_gauges() -> None:
    """Register the lag, the failures and the refused entries of each stream."""
    register_gauge(
        "myometrics_stream_lag_seconds",
        "Age of the oldest seal with entries that the stream has not sent yet.",
        stream_lag_seconds,
        label="stream",
    )
    register_gauge(
        "myometrics_stream_pending",
        "Sealed entries that the stream has not sent yet, including those it doesn't select.",
        stream_pending,
        label="stream",
    )
    register_gauge(
        "myometrics_stream_failing_seconds",
        "How long the stream has been failing, or been dead; 0 if it can send.",
        stream_failing_seconds,
        label="stream",
    )
    register_gauge(
        "myometrics_stream_refused",
        "Entries that the receiver of the stream refused for good.",
        stream_refused,
        label="stream",
    )


def stream_lag_seconds() -> dict[str, float]:
    """Return by stream the age of the oldest seal with entries to send; 0 if there are none."""
    streams = configured_streams()
    return {stream.name: seconds_since(pending_since(position_of(stream))) for stream in streams}


def stream_pending() -> dict[str, float]:
    """Return by stream the number of sealed entries after its position."""
    return {
        stream.name: float(pending_count(position_of(stream))) for stream in configured_streams()
    }


def stream_failing_seconds() -> dict[str, float]:
    """Return by stream how long it has been failing."""
    return {stream.name: seconds_since(stream.failing_since) for stream in configured_streams()}


def stream_refused() -> dict[str, float]:
    """Return by stream the number of refused entries."""
    counts = DeadLetter.objects.order_by().values_list("stream").annotate(Count("pk"))
    refused = dict(counts.filter(stream__in=stream_names()))
    return {name: float(refused.get(name, 0)) for name in stream_names()}
