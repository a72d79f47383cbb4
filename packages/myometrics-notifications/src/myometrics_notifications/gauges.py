"""What notifications tell those who watch the site."""

from __future__ import annotations

from myometrics_core.metrics import register_gauge
from myometrics_core.times import utc_now

from .models import Message
from .selectors import free_to_take

__all__ = ["outbox_age_seconds", "outbox_dead", "register_gauges"]


def register_gauges() -> None:
    """Offer the outbox's age, and how much of it is lost."""
    register_gauge(
        "myometrics_outbox_age_seconds",
        "Seconds for which the mail that is due longest has been due.",
        outbox_age_seconds,
    )
    register_gauge("myometrics_outbox_dead", "Mails given up and not yet purged.", outbox_dead)


def outbox_age_seconds() -> float:
    """How long the oldest mail that could be sent has waited; 0 when none waits."""
    due = Message.objects.filter(free_to_take()).order_by("next_attempt_at")
    since = due.values_list("next_attempt_at", flat=True).first()
    return max(0.0, (utc_now() - since).total_seconds()) if since else 0.0


def outbox_dead() -> float:
    """How many mails were given up."""
    return float(Message.objects.filter(state=Message.State.DEAD).count())
