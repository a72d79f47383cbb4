"""Metrics of the review."""

from __future__ import annotations

from django.db.models import Count, Min

from myometrics_core.observability import register_gauge
from myometrics_core.times import seconds_since

from .emergency_access import overdue_emergency_accesses
from .findings import open_findings
from .rules import registered_rules
from .scanning import scan_lag_seconds


def register_gauges() -> None:
    """Register the gauges."""
    register_gauge(
        "myometrics_open_findings",
        "Findings of the review of the audit log that are not decided.",
        open_findings_by_rule,
        label="rule",
    )
    register_gauge(
        "myometrics_finding_age_seconds",
        "Time since the oldest finding that is not decided was opened.",
        finding_age_seconds,
    )
    register_gauge(
        "myometrics_emergency_access_overdue",
        "Emergency accesses that were not reviewed in time.",
        lambda: float(overdue_emergency_accesses().count()),
    )
    register_gauge(
        "myometrics_review_lag_seconds",
        "Age of the oldest seal with audit entries that are not examined by the review yet.",
        scan_lag_seconds,
    )


def open_findings_by_rule() -> dict[str, float]:
    """Return the number of open findings of each rule."""
    counts = dict(open_findings().order_by().values_list("rule").annotate(Count("pk")))
    return {name: float(counts.get(name, 0)) for name in {**registered_rules(), **counts}}


def finding_age_seconds() -> float:
    """Return the age of the oldest open finding; 0 if there is none."""
    since = open_findings().aggregate(oldest=Min("opened_at"))["oldest"]
    return seconds_since(since)
