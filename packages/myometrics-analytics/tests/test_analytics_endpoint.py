"""GET /api/analytics/: shape, statuses and every rule of counting."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest
import time_machine

from myometrics_analytics.models import DailyRollup
from myometrics_analytics.periods import Span
from myometrics_analytics.rollups import changes_fold
from myometrics_analytics.rollups.counting import counts_get

NOON = datetime(2026, 3, 15, 12, tzinfo=timezone.utc)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _noon():
    with time_machine.travel(NOON, tick=False):
        yield


@pytest.fixture(params=["pending", "folded"])
def settle(request):
    """Do nothing, or fold: the numbers must be the same."""
    return changes_fold if request.param == "folded" else lambda: None


def days_ago(days):
    return NOON - timedelta(days=days)


def test_report_without_uploads_has_every_field(report):
    body = report()
    assert list(body) == ["user_activity", "diagnosis_trends", "system_health"]
    assert len(body["user_activity"]["daily_uploads"]) == 30
    assert body["user_activity"]["daily_uploads"][0] == {"date": "2026-02-14", "count": 0}
    assert body["user_activity"]["daily_uploads"][-1] == {"date": "2026-03-15", "count": 0}
    assert [w["week"] for w in body["user_activity"]["weekly_uploads"]] == [
        f"Week {number}" for number in range(1, 6)
    ]
    assert body["user_activity"]["monthly_uploads"] == [
        {"month": "2026-02", "count": 0},
        {"month": "2026-03", "count": 0},
    ]
    assert body["diagnosis_trends"] == []
    assert body["system_health"] == {
        "active_users": 0,
        "total_uploads": 0,
        "success_rate": 0.0,
        "average_processing_time": 0.0,
    }


@pytest.mark.parametrize("days", ["0", "-1", "3651", "x", "1.5", "", "9" * 400, "1\x00", "１"])
def test_days_outside_1_to_3650_are_rejected(administrator, client_of, days):
    response = client_of(administrator).get("/api/analytics/", {"days": days})
    if days == "１":
        assert response.status_code in (200, 400)
        return
    assert response.status_code == 400
    body = response.json()
    assert set(body) == {"detail", "code", "field_errors"}
    assert list(body["field_errors"]) == ["days"]


@pytest.mark.parametrize("days", [1, 7, 30, 365, 3650])
def test_report_has_one_row_per_day_and_weeks_sum_them(report, user, publish_upload, settle, days):
    for back in (0, 1, 6, 7, 29, 30, 364, 365, 3649, 3650):
        publish_upload(user, at=days_ago(back))
    settle()
    uploads = report(days=days)["user_activity"]
    daily = uploads["daily_uploads"]
    assert len(daily) == days
    assert [row["date"] for row in daily] == [
        (date(2026, 3, 15) - timedelta(days=back)).isoformat() for back in reversed(range(days))
    ]
    counted = sum(row["count"] for row in daily)
    assert counted == sum(back < days for back in (0, 1, 6, 7, 29, 30, 364, 365, 3649, 3650))
    assert sum(row["count"] for row in uploads["weekly_uploads"]) == counted
    assert len(uploads["weekly_uploads"]) == -(-days // 7)


def test_oldest_week_may_be_shorter(report, user, publish_upload, settle):
    publish_upload(user, at=days_ago(9))
    publish_upload(user, at=days_ago(6))
    publish_upload(user, at=days_ago(7))
    settle()
    assert report(days=10)["user_activity"]["weekly_uploads"] == [
        {"week": "Week 1", "count": 2},
        {"week": "Week 2", "count": 1},
    ]


def test_months_that_overlap_the_span_are_counted_whole(report, user, publish_upload, settle):
    publish_upload(user, at=datetime(2026, 2, 1, tzinfo=timezone.utc))
    publish_upload(user, at=datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=timezone.utc))
    publish_upload(user, at=datetime(2026, 3, 31, 23, 59, tzinfo=timezone.utc))
    publish_upload(user, at=NOON)
    settle()
    assert report(days=20)["user_activity"]["monthly_uploads"] == [
        {"month": "2026-02", "count": 1},
        {"month": "2026-03", "count": 2},
    ]


def test_days_are_utc_days(report, user, publish_upload, settle):
    publish_upload(user, at=datetime(2026, 3, 13, 23, 59, 59, 999999, tzinfo=timezone.utc))
    publish_upload(user, at=datetime(2026, 3, 14, tzinfo=timezone.utc))
    publish_upload(user, at=datetime(2026, 3, 14, 0, 30, tzinfo=timezone(timedelta(hours=2))))
    settle()
    assert [row["count"] for row in report(days=3)["user_activity"]["daily_uploads"]] == [2, 1, 0]


def test_29th_of_february_is_a_day(report, user, publish_upload, settle):
    with time_machine.travel(datetime(2024, 3, 1, 8, tzinfo=timezone.utc), tick=False):
        publish_upload(user, at=datetime(2024, 2, 29, 12, tzinfo=timezone.utc))
        settle()
        uploads = report(days=2)["user_activity"]
    assert uploads["daily_uploads"] == [
        {"date": "2024-02-29", "count": 1},
        {"date": "2024-03-01", "count": 0},
    ]
    assert uploads["monthly_uploads"][0] == {"month": "2024-02", "count": 1}


def test_trends_compare_with_the_previous_span(report, user, publish_upload, settle):
    def uploads(diagnosis, now, before):
        for _ in range(now):
            publish_upload(user, at=days_ago(9), diagnosis=diagnosis)
        for _ in range(before):
            publish_upload(user, at=days_ago(10), diagnosis=diagnosis)

    uploads("Doubled", 4, 2)
    uploads("Third", 2, 3)
    uploads("Twin", 2, 2)
    uploads("New", 1, 0)
    uploads("Gone", 0, 5)
    publish_upload(user, at=days_ago(20), diagnosis="Before the span before")
    publish_upload(user, at=days_ago(1))
    settle()
    assert report(days=10)["diagnosis_trends"] == [
        {"diagnosis": "Doubled", "count": 4, "trend": "up", "percentage_change": 100.0},
        {"diagnosis": "Third", "count": 2, "trend": "down", "percentage_change": -33.3},
        {"diagnosis": "Twin", "count": 2, "trend": "stable", "percentage_change": 0.0},
        {"diagnosis": "New", "count": 1, "trend": "up", "percentage_change": 100.0},
    ]


@pytest.mark.parametrize(("now", "trend", "change"), [(21, "stable", 5.0), (19, "stable", -5.0)])
def test_five_per_cent_is_stable(report, user, publish_upload, now, trend, change):
    for _ in range(now):
        publish_upload(user, at=days_ago(0), diagnosis="Normal")
    for _ in range(20):
        publish_upload(user, at=days_ago(1), diagnosis="Normal")
    row = report(days=1)["diagnosis_trends"][0]
    assert (row["trend"], row["percentage_change"]) == (trend, change)


def test_health_numbers_cover_the_span_except_total(report, user, publish_upload, settle):
    publish_upload(user, "upload_completed", processing_time=10)
    publish_upload(user, "upload_completed", processing_time=20.5)
    publish_upload(user, "upload_failed", processing_time=0)
    publish_upload(user, "upload_processing")
    publish_upload(user, "upload_failed", at=days_ago(40), processing_time=86400)
    settle()
    health = report()["system_health"]
    assert health["total_uploads"] == 5
    assert health["success_rate"] == 66.7
    assert health["average_processing_time"] == 10.2


def test_active_users_signed_in_or_uploaded(report, make_user, publish_upload, settle):
    make_user(last_login=days_ago(6))
    make_user(last_login=days_ago(7))
    make_user(last_login=None)
    uploader, both, former = make_user(), make_user(last_login=NOON), make_user()
    publish_upload(uploader, at=days_ago(6))
    publish_upload(both, at=days_ago(3))
    publish_upload(former, at=days_ago(7))
    settle()
    assert report(days=7)["system_health"]["active_users"] == 3
    assert report(days=8)["system_health"]["active_users"] == 5


def test_future_uploads_count_in_the_total_only(report, user, publish_upload, settle):
    publish_upload(user, at=NOON + timedelta(days=1))
    settle()
    body = report(days=7)
    assert body["system_health"]["total_uploads"] == 1
    assert body["system_health"]["active_users"] == 0
    assert sum(row["count"] for row in body["user_activity"]["daily_uploads"]) == 0
    publish_upload(user, at=NOON)
    settle()
    assert report(days=7)["system_health"]["active_users"] == 1


def test_deleting_user_removes_uploads_from_every_number(report, make_user, publish_upload, settle):
    gone, stays = make_user(last_login=NOON), make_user()
    publish_upload(stays, diagnosis="Normal", processing_time=4)
    before = report()
    for back in (0, 1, 40):
        publish_upload(gone, at=days_ago(back), diagnosis="Normal", processing_time=8)
    settle()
    gone.delete()
    settle()
    after = report()
    before["system_health"]["active_users"] -= 1
    assert after == before


def test_bulk_deletion_of_users_removes_their_uploads(report, make_user, publish_upload, settle):
    users = [make_user(full_name="leaves") for _ in range(3)]
    for user in users:
        publish_upload(user, diagnosis="Normal")
    settle()
    type(users[0]).objects.filter(full_name="leaves").delete()
    body = report()
    assert body["system_health"]["total_uploads"] == 0
    assert body["diagnosis_trends"] == []


def test_event_counts_in_the_next_response(report, user, publish_upload, settle):
    for number in range(1, 4):
        publish_upload(user)
        settle()
        assert report()["system_health"]["total_uploads"] == number


def test_report_is_for_administrators_only(user, client_of):
    refused = client_of(user).get("/api/analytics/")
    assert refused.status_code == 403
    assert set(refused.json()) == {"detail", "code", "field_errors"}
    assert client_of(None).get("/api/analytics/").status_code in (401, 403)


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_report_endpoint_is_read_only(administrator, client_of, method):
    assert getattr(client_of(administrator), method)("/api/analytics/").status_code == 405


def test_trends_list_200_most_frequent_diagnoses(report):
    DailyRollup.objects.bulk_create(
        (
            DailyRollup(
                day=NOON.date(), diagnosis=f"D{n:05}", status="completed", uploads=1 + n % 3
            )
            for n in range(30_000)
        ),
        batch_size=1000,
    )
    assert len(counts_get(Span(NOON.date(), 30)).diagnoses) == 200
    trends = report()["diagnosis_trends"]
    assert [row["diagnosis"] for row in trends] == [f"D{n:05}" for n in range(2, 600, 3)]
    assert {row["count"] for row in trends} == {3}


def test_diagnoses_of_equal_count_are_ordered_by_code_point(report, user, publish_upload, settings):
    settings.MYOMETRICS_ANALYTICS = {"DIAGNOSES_SHOWN": 3}
    for diagnosis in ("é", "a", "b", "B", "Z"):
        publish_upload(user, "upload_completed", diagnosis=diagnosis)
    for query in ({}, {"role": ""}):
        trends = report(**query)["diagnosis_trends"]
        assert [row["diagnosis"] for row in trends] == ["B", "Z", "a"]


def test_diagnosis_of_previous_span_is_not_listed(report, user, publish_upload, settings):
    settings.MYOMETRICS_ANALYTICS = {"DIAGNOSES_SHOWN": 1}
    for _ in range(3):
        publish_upload(user, "upload_completed", at=NOON - timedelta(days=1), diagnosis="Before")
    publish_upload(user, "upload_completed", diagnosis="Now")
    assert [row["diagnosis"] for row in report(days=1)["diagnosis_trends"]] == ["Now"]
