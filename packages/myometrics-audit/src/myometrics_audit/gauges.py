"""What audit tells those who watch the site."""

from __future__ import annotations

from django.db import router
from django.utils import timezone

from myometrics_core.metrics import register_gauge

from .models import AuditLog, Leaf

__all__ = ["register_gauges", "seal_lag_seconds"]


def register_gauges() -> None:
    """Offer the seal lag."""
    register_gauge(
        "myometrics_seal_lag_seconds",
        "Age of the oldest audit entry that no seal covers yet.",
        seal_lag_seconds,
    )


def seal_lag_seconds() -> float:
    """Age of the oldest entry that waits for a seal; 0 when none does."""
    alias = router.db_for_read(Leaf)
    waiting = Leaf.objects.using(alias).filter(seal_number=None, erasure_id=None)
    oldest = waiting.order_by("entry_id").values_list("entry_id", flat=True).first()
    entry = AuditLog._base_manager.using(alias).filter(pk=oldest).first() if oldest else None
    return max(0.0, (timezone.now() - entry.timestamp).total_seconds()) if entry else 0.0
