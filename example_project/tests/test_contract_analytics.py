"""Specification, "Analytics Endpoints", and decisions, "Upload facts" and "Analytics"."""

import json
import random
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import time_machine
from conftest import assert_error, client_of, make_user, send_json

from myometrics_analytics.pull.pulling import uploads_pull
from myometrics_analytics.rollups import changes_fold

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unlimited", "cheap_hashes")]

NOON = datetime(2026, 3, 18, 12, tzinfo=timezone.utc)  # a Wednesday


def at(moment):
    return time_machine.travel(moment, tick=False)


def report_upload(user, action, upload_id="u1", moment=NOON, **details):
    """Post an audit entry about an upload, as ``user``, at ``moment``."""
    with at(moment):
        body = {
            "action": action,
            "resource_type": "upload",
            "resource_id": upload_id,
            "details": details,
        }
        answer = send_json(client_of(user), "POST", "/api/audit-logs/", body)
        assert answer.status_code == 201, answer.content
        return answer.json()


def activity(user, moment=NOON):
    with at(moment):
        answer = client_of(user).get("/api/users/me/activity/")
    assert answer.status_code == 200
    return answer.json()


@pytest.fixture
def other(db):
    return make_user("other@clinic.example")


@pytest.fixture
def report(administrator):
    """Requests analytics before and after the facts are rolled up."""

    def ask(moment=NOON, **query):
        with at(moment):
            client = client_of(administrator)
            before = client.get("/api/analytics/", query)
            changes_fold()
            after = client.get("/api/analytics/", query)
        assert before.status_code == 200, before.content
        assert after.json() == before.json()
        return after.json()

    return ask


def test_client_uploads_over_daily_limit_do_not_count(doctor, report, settings):
    settings.MYOMETRICS_ANALYTICS = {"UPLOADS_PER_USER_PER_DAY": 3}
    for number in range(5):
        report_upload(
            doctor, "upload_completed", f"u{number}", diagnosis="Normal", processing_time=86_400
        )
    assert report()["system_health"]["total_uploads"] == 3
    assert report()["diagnosis_trends"][0]["count"] == 3
    assert activity(doctor)["uploads_today"] == 5
    settings.MYOMETRICS_ANALYTICS = {"COUNT_CLIENT_REPORTED": False}
    assert report()["system_health"]["total_uploads"] == 0


def test_analytics_has_specified_shape(doctor, report):
    report_upload(doctor, "upload_completed", diagnosis="Normal", processing_time=45.6)
    body = report()
    assert list(body) == ["user_activity", "diagnosis_trends", "system_health"]
    assert list(body["user_activity"]) == ["daily_uploads", "weekly_uploads", "monthly_uploads"]
    rows = body["user_activity"]
    assert {tuple(row) for row in rows["daily_uploads"]} == {("date", "count")}
    assert {tuple(row) for row in rows["weekly_uploads"]} == {("week", "count")}
    assert {tuple(row) for row in rows["monthly_uploads"]} == {("month", "count")}
    assert body["diagnosis_trends"] == [
        {"diagnosis": "Normal", "count": 1, "trend": "up", "percentage_change": 100.0}
    ]
    assert body["system_health"] == {
        "active_users": 1,
        "total_uploads": 1,
        "success_rate": 100.0,
        "average_processing_time": 45.6,
    }


def test_analytics_without_uploads_has_numbers_everywhere(report):
    body = report()
    assert body["diagnosis_trends"] == []
    health = body["system_health"]
    assert health == {
        "active_users": 0,
        "total_uploads": 0,
        "success_rate": 0.0,
        "average_processing_time": 0.0,
    }
    assert "null" not in json.dumps(body)
    assert len(body["user_activity"]["daily_uploads"]) == 30


class TestActivity:
    def test_activity_has_specified_shape(self, doctor):
        report_upload(doctor, "upload_created", "upload_001", filename="cardiac_scan_001.jpg")
        body = activity(doctor)
        assert body == {
            "uploads_today": 1,
            "uploads_this_week": 1,
            "uploads_this_month": 1,
            "last_login": None,
            "recent_uploads": [
                {
                    "id": "upload_001",
                    "filename": "cardiac_scan_001.jpg",
                    "timestamp": body["recent_uploads"][0]["timestamp"],
                    "status": "processing",
                }
            ],
        }
        assert body["recent_uploads"][0]["timestamp"].startswith("2026-03-18T12:00:00")

    def test_activity_counts_today_week_and_calendar_month(self, doctor):
        for number, moment in enumerate(
            [
                NOON,
                NOON.replace(hour=0),
                NOON - timedelta(hours=12, microseconds=1),
                NOON - timedelta(days=2),
                datetime(2026, 3, 16, tzinfo=timezone.utc),
                datetime(2026, 3, 15, 23, 59, 59, tzinfo=timezone.utc),
                datetime(2026, 3, 1, tzinfo=timezone.utc),
                datetime(2026, 2, 28, 23, 59, 59, tzinfo=timezone.utc),
            ]
        ):
            report_upload(doctor, "upload_created", f"u{number}", moment)
        body = activity(doctor)
        counted = [body[f"uploads_{period}"] for period in ("today", "this_week", "this_month")]
        assert counted == [2, 5, 7]

    def test_activity_lists_ten_latest_uploads_newest_first(self, doctor):
        for number in range(13):
            report_upload(doctor, "upload_created", f"u{number}", NOON - timedelta(hours=number))
        recent = activity(doctor)["recent_uploads"]
        assert [row["id"] for row in recent] == [f"u{number}" for number in range(10)]

    def test_administrator_sees_activity_of_any_user(self, doctor, administrator):
        report_upload(doctor, "upload_failed")
        with at(NOON):
            answer = client_of(administrator).get(f"/api/users/{doctor.pk}/activity/")
            assert answer.json() == activity(doctor)
            assert_error(client_of(doctor).get(f"/api/users/{administrator.pk}/activity/"), 403)
            assert_error(client_of(doctor).get(f"/api/users/{doctor.pk}/activity/"), 403)
            assert_error(client_of(administrator).get("/api/users/987654/activity/"), 404)


CREATED = ("upload_created", {"filename": "a.jpg"})
ANSWERED = ("upload_created", {"filename": "a.jpg", "diagnosis": "Created"})
PROCESSING = ("upload_processing", {"diagnosis": "never"})
FAILED = ("upload_failed", {})
COMPLETED = ("upload_completed", {"diagnosis": "Completed", "processing_time": 4})
READY = ("analysis_ready", {"diagnosis": "Ready", "processing_time": 9})

NOT_TEXT = (5, None, [], {}, True, "", "  ", "x" * 5000)
NONSENSE = {
    "processing_time": (-1, -0.001, 86_401, 10**30, 1e300, "45", "NaN", None, True, [], {}),
    "filename": NOT_TEXT,
    "diagnosis": NOT_TEXT,
    "file_size": (-1, "x", 10**30, 1.5, None, []),
    "confidence": (-1, "x", 10**30, 1e300, None, [], True),
}


class TestMerging:
    @pytest.mark.parametrize(
        ("events", "status", "diagnosis"),
        [
            ([CREATED], "processing", None),
            ([ANSWERED], "completed", "Created"),
            ([PROCESSING], "processing", None),
            ([FAILED], "failed", None),
            ([COMPLETED], "completed", "Completed"),
            ([READY], "completed", "Ready"),
            ([CREATED, PROCESSING], "processing", None),
            ([CREATED, FAILED, PROCESSING], "failed", None),
            ([CREATED, FAILED, COMPLETED], "completed", "Completed"),
            ([CREATED, PROCESSING, COMPLETED, READY], "completed", "Ready"),
            ([ANSWERED, COMPLETED], "completed", "Completed"),
            ([ANSWERED, READY], "completed", "Ready"),
            ([ANSWERED, FAILED], "completed", "Created"),
        ],
        ids=lambda value: "+".join(e[0] for e in value) if isinstance(value, list) else None,
    )
    def test_facts_do_not_depend_on_order_or_duplicates(
        self, doctor, report, events, status, diagnosis
    ):
        orders = [events, events[::-1], events * 2, random.Random(7).sample(events, len(events))]
        for number, order in enumerate(orders):
            for later, (action, details) in enumerate(order):
                report_upload(
                    doctor, action, f"u{number}", NOON + timedelta(seconds=later), **details
                )
        rows = activity(doctor, NOON + timedelta(hours=1))["recent_uploads"]
        assert len(rows) == len(orders)
        assert {row["status"] for row in rows} == {status}
        body = report(NOON + timedelta(hours=1))
        trends = [(row["diagnosis"], row["count"]) for row in body["diagnosis_trends"]]
        assert trends == ([(diagnosis, len(orders))] if diagnosis else [])
        assert body["system_health"]["total_uploads"] == len(orders)

    def test_diagnosis_among_equals_is_smallest_text(self, doctor, report):
        for diagnosis in ("Normal", "Abnormal", "Zebra"):
            report_upload(doctor, "upload_completed", diagnosis=diagnosis)
        assert [row["diagnosis"] for row in report()["diagnosis_trends"]] == ["Abnormal"]

    def test_upload_time_is_earliest_known(self, doctor, report):
        report_upload(doctor, "upload_completed", moment=NOON)
        report_upload(doctor, "upload_created", moment=NOON - timedelta(days=3))
        report_upload(doctor, "analysis_ready", moment=NOON + timedelta(minutes=1))
        [row] = activity(doctor)["recent_uploads"]
        assert row["timestamp"].startswith("2026-03-15T12:00:00")
        daily = {row["date"]: row["count"] for row in report()["user_activity"]["daily_uploads"]}
        assert daily["2026-03-15"] == 1
        assert sum(daily.values()) == 1

    def test_upload_id_is_unique_per_user(self, doctor, other, report):
        report_upload(doctor, "upload_completed", "same", diagnosis="Mine", filename="mine.jpg")
        report_upload(other, "upload_failed", "same", diagnosis="Theirs", filename="theirs.jpg")
        report_upload(other, "analysis_ready", "elsewhere", diagnosis="Theirs")
        [mine] = activity(doctor)["recent_uploads"]
        assert (mine["filename"], mine["status"]) == ("mine.jpg", "completed")
        assert {row["status"] for row in activity(other)["recent_uploads"]} == {
            "failed",
            "completed",
        }
        assert report()["system_health"]["total_uploads"] == 3

    @pytest.mark.parametrize(
        ("action", "resource_type"),
        [
            ("upload_created", "scan"),
            ("upload_created", "Upload"),
            ("upload_created", "uploads"),
            ("viewed", "upload"),
            ("UPLOAD_CREATED", "upload"),
            ("upload_deleted", "upload"),
        ],
    )
    def test_other_entries_do_not_create_uploads(self, doctor, report, action, resource_type):
        body = {"action": action, "resource_type": resource_type, "resource_id": "u1"}
        with at(NOON):
            answer = send_json(client_of(doctor), "POST", "/api/audit-logs/", body)
        assert answer.status_code == 201
        assert activity(doctor)["recent_uploads"] == []
        assert report()["system_health"]["total_uploads"] == 0

    @pytest.mark.parametrize("name", NONSENSE)
    def test_invalid_details_are_ignored_and_entry_is_kept(self, doctor, report, name):
        good = {"filename": "a.jpg", "processing_time": 10}
        for number, value in enumerate(NONSENSE[name]):
            details = {**good, name: value}
            entry = report_upload(doctor, "upload_completed", f"u{number}", **details)
            assert entry["details"] == details
        for row in activity(doctor)["recent_uploads"]:
            assert row["status"] == "completed"
            assert row["filename"] == ("" if name == "filename" else "a.jpg")
        body = report()
        assert body["system_health"]["total_uploads"] == len(NONSENSE[name])
        average = body["system_health"]["average_processing_time"]
        assert average == (0.0 if name == "processing_time" else 10.0)
        assert body["diagnosis_trends"] == []

    @pytest.mark.parametrize("seconds", [0, 0.5, 86_400])
    def test_processing_time_up_to_one_day_counts(self, doctor, report, seconds):
        report_upload(doctor, "upload_completed", processing_time=seconds)
        assert report()["system_health"]["average_processing_time"] == pytest.approx(seconds)


class TestDays:
    @pytest.mark.parametrize("days", [1, 2, 7, 8, 30, 365, 3650])
    def test_daily_rows_are_exactly_days_ending_today(self, doctor, report, days):
        report_upload(doctor, "upload_created")
        daily = report(days=days)["user_activity"]["daily_uploads"]
        today = NOON.date()
        wanted = [(today - timedelta(days=n)).isoformat() for n in range(days)][::-1]
        assert [row["date"] for row in daily] == wanted
        assert [row["count"] for row in daily] == [0] * (days - 1) + [1]

    def test_days_default_is_thirty(self, report):
        assert report() == report(days=30)

    @pytest.mark.parametrize("days", [1, 6, 7, 8, 13, 30, 45, 100])
    def test_weeks_count_back_from_today_and_add_up_to_days(self, doctor, report, days):
        for number, back in enumerate([0, 0, 1, 6, 7, 8, 20, 29, 44, 99]):
            report_upload(doctor, "upload_created", f"u{number}", NOON - timedelta(days=back))
        rows = report(days=days)["user_activity"]
        counts = [row["count"] for row in rows["daily_uploads"]]
        weeks = [counts[max(0, end - 7) : end] for end in range(days, 0, -7)][::-1]
        assert [row["count"] for row in rows["weekly_uploads"]] == [sum(week) for week in weeks]
        assert [row["week"] for row in rows["weekly_uploads"]] == [
            f"Week {number}" for number in range(1, len(weeks) + 1)
        ]

    def test_months_touched_by_span_are_counted_whole(self, doctor, report):
        moments = [(2026, 3, 1), (2026, 2, 1), (2026, 2, 28), (2026, 1, 31), (2026, 3, 18)]
        for number, day in enumerate(moments):
            report_upload(
                doctor, "upload_created", f"u{number}", datetime(*day, tzinfo=timezone.utc)
            )
        assert report(days=19)["user_activity"]["monthly_uploads"] == [
            {"month": "2026-02", "count": 2},
            {"month": "2026-03", "count": 2},
        ]
        assert report(days=1)["user_activity"]["monthly_uploads"] == [
            {"month": "2026-03", "count": 2}
        ]
        assert [row["month"] for row in report(days=78)["user_activity"]["monthly_uploads"]] == [
            "2025-12", "2026-01", "2026-02", "2026-03",
        ]  # fmt: skip

    def test_days_are_utc_in_any_time_zone_of_the_site(self, doctor, report, settings):
        settings.TIME_ZONE = "Pacific/Auckland"
        report_upload(
            doctor, "upload_created", "late", datetime(2026, 3, 17, 23, 59, tzinfo=timezone.utc)
        )
        report_upload(
            doctor, "upload_created", "early", datetime(2026, 3, 18, 0, 0, tzinfo=timezone.utc)
        )
        counts = [row["count"] for row in report(days=2)["user_activity"]["daily_uploads"]]
        assert counts == [1, 1]


class TestTrends:
    @pytest.mark.parametrize(
        ("before", "now", "change", "trend"),
        [
            (0, 3, 100.0, "up"),
            (1, 2, 100.0, "up"),
            (2, 1, -50.0, "down"),
            (3, 4, 33.3, "up"),
            (3, 2, -33.3, "down"),
            (20, 21, 5.0, "stable"),
            (20, 19, -5.0, "stable"),
            (19, 20, 5.3, "up"),
            (4, 4, 0.0, "stable"),
            (3, 5, 66.7, "up"),
        ],
    )
    def test_trends_compare_span_with_previous_span(
        self, doctor, report, before, now, change, trend
    ):
        for number in range(before):
            report_upload(
                doctor, "upload_completed", f"b{number}", NOON - timedelta(days=7), diagnosis="X"
            )
        for number in range(now):
            report_upload(
                doctor, "upload_completed", f"n{number}", NOON - timedelta(days=6), diagnosis="X"
            )
        report_upload(doctor, "upload_completed", "old", NOON - timedelta(days=14), diagnosis="X")
        assert report(days=7)["diagnosis_trends"] == [
            {"diagnosis": "X", "count": now, "trend": trend, "percentage_change": change}
        ]

    def test_trends_list_all_diagnoses_most_frequent_first(self, doctor, report):
        for number in range(12):
            for copy in range(number % 3 + 1):
                report_upload(
                    doctor, "upload_completed", f"u{number}-{copy}", diagnosis=f"D{number:02}"
                )
        rows = report()["diagnosis_trends"]
        assert len(rows) == 12
        counts = [row["count"] for row in rows]
        assert counts == sorted(counts, reverse=True)

    def test_diagnosis_of_previous_span_only_is_not_shown(self, doctor, report):
        report_upload(doctor, "upload_completed", moment=NOON - timedelta(days=8), diagnosis="Past")
        assert report(days=7)["diagnosis_trends"] == []


class TestSystemHealth:
    def test_success_rate_of_span_ignores_processing_uploads(self, doctor, report):
        for number in range(2):
            report_upload(doctor, "upload_completed", f"c{number}", processing_time=10 * number)
        report_upload(doctor, "upload_failed", "f")
        report_upload(doctor, "upload_created", "p")
        report_upload(doctor, "upload_failed", "old", NOON - timedelta(days=7), processing_time=999)
        health = report(days=7)["system_health"]
        assert health["success_rate"] == 66.7
        assert health["average_processing_time"] == 5.0
        assert health["total_uploads"] == 5

    def test_active_users_signed_in_or_uploaded_within_span(self, doctor, other, report):
        report_upload(doctor, "upload_created", moment=NOON - timedelta(days=6))
        other.last_login = NOON - timedelta(days=6)
        other.save()
        both = make_user("both@clinic.example")
        both.last_login = NOON
        both.save()
        report_upload(both, "upload_created", "b")
        late = make_user("late@clinic.example")
        late.last_login = NOON - timedelta(days=7)
        late.save()
        report_upload(late, "upload_created", "l", NOON - timedelta(days=7))
        assert report(days=7)["system_health"]["active_users"] == 3
        assert report(days=1)["system_health"]["active_users"] == 1
        assert report(days=8)["system_health"]["active_users"] == 4

    def test_posted_event_counts_in_next_response(self, doctor, report):
        for number in range(1, 4):
            report_upload(doctor, "upload_created", f"u{number}")
            assert report()["system_health"]["total_uploads"] == number
        report_upload(doctor, "upload_failed", "u1")
        assert report()["system_health"]["success_rate"] == 0.0
        report_upload(doctor, "upload_completed", "u1")
        assert report()["system_health"]["success_rate"] == 100.0

    def test_erased_user_is_not_counted(self, doctor, other, administrator, report):
        report_upload(doctor, "upload_completed", diagnosis="X")
        report_upload(other, "upload_completed", diagnosis="X")
        assert report()["system_health"]["total_uploads"] == 2
        with at(NOON):
            assert client_of(administrator).delete(f"/api/users/{doctor.pk}/").status_code == 204
        body = report()
        assert body["system_health"]["total_uploads"] == 1
        assert body["diagnosis_trends"][0]["count"] == 1
        assert body["system_health"]["active_users"] == 1


def test_random_history_counts_equal_facts_counted_singly(doctor, other, administrator):
    dice = random.Random(20260318)
    facts = {}
    for _ in range(70):
        user, upload = dice.choice([doctor, other]), f"u{dice.randrange(25)}"
        moment = NOON - timedelta(hours=dice.randrange(24 * 40))
        action, details = dice.choice([CREATED, PROCESSING, FAILED, COMPLETED])
        report_upload(user, action, upload, moment, **details)
        fact = facts.setdefault((user.pk, upload), [moment, 0])
        rank = {"upload_failed": 1, "upload_completed": 2}.get(action, 0)
        fact[:] = [min(fact[0], moment), max(fact[1], rank)]
        if dice.random() < 0.1:
            changes_fold()
    start = NOON.date() - timedelta(days=13)
    inside = [fact for fact in facts.values() if start <= fact[0].date() <= NOON.date()]
    with at(NOON):
        body = client_of(administrator).get("/api/analytics/", {"days": 14}).json()
    daily = {row["date"]: row["count"] for row in body["user_activity"]["daily_uploads"]}
    for offset in range(14):
        day = start + timedelta(days=offset)
        assert daily[day.isoformat()] == sum(fact[0].date() == day for fact in inside)
    completed = sum(fact[1] == 2 for fact in inside)
    failed = sum(fact[1] == 1 for fact in inside)
    assert body["system_health"]["total_uploads"] == len(facts)
    assert body["system_health"]["success_rate"] == round(100 * completed / (completed + failed), 1)
    assert sum(row["count"] for row in body["diagnosis_trends"]) == completed


@pytest.fixture
def image_service(settings):
    """An image service that lists ``rows``; the site pulls from it."""
    rows = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"uploads": rows, "count": len(rows)}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            """Do not log."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    settings.MYOMETRICS = {**settings.MYOMETRICS, "MICROSERVICE_URL": url}
    yield rows
    server.shutdown()
    server.server_close()


class TestImageService:
    def row(self, user_id, upload_id="u1", **changes):
        return {
            "user_id": str(user_id),
            "upload_id": upload_id,
            "upload_time": "2026-03-17T09:30:00",
            "original_filename": "service.jpg",
            "file_type": "image/jpeg",
            "status": "processed",
            "file_upload_time": "2026-03-17T09:30:01",
            "diagnosis": "Service",
            "confidence_score": 0.97,
            **changes,
        }

    @pytest.mark.parametrize(
        ("said", "status"),
        [
            ("processed", "completed"),
            ("completed", "completed"),
            ("queued", "processing"),
            ("processing", "processing"),
            ("failed", "failed"),
        ],
    )
    def test_image_service_statuses_are_mapped_and_naive_times_are_utc(
        self, doctor, image_service, settings, said, status
    ):
        settings.TIME_ZONE = "Asia/Kolkata"
        image_service.append(self.row(doctor.pk, status=said))
        uploads_pull()
        [row] = activity(doctor)["recent_uploads"]
        assert row["status"] == status
        assert row["filename"] == "service.jpg"
        assert row["timestamp"].startswith("2026-03-17T09:30:00")

    def test_image_service_diagnosis_ranks_last_and_rows_count_once(
        self, doctor, image_service, administrator
    ):
        report_upload(doctor, "upload_created", "u1", diagnosis="Zebra", filename="zebra.jpg")
        image_service.append(self.row(doctor.pk))
        image_service.append(self.row(doctor.pk))
        uploads_pull()
        report_upload(doctor, "upload_created", "u2", diagnosis="Zebra")
        with at(NOON):
            body = client_of(administrator).get("/api/analytics/").json()
        assert [(r["diagnosis"], r["count"]) for r in body["diagnosis_trends"]] == [("Zebra", 2)]
        assert body["system_health"]["total_uploads"] == 2

    def test_invalid_image_service_rows_do_not_affect_others(self, doctor, image_service):
        image_service += [
            self.row(987654),
            self.row("no-user"),
            self.row(""),
            self.row("9" * 40),
            self.row("1\x00"),
            self.row(doctor.pk, "bad time", upload_time="yesterday"),
            self.row(doctor.pk, "bad status", status="exploded"),
            self.row(doctor.pk, None),
            self.row(doctor.pk, "x" * 500),
            {"user_id": str(doctor.pk)},
            None,
            "text",
            [],
            self.row(doctor.pk, "good", diagnosis=None, confidence_score=None),
        ]
        uploads_pull()
        assert [row["id"] for row in activity(doctor)["recent_uploads"]] == ["good"]


@pytest.mark.django_db(transaction=True)
def test_simultaneous_events_of_one_upload_make_one_upload(run_concurrently):
    doctor = make_user("doctor@clinic.example")
    client = client_of(doctor)

    def post(action, details):
        body = {
            "action": action,
            "resource_type": "upload",
            "resource_id": "u1",
            "details": details,
        }
        return send_json(client, "POST", "/api/audit-logs/", body).status_code

    calls = [
        lambda event=event: post(*event)
        for event in [CREATED, PROCESSING, FAILED, COMPLETED, READY] * 3
    ]
    assert run_concurrently(calls) == [201] * 15
    [row] = client.get("/api/users/me/activity/").json()["recent_uploads"]
    assert row["status"] == "completed"
    administrator = client_of(make_user("boss@clinic.example", role="admin"))
    for _ in range(2):
        body = administrator.get("/api/analytics/").json()
        assert body["system_health"]["total_uploads"] == 1
        assert [(r["diagnosis"], r["count"]) for r in body["diagnosis_trends"]] == [("Ready", 1)]
        changes_fold()
