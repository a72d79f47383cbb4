"""Specification: notification settings, export, health and the schema."""

import csv
import io
import json
import re

import pytest
from conftest import assert_error, client_of, make_user, send_json
from django.core import mail
from rest_framework.test import APIClient

from myometrics_core.jobs import enqueue, run_jobs
from myometrics_notifications.models import NotificationSettings

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unlimited", "cheap_hashes")]

SWITCHES = {
    "email_notifications": True,
    "upload_completed": True,
    "analysis_ready": True,
    "system_alerts": False,
}
PATH = "/api/users/me/notifications/"


@pytest.fixture
def client(doctor):
    return client_of(doctor)


def report_upload(client, action="upload_completed", upload_id="u1", **details):
    body = {
        "action": action,
        "resource_type": "upload",
        "resource_id": upload_id,
        "details": details,
    }
    answer = send_json(client, "POST", "/api/audit-logs/", body)
    assert answer.status_code == 201
    return answer.json()


class TestNotificationSettings:
    def test_settings_have_specified_defaults(self, client):
        answer = client.get(PATH)
        assert answer.status_code == 200
        assert answer.json() == SWITCHES

    def test_patch_returns_all_four_settings(self, client):
        answer = send_json(
            client, "PATCH", PATH, {"email_notifications": False, "system_alerts": True}
        )
        assert answer.status_code == 200
        changed = {**SWITCHES, "email_notifications": False, "system_alerts": True}
        assert answer.json() == changed
        assert client.get(PATH).json() == changed

    @pytest.mark.parametrize("name", SWITCHES)
    @pytest.mark.parametrize("value", [True, False])
    def test_each_setting_can_be_set_alone(self, client, name, value):
        assert send_json(client, "PATCH", PATH, {name: value}).json() == {**SWITCHES, name: value}

    def test_empty_patch_changes_nothing(self, client):
        answer = send_json(client, "PATCH", PATH, {})
        assert (answer.status_code, answer.json()) == (200, SWITCHES)

    def test_unknown_keys_are_ignored(self, client):
        body = {"nonsense": "\x00", "user": 5, "id": None, "analysis_ready": False}
        answer = send_json(client, "PATCH", PATH, body)
        assert answer.json() == {**SWITCHES, "analysis_ready": False}

    def test_invalid_value_prevents_all_changes(self, client):
        body = {"email_notifications": False, "system_alerts": "yes"}
        assert_error(send_json(client, "PATCH", PATH, body), 400, field="system_alerts")
        assert client.get(PATH).json() == SWITCHES

    def test_settings_are_per_user(self, client):
        other = client_of(make_user("other@clinic.example"))
        send_json(client, "PATCH", PATH, {"system_alerts": True})
        assert other.get(PATH).json() == SWITCHES

    @pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
    def test_only_get_and_patch_are_offered(self, client, method):
        assert_error(send_json(client, method, PATH, SWITCHES), 405)

    @pytest.mark.django_db(transaction=True)
    def test_concurrent_first_use_creates_one_row(self, run_concurrently):
        client = client_of(make_user("first@clinic.example"))
        calls = [lambda: client.get(PATH).status_code] * 6
        calls += [
            lambda name=name: send_json(client, "PATCH", PATH, {name: False}).status_code
            for name in SWITCHES
        ]
        assert run_concurrently(calls) == [200] * len(calls)
        assert NotificationSettings.objects.count() == 1
        assert set(client.get(PATH).json().values()) == {False}


class TestMails:
    def mails(self):
        mail.outbox.clear()
        run_jobs("myometrics_notifications.deliver")
        return [(message.to, message.subject) for message in mail.outbox]

    @pytest.mark.parametrize(
        ("action", "switch"),
        [("upload_completed", "upload_completed"), ("analysis_ready", "analysis_ready")],
    )
    def test_upload_mail_needs_both_switches(self, doctor, client, action, switch):
        client_of(make_user("other@clinic.example")).get(PATH)
        report_upload(client, action)
        assert [to for to, _ in self.mails()] == [[doctor.email]]
        for off in ({switch: False}, {switch: True, "email_notifications": False}):
            send_json(client, "PATCH", PATH, off)
            report_upload(client, action, f"u-{len(off)}")
            assert self.mails() == []
        send_json(client, "PATCH", PATH, {"email_notifications": True, switch: True})
        report_upload(client, action, "u-on")
        assert [to for to, _ in self.mails()] == [[doctor.email]]

    @pytest.mark.parametrize("action", ["upload_created", "upload_processing", "upload_failed"])
    def test_other_events_send_no_mail(self, client, action):
        report_upload(client, action)
        assert self.mails() == []

    def test_health_mails_go_to_subscribers_on_outage_and_recovery(self, doctor, client, settings):
        send_json(client, "PATCH", PATH, {"system_alerts": True})
        client_of(make_user("other@clinic.example")).get(PATH)
        silent = client_of(make_user("silent@clinic.example"))
        send_json(silent, "PATCH", PATH, {"system_alerts": True, "email_notifications": False})
        quick = {**settings.MYOMETRICS, "HEALTH_SETTLE": 0.0, "HEALTH_MAX_AGE": 0.0}
        sent = []
        for url in (None, "http://127.0.0.1:9", "http://127.0.0.1:9", None):
            settings.MYOMETRICS = {**quick, "MICROSERVICE_URL": url}
            enqueue("myometrics_core.check_health", key="")
            run_jobs("myometrics_core.check_health")
            sent.append([to for to, _ in self.mails()])
        assert sent == [[], [[doctor.email]], [], [[doctor.email]]]


def export(client, kind=None):
    answer = client.get("/api/users/me/export/", {} if kind is None else {"format": kind})
    assert answer.status_code == 200, answer.content
    return answer, b"".join(answer.streaming_content).decode("utf-8-sig")


def table(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


FORMULAS = [
    *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1"),
    '=HYPERLINK("x","y")',
]


class TestExport:
    @pytest.mark.parametrize(("kind", "name"), [(None, "csv"), ("csv", "csv"), ("json", "json")])
    def test_export_is_a_download_with_specified_name(self, client, kind, name):
        answer, _ = export(client, kind)
        assert answer["Content-Type"] == "application/octet-stream"
        assert answer["Content-Disposition"] == f'attachment; filename="user_data.{name}"'

    def test_json_has_four_sections_with_api_names(self, doctor, client):
        entry = report_upload(client, filename="scan.jpg", diagnosis="Normal")
        administrator = client_of(make_user("boss@clinic.example", role="admin"))
        data = json.loads(export(client, "json")[1])
        sections = {"profile", "notification_settings", "uploads", "audit_logs"}
        assert set(data) == {*sections, "complete"}
        assert data["complete"] is True
        shown = administrator.get(f"/api/users/{doctor.pk}/").json()
        assert {name: data["profile"][name] for name in shown} == shown
        assert data["notification_settings"] == SWITCHES
        [upload] = data["uploads"]
        assert (upload["id"], upload["filename"], upload["status"]) == (
            "u1",
            "scan.jpg",
            "completed",
        )
        assert {**entry, "origin": "client"} in data["audit_logs"]

    def test_export_shows_default_settings_without_creating_a_row(self, client):
        assert json.loads(export(client, "json")[1])["notification_settings"] == SWITCHES
        rows = [row for row in table(export(client)[1]) if row["section"].startswith("notif")]
        assert {row["field"]: row["value"] for row in rows} == {
            name: str(value).lower() for name, value in SWITCHES.items()
        }

    def test_csv_table_has_content_of_json(self, doctor, client):
        report_upload(client, filename="scan.jpg")
        data = json.loads(export(client, "json")[1])
        text = export(client)[1]
        lines = text.splitlines()
        assert lines[0] == "section,record,field,value"
        assert lines[-1] == "export,,complete,true"
        rows = table(text)[:-1]
        assert data.pop("complete") is True
        # The CSV export adds an entry that the JSON export does not contain.
        data["audit_logs"].append(data["audit_logs"][0])
        assert {row["section"] for row in rows} == {name for name in data if data[name]}
        for section, content in data.items():
            records = content if isinstance(content, list) else [content]
            found = {(row["record"], row["field"]) for row in rows if row["section"] == section}
            assert found == {
                (str(number), field)
                for number, record in enumerate(records, start=1)
                for field in record
            }
        [email] = [row["value"] for row in rows if row["field"] == "email"]
        assert email == doctor.email

    @pytest.mark.parametrize("formula", FORMULAS)
    def test_csv_cells_are_not_formulas(self, formula):
        user = make_user("f@clinic.example", first_name=formula[:30], clinic_name=formula)
        client = client_of(user)
        report_upload(client, upload_id=formula, filename=formula, diagnosis=formula)
        client.post(
            "/api/audit-logs/",
            {"action": f"{formula}x".strip(), "resource_type": formula.strip(),
             "resource_id": "1", "details": {formula: formula}},
            format="json", HTTP_USER_AGENT=formula,
        )  # fmt: skip
        text = export(client)[1]
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert {len(row) for row in rows} == {4}
        for row in rows:
            for cell in row:
                assert not cell.lstrip().startswith(("=", "+", "-", "@")), cell
                assert not cell.startswith(("\t", "\r", "\n")), cell

    def test_json_texts_are_unchanged(self, client):
        for text in (*FORMULAS, 'quote " comma , \\ ;', "字🫀\u2028", "line\nbreak", "\x01\x7f"):
            entry = report_upload(client, "viewed", "x", text=text)
            exported = json.loads(export(client, "json")[1])["audit_logs"]
            assert {**entry, "origin": "client"} in exported

    def test_export_has_no_data_of_other_users(self, doctor, client):
        other = make_user("outsider@elsewhere.example", first_name="Zebedee")
        report_upload(client_of(other), upload_id="their-upload", filename="theirs.jpg")
        send_json(client_of(other), "PATCH", PATH, {"analysis_ready": False})
        for kind in ("csv", "json"):
            text = export(client, kind)[1]
            for word in ("outsider", "Zebedee", "their-upload", "theirs.jpg"):
                assert word not in text

    def test_export_has_no_secrets(self, doctor, client):
        for kind in ("csv", "json"):
            text = export(client, kind)[1]
            assert doctor.password not in text
            assert not re.search(r"password|search_text|canonical", text)

    def test_export_of_many_rows_is_complete(self, client):
        for number in range(60):
            report_upload(client, "viewed", f"r{number}", filler="x" * 3000)
        data = json.loads(export(client, "json")[1])
        viewed = [row["resource_id"] for row in data["audit_logs"] if row["action"] == "viewed"]
        assert viewed == [f"r{number}" for number in range(60)]
        assert len({row["record"] for row in table(export(client)[1])
                    if row["section"] == "audit_logs"}) >= 60  # fmt: skip


class TestHealth:
    def test_health_has_specified_shape(self, client):
        answer = client.get("/api/health/")
        assert answer.status_code == 200
        body = answer.json()
        assert list(body) == ["status", "services", "last_check"]
        assert set(body["services"]) == {"database", "redis", "email", "microservice"}
        assert set(body["services"].values()) <= {"up", "down", "not_configured"}
        assert body["services"]["database"] == "up"
        assert body["status"] in ("healthy", "degraded")

    def test_unreachable_dependency_is_degraded_with_200(self, client, settings):
        settings.MYOMETRICS = {
            **settings.MYOMETRICS,
            "MICROSERVICE_URL": "http://127.0.0.1:9",
            "HEALTH_MAX_AGE": 0.0,
        }
        answer = client.get("/api/health/")
        assert answer.status_code == 200
        assert answer.json()["services"]["microservice"] == "down"
        assert answer.json()["status"] == "degraded"

    def test_health_needs_token_and_probes_do_not(self):
        assert_error(APIClient().get("/api/health/"), 401)
        for path in ("/livez", "/readyz"):
            assert APIClient().get(path).status_code == 200


class TestSchema:
    def test_schema_is_public_openapi_3(self):
        answer = APIClient().get("/api/schema/", {"format": "json"})
        assert answer.status_code == 200
        assert json.loads(answer.content)["openapi"].startswith("3.")

    def test_every_operation_documents_errors_in_one_shape(self):
        schema = json.loads(APIClient().get("/api/schema/", {"format": "json"}).content)
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                if method == "parameters":
                    continue
                statuses = set(operation["responses"])
                assert {"500"} & statuses or {"400", "401", "404"} & statuses, (path, method)

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    @pytest.mark.parametrize("path", ["/api/schema/", "/api/docs/"])
    def test_unsupported_method_is_json_405(self, path, method):
        assert_error(APIClient().generic(method, path, HTTP_ACCEPT="text/html"), 405)

    @pytest.mark.parametrize("path", ["/api/schema/", "/api/docs/"])
    def test_head_has_no_body(self, path):
        answer = APIClient().head(path)
        assert (answer.status_code, answer.content) == (200, b"")

    @pytest.mark.parametrize(
        "query",
        [
            *("?format=xml", "?format=", "?format=json&format=yaml", "?version=x"),
            *("?lang=%00", "?lang=x%0D%0Ay", "?lang=é"),
        ],
    )
    def test_odd_queries_are_not_500(self, query):
        assert APIClient().get(f"/api/schema/{query}").status_code < 500
