"""GET /api/analytics/: shape, statuses and every rule of counting."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
import time_machine

from myometrics_analytics.counting import counts_get
from myometrics_analytics.folding import changes_fold
from myometrics_analytics.models import DailyRollup
from myometrics_analytics.periods import Span

NOON = datetime(2026, 3, 15, 12, tzinfo=timezone.utc)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _noon() -> Any:
    with time_machine.travel(NOON, tick=False):
        yield


@pytest.fixture(params=["pending", "folded"])
def settle(request: pytest.FixtureRequest) -> Any:
    """Does nothing, or folds: every promise holds for both."""
    return changes_fold if request.param == "folded" else lambda: None


def days_ago(days: int) -> datetime:
    return NOON - timedelta(days=days)


def test_an_empty_site_answers_zeros_in_the_full_shape(report):
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
def test_days_outside_1_to_3650_are_refused(administrator, as_person, days):
    response = as_person(administrator).get("/api/analytics/", {"days": days})
    if days == "１":
        assert response.status_code in (200, 400)
        return
    assert response.status_code == 400
    body = response.json()
    assert set(body) == {"detail", "code", "field_errors"}
    assert list(body["field_errors"]) == ["days"]


@pytest.mark.parametrize("days", [1, 7, 30, 365, 3650])
def test_daily_rows_are_as_many_as_days_and_weeks_add_up_to_them(
    report, person, tell, settle, days
):
    for back in (0, 1, 6, 7, 29, 30, 364, 365, 3649, 3650):
        tell(person, at=days_ago(back))
    settle()
    activity = report(days=days)["user_activity"]
    daily = activity["daily_uploads"]
    assert len(daily) == days
    assert [row["date"] for row in daily] == [
        (date(2026, 3, 15) - timedelta(days=back)).isoformat() for back in reversed(range(days))
    ]
    counted = sum(row["count"] for row in daily)
    assert counted == sum(back < days for back in (0, 1, 6, 7, 29, 30, 364, 365, 3649, 3650))
    assert sum(row["count"] for row in activity["weekly_uploads"]) == counted
    assert len(activity["weekly_uploads"]) == -(-days // 7)


def test_the_oldest_week_may_be_short(report, person, tell, settle):
    tell(person, at=days_ago(9))
    tell(person, at=days_ago(6))
    tell(person, at=days_ago(7))
    settle()
    assert report(days=10)["user_activity"]["weekly_uploads"] == [
        {"week": "Week 1", "count": 2},
        {"week": "Week 2", "count": 1},
    ]


def test_months_that_the_span_touches_are_counted_whole(report, person, tell, settle):
    tell(person, at=datetime(2026, 2, 1, tzinfo=timezone.utc))
    tell(person, at=datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=timezone.utc))
    tell(person, at=datetime(2026, 3, 31, 23, 59, tzinfo=timezone.utc))
    tell(person, at=NOON)
    settle()
    assert report(days=20)["user_activity"]["monthly_uploads"] == [
        {"month": "2026-02", "count": 1},
        {"month": "2026-03", "count": 2},
    ]


def test_days_are_utc_days_wherever_the_site_is(report, person, tell, settle):
    tell(person, at=datetime(2026, 3, 13, 23, 59, 59, 999999, tzinfo=timezone.utc))
    tell(person, at=datetime(2026, 3, 14, tzinfo=timezone.utc))
    tell(person, at=datetime(2026, 3, 14, 0, 30, tzinfo=timezone(timedelta(hours=2))))
    settle()
    assert [row["count"] for row in report(days=3)["user_activity"]["daily_uploads"]] == [2, 1, 0]


def test_the_29th_of_february_is_a_day(report, person, tell, settle):
    with time_machine.travel(datetime(2024, 3, 1, 8, tzinfo=timezone.utc), tick=False):
        tell(person, at=datetime(2024, 2, 29, 12, tzinfo=timezone.utc))
        settle()
        activity = report(days=2)["user_activity"]
    assert activity["daily_uploads"] == [
        {"date": "2024-02-29", "count": 1},
        {"date": "2024-03-01", "count": 0},
    ]
    assert activity["monthly_uploads"][0] == {"month": "2024-02", "count": 1}


def test_trends_compare_the_span_with_the_one_before(report, person, tell, settle):
    def uploads(diagnosis: str, now: int, before: int) -> None:
        for _ in range(now):
            tell(person, at=days_ago(9), diagnosis=diagnosis)
        for _ in range(before):
            tell(person, at=days_ago(10), diagnosis=diagnosis)

    uploads("Doubled", 4, 2)
    uploads("Third", 2, 3)
    uploads("Twin", 2, 2)
    uploads("New", 1, 0)
    uploads("Gone", 0, 5)
    tell(person, at=days_ago(20), diagnosis="Before the span before")
    tell(person, at=days_ago(1))
    settle()
    assert report(days=10)["diagnosis_trends"] == [
        {"diagnosis": "Doubled", "count": 4, "trend": "up", "percentage_change": 100.0},
        {"diagnosis": "Third", "count": 2, "trend": "down", "percentage_change": -33.3},
        {"diagnosis": "Twin", "count": 2, "trend": "stable", "percentage_change": 0.0},
        {"diagnosis": "New", "count": 1, "trend": "up", "percentage_change": 100.0},
    ]


@pytest.mark.parametrize(("now", "trend", "change"), [(21, "stable", 5.0), (19, "stable", -5.0)])
def test_five_per_cent_is_stable(report, person, tell, now, trend, change):
    for _ in range(now):
        tell(person, at=days_ago(0), diagnosis="Normal")
    for _ in range(20):
        tell(person, at=days_ago(1), diagnosis="Normal")
    row = report(days=1)["diagnosis_trends"][0]
    assert (row["trend"], row["percentage_change"]) == (trend, change)


def test_success_and_time_are_of_the_span_and_the_total_of_all_time(report, person, tell, settle):
    tell(person, "upload_completed", processing_time=10)
    tell(person, "upload_completed", processing_time=20.5)
    tell(person, "upload_failed", processing_time=0)
    tell(person, "upload_processing")
    tell(person, "upload_failed", at=days_ago(40), processing_time=86400)
    settle()
    health = report()["system_health"]
    assert health["total_uploads"] == 5
    assert health["success_rate"] == 66.7
    assert health["average_processing_time"] == 10.2


def test_active_users_signed_in_or_uploaded_within_the_span(report, make_person, tell, settle):
    make_person(last_login=days_ago(6))
    make_person(last_login=days_ago(7))
    make_person(last_login=None)
    uploader, both, former = make_person(), make_person(last_login=NOON), make_person()
    tell(uploader, at=days_ago(6))
    tell(both, at=days_ago(3))
    tell(former, at=days_ago(7))
    settle()
    assert report(days=7)["system_health"]["active_users"] == 3
    assert report(days=8)["system_health"]["active_users"] == 5


def test_uploads_of_the_future_count_in_the_total_alone(report, person, tell, settle):
    tell(person, at=NOON + timedelta(days=1))
    settle()
    body = report(days=7)
    assert body["system_health"]["total_uploads"] == 1
    assert body["system_health"]["active_users"] == 0
    assert sum(row["count"] for row in body["user_activity"]["daily_uploads"]) == 0
    tell(person, at=NOON)
    settle()
    assert report(days=7)["system_health"]["active_users"] == 1


def test_a_deleted_users_uploads_vanish_from_every_number(report, make_person, tell, settle):
    gone, stays = make_person(last_login=NOON), make_person()
    tell(stays, diagnosis="Normal", processing_time=4)
    before = report()
    for back in (0, 1, 40):
        tell(gone, at=days_ago(back), diagnosis="Normal", processing_time=8)
    settle()
    gone.delete()
    settle()
    after = report()
    before["system_health"]["active_users"] -= 1
    assert after == before


def test_people_deleted_by_the_dozen_vanish_too(report, make_person, tell, settle):
    people = [make_person(full_name="leaves") for _ in range(3)]
    for person in people:
        tell(person, diagnosis="Normal")
    settle()
    type(people[0]).objects.filter(full_name="leaves").delete()
    body = report()
    assert body["system_health"]["total_uploads"] == 0
    assert body["diagnosis_trends"] == []


def test_an_event_counts_in_the_next_answer(report, person, tell, settle):
    for number in range(1, 4):
        tell(person)
        settle()
        assert report()["system_health"]["total_uploads"] == number


def test_only_administrators_may_ask(person, as_person):
    refused = as_person(person).get("/api/analytics/")
    assert refused.status_code == 403
    assert set(refused.json()) == {"detail", "code", "field_errors"}
    assert as_person(None).get("/api/analytics/").status_code in (401, 403)


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_other_methods_are_not_offered(administrator, as_person, method):
    assert getattr(as_person(administrator), method)("/api/analytics/").status_code == 405


def test_trends_hold_200_diagnoses_the_most_frequent_first(report):
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


def test_diagnoses_of_equal_count_are_ordered_by_code_point(report, person, tell, settings):
    settings.MYOMETRICS_ANALYTICS = {"DIAGNOSES_SHOWN": 3}
    for diagnosis in ("é", "a", "b", "B", "Z"):
        tell(person, "upload_completed", diagnosis=diagnosis)
    for query in ({}, {"role": ""}):
        trends = report(**query)["diagnosis_trends"]
        assert [row["diagnosis"] for row in trends] == ["B", "Z", "a"]


def test_diagnosis_of_the_span_before_takes_no_place(report, person, tell, settings):
    settings.MYOMETRICS_ANALYTICS = {"DIAGNOSES_SHOWN": 1}
    for _ in range(3):
        tell(person, "upload_completed", at=NOON - timedelta(days=1), diagnosis="Before")
    tell(person, "upload_completed", diagnosis="Now")
    assert [row["diagnosis"] for row in report(days=1)["diagnosis_trends"]] == ["Now"]
