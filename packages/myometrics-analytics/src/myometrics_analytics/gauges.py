"""Metrics of analytics for monitoring."""

from __future__ import annotations

from myometrics_core.observability import register_gauge
from myometrics_core.times import seconds_since

from .conf import image_service_url
from .models import PendingChange, PullState
from .pull.pulling import pull_status


def register_gauges() -> None:
    """Register the gauges below."""
    register_gauge(
        "myometrics_sync_age_seconds",
        "Seconds since uploads were last pulled from the image service.",
        sync_age_seconds,
    )
    register_gauge(
        "myometrics_sync_failures", "Failed pulls from the image service in a row.", sync_failures
    )
    register_gauge(
        "myometrics_pending_changes", "Changes of uploads not yet folded.", pending_changes
    )


def sync_age_seconds() -> float | None:
    """Seconds since the last successful pull; ``None`` without image service or pull."""
    state = PullState.objects.first() if image_service_url() else None
    if state is None or state.succeeded_at is None:
        return None
    return seconds_since(state.succeeded_at)


def sync_failures() -> float | None:
    """Failed pulls since the last successful one; ``None`` without an image service."""
    return float(pull_status().failures) if image_service_url() else None


def pending_changes() -> float:
    """Number of changes not yet folded into the rollups."""
    return float(PendingChange.objects.count())
