"""Metrics of the audit log."""

from __future__ import annotations

import math

from django.db import router

from myometrics_core.observability import register_gauge
from myometrics_core.times import seconds_since

from .log.models import AuditLog, Leaf, Seal, Verification


def register_gauges() -> None:
    """Register the lags of seals and anchors, and the result of the last verification."""
    register_gauge(
        "myometrics_seal_lag_seconds",
        "Age of the oldest audit entry that is not sealed yet.",
        seal_lag_seconds,
    )
    register_gauge(
        "myometrics_anchor_lag_seconds",
        "Age of the oldest seal of the audit log that is not published as an anchor yet.",
        anchor_lag_seconds,
    )
    register_gauge(
        "myometrics_verification_age_seconds",
        "Time since the audit log was last verified; infinite before the first time.",
        verification_age_seconds,
    )
    register_gauge(
        "myometrics_verification_problems",
        "Problems that the last verification of the audit log found.",
        verification_problems,
    )


def seal_lag_seconds() -> float:
    """Return the age of the oldest unsealed entry; 0 if there is none."""
    alias = router.db_for_read(Leaf)
    unsealed = Leaf.objects.using(alias).filter(seal_number=None, erasure_id=None)
    oldest = unsealed.order_by("entry_id").values_list("entry_id", flat=True).first()
    entry = AuditLog._base_manager.using(alias).filter(pk=oldest).first() if oldest else None
    return seconds_since(entry.timestamp if entry else None)


def anchor_lag_seconds() -> float:
    """Return the age of the oldest seal without an anchor; 0 if there is none.

    Unlike the age of the newest anchor, it doesn't grow while no entries are written.
    """
    # Seals are published in the order of their numbers: two look-ups by primary key suffice.
    anchored = Seal.objects.filter(anchored_at__isnull=False).order_by("-number")
    newest = anchored.values_list("number", flat=True).first() or 0
    unpublished = Seal.objects.filter(number__gt=newest).order_by("number")
    since = unpublished.values_list("sealed_at", flat=True).first()
    return seconds_since(since)


def verification_age_seconds() -> float:
    """Return the time since the last verification ended; infinity before the first one."""
    last = _last_verification()
    return seconds_since(last.finished_at) if last else math.inf


def verification_problems() -> float:
    """Return the number of problems of the last verification; 0 before the first one."""
    last = _last_verification()
    return float(last.problems) if last else 0.0


def _last_verification() -> Verification | None:
    return Verification.objects.order_by("-id").first()
