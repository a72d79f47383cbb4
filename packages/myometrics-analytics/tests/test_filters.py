"""The optional filters of GET /api/analytics/: clinic, role, diagnosis."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import activity_about
from counting_one_by_one import report_one_by_one

from myometrics_analytics.folding import changes_fold

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _hosts_names(settings: Any) -> None:
    settings.MYOMETRICS_ANALYTICS = {"CLINIC_FIELD": "full_name", "ROLE_FIELD": "email"}


@pytest.fixture(params=["pending", "folded", "half"])
def people(request: pytest.FixtureRequest, make_person: Any, tell_of_many: Any) -> list[Any]:
    now = datetime.now(timezone.utc)
    people = [
        make_person(full_name=clinic, last_login=login)
        for clinic in ("North", "South")
        for login in (None, now - timedelta(days=1), now - timedelta(days=50))
    ]
    told = [
        activity_about(
            people[number % 5],
            ["upload_completed", "upload_failed", "upload_created"][number % 3],
            at=now - timedelta(days=number * 7 % 90),
            diagnosis=["Normal", "Infarction", None][number % 4 % 3],
            processing_time=number,
        )
        for number in range(60)
    ]
    tell_of_many(told[:31])
    if request.param == "half":
        changes_fold()
    tell_of_many(told[31:])
    if request.param == "folded":
        changes_fold()
    return people


@pytest.mark.parametrize("diagnosis", [None, "Normal", "Unheard of"])
@pytest.mark.parametrize("clinic", [None, "North", "Nowhere"])
@pytest.mark.parametrize("days", [7, 30])
def test_filters_combine_and_count_one_by_one(
    report, people, administrator, days, clinic, diagnosis
):
    query = {"days": days, "clinic": clinic, "diagnosis": diagnosis}
    answer = report(**{name: value for name, value in query.items() if value is not None})
    keys = {p.pk for p in [*people, administrator] if clinic in (None, p.full_name)}
    assert answer == report_one_by_one(
        days, lambda upload: diagnosis in (None, upload.diagnosis), keys
    )


def test_the_role_filter_reads_the_field_that_the_host_names(report, people):
    answer = report(role=people[1].email)
    assert answer == report_one_by_one(30, people={people[1].pk})
    assert answer["system_health"]["total_uploads"] == 12


def test_empty_filters_are_none(report, people):
    assert report(clinic="", role="", diagnosis="") == report()


def test_a_filter_the_site_does_not_have_is_refused(administrator, as_person, settings):
    settings.MYOMETRICS_ANALYTICS = {}
    for name in ("clinic", "role"):
        response = as_person(administrator).get("/api/analytics/", {name: "x"})
        assert response.status_code == 400
        assert list(response.json()["field_errors"]) == [name]


@pytest.mark.parametrize("value", ["\x00", "x" * 201])
@pytest.mark.parametrize("name", ["clinic", "role", "diagnosis"])
def test_unusable_filter_values_are_refused(administrator, as_person, name, value):
    response = as_person(administrator).get("/api/analytics/", {name: value})
    assert response.status_code == 400
    assert list(response.json()["field_errors"]) == [name]


def test_quotes_and_percent_signs_are_only_text(report, people):
    for value in ("'; DROP TABLE x; --", "100 %s", "%(start)s", '"'):
        assert report(clinic=value)["system_health"]["total_uploads"] == 0
        assert report(diagnosis=value)["diagnosis_trends"] == []
