"""The optional filters of GET /api/analytics/: clinic, role, diagnosis."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from conftest import make_event
from counting_one_by_one import report_one_by_one

from myometrics_analytics.rollups import changes_fold

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _hosts_names(settings):
    settings.MYOMETRICS_ANALYTICS = {"CLINIC_FIELD": "full_name", "ROLE_FIELD": "email"}


@pytest.fixture(params=["pending", "folded", "half"])
def users(request, make_user, merge_events):
    now = datetime.now(timezone.utc)
    users = [
        make_user(full_name=clinic, last_login=login)
        for clinic in ("North", "South")
        for login in (None, now - timedelta(days=1), now - timedelta(days=50))
    ]
    events = [
        make_event(
            users[number % 5],
            ["upload_completed", "upload_failed", "upload_created"][number % 3],
            at=now - timedelta(days=number * 7 % 90),
            diagnosis=["Normal", "Infarction", None][number % 4 % 3],
            processing_time=number,
        )
        for number in range(60)
    ]
    merge_events(events[:31])
    if request.param == "half":
        changes_fold()
    merge_events(events[31:])
    if request.param == "folded":
        changes_fold()
    return users


@pytest.mark.parametrize("diagnosis", [None, "Normal", "Unheard of"])
@pytest.mark.parametrize("clinic", [None, "North", "Nowhere"])
@pytest.mark.parametrize("days", [7, 30])
def test_filters_combine_and_count_one_by_one(
    report, users, administrator, days, clinic, diagnosis
):
    query = {"days": days, "clinic": clinic, "diagnosis": diagnosis}
    answer = report(**{name: value for name, value in query.items() if value is not None})
    keys = {p.pk for p in [*users, administrator] if clinic in (None, p.full_name)}
    assert answer == report_one_by_one(
        days, lambda upload: diagnosis in (None, upload.diagnosis), keys
    )


def test_role_filter_uses_the_configured_field(report, users):
    answer = report(role=users[1].email)
    assert answer == report_one_by_one(30, users={users[1].pk})
    assert answer["system_health"]["total_uploads"] == 12


def test_empty_filter_is_ignored(report, users):
    assert report(clinic="", role="", diagnosis="") == report()


def test_filter_without_user_field_is_rejected(administrator, client_of, settings):
    settings.MYOMETRICS_ANALYTICS = {}
    for name in ("clinic", "role"):
        response = client_of(administrator).get("/api/analytics/", {name: "x"})
        assert response.status_code == 400
        assert list(response.json()["field_errors"]) == [name]


@pytest.mark.parametrize("value", ["\x00", "x" * 201])
@pytest.mark.parametrize("name", ["clinic", "role", "diagnosis"])
def test_invalid_filter_value_is_rejected(administrator, client_of, name, value):
    response = client_of(administrator).get("/api/analytics/", {name: value})
    assert response.status_code == 400
    assert list(response.json()["field_errors"]) == [name]


@pytest.mark.parametrize("value", ["North", "9" * 20])
@pytest.mark.parametrize("page", ["/api/analytics/", "/admin/myometrics_analytics/dashboard/"])
def test_filter_value_of_another_type_than_the_column_is_rejected(
    make_user, client_of, settings, page, value
):
    # The numbers of other rows, as in a foreign key to clinics.
    settings.MYOMETRICS_ANALYTICS = {"CLINIC_FIELD": "groups"}
    administrator = make_user(is_staff=True, is_superuser=True)
    client = client_of(administrator)
    client.force_login(administrator)
    response = client.get(page, {"clinic": value})
    assert response.status_code == 400
    if page.startswith("/api/"):
        assert list(response.json()["field_errors"]) == ["clinic"]
    assert client.get(page, {"clinic": "1"}).status_code == 200


def test_filter_values_are_not_sql(report, users):
    for value in ("'; DROP TABLE x; --", "100 %s", "%(start)s", '"'):
        assert report(clinic=value)["system_health"]["total_uploads"] == 0
        assert report(diagnosis=value)["diagnosis_trends"] == []
