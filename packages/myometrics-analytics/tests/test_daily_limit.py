"""Uploads reported by clients only: daily limit, marking, exclusion."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import NOON, make_event
from counting_one_by_one import assert_rollups_equal_facts, report_one_by_one
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from myometrics_analytics.facts import Origin, UploadEvent, uploads_merge
from myometrics_analytics.filters import Filters
from myometrics_analytics.models import ClientReports, LimitDecision, Status, Upload
from myometrics_analytics.rollups import changes_fold, rollups_check
from myometrics_analytics.selectors import activity_get, report_get
from myometrics_core.db import atomic_write
from myometrics_core.events import bus, publish, register_source

pytestmark = pytest.mark.django_db


@pytest.fixture
def limit(settings):
    """Sets the daily limit and other settings of analytics."""

    def set_limit(number, **values):
        settings.MYOMETRICS_ANALYTICS = {"UPLOADS_PER_USER_PER_DAY": number, **values}

    return set_limit


@pytest.fixture
def history(monkeypatch):
    """A source of events that replays what :func:`report_upload` has published."""
    published: list[Any] = []
    monkeypatch.setattr(bus, "_sources", {})
    register_source("test", lambda: iter(sorted(published, key=lambda one: one.occurred_at)))
    return published


def pulled(user, upload_id, at=NOON):
    return UploadEvent(
        user_id=user.pk,
        upload_id=upload_id,
        uploaded_at=at,
        status=Status.COMPLETED,
        origin=Origin.IMAGE_SERVICE,
    )


def report_upload(user, upload_id, action="upload_created", **values):
    values = {"origin": "client", "at": NOON, **values}
    event = make_event(user, action, upload_id, **values)
    publish(event)
    return event


def total():
    return int(report_get(days=1)["system_health"]["total_uploads"])


def counted_ids():
    return set(Upload.objects.counted().values_list("upload_id", flat=True))


def settle_and_compare():
    for days in (1, 30):
        assert report_get(days=days) == report_one_by_one(days)
    changes_fold()
    assert report_get(days=30) == report_one_by_one(30)
    assert rollups_check() == 0
    assert_rollups_equal_facts()


def test_upload_1001_of_a_day_does_not_count(user, merge_events, publish_upload):
    merge_events(
        make_event(user, "upload_completed", f"u{n}", NOON, "client", diagnosis="Normal")
        for n in range(999)
    )
    for n in (999, 1000):
        report_upload(user, f"u{n}", "upload_completed", diagnosis="Infarct")
    assert (Upload.objects.count(), total()) == (1001, 1000)
    assert Upload.objects.get(over_limit=True).upload_id == "u1000"
    trends = {row["diagnosis"]: row["count"] for row in report_get(days=1)["diagnosis_trends"]}
    assert trends == {"Normal": 999, "Infarct": 1}
    settle_and_compare()


def test_limit_of_a_batch_is_decided_in_order_of_arrival(user, limit, merge_events):
    limit(2)
    merge_events(make_event(user, upload_id=u, at=NOON, origin="client") for u in "zay")
    assert counted_ids() == {"z", "a"}


@pytest.mark.parametrize("origin", ["server", "import", None])
def test_reports_of_the_server_are_not_limited(user, limit, origin):
    limit(1)
    for n in range(3):
        report_upload(user, f"u{n}", origin=origin)
    assert total() == 3
    assert not Upload.objects.exclude(client_only=False).exists()
    report_upload(user, "of-client")
    assert total() == 4


def test_pulled_uploads_are_not_limited(user, limit):
    limit(1)
    uploads_merge(events=[pulled(user, f"u{n}") for n in range(3)])
    report_upload(user, "u1", "analysis_ready", diagnosis="Normal")
    report_upload(user, "of-client")
    assert total() == 4


def test_limit_applies_per_user_and_day(make_user, limit):
    limit(1)
    for user in (make_user(), make_user()):
        for at in (NOON, NOON - timedelta(days=1)):
            report_upload(user, f"{at:%d}-first", at=at)
            report_upload(user, f"{at:%d}-second", at=at)
    assert total() == 4


def test_repeated_reports_of_an_upload_count_once_against_the_limit(user, limit):
    limit(2)
    for upload_id in ("a", "a", "b"):
        report_upload(user, upload_id)
        report_upload(user, upload_id, "upload_completed")
    assert total() == 2


def test_later_events_apply_to_every_known_upload(user, limit):
    limit(1)
    for upload_id in ("a", "b"):
        report_upload(user, upload_id)
    for upload_id in ("a", "b"):
        report_upload(user, upload_id, "analysis_ready", diagnosis="Normal")
    assert {(u.status, u.diagnosis) for u in Upload.objects.all()} == {("completed", "Normal")}
    assert [row["count"] for row in report_get(days=1)["diagnosis_trends"]] == [1]
    settle_and_compare()


@pytest.mark.parametrize("confirm", ["pull", "server"])
def test_confirmed_upload_over_the_limit_counts(user, limit, confirm):
    limit(1)
    for upload_id in ("a", "b"):
        report_upload(user, upload_id, "upload_completed", processing_time=2)
    changes_fold()
    assert total() == 1
    if confirm == "pull":
        uploads_merge(events=[pulled(user, "b")])
    else:
        report_upload(user, "b", origin="server")
    assert total() == 2
    assert Upload.objects.filter(client_only=False).get().upload_id == "b"
    settle_and_compare()


def test_limit_decision_is_kept_when_setting_changes(user, limit):
    limit(1)
    for upload_id in ("a", "b"):
        report_upload(user, upload_id)
    limit(100)
    report_upload(user, "b", "upload_completed")
    assert counted_ids() == {"a"}


def test_own_activity_shows_uploads_over_the_limit(user, limit):
    limit(1)
    for upload_id in ("a", "b"):
        report_upload(user, upload_id, at=datetime.now(timezone.utc))
    mine = activity_get(user=user)
    assert mine["uploads_today"] == 2
    assert {row["id"] for row in mine["recent_uploads"]} == {"a", "b"}
    assert set(mine["recent_uploads"][0]) == {"id", "filename", "timestamp", "status"}


@pytest.mark.parametrize("clears", [False, True])
def test_rebuild_keeps_limit_decisions(user, limit, history, clears):
    limit(2)
    uploads_merge(events=[pulled(user, "a")])
    history += [
        report_upload(user, u, at=NOON + timedelta(minutes=n)) for n, u in enumerate("abcd")
    ]
    assert counted_ids() == {"a", "b", "c"}
    limit(1)
    call_command("analytics_rebuild", clear=clears)
    assert counted_ids() == {"a", "b", "c"}
    assert not LimitDecision.objects.exists()
    assert ClientReports.objects.get().uploads == 3
    settle_and_compare()


def test_interrupted_rebuild_keeps_limit_decisions(user, limit, history):
    limit(1)
    history += [report_upload(user, upload_id) for upload_id in "abc"]
    for _ in range(2):
        call_command("analytics_rebuild", clear=True, restart=True)
    # Cleared, and a client goes on before anything is replayed.
    from myometrics_analytics.rollups.rebuilding import facts_clear

    facts_clear()
    facts_clear()
    report_upload(user, "c", "upload_completed")
    call_command("analytics_rebuild")
    assert counted_ids() == {"a"}


def test_first_rebuild_applies_limit_per_past_day(user, limit, history):
    limit(2)
    for day in (3, 2, 1):
        history += [
            make_event(user, upload_id=f"{day}{u}", at=NOON - timedelta(days=day), origin="client")
            for u in "abc"
        ]
    call_command("analytics_rebuild")
    assert counted_ids() == {f"{day}{u}" for day in (3, 2, 1) for u in "ab"}


def test_facts_from_before_the_limit_count(user, limit):
    limit(1, COUNT_CLIENT_REPORTED=False)
    for upload_id in ("a", "b"):
        report_upload(user, upload_id, origin="server")
    Upload.objects.update(client_only=None, over_limit=None)
    report_upload(user, "a", "upload_completed")
    assert total() == 2
    settle_and_compare()


def test_report_excludes_client_reports_if_configured(user, administrator, limit):
    for upload_id in ("a", "b"):
        report_upload(user, upload_id, "upload_completed", diagnosis="Normal", processing_time=9)
    report_upload(user, "c", "upload_failed", origin="server")
    report_upload(administrator, "d")
    for is_folded in (False, True):
        if is_folded:
            changes_fold()
        assert total() == 4
        limit(1000, COUNT_CLIENT_REPORTED=False)
        for filters in (None, Filters(diagnosis="Normal")):
            report = report_get(days=30, filters=filters)
            assert report["system_health"]["total_uploads"] == (0 if filters else 1)
            assert report["diagnosis_trends"] == []
            assert report["system_health"]["average_processing_time"] == 0
        assert report_get(days=30) == report_one_by_one(30)
        assert report_get(days=30)["system_health"]["active_users"] == 1
        assert rollups_check() == 0
        limit(1000)
    uploads_merge(events=[pulled(user, "a")])
    limit(1000, COUNT_CLIENT_REPORTED=False)
    assert total() == 2


def test_deleting_user_subtracts_only_counted_uploads(make_user, limit):
    limit(1)
    leaving, staying = make_user(), make_user()
    for user in (leaving, staying):
        for upload_id in ("a", "b"):
            report_upload(user, upload_id)
    get_user_model().objects.get(pk=leaving.pk).delete()
    assert total() == 1
    assert ClientReports.objects.count() == 1
    settle_and_compare()


def test_activity_does_not_show_client_reports(user, administrator, client_of):
    report_upload(user, "a")
    response = client_of(administrator).get(f"/api/users/{user.pk}/activity/")
    for word in (b"client", b"limit"):
        assert word not in response.content


def test_admin_filters_uploads_reported_by_clients_only(user, make_user):
    root = make_user(is_staff=True, is_superuser=True)
    report_upload(user, "from-client")
    report_upload(user, "from-server", origin="server")
    client = Client()
    client.force_login(root)
    path = "/admin/myometrics_analytics/upload/"
    everything = client.get(path).content.decode()
    assert "Reported by a client only" in everything
    marked = client.get(path, {"client_only__exact": "1"}).content.decode()
    assert "from-client" in marked
    assert "from-server" not in marked


@pytest.mark.parametrize("number", [1, 500])
def test_limit_costs_a_constant_number_of_statements(user, number):
    def statements(origin):
        reports = [
            make_event(user, upload_id=f"{origin}{n}", at=NOON, origin=origin)
            for n in range(number)
        ]
        from myometrics_analytics.facts.event_conversion import convert_event

        with CaptureQueriesContext(connection) as queries:
            uploads_merge(events=[convert_event(one) for one in reports])
        return len(queries)

    report_upload(user, "first of the day")
    assert statements("client") - statements("server") <= 3


@pytest.mark.django_db(transaction=True)
def test_limit_is_exact_for_50_concurrent_uploads(user, limit, run_concurrently):
    limit(20)

    def report(number):
        with atomic_write():
            report_upload(user, f"u{number}", "upload_completed", diagnosis="Normal")

    outcomes = run_concurrently([lambda n=n: report(n) for n in range(50)])
    assert [outcome for outcome in outcomes if outcome is not None] == []
    assert (Upload.objects.count(), total()) == (50, 20)
    settle_and_compare()


@pytest.mark.django_db(transaction=True)
def test_concurrent_reports_of_one_upload_count_once(user, limit, run_concurrently):
    limit(2)

    def report():
        with atomic_write():
            report_upload(user, "same")

    outcomes = run_concurrently(report, times=20)
    assert [outcome for outcome in outcomes if outcome is not None] == []
    assert ClientReports.objects.get().uploads == 1
    settle_and_compare()
