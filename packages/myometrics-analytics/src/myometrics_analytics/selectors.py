"""Data of the endpoints and the dashboard, read from counts and facts.

Specification: "GET /analytics/" and "GET /users/me/activity/".
"""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from typing import Any, Final

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import connections, router

from myometrics_core.db import convert_rows, fetch_rows
from myometrics_core.times import utc_day_start, utc_text

from .filters import Filters
from .models import MICROSECONDS, Upload
from .periods import Span, month_end, utc_today
from .rollups.counting import Counts, counts_get
from .rollups.tables import tables

__all__ = ["activity_get", "report_get"]

RECENT: Final = 10
STABLE_WITHIN: Final = 5.0
ACTIVITY_COUNTS: Final = ("uploads_today", "uploads_this_week", "uploads_this_month")


RECENT_COLUMNS: Final = ("upload_id", "filename", "uploaded_at", "status")
# One statement, written in SQL: the ORM compiles two of them again for each request.
ACTIVITY: Final = """
SELECT recent.upload_id, recent.filename, recent.uploaded_at, recent.status,
       counted.today, counted.week, counted.month
FROM (
  SELECT COUNT(CASE WHEN day = %(today)s THEN 1 END) AS today,
         COUNT(CASE WHEN day BETWEEN %(monday)s AND %(sunday)s THEN 1 END) AS week,
         COUNT(CASE WHEN day BETWEEN %(month_start)s AND %(month_end)s THEN 1 END) AS month
  FROM {Upload} WHERE user_id = %(user)s AND uploaded_at >= %(first_moment)s
) AS counted LEFT JOIN (
  SELECT id, upload_id, filename, uploaded_at, status FROM {Upload}
  WHERE user_id = %(user)s ORDER BY uploaded_at DESC, id DESC LIMIT {recent}
) AS recent ON TRUE
ORDER BY recent.uploaded_at DESC, recent.id DESC
"""


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
    rows = _activity_rows(user, utc_today())
    last_login = getattr(user, "last_login", None)
    _, _, _, _, *counts = rows[0]
    return {
        **dict(zip(ACTIVITY_COUNTS, counts, strict=True)),
        "last_login": utc_text(last_login) if last_login else None,
        "recent_uploads": [
            {"id": name, "filename": filename, "timestamp": utc_text(moment), "status": status}
            for name, filename, moment, status, *_ in rows
            if name is not None
        ],
    }


def _activity_rows(user: AbstractBaseUser, today: date) -> list[list[Any]]:
    """Return the latest uploads, each with the counts; one row without an upload if none exist."""
    using = router.db_for_read(Upload)
    operations = connections[using].ops
    monday, month_start = today - timedelta(days=today.weekday()), today.replace(day=1)
    days = {
        "today": today,
        "monday": monday,
        "sunday": monday + timedelta(days=6),
        "month_start": month_start,
        "month_end": month_end(today),
    }
    parameters = {name: operations.adapt_datefield_value(day) for name, day in days.items()}
    first = utc_day_start(min(monday, month_start))
    parameters["first_moment"] = operations.adapt_datetimefield_value(first)
    key: Any = Upload._meta.get_field("user")
    parameters["user"] = key.get_db_prep_value(user.pk, connections[using])
    sql = ACTIVITY.format(Upload=tables()["Upload"], recent=RECENT)
    rows = fetch_rows(sql, parameters, using=using)
    return convert_rows(rows, Upload, RECENT_COLUMNS, using=using)


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
