"""Reads that leave an audit entry, by MYOMETRICS_AUDIT["RECORD_READS"]."""

from __future__ import annotations

import pytest
from conftest import client_of

from myometrics_audit import audit
from myometrics_audit.conf import READS
from myometrics_audit.models import AuditLog

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unlimited", "cheap_hashes")]

USER = "{user}"
READING = [
    ("users", "users/?search=secret&page_size=5", "users_listed", "user", "list"),
    ("users", f"users/{USER}/", "user_viewed", "user", USER),
    ("audit_logs", f"audit-logs/?user_id={USER}", "audit_log_read", "audit_log", "list"),
    ("audit_logs", "audit-logs/{entry}/", "audit_log_read", "audit_log", "{entry}"),
    ("analytics", "analytics/", "analytics_viewed", "analytics", "report"),
    ("analytics", f"users/{USER}/activity/", "analytics_viewed", "analytics", "activity"),
    ("exports", "users/me/export/?format=json", "data_exported", "user", "{reader}"),
]


@pytest.fixture
def entry(doctor):
    return audit.record(actor=doctor, action="printed", resource=("report", "17"))


@pytest.fixture
def read(administrator, doctor, entry):
    """A function that reads a path as an administrator; returns the entries that this wrote."""
    client = client_of(administrator)
    client.defaults["HTTP_USER_AGENT"] = "reader"
    names = {"user": doctor.pk, "entry": entry.pk, "reader": administrator.pk}

    def make(path, status=200):
        last = AuditLog.objects.latest("id").pk
        response = client.get("/api/" + path.format(**names))
        assert response.status_code == status
        if response.streaming:
            b"".join(response.streaming_content)
        return list(AuditLog.objects.filter(pk__gt=last))

    make.names = names
    return make


def record(settings, *reads):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "RECORD_READS": list(reads)}


@pytest.mark.parametrize(("kind", "path", "action", "resource_type", "resource_id"), READING)
def test_read_is_recorded(
    settings, read, administrator, kind, path, action, resource_type, resource_id
):
    record(settings, kind)
    (entry,) = read(path)
    assert (entry.user, entry.origin, entry.user_agent) == (administrator, "server", "reader")
    assert (entry.action, entry.resource_type) == (action, resource_type)
    assert entry.resource_id == resource_id.format(**read.names)
    assert "secret" not in str(entry.details)


@pytest.mark.parametrize(("kind", "path"), [row[:2] for row in READING])
def test_read_that_is_not_chosen_is_not_recorded(settings, read, kind, path):
    record(settings, *(name for name in READS if name != kind))
    assert read(path) == []


def test_only_exports_are_recorded_by_default(settings, read):
    settings.MYOMETRICS_AUDIT = {}
    found = [(kind, bool(read(path))) for kind, path, *_ in READING]
    assert found == [(kind, kind == "exports") for kind, *_ in READING]


def test_refused_read_is_not_recorded(settings, read):
    record(settings, *READS)
    for path in ("users/999999/", "audit-logs/999999/", "users/999999/activity/"):
        assert read(path, status=404) == []
    for path in ("users/?role=none", "audit-logs/?page=0", "analytics/?days=x"):
        assert read(path, status=400) == []


def test_read_of_the_log_names_the_filters(settings, read, doctor):
    record(settings, "audit_logs")
    (entry,) = read(f"audit-logs/?user_id={doctor.pk}&start_date=2025-01-01")
    assert entry.details == {
        "filters": {"user_id": str(doctor.pk), "start_date": "2025-01-01"},
        "page": 1,
    }
