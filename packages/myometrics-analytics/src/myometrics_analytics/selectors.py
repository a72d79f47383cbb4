"""Data of the endpoints and the dashboard, read from counts and facts.

Specification: "GET /analytics/" and "GET /users/me/activity/".
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import Count, Q

from myometrics_core.times import utc_day_start, utc_text

from .filters import Filters
from .models import MICROSECONDS, Upload
from .periods import Span, month_end, utc_today
from .rollups.counting import Counts, counts_get

__all__ = ["activity_get", "report_get"]

RECENT: Final = 10
STABLE_WITHIN: Final = 5.0


def report_get(*, days: int, filters: Filters | None = None) -> dict[str, Any]:
    """Return the body of ``GET /analytics/`` for the last ``days`` UTC days, including today."""
    span = Span(utc_today(), days)
    counts = counts_get(span, filters)
    by_day = {day: of_day.uploads for day, of_day in counts.days.items()}
    by_month: Counter[str] = Counter()
    for day, uploads in by_day.items():
        by_month[f"{day:%Y-%m}"] += uploads
    weeks = enumerate(span.weeks(), start=1)
    return {
        "user_activity": {
            "daily_uploads": [
                {"date": day.isoformat(), "count": by_day.get(day, 0)} for day in span
            ],
            "weekly_uploads": [
                {"week": f"Week {number}", "count": sum(by_day.get(day, 0) for day in week)}
                for number, week in weeks
            ],
            "monthly_uploads": [
                {"month": f"{first:%Y-%m}", "count": by_month[f"{first:%Y-%m}"]}
                for first in span.months()
            ],
        },
        "diagnosis_trends": _trends(counts),
        "system_health": _system_health(span, counts),
    }


def activity_get(*, user: AbstractBaseUser) -> dict[str, Any]:
    """Return the body of ``GET /users/me/activity/`` for ``user``; times are strings in UTC."""
    today = utc_today()
    monday = today - timedelta(days=today.weekday())
    periods = {
        "uploads_today": (today, today),
        "uploads_this_week": (monday, monday + timedelta(days=6)),
        "uploads_this_month": (today.replace(day=1), month_end(today)),
    }
    first = min(start for start, _ in periods.values())
    uploads = Upload.objects.filter(user_id=user.pk)
    counts = uploads.filter(uploaded_at__gte=utc_day_start(first)).aggregate(
        **{name: Count("pk", filter=Q(day__range=period)) for name, period in periods.items()}
    )
    last_login = getattr(user, "last_login", None)
    recent = uploads.order_by("-uploaded_at", "-pk")[:RECENT]
    return {
        **counts,
        "last_login": utc_text(last_login) if last_login else None,
        "recent_uploads": [
            {"id": name, "filename": filename, "timestamp": utc_text(moment), "status": status}
            for name, filename, moment, status in recent.values_list(
                "upload_id", "filename", "uploaded_at", "status"
            )
        ],
    }


def _trends(counts: Counts) -> list[dict[str, Any]]:
    trends = []
    # UNION ALL does not preserve the order.
    for name, uploads, before in sorted(counts.diagnoses, key=lambda item: (-item[1], item[0])):
        change = round((uploads - before) / before * 100, 1) if before else 100.0
        trend = "up" if change > STABLE_WITHIN else "down" if change < -STABLE_WITHIN else "stable"
        trends.append(
            {"diagnosis": name, "count": uploads, "trend": trend, "percentage_change": change}
        )
    return trends


def _system_health(span: Span, counts: Counts) -> dict[str, Any]:
    days = [found for day, found in counts.days.items() if span.start <= day <= span.today]
    completed = sum(day.completed for day in days)
    finished = completed + sum(day.failed for day in days)
    processed = sum(day.processed for day in days)
    seconds = sum(day.processing_us for day in days) / MICROSECONDS
    return {
        "active_users": counts.active_users,
        "total_uploads": counts.total_uploads,
        "success_rate": round(completed / finished * 100, 1) if finished else 0.0,
        "average_processing_time": round(seconds / processed, 1) if processed else 0.0,
    }
