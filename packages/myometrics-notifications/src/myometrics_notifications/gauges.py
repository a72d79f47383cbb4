"""Prometheus gauges of the outbox."""

from __future__ import annotations

from myometrics_core.observability import register_gauge
from myometrics_core.times import utc_now

from .models import Message
from .selectors import claimable

__all__ = ["outbox_age_seconds", "outbox_dead", "register_gauges"]


def register_gauges() -> None:
    """Register the outbox's age and its number of dead letters."""
    register_gauge(
        "myometrics_outbox_age_seconds",
        "Age in seconds of the oldest due mail.",
        outbox_age_seconds,
    )
    register_gauge("myometrics_outbox_dead", "Dead letters that are not yet purged.", outbox_dead)


def outbox_age_seconds() -> float:
    """Return how long the oldest due mail has waited; 0 if none waits."""
    due = Message.objects.filter(claimable()).order_by("next_attempt_at")
    since = due.values_list("next_attempt_at", flat=True).first()
    return max(0.0, (utc_now() - since).total_seconds()) if since else 0.0


def outbox_dead() -> float:
    """Return the number of dead letters."""
    return float(Message.objects.filter(state=Message.State.DEAD).count())
