"""What the endpoint is compared with: bare views without middleware, on the same database.

``ready`` reads a ready-made daily table, and does nothing else; ``whole`` reads ready-made tables
for everything that the endpoint answers; ``orm`` is the straightforward way: Django's aggregates
over the facts.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Avg, Count, Q
from django.db.models.functions import TruncMonth
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils import timezone

from config.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.analytics.bare_site"
MIDDLEWARE: list[str] = []
EMBEDDED_WORKER = False


def _span(request: HttpRequest) -> tuple[date, date]:
    days = int(request.GET.get("days", "30"))
    today = timezone.now().date()
    return today - timedelta(days=days - 1), today


def ready(request: HttpRequest) -> JsonResponse:
    """One query for ``days`` rows, as JSON."""
    start, today = _span(request)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT day, uploads FROM ready_daily WHERE day BETWEEN %s AND %s ORDER BY day",
            [start, today],
        )
        rows = cursor.fetchall()
    return JsonResponse(
        {"daily_uploads": [{"date": day.isoformat(), "count": count} for day, count in rows]}
    )


def whole(request: HttpRequest) -> JsonResponse:
    """Everything that the endpoint answers, from ready-made tables."""
    start, today = _span(request)
    before = start - (today - start) - timedelta(days=1)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT day, uploads, completed, failed, processing_us, processed FROM ready_daily"
            " WHERE day >= %s ORDER BY day",
            [start.replace(day=1)],
        )
        days = cursor.fetchall()
        cursor.execute(
            "SELECT diagnosis, sum(uploads) FILTER (WHERE day >= %s),"
            " sum(uploads) FILTER (WHERE day < %s) FROM ready_diagnosis"
            " WHERE day BETWEEN %s AND %s GROUP BY diagnosis ORDER BY 2 DESC",
            [start, start, before, today],
        )
        diagnoses = cursor.fetchall()
        cursor.execute(
            "SELECT (SELECT sum(uploads) FROM ready_daily),"
            " (SELECT count(*) FROM myometrics_auth_user WHERE last_login >= %s)",
            [start],
        )
        total, active = cursor.fetchone()
    months: dict[str, int] = {}
    for row in days:
        months[f"{row[0]:%Y-%m}"] = months.get(f"{row[0]:%Y-%m}", 0) + row[1]
    within = [row for row in days if row[0] >= start]
    completed, failed = sum(row[2] for row in within), sum(row[3] for row in within)
    return JsonResponse(
        {
            "user_activity": {
                "daily_uploads": [{"date": row[0], "count": row[1]} for row in within],
                "weekly_uploads": [
                    {"week": number, "count": sum(row[1] for row in within[at : at + 7])}
                    for number, at in enumerate(range(0, len(within), 7), 1)
                ],
                "monthly_uploads": [{"month": name, "count": n} for name, n in months.items()],
            },
            "diagnosis_trends": [
                {"diagnosis": name, "count": int(now), "change": float((now - then) / then * 100)}
                for name, now, then in diagnoses
                if now and then
            ],
            "system_health": {
                "active_users": active,
                "total_uploads": int(total),
                "success_rate": completed / (completed + failed) * 100,
                "average_processing_time": sum(row[4] for row in within)
                / sum(row[5] for row in within),
            },
        }
    )


def orm(request: HttpRequest) -> JsonResponse:
    """The straightforward way: one aggregate after another over the facts."""
    upload_model = apps.get_model("myometrics_analytics", "Upload")  # apps load after settings
    start, today = _span(request)
    before = start - (today - start) - timedelta(days=1)
    within = upload_model.objects.filter(day__range=(start, today)).order_by()
    earlier = upload_model.objects.filter(day__gte=before, day__lt=start).order_by()
    diagnosed = within.exclude(diagnosis="").values_list("diagnosis").annotate(n=Count("pk"))
    then = dict(earlier.exclude(diagnosis="").values_list("diagnosis").annotate(n=Count("pk")))
    months = upload_model.objects.filter(day__gte=start.replace(day=1)).order_by()
    health: dict[str, Any] = within.aggregate(
        completed=Count("pk", filter=Q(status="completed")),
        failed=Count("pk", filter=Q(status="failed")),
        seconds=Avg("processing_us"),
    )
    active = get_user_model().objects.filter(
        Q(last_login__gte=start) | Q(pk__in=within.values("user"))
    )
    return JsonResponse(
        {
            "daily": list(within.values("day").annotate(n=Count("pk")).order_by("day")),
            "monthly": list(
                months.annotate(m=TruncMonth("uploaded_at")).values("m").annotate(n=Count("pk"))
            ),
            "diagnoses": [(name, n, then.get(name, 0)) for name, n in diagnosed],
            "health": {
                **health,
                "total": upload_model.objects.count(),
                "active": active.distinct().count(),
            },
        },
        json_dumps_params={"default": str},
    )


urlpatterns = [path("ready/", ready), path("whole/", whole), path("orm/", orm)]
