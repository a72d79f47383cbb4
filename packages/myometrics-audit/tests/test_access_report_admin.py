"""The admin page of access reports."""

from __future__ import annotations

import csv
import io
import json

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.utils import translation

from myometrics_audit import audit
from myometrics_audit.access_report import admin as report_admin
from myometrics_audit.access_report.wording import action_words, data_words
from myometrics_audit.models import AuditLog

pytestmark = pytest.mark.django_db

URL = "/admin/myometrics_audit_access_report/accessreport/"


@pytest.fixture
def reviewer(django_user_model):
    reviewer = django_user_model.objects.create_user(email="rita@clinic.example", is_staff=True)
    reviewer.user_permissions.add(Permission.objects.get(codename="view_access_report"))
    return reviewer


@pytest.fixture
def browser(client, reviewer, settings):
    """A client signed in to the admin as a reviewer."""
    settings.MYOMETRICS_AUDIT = {
        **settings.MYOMETRICS_AUDIT,
        "ACCESS_REPORT_CLINIC": "North Clinic",
        "ACCESS_REPORT_USER_NAME": lambda user: "Nurse",
    }
    client.force_login(reviewer)
    return client


def viewed(user, subject="p1", **values):
    values = {"resource": ("myometrics_testing.report", "r1"), "action": "report_viewed", **values}
    return audit.record(actor=user, data_subject=subject, **values)


def test_empty_form_reads_nothing(browser):
    page = browser.get(URL)
    assert page.status_code == 200
    assert "Show report" in page.content.decode()
    assert "Who has opened your data" not in page.content.decode()
    assert not AuditLog.objects.exists()


def test_page_has_clinic_period_count_and_rows(browser, user):
    entry = viewed(user, purpose="treatment", legal_basis="consent")
    viewed(user, subject="p2", resource=("r", "of-p2"))
    day = entry.timestamp.date()
    query = {"data_subject": "p1", "start_date": day, "end_date": day, "for_subject": "on"}
    text = browser.get(URL, query).content.decode()
    for shown in ("North Clinic", "p1", f"{day:%Y} to", "Opened", "Nurse", "treatment", "consent"):
        assert shown in text
    assert '<dd class="ar-count">1</dd>' in text
    for hidden in (user.email, str(user.pk), "of-p2"):
        assert hidden not in text


def test_page_for_reviewers_names_the_users(browser, user):
    viewed(user)
    text = browser.get(URL, {"data_subject": "p1"}).content.decode()
    assert user.email in text
    assert str(user.pk) in text


def test_page_leaves_an_entry(browser, reviewer):
    browser.get(URL, {"data_subject": "p1", "end_date": "2025-08-19"})
    entry = AuditLog.objects.get()
    assert (entry.user, entry.action, entry.data_subject) == (
        reviewer,
        "access_report_viewed",
        "p1",
    )
    assert entry.details == {"format": "page", "end_date": "2025-08-19"}


def test_page_escapes_what_it_shows(browser, user):
    viewed(user, subject="<b>", purpose="<script>", resource=("<i>", "<u>"), action="<s>_viewed")
    text = browser.get(URL, {"data_subject": "<b>"}).content.decode()
    for tag in ("<b>", "<script>", "<i>", "<u>", "<s>"):
        assert tag not in text


@pytest.mark.parametrize(
    "query",
    [
        {"data_subject": ""},
        {"data_subject": "x" * 101},
        {"data_subject": "a\x00"},
        {"data_subject": "p1", "start_date": "x"},
        {"data_subject": "p1", "start_date": "2025-08-02", "end_date": "2025-08-01"},
    ],
)
@pytest.mark.parametrize("path", ["", "download/csv/"])
def test_invalid_form_is_shown_and_reads_nothing(browser, query, path):
    assert browser.get(URL + path, query).status_code == 400
    assert not AuditLog.objects.exists()


def test_long_report_shows_the_newest_rows_and_says_so(browser, user, monkeypatch):
    monkeypatch.setattr(report_admin, "MAX_ROWS", 2)
    for number in range(3):
        viewed(user, resource=("r", f"number-{number}"))
    text = browser.get(URL, {"data_subject": "p1"}).content.decode()
    assert "Only the newest 2 of 3 accesses" in text
    assert "number-0" not in text
    assert "number-2" in text


def test_report_without_rows_says_so(browser):
    text = browser.get(URL, {"data_subject": "unknown"}).content.decode()
    assert "No access is recorded for this person and period." in text


def test_downloads_have_the_rows_of_the_page(browser, user):
    viewed(user)
    query = {"data_subject": "p1", "for_subject": "on"}
    table = b"".join(browser.get(URL + "download/csv/", query).streaming_content).decode()
    assert [row[1] for row in csv.reader(io.StringIO(table))][1:] == ["Nurse", "true"]
    bundle = json.loads(b"".join(browser.get(URL + "download/fhir/", query).streaming_content))
    assert bundle["total"] == 2
    reads = AuditLog.objects.filter(action="access_report_viewed").order_by("id")
    assert [entry.details["format"] for entry in reads] == ["csv", "fhir"]


@pytest.mark.parametrize("path", ["", "download/csv/", "download/fhir/"])
def test_page_needs_the_permission(client, administrator, path):
    administrator.user_permissions.add(Permission.objects.get(codename="view_auditlog"))
    client.force_login(administrator)
    assert client.get(URL + path, {"data_subject": "p1"}).status_code == 403
    entry = AuditLog.objects.get()
    assert (entry.user, entry.action) == (administrator, "access_report_denied")
    assert entry.data_subject == "p1"
    assert URL not in client.get("/admin/").content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("has_middleware", [True, False])
def test_refused_page_with_atomic_requests(
    client, administrator, settings, monkeypatch, caplog, has_middleware
):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    middleware = "myometrics_audit.middleware.RecordingMiddleware"
    if has_middleware:
        settings.MIDDLEWARE = [middleware, *settings.MIDDLEWARE]
    client.force_login(administrator)
    assert client.get(URL, {"data_subject": "p1"}).status_code == 403
    assert AuditLog.objects.exists() == has_middleware
    assert (middleware in caplog.text) != has_middleware


def test_index_links_to_the_page_and_only_the_report_exists(browser, user):
    entry = viewed(user)
    assert URL in browser.get("/admin/").content.decode()
    for path in (f"{entry.pk}/change/", f"{entry.pk}/history/", "add/"):
        assert browser.get(URL + path).status_code == 404


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("report_viewed", "Opened"),
        ("clinic.patient_created", "Added"),
        ("upload_updated", "Changed"),
        ("report_deleted", "Deleted"),
        ("report_printed", "Printed"),
        ("data_exported", "Exported"),
        ("patients_listed", "Shown in a list"),
        ("report_soft_deleted", "Deleted"),
        ("report_restored", "Restored"),
        ("report_access_denied", "Tried to open, but was refused"),
        ("access_report_viewed", "Read this report"),
        ("report_view_refused", "Report view refused"),
        ("consent_given", "Consent given"),
    ],
)
def test_actions_are_shown_in_words(action, words):
    assert action_words(action) == words


def test_data_are_shown_by_the_name_of_the_model():
    assert data_words("clinic_site.person", "7") == "person 7"
    assert data_words("lab.result", "7") == "Lab result 7"
    assert data_words("upload", "u1") == "Upload u1"
    assert data_words("access_report", "p1") == "access report"


def test_page_renders_in_german(browser, user):
    viewed(user)
    with translation.override("de"):
        page = browser.get(URL, {"data_subject": "p1"}, headers={"Accept-Language": "de"})
    assert page.status_code == 200
