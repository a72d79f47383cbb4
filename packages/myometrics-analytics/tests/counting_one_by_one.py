"""Expected values: the facts counted one by one in plain Python."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone

from django.contrib.auth import get_user_model

from myometrics_analytics.conf import analytics_settings
from myometrics_analytics.models import DailyRollup, DayRollup, RollupState, Upload, UserRollup


def report_one_by_one(days, keep=lambda upload: True, users=None):
    """The body of ``GET /analytics/``; ``keep`` and ``users`` (primary keys) filter."""
    today = datetime.now(timezone.utc).date()
    span = [today - timedelta(days=back) for back in reversed(range(days))]
    before = [span[0] - timedelta(days=back) for back in range(1, days + 1)]
    users = [u for u in get_user_model().objects.all() if users is None or u.pk in users]
    keys = {user.pk for user in users}
    uploads = [u for u in Upload.objects.all() if u.user_id in keys and keep(u) and is_counted(u)]
    day_of = {u.pk: u.uploaded_at.astimezone(timezone.utc).date() for u in uploads}
    per_day = Counter(day_of.values())
    per_month = Counter(f"{day:%Y-%m}" for day in day_of.values())
    within = [u for u in uploads if span[0] <= day_of[u.pk] <= today]
    earlier = [u for u in uploads if before[-1] <= day_of[u.pk] <= before[0]]
    now, then = (Counter(u.diagnosis for u in some if u.diagnosis) for some in (within, earlier))
    weeks = [span[max(0, end - 7) : end] for end in range(days, 0, -7)][::-1]
    statuses = Counter(u.status for u in within)
    finished = statuses["completed"] + statuses["failed"]
    times = [u.processing_us for u in within if u.processing_us is not None]
    uploaders = {u.user_id for u in within}
    signed_in = {u.pk for u in users if u.last_login and span[0] <= u.last_login.date() <= today}
    return {
        "user_activity": {
            "daily_uploads": [{"date": f"{day}", "count": per_day[day]} for day in span],
            "weekly_uploads": [
                {"week": f"Week {number}", "count": sum(per_day[day] for day in week)}
                for number, week in enumerate(weeks, 1)
            ],
            "monthly_uploads": [
                {"month": month, "count": per_month[month]}
                for month in dict.fromkeys(f"{day:%Y-%m}" for day in span)
            ],
        },
        "diagnosis_trends": [
            _trend(name, count, then[name])
            for name, count in sorted(now.items(), key=lambda item: (-item[1], item[0]))[
                : analytics_settings.DIAGNOSES_SHOWN
            ]
        ],
        "system_health": {
            "active_users": len(uploaders | signed_in),
            "total_uploads": len(uploads),
            "success_rate": round(100 * statuses["completed"] / finished, 1) if finished else 0.0,
            "average_processing_time": round(sum(times) / 1e6 / len(times), 1) if times else 0.0,
        },
    }


def is_counted(upload):
    return not upload.over_limit and (
        analytics_settings.COUNT_CLIENT_REPORTED or not upload.client_only
    )


def _trend(name, count, before):
    change = round(100 * (count - before) / before, 1) if before else 100.0
    trend = "up" if change > 5 else "down" if change < -5 else "stable"
    return {"diagnosis": name, "count": count, "trend": trend, "percentage_change": change}


def assert_rollups_equal_facts():
    """Compare every rollup row with the facts; requires that no change is pending."""
    uploads = [upload for upload in Upload.objects.all() if not upload.over_limit]
    for model, key in (
        (DailyRollup, lambda u: (u.day, u.diagnosis, u.status)),
        (DayRollup, lambda u: (u.day,)),
        (UserRollup, lambda u: (u.user_id,)),
    ):
        names = {DailyRollup: ("day", "diagnosis", "status"), DayRollup: ("day",)}
        columns = names.get(model, ("user_id",))
        stored = {row[:-1]: row[-1] for row in model.objects.values_list(*columns, "uploads")}
        counted = Counter(key(upload) for upload in uploads)
        assert {k: n for k, n in stored.items() if n} == dict(counted), model.__name__
    for row in DayRollup.objects.all():
        of_day = [upload for upload in uploads if upload.day == row.day]
        assert row.uploaders == len({upload.user_id for upload in of_day})
        assert row.completed == sum(upload.status == "completed" for upload in of_day)
        assert row.failed == sum(upload.status == "failed" for upload in of_day)
        assert row.processing_us == sum(upload.processing_us or 0 for upload in of_day)
        assert row.processed == sum(upload.processing_us is not None for upload in of_day)
    for row in UserRollup.objects.all():
        days = [upload.day for upload in uploads if upload.user_id == row.user_id]
        assert row.last_day == max(days, default=None)
    assert RollupState.objects.get().uploads == len(uploads)
