"""The baseline of the endpoint: bare views on the same database.

``ready`` only reads a precomputed daily table; ``asked`` also authenticates (token, session and
user), as an administrators' endpoint must; ``whole`` reads precomputed tables for everything that
the endpoint returns; ``orm`` is the straightforward way: Django's aggregates over the facts.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Avg, Count, Q
from django.db.models.functions import TruncMonth
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils import timezone

from myometrics_analytics.models import Upload
from myometrics_auth.tokens import ACCESS, read_token


def _span(request: HttpRequest) -> tuple[date, date]:
    days = int(request.GET.get("days", "30"))
    today = timezone.now().date()
    return today - timedelta(days=days - 1), today


def ready(request: HttpRequest) -> JsonResponse:
    """Return ``days`` rows of one query as JSON."""
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
    """Return everything that the endpoint returns, from precomputed tables."""
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
    return JsonResponse(_answer(start, days, diagnoses, total, active))


def _answer(
    start: date, days: list[Any], diagnoses: list[Any], total: Any, active: int
) -> dict[str, Any]:
    """Return the body of ``GET /analytics/``."""
    months: dict[str, int] = {}
    for row in days:
        months[f"{row[0]:%Y-%m}"] = months.get(f"{row[0]:%Y-%m}", 0) + row[1]
    within = [row for row in days if row[0] >= start]
    completed, failed = sum(row[2] for row in within), sum(row[3] for row in within)
    return {
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


def orm(request: HttpRequest) -> JsonResponse:
    """The straightforward way: one aggregate after another over the facts."""
    start, today = _span(request)
    before = start - (today - start) - timedelta(days=1)
    within = Upload.objects.filter(day__range=(start, today)).order_by()
    earlier = Upload.objects.filter(day__gte=before, day__lt=start).order_by()
    diagnosed = within.exclude(diagnosis="").values_list("diagnosis").annotate(n=Count("pk"))
    then = dict(earlier.exclude(diagnosis="").values_list("diagnosis").annotate(n=Count("pk")))
    months = Upload.objects.filter(day__gte=start.replace(day=1)).order_by()
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
                "total": Upload.objects.count(),
                "active": active.distinct().count(),
            },
        },
        json_dumps_params={"default": str},
    )


def asked(request: HttpRequest) -> JsonResponse:
    """Like ``ready``, with a live session of an active administrator."""
    claims = read_token(request.META["HTTP_AUTHORIZATION"].partition(" ")[2], ACCESS)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.ended_at, u.is_active, u.role FROM myometrics_auth_session AS s"
            " JOIN myometrics_auth_user AS u ON u.id = s.user_id WHERE s.id = %s",
            [claims.session_id],
        )
        ended_at, is_active, role = cursor.fetchone()
    if ended_at is not None or not is_active or role != "admin":
        return JsonResponse({"detail": "No."}, status=403)
    return ready(request)


urlpatterns = [
    path("ready/", ready),
    path("asked/", asked),
    path("whole/", whole),
    path("orm/", orm),
]
