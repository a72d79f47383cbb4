"""Metric of checkpoints."""

from __future__ import annotations

from myometrics_core.observability import register_gauge
from myometrics_core.times import seconds_since

from ..log.models import Seal
from .models import Checkpoint


def register_gauges() -> None:
    """Register the lag of checkpoints."""
    register_gauge(
        "myometrics_checkpoint_lag_seconds",
        "Age of the oldest seal of the audit log that no published checkpoint covers yet.",
        checkpoint_lag_seconds,
    )


def checkpoint_lag_seconds() -> float:
    """Return the age of the oldest seal that no published checkpoint covers; 0 if none."""
    published = Checkpoint.objects.filter(published_at__isnull=False).order_by("-size")
    size = published.values_list("size", flat=True).first() or 0
    uncovered = Seal.objects.filter(number__gt=size).order_by("number")
    since = uncovered.values_list("sealed_at", flat=True).first()
    return seconds_since(since)
