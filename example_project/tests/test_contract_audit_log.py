"""Specification, "Audit Log Endpoints", and decisions, "Audit log"."""

import json
from datetime import datetime, timezone

import pytest
import time_machine
from conftest import PASSWORD, assert_error, client_of, make_user, send_json
from django.db import DatabaseError, transaction
from rest_framework.test import APIClient

from myometrics_audit.models import AuditLog

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unlimited", "cheap_hashes")]

ENTRY = {
    "action": "upload_created",
    "resource_type": "upload",
    "resource_id": "upload_001",
    "details": {"filename": "cardiac_scan.jpg", "file_size": 2048576, "diagnosis": "Normal"},
}
SHAPE = {
    "id": int,
    "user_id": int,
    "action": str,
    "resource_type": str,
    "resource_id": str,
    "timestamp": str,
    "ip_address": str,
    "user_agent": str,
    "details": dict,
}


RESERVED = (
    "analytics_viewed",
    "audit_log_read",
    "data_exported",
    "login_failed",
    "login_succeeded",
    "log_imported",
    "password_changed",
    "refresh_token_reused",
    "session_ended",
    "system_down",
    "user_created",
    "user_deleted",
    "user_updated",
    "user_viewed",
    "users_listed",
)
OPEN = (
    "upload_created",
    "upload_processing",
    "upload_completed",
    "upload_failed",
    "analysis_ready",
    "logout",
    "login",
    "view",
)


def write(client, **changes):
    return send_json(client, "POST", "/api/audit-logs/", {**ENTRY, **changes})


def entries(client, **query):
    answer = client.get("/api/audit-logs/", query)
    assert answer.status_code == 200, answer.content
    return answer.json()["results"]


class TestWriting:
    def test_created_entry_has_specified_shape(self, doctor, administrator):
        answer = client_of(doctor).post(
            "/api/audit-logs/", ENTRY, format="json", HTTP_USER_AGENT="Mozilla/5.0",
            REMOTE_ADDR="192.168.1.100",
        )  # fmt: skip
        assert answer.status_code == 201
        body = answer.json()
        assert {name: type(value) for name, value in body.items()} == SHAPE
        assert {name: body[name] for name in ENTRY} == ENTRY
        assert body["user_id"] == doctor.pk
        assert (body["ip_address"], body["user_agent"]) == ("192.168.1.100", "Mozilla/5.0")
        [listed] = entries(client_of(administrator), action="upload_created")
        assert listed == body

    def test_server_fields_in_body_are_ignored(self, doctor, administrator):
        before = datetime.now(timezone.utc)
        body = write(
            client_of(doctor),
            id=999999,
            user_id=administrator.pk,
            user=administrator.pk,
            timestamp="1999-01-01T00:00:00Z",
            ip_address="6.6.6.6",
            user_agent="forged",
            activity_id="auth:x",
        ).json()
        assert body["user_id"] == doctor.pk
        assert body["id"] != 999999
        assert (body["ip_address"], body["user_agent"]) == ("127.0.0.1", "")
        moment = datetime.fromisoformat(body["timestamp"].replace("Z", "+00:00"))
        assert before <= moment <= datetime.now(timezone.utc)

    @pytest.mark.parametrize("action", RESERVED)
    def test_server_actions_are_reserved(self, doctor, administrator, action):
        for user in (doctor, administrator):
            answer = write(client_of(user), action=action)
            assert_error(answer, 400)
            assert answer.json()["code"] == "reserved_action"
            assert list(answer.json()["field_errors"]) == ["action"]
        assert not AuditLog.objects.exists()

    @pytest.mark.parametrize("action", OPEN)
    def test_other_actions_are_open_to_clients(self, doctor, action):
        assert write(client_of(doctor), action=action).status_code == 201

    def test_origin_is_shown_in_single_entry_and_exports_only(self, doctor, administrator):
        written = write(client_of(doctor)).json()
        client = client_of(administrator)
        shown = client.get(f"/api/audit-logs/{written['id']}/").json()
        assert shown == {**written, "origin": "client"}
        [listed] = entries(client)
        assert listed == written
        exported = client_of(doctor).get("/api/users/me/export/?format=json")
        assert json.loads(exported.getvalue())["audit_logs"][0]["origin"] == "client"

    def test_invalid_server_fields_in_body_are_ignored(self, doctor):
        answer = write(client_of(doctor), id=[], user_id="\x00", timestamp=5, ip_address=None)
        assert answer.status_code == 201

    @pytest.mark.parametrize("name", ["action", "resource_type", "resource_id"])
    def test_action_type_and_id_are_required(self, doctor, name):
        body = {field: value for field, value in ENTRY.items() if field != name}
        answer = send_json(client_of(doctor), "POST", "/api/audit-logs/", body)
        assert_error(answer, 400, field=name)
        assert not AuditLog.objects.exists()

    def test_absent_details_are_an_empty_object(self, doctor):
        body = {name: value for name, value in ENTRY.items() if name != "details"}
        answer = send_json(client_of(doctor), "POST", "/api/audit-logs/", body)
        assert answer.json()["details"] == {}

    @pytest.mark.parametrize(
        "details",
        [
            {"": ""},
            {"é": "字🫀", "\u2028": "\x7f\x01"},
            {"a": {"b": {"c": [1, 2.5, None, True, [], {}]}}},
            {"big": 2**63, "tiny": 5e-324, "minus": -0.5},
            {"__proto__": 1, "constructor": 2, "$ne": 3},
            {"html": "<script>", "sql": "'; DROP TABLE x; --"},
        ],
    )
    def test_details_object_is_returned_unchanged(self, doctor, administrator, details):
        assert write(client_of(doctor), details=details).json()["details"] == details
        assert entries(client_of(administrator))[0]["details"] == details

    @pytest.mark.parametrize(("size", "status"), [(65_536, 201), (65_537, 400)])
    def test_details_of_exactly_64_kib_are_accepted(self, doctor, size, status):
        details = {"x": "y" * (size - len('{"x":""}'))}
        answer = write(client_of(doctor), details=details)
        assert answer.status_code == status
        if status == 400:
            assert_error(answer, 400, field="details")

    def test_details_limit_counts_bytes_not_characters(self, doctor):
        assert_error(write(client_of(doctor), details={"x": "字" * 30_000}), 400, field="details")

    @pytest.mark.parametrize(("depth", "status"), [(20, 201), (500, 400)])
    def test_deep_nesting_is_rejected_quickly(self, doctor, depth, status):
        nested = {}
        for _ in range(depth):
            nested = {"a": nested}
        assert write(client_of(doctor), details=nested).status_code == status

    @pytest.mark.parametrize(
        ("name", "longest"), [("action", 50), ("resource_type", 50), ("resource_id", 100)]
    )
    def test_texts_fit_up_to_max_length_in_characters(self, doctor, name, longest):
        assert write(client_of(doctor), **{name: "𝄞" * longest}).status_code == 201
        assert_error(write(client_of(doctor), **{name: "x" * (longest + 1)}), 400, field=name)

    @pytest.mark.parametrize(
        ("sent", "kept"),
        [(None, ""), ("", ""), ("Mozilla/5.0 (X11)", "Mozilla/5.0 (X11)")],
    )
    def test_missing_user_agent_is_empty_text(self, doctor, sent, kept):
        headers = {} if sent is None else {"HTTP_USER_AGENT": sent}
        answer = client_of(doctor).post("/api/audit-logs/", ENTRY, format="json", **headers)
        assert answer.json()["user_agent"] == kept

    def test_long_user_agent_is_truncated(self, doctor):
        answer = client_of(doctor).post(
            "/api/audit-logs/", ENTRY, format="json", HTTP_USER_AGENT="u" * 60_000
        )
        assert answer.status_code == 201
        assert set(answer.json()["user_agent"]) == {"u"}
        assert len(answer.json()["user_agent"]) <= 4096

    @pytest.mark.parametrize("agent", ["\x00", "\xff\xfe", "a\x00b\x1f", "é"])
    def test_odd_user_agent_is_not_500(self, doctor, agent):
        answer = client_of(doctor).post(
            "/api/audit-logs/", ENTRY, format="json", HTTP_USER_AGENT=agent
        )
        assert answer.status_code == 201
        assert "\x00" not in answer.json()["user_agent"]

    @pytest.mark.parametrize("address", ["2001:db8::1", "::ffff:192.0.2.1", "192.0.2.1"])
    def test_ipv4_and_ipv6_addresses_are_kept(self, doctor, address):
        answer = client_of(doctor).post(
            "/api/audit-logs/", ENTRY, format="json", REMOTE_ADDR=address
        )
        assert answer.json()["ip_address"] == address.removeprefix("::ffff:")


class TestReading:
    @pytest.fixture
    def client(self, administrator, doctor):
        """An administrator; entries of two users from the 1st to the 4th of March."""
        other = make_user("other@clinic.example")
        moments = [
            ("2026-03-01T00:00:00", doctor, "viewed", "scan"),
            ("2026-03-01T23:59:59.999999", doctor, "viewed", "report"),
            ("2026-03-02T00:00:00", other, "viewed", "scan"),
            ("2026-03-02T12:00:00", doctor, "printed", "scan"),
            ("2026-03-02T23:59:59.999999", other, "printed", "report"),
            ("2026-03-03T00:00:00", doctor, "viewed", "scan"),
        ]
        for number, (moment, user, action, kind) in enumerate(moments):
            at = datetime.fromisoformat(moment).replace(tzinfo=timezone.utc)
            with time_machine.travel(at, tick=False):
                answer = write(
                    client_of(user), action=action, resource_type=kind, resource_id=str(number)
                )
                assert answer.status_code == 201
        self.other = other
        return client_of(administrator)

    def found(self, client, **query):
        return [row["resource_id"] for row in entries(client, **query)]

    def test_page_has_specified_shape_newest_first(self, client):
        page = client.get("/api/audit-logs/").json()
        assert list(page) == ["count", "next", "previous", "results"]
        assert page["count"] == 6
        assert [row["resource_id"] for row in page["results"]] == ["5", "4", "3", "2", "1", "0"]
        for row in page["results"]:
            assert {name: type(value) for name, value in row.items()} == SHAPE

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"start_date": "2026-03-02"}, "5432"),
            ({"end_date": "2026-03-02"}, "43210"),
            ({"start_date": "2026-03-02", "end_date": "2026-03-02"}, "432"),
            ({"start_date": "2026-03-01", "end_date": "2026-03-01"}, "10"),
            ({"start_date": "2026-03-04"}, ""),
            ({"end_date": "2026-02-28"}, ""),
            ({"start_date": "0001-01-01", "end_date": "9999-12-31"}, "543210"),
            ({"action": "viewed"}, "5210"),
            ({"action": "VIEWED"}, ""),
            ({"action": "view"}, ""),
            ({"resource_type": "scan"}, "5320"),
            ({"action": "viewed", "resource_type": "scan"}, "520"),
            ({"action": "viewed", "resource_type": "scan", "start_date": "2026-03-02"}, "52"),
            ({"action": "printed", "end_date": "2026-03-02", "resource_type": "report"}, "4"),
            ({"action": "never"}, ""),
            ({"action": "", "user_id": "", "start_date": "", "end_date": ""}, "543210"),
            ({"resource_id": "3"}, "3"),
            ({"unknown": "x"}, "543210"),
        ],
    )
    def test_filters_combine_and_days_are_whole_utc_days(self, client, query, expected):
        assert "".join(self.found(client, **query)) == expected
        assert client.get("/api/audit-logs/", query).json()["count"] == len(expected)

    def test_user_filter_combines_with_others(self, client, doctor):
        assert "".join(self.found(client, user_id=doctor.pk)) == "5310"
        assert "".join(self.found(client, user_id=self.other.pk)) == "42"
        every = {"user_id": doctor.pk, "action": "viewed", "resource_type": "scan"}
        days = {"start_date": "2026-03-01", "end_date": "2026-03-02"}
        assert "".join(self.found(client, **every, **days)) == "0"
        assert self.found(client, user_id=987654) == []

    def test_start_after_end_is_400(self, client):
        query = {"start_date": "2026-03-02", "end_date": "2026-03-01"}
        body = assert_error(client.get("/api/audit-logs/", query), 400)
        assert set(body["field_errors"]) & {"start_date", "end_date"}

    def test_days_are_utc_in_any_time_zone_of_the_site(self, client, settings):
        settings.TIME_ZONE = "Pacific/Auckland"
        assert "".join(self.found(client, start_date="2026-03-02", end_date="2026-03-02")) == "432"

    def test_page_links_keep_other_parameters(self, client, doctor):
        query = {"user_id": doctor.pk, "start_date": "2026-03-01", "end_date": "2026-03-31"}
        page = client.get("/api/audit-logs/", {**query, "page_size": 1, "page": 2}).json()
        for link in (page["next"], page["previous"]):
            for name, value in {**query, "page_size": 1}.items():
                assert f"{name}={value}" in link
        assert "page=3" in page["next"]

    def test_odd_filter_text_survives_page_links(self, administrator, client, doctor):
        for number in range(2):
            write(client_of(doctor), action="a&b=c d+é/?#%", resource_id=f"odd{number}")
        page = client.get("/api/audit-logs/", {"action": "a&b=c d+é/?#%", "page_size": 1}).json()
        assert page["count"] == 2
        second = client.get(page["next"]).json()
        assert second["count"] == 2
        assert second["results"][0]["resource_id"] == "odd0"

    def test_entries_with_equal_timestamp_have_stable_order(self, administrator, doctor):
        with time_machine.travel(datetime(2026, 3, 9, tzinfo=timezone.utc), tick=False):
            client = client_of(doctor)
            ids = [write(client, resource_id=str(n)).json()["id"] for n in range(7)]
        seen = []
        for page in range(1, 5):
            seen += [row["id"] for row in entries(client_of(administrator), page=page, page_size=2)]
        assert seen == ids[::-1]


class TestActors:
    def test_failed_login_entry_has_no_user(self, administrator):
        APIClient().post(
            "/api/auth/login/", {"email": "x@clinic.example", "password": "x"}, format="json"
        )
        [entry] = entries(client_of(administrator), action="login_failed")
        assert entry["user_id"] is None
        assert entry["ip_address"] == "127.0.0.1"
        assert "x@clinic.example" not in str(entry)

    def test_login_and_logout_are_in_log(self, administrator, doctor):
        tokens = APIClient().post(
            "/api/auth/login/", {"email": doctor.email, "password": PASSWORD}, format="json"
        )
        client = APIClient(HTTP_AUTHORIZATION=f"Bearer {tokens.json()['access']}")
        client.post("/api/auth/logout/", {"refresh": tokens.json()["refresh"]}, format="json")
        actions = [row["action"] for row in entries(client_of(administrator), user_id=doctor.pk)]
        assert actions == ["logout", "login_succeeded"]

    def test_entry_without_request_has_no_address(self, administrator, doctor):
        from myometrics_audit import audit

        audit.record(actor=doctor, action="swept", resource=("job", "1"))
        [entry] = entries(client_of(administrator), action="swept")
        assert entry["ip_address"] is None
        assert entry["user_agent"] == ""

    def test_no_entry_names_a_deleted_user(self, administrator, doctor):
        write(client_of(doctor))
        client_of(administrator).delete(f"/api/users/{doctor.pk}/")
        for entry in entries(client_of(administrator)):
            assert entry["user_id"] != doctor.pk

    @pytest.mark.django_db(transaction=True)
    def test_write_concurrent_with_author_deletion_is_401_or_first(self, run_concurrently):
        for round_ in range(3):
            author = make_user(f"author{round_}@clinic.example")
            writer, leaver = client_of(author), client_of(author)
            calls = [lambda w=writer: write(w)] * 4 + [lambda c=leaver: c.delete("/api/users/me/")]
            *written, left = run_concurrently(calls)
            assert left.status_code == 204
            assert {answer.status_code for answer in written} <= {201, 401}
            for answer in written:
                if answer.status_code == 401:
                    assert_error(answer, 401)
        assert not AuditLog.objects.filter(user__isnull=False).exists()


class TestImmutability:
    @pytest.mark.parametrize("role", ["doctor", "admin"])
    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
    def test_api_rejects_changes_of_entries(self, doctor, administrator, role, method):
        stored = write(client_of(doctor)).json()
        client = client_of(administrator if role == "admin" else doctor)
        assert_error(send_json(client, method, "/api/audit-logs/", ENTRY), 405)
        one = send_json(client, method, f"/api/audit-logs/{stored['id']}/", ENTRY)
        assert one.status_code == 405
        assert entries(client_of(administrator), action="upload_created") == [stored]

    @pytest.mark.parametrize(
        "change",
        [
            lambda: AuditLog.objects.update(action="forged"),
            lambda: AuditLog.objects.all().delete(),
            lambda: AuditLog.objects.first().delete(),
            lambda: AuditLog.objects.first().save(),
            lambda: AuditLog._base_manager.update(action="forged"),
            lambda: AuditLog._base_manager.all().delete(),
            lambda: AuditLog.objects.bulk_update([AuditLog.objects.first()], ["action"]),
        ],
    )
    def test_orm_rejects_changes_of_entries(self, doctor, administrator, change):
        stored = write(client_of(doctor)).json()
        with pytest.raises((TypeError, DatabaseError)), transaction.atomic():
            change()
        assert entries(client_of(administrator), action="upload_created") == [stored]


@pytest.mark.django_db(transaction=True)
def test_hundred_simultaneous_entries_are_all_stored(run_concurrently):
    client = client_of(make_user("many@clinic.example"))
    calls = [
        lambda n=n: [write(client, resource_id=f"{n}-{m}") for m in range(5)] for n in range(20)
    ]
    for answers in run_concurrently(calls):
        assert [answer.status_code for answer in answers] == [201] * 5
    administrator = client_of(make_user("boss@clinic.example", role="admin"))
    page = administrator.get(
        "/api/audit-logs/", {"action": "upload_created", "page_size": 100}
    ).json()
    assert page["count"] == 100
    assert len({row["resource_id"] for row in page["results"]}) == 100
