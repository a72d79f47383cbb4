"""Examination of checkpoints for ``manage.py myometrics_doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from myometrics_core.doctor import Diagnosis, describe_age, register_examination

from ..conf import audit_settings
from .gauges import checkpoint_lag_seconds
from .models import Checkpoint

MAX_CHECKPOINT_LAG: Final = 600.0


def register_examinations() -> None:
    """Register the examination with core's doctor."""
    register_examination("audit checkpoints", examine_checkpoints, needs_database=True)


def examine_checkpoints() -> Iterator[Diagnosis]:
    """Check that seals are covered by a published checkpoint, and that witnesses have signed it."""
    name, lag = "audit checkpoints", checkpoint_lag_seconds()
    published = Checkpoint.objects.filter(published_at__isnull=False).order_by("-size").first()
    if lag > MAX_CHECKPOINT_LAG:
        yield Diagnosis(
            name,
            "problem",
            f"The oldest seal without a published checkpoint is {describe_age(lag)} old.",
            "See the log of myometrics.jobs, then run 'manage.py audit_seal'.",
        )
    elif published and audit_settings.WITNESSES and not published.has_quorum:
        yield Diagnosis(
            name,
            "warning",
            "Too few witnesses have signed the newest checkpoint.",
            "See the log of myometrics.audit.checkpoint.",
        )
    else:
        yield Diagnosis(name, "ok", "Seals are covered by a published checkpoint.")
