"""What the health log tells a monitoring system."""

from __future__ import annotations

from django.utils import timezone

from ..metrics import register_gauge
from .models import HealthState

__all__ = ["health_check_age_seconds", "register_gauges"]


def register_gauges() -> None:
    """Offer the age of the last health check."""
    register_gauge(
        "myometrics_health_check_age_seconds",
        "Seconds since the periodic health check ran: grows while no beat or no worker runs.",
        health_check_age_seconds,
    )


def health_check_age_seconds() -> float | None:
    """Seconds since the last periodic health check; ``None`` before the first."""
    checked_at = HealthState.objects.values_list("checked_at", flat=True).first()
    return None if checked_at is None else max(0.0, (timezone.now() - checked_at).total_seconds())
