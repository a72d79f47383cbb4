"""Mails about events of other packages: uploads, exports and health changes."""

from __future__ import annotations

import json
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from conftest import sign_in
from django.core import mail

from myometrics_core.health import HealthReport
from myometrics_core.health_log.services import health_record
from myometrics_core.jobs import run_jobs
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _files(settings, tmp_path):
    settings.MEDIA_ROOT = str(tmp_path)


def report(client, action, upload="upload_001"):
    body = {
        "action": action,
        "resource_type": "upload",
        "resource_id": upload,
        "details": {"filename": "byron_ada.dcm", "diagnosis": "Myocardial Infarction"},
    }
    assert client.post("/api/audit-logs/", body, format="json").status_code == 201


def subjects():
    run_jobs("myometrics_notifications.deliver")
    return [sent.subject for sent in mail.outbox]


def test_upload_entries_notify_uploader_once_each(as_doctor, doctor):
    for action in ("upload_created", "upload_completed", "analysis_ready", "upload_completed"):
        report(as_doctor, action)

    assert subjects() == [
        "MyoMetrics: an upload is complete",
        "MyoMetrics: an analysis is ready",
    ]
    assert {address for sent in mail.outbox for address in sent.to} == {doctor.email}
    for sent in mail.outbox:
        assert "upload_001" in sent.body
        assert "byron" not in sent.message().as_string()


def test_switch_turned_off_by_api_or_link_stops_mails(as_doctor, anonymous_client):
    report(as_doctor, "upload_completed")
    assert len(subjects()) == 1
    link = urlsplit(mail.outbox[0].extra_headers["List-Unsubscribe"].strip("<>"))

    answer = anonymous_client.post(f"{link.path}?{link.query}", {"List-Unsubscribe": "One-Click"})

    assert answer.status_code == 200
    assert as_doctor.get("/api/users/me/notifications/").json()["upload_completed"] is False
    as_doctor.patch("/api/users/me/notifications/", {"analysis_ready": False}, format="json")
    report(as_doctor, "upload_completed", "upload_002")
    report(as_doctor, "analysis_ready", "upload_002")
    assert len(subjects()) == 1


def test_mailed_export_links_to_the_same_file(as_doctor, anonymous_client):
    answer = as_doctor.get("/api/users/me/export/?format=json&delivery=email")
    assert answer.status_code == 202
    assert set(answer.json()) == {"detail"}

    run_jobs("myometrics_notifications.export")
    assert subjects() == ["MyoMetrics: your data export is ready"]
    link = next(line for line in mail.outbox[0].body.splitlines() if "/exports/" in line)
    download = anonymous_client.get(link.removeprefix("http://localhost:8001"))

    direct = as_doctor.get("/api/users/me/export/?format=json")
    assert download.headers["Content-Disposition"] == 'attachment; filename="user_data.json"'
    mailed, shown = json.loads(download.getvalue()), json.loads(direct.getvalue())
    assert _deliveries(shown) == ["email", "link", "response"]
    assert _deliveries(mailed) == ["email"]
    assert {**mailed, "audit_logs": []} == {**shown, "audit_logs": []}


def _deliveries(exported):
    entries = (e for e in exported["audit_logs"] if e["action"] == "data_exported")
    return sorted(entry["details"]["delivery"] for entry in entries)


def test_mailed_export_counts_in_rate_limit(as_doctor):
    statuses = [
        as_doctor.get(f"/api/users/me/export/{query}").status_code
        for query in ("?delivery=email", "", "?delivery=email")
    ]
    assert statuses == [202, 200, 429]


@pytest.mark.parametrize("delivery", ["pigeon", "%00", "EMAIL"])
def test_unknown_delivery_is_400(as_doctor, delivery):
    answer = as_doctor.get(f"/api/users/me/export/?delivery={delivery}")
    assert answer.status_code == 400
    assert list(answer.json()["field_errors"]) == ["delivery"]


def test_deleted_account_deletes_its_export(as_doctor, anonymous_client):
    as_doctor.get("/api/users/me/export/?delivery=email")
    run_jobs("myometrics_notifications.export")
    subjects()
    link = next(line for line in mail.outbox[0].body.splitlines() if "/exports/" in line)

    assert as_doctor.delete("/api/users/me/").status_code == 204

    assert anonymous_client.get(link.removeprefix("http://localhost:8001")).status_code == 404


def test_health_change_is_mailed_to_subscribers_and_recorded(
    administrator, as_administrator, as_doctor
):
    as_administrator.patch("/api/users/me/notifications/", {"system_alerts": True}, format="json")
    began = utc_now()
    for seconds in (0, 30, 60, 90):
        _seen(began + timedelta(seconds=seconds), redis="down")
    for seconds in (120, 180):
        _seen(began + timedelta(seconds=seconds), redis="up")

    assert subjects() == [
        "MyoMetrics: the system is degraded",
        "MyoMetrics: the system has recovered",
    ]
    assert {address for sent in mail.outbox for address in sent.to} == {administrator.email}
    entries = as_administrator.get("/api/audit-logs/?resource_type=system").json()["results"]
    assert [entry["action"] for entry in entries] == ["system_recovered", "system_degraded"]
    assert [entry["user_id"] for entry in entries] == [None, None]


def test_client_entry_cannot_send_health_mails(administrator, as_administrator, doctor):
    as_administrator.patch("/api/users/me/notifications/", {"system_alerts": True}, format="json")
    body = {"resource_type": "system", "resource_id": "health"}

    for action, status in (("system_down", 400), ("System_Down", 201), ("system_alert", 201)):
        answer = sign_in(doctor).post("/api/audit-logs/", {**body, "action": action}, format="json")
        assert answer.status_code == status

    assert subjects() == []


def _seen(at, redis):
    services = {"database": "up", "redis": redis, "email": "up", "microservice": "up"}
    status = "healthy" if redis == "up" else "degraded"
    health_record(report=HealthReport(status, services, at))
