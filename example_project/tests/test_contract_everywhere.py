"""Decisions, "Everywhere": the error shape, times, paging, addresses, authorisation."""

import json
import re

import pytest
from conftest import assert_error, client_of, make_user, send_json
from django.apps import apps
from django.db import connection
from rest_framework.test import APIClient

from myometrics_audit.models import AuditLog

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unlimited", "cheap_hashes")]

GUESSED_ENTRY = {"action": "viewed", "resource_type": "scan", "resource_id": "7"}

ENDPOINTS = [
    ("POST", "/api/auth/logout/"),
    ("GET", "/api/auth/user/"),
    ("PUT", "/api/auth/user/"),
    ("PATCH", "/api/auth/user/"),
    ("POST", "/api/auth/change-password/"),
    ("GET", "/api/users/"),
    ("GET", "/api/users/{id}/"),
    ("PUT", "/api/users/{id}/"),
    ("PATCH", "/api/users/{id}/"),
    ("DELETE", "/api/users/{id}/"),
    ("GET", "/api/users/{id}/activity/"),
    ("GET", "/api/analytics/"),
    ("GET", "/api/users/me/activity/"),
    ("POST", "/api/audit-logs/"),
    ("GET", "/api/audit-logs/"),
    ("GET", "/api/users/me/notifications/"),
    ("PATCH", "/api/users/me/notifications/"),
    ("GET", "/api/users/me/export/"),
    ("DELETE", "/api/users/me/"),
    ("GET", "/api/health/"),
    ("GET", "/api/auth/sessions/"),
    ("DELETE", "/api/auth/sessions/"),
]
FOR_ADMINISTRATORS = [
    (method, path)
    for method, path in ENDPOINTS
    if "{id}" in path or path in ("/api/users/", "/api/analytics/")
] + [("GET", "/api/audit-logs/")]


@pytest.fixture
def doctor_client(doctor):
    return client_of(doctor)


@pytest.fixture
def administrator_client(administrator):
    return client_of(administrator)


def all_rows():
    """Every row of all our tables."""
    ours = [model for model in apps.get_models() if model.__module__.startswith("myometrics_")]
    return {
        model._meta.label: sorted(map(repr, model._base_manager.values_list())) for model in ours
    }


class TestAuthentication:
    @pytest.mark.parametrize(("method", "path"), ENDPOINTS)
    def test_protected_endpoint_without_token_is_401_with_bearer(self, doctor, method, path):
        answer = APIClient().generic(method, path.format(id=doctor.pk))
        assert_error(answer, 401, code="not_authenticated")
        assert answer["WWW-Authenticate"] == "Bearer"

    @pytest.mark.parametrize(("method", "path"), FOR_ADMINISTRATORS)
    def test_administrator_endpoint_is_403_for_doctor(self, doctor_client, doctor, method, path):
        body = assert_error(doctor_client.generic(method, path.format(id=doctor.pk)), 403)
        assert body["code"] == "permission_denied"

    @pytest.mark.parametrize(("method", "path"), FOR_ADMINISTRATORS)
    def test_doctor_cannot_detect_existing_users(self, doctor_client, method, path):
        assert_error(doctor_client.generic(method, path.format(id=987654)), 403)

    @pytest.mark.parametrize("how", ["deactivated", "deleted"])
    def test_token_of_removed_user_stops_working_at_once(
        self, administrator, administrator_client, how
    ):
        leaver = make_user("leaver@clinic.example", role="admin")
        client, path = client_of(leaver), f"/api/users/{leaver.pk}/"
        assert client.get("/api/users/").status_code == 200
        if how == "deactivated":
            assert (
                send_json(administrator_client, "PATCH", path, {"isActive": False}).status_code
                == 200
            )
        else:
            assert administrator_client.delete(path).status_code == 204
        before = all_rows()
        for method, path in ENDPOINTS:
            refused = client.generic(method, path.format(id=administrator.pk))
            assert_error(refused, 401, code="token_not_valid")
        assert all_rows() == before

    def test_changed_role_counts_at_next_request(self, doctor, administrator_client):
        client = client_of(doctor)
        assert client.get("/api/users/").status_code == 403
        for role, status in (("admin", 200), ("technician", 403)):
            administrator_client.patch(f"/api/users/{doctor.pk}/", {"role": role}, format="json")
            assert client.get("/api/users/").status_code == status
            assert client.get("/api/analytics/").status_code == status
            assert client.get("/api/auth/user/").json()["role"] == role

    def test_admin_cookie_does_not_authenticate_api(self, administrator):
        client = APIClient()
        client.force_login(administrator)
        assert_error(client.get("/api/auth/user/"), 401)


MALFORMED = [
    b"{",
    b"nonsense",
    b'{"action": NaN}',
    b'{"action": Infinity}',
    b'{"action": -Infinity}',
    b'{"action": 1e999}',
    b"\xff\xfe",
    b"{'action': 'x'}",
    b'{"action": "a",}',
    b"[" * 16_000,
    b'{"a":' * 3_000,
    b"\x1f\x8b\x08\x00gzip",
]


class TestErrorShape:
    def test_client_errors_have_distinct_codes(self, doctor_client, administrator_client):
        answers = [
            (APIClient().get("/api/auth/user/"), 401),
            (doctor_client.get("/api/users/"), 403),
            (administrator_client.get("/api/users/987654/"), 404),
            (doctor_client.delete("/api/audit-logs/"), 405),
            (doctor_client.generic("POST", "/api/audit-logs/", b"a,b", "text/csv"), 415),
            (doctor_client.generic("POST", "/api/audit-logs/", b"{", "application/json"), 400),
        ]
        codes = {assert_error(answer, status)["code"] for answer, status in answers}
        assert len(codes) == len(answers)

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/api/audit-logs/"),
            ("POST", "/api/auth/login/"),
            ("POST", "/api/auth/register/"),
            ("POST", "/api/auth/token/refresh/"),
            ("POST", "/api/auth/logout/"),
            ("POST", "/api/auth/change-password/"),
            ("POST", "/api/auth/password-reset/"),
            ("POST", "/api/auth/password-reset/confirm/"),
            ("PATCH", "/api/auth/user/"),
            ("PATCH", "/api/users/me/notifications/"),
        ],
    )
    def test_malformed_json_is_400_without_field_errors(self, doctor_client, method, path):
        before = all_rows()
        for body in MALFORMED:
            answer = doctor_client.generic(method, path, body, "application/json")
            assert answer.status_code == 400, body[:30]
            assert assert_error(answer, 400, code="parse_error")["field_errors"] == {}
        assert all_rows() == before

    def test_validation_detail_names_field_and_first_error(self, doctor_client):
        body = assert_error(send_json(doctor_client, "POST", "/api/audit-logs/", {}), 400)
        assert set(body["field_errors"]) == {"action", "resource_type", "resource_id"}
        assert "action" in body["detail"]
        assert body["field_errors"]["action"][0] in body["detail"]

    @pytest.mark.parametrize(
        "path",
        [
            "/api/",
            "/api/x",
            "/api/x/",
            "/api/auth/login",
            "/api/users/me/x/",
            "/api/%00",
            "/api/é/",
        ],
    )
    def test_unknown_path_is_json_404_for_every_caller(self, doctor_client, path):
        for method in ("GET", "POST", "DELETE", "OPTIONS", "PROPFIND"):
            for client in (doctor_client, APIClient()):
                assert_error(client.generic(method, path), 404, code="not_found")

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("PUT", "/api/audit-logs/"),
            ("PATCH", "/api/audit-logs/"),
            ("DELETE", "/api/audit-logs/"),
            ("GET", "/api/auth/login/"),
            ("GET", "/api/auth/logout/"),
            ("POST", "/api/auth/user/"),
            ("DELETE", "/api/auth/user/"),
            ("POST", "/api/users/"),
            ("GET", "/api/users/me/"),
            ("PUT", "/api/users/me/"),
            ("PUT", "/api/users/me/notifications/"),
            ("DELETE", "/api/users/me/notifications/"),
            ("POST", "/api/users/me/export/"),
            ("POST", "/api/users/me/activity/"),
            ("POST", "/api/analytics/"),
            ("POST", "/api/health/"),
            ("OPTIONS", "/api/analytics/"),
            ("TRACE", "/api/auth/user/"),
            ("NONSENSE", "/api/auth/user/"),
        ],
    )
    def test_unsupported_method_is_405_for_every_role(
        self, doctor_client, administrator_client, method, path
    ):
        for client in (doctor_client, administrator_client):
            answer = client.generic(method, path)
            assert_error(answer, 405, code="method_not_allowed")
            assert method not in answer["Allow"]

    @pytest.mark.parametrize(
        "media_type", ["text/plain", "multipart/form-data; boundary=x", "x", ""]
    )
    def test_body_that_is_not_json_is_415(self, doctor_client, media_type):
        before = all_rows()
        answer = doctor_client.generic("POST", "/api/audit-logs/", b"action=x", media_type)
        assert_error(answer, 415, code="unsupported_media_type")
        assert all_rows() == before

    @pytest.mark.parametrize("accept", ["text/html", "image/png", "x", "*/*;q=0", ""])
    def test_accept_header_does_not_matter(self, doctor_client, accept):
        assert doctor_client.get("/api/auth/user/", HTTP_ACCEPT=accept).status_code == 200
        assert_error(doctor_client.get("/api/users/", HTTP_ACCEPT=accept), 403)
        assert_error(APIClient().get("/api/nowhere/", HTTP_ACCEPT=accept), 404)

    def test_unhandled_exception_is_json_500_without_details(self, administrator):
        def fault(execute, sql, params, many, context):
            if "analytics" in sql:
                raise ZeroDivisionError("secret detail")
            return execute(sql, params, many, context)

        client = client_of(administrator)
        client.raise_request_exception = False
        with connection.execute_wrapper(fault):
            answer = client.get("/api/analytics/", HTTP_ACCEPT="text/html")
        assert_error(answer, 500)
        assert b"secret" not in answer.content

    def test_disallowed_host_is_json_400(self, doctor_client, settings):
        settings.ALLOWED_HOSTS = ["api.clinic.example"]
        assert_error(doctor_client.get("/api/auth/user/", HTTP_HOST="evil.example"), 400)

    def test_huge_body_is_rejected_in_error_shape(self, doctor_client, settings):
        settings.MYOMETRICS = {**settings.MYOMETRICS, "MAX_BODY_BYTES": 1000}
        before = all_rows()
        body = {**GUESSED_ENTRY, "details": {"x": "y" * 1000}}
        assert_error(send_json(doctor_client, "POST", "/api/audit-logs/", body), 413)
        assert all_rows() == before


NOT_TEXT = [None, 5, -1.5, 10**30, True, [], ["x"], {}, {"x": "y"}]
UNKEEPABLE = ["a\x00b", "\x00", "a\ud800b", "\udfff"]
TEXT = [*NOT_TEXT, *UNKEEPABLE]
NOT_A_SWITCH = [None, 0, 1, "true", "false", "", [], {}, 10**30, "\x00"]

NAME = [*TEXT, "", "   ", "x" * 31]
CLINIC = [*TEXT, "x" * 101]
EMAIL = [
    *TEXT,
    "",
    "x",
    "a@b",
    "@clinic.example",
    "a b@clinic.example",
    "a@" + "b" * 260 + ".example",
]
ROLE = [*TEXT, "", "x", "Admin", "ADMIN", " admin"]
PASSWORD = [*TEXT, "", "x" * 300]
SHORT = [*TEXT, "", "  ", "x" * 51]

REGISTER = {
    "email": "new@clinic.example",
    "password": "correct-horse-battery",
    "firstName": "Jane",
    "lastName": "Smith",
    "clinicName": "Heart Clinic",
}
FIELDS = [
    ("POST", "/api/auth/register/", REGISTER, {
        "email": EMAIL, "password": PASSWORD, "firstName": NAME, "lastName": NAME,
        "clinicName": CLINIC,
    }),
    ("POST", "/api/auth/login/", {"email": "doctor@clinic.example", "password": "x"}, {
        "email": [*TEXT, "", "x" * 255], "password": PASSWORD,
    }),
    ("POST", "/api/auth/token/refresh/", {}, {"refresh": [*NOT_TEXT, ""]}),
    ("POST", "/api/auth/logout/", {}, {"refresh": [*NOT_TEXT, ""]}),
    ("POST", "/api/auth/password-reset/", {}, {"email": EMAIL}),
    ("POST", "/api/auth/password-reset/confirm/",
     {"uid": "MQ", "token": "x-y", "new_password": "correct-horse-battery"},
     {"uid": [*TEXT, "", "x" * 256], "token": [*TEXT, "", "x" * 256], "new_password": PASSWORD}),
    ("POST", "/api/auth/change-password/",
     {"old_password": "correct-horse-battery", "new_password": "another-horse-battery"},
     {"old_password": PASSWORD, "new_password": PASSWORD}),
    ("PUT", "/api/auth/user/", {"firstName": "A", "lastName": "B", "clinicName": "C"}, {
        "firstName": NAME, "lastName": NAME, "clinicName": CLINIC,
    }),
    ("PATCH", "/api/auth/user/", {}, {"firstName": NAME, "lastName": NAME, "clinicName": CLINIC}),
    ("PUT", "/api/users/{id}/",
     {"firstName": "A", "lastName": "B", "role": "doctor", "clinicName": "C", "isActive": True},
     {"firstName": NAME, "lastName": NAME, "role": ROLE, "clinicName": CLINIC,
      "isActive": NOT_A_SWITCH}),
    ("PATCH", "/api/users/{id}/", {}, {"role": ROLE, "isActive": NOT_A_SWITCH}),
    ("POST", "/api/audit-logs/", GUESSED_ENTRY, {
        "action": SHORT, "resource_type": SHORT, "resource_id": [*TEXT, "", "  ", "x" * 101],
        "details": [None, 5, True, "x", [], [{}], "\x00", {"a": "\x00"}, {"\x00": 1},
                    {"a": ["\ud800"]}, {"\udfff": 1}, {"a": {"b": 10**400}}, {"a": "x" * 66_000}],
    }),
    ("PATCH", "/api/users/me/notifications/", {}, dict.fromkeys(
        ("email_notifications", "upload_completed", "analysis_ready", "system_alerts"),
        NOT_A_SWITCH,
    )),
]  # fmt: skip
BAD = [
    pytest.param(method, path, good, field, values, id=f"{method} {path} {field}")
    for method, path, good, fields in FIELDS
    for field, values in fields.items()
]
BAD_QUERIES = [
    ("/api/users/", "page", ["0", "-1", "x", "", "1.5", "٣", "1_0", " 1", "\x00"]),
    ("/api/users/", "page_size", ["0", "-1", "x", "", "1e2", "\x00"]),
    ("/api/users/", "role", ["x", "Admin", "admin,doctor", "\x00"]),
    ("/api/users/", "search", ["\x00", "x" * 300]),
    ("/api/audit-logs/", "page", ["0", "x", "", "٣"]),
    ("/api/audit-logs/", "page_size", ["0", "x", ""]),
    ("/api/audit-logs/", "user_id", ["x", "1.5", "9" * 30, "\x00", "1_0", "+1", "٣"]),
    ("/api/audit-logs/", "action", ["\x00", "x" * 51]),
    ("/api/audit-logs/", "resource_type", ["\x00", "x" * 51]),
    ("/api/audit-logs/", "start_date", ["x", "2025-02-30", "2025-1-1", "20250101", "٢٠٢٥-01-01",
                                        "2025-01-01T00:00:00Z", "\x00"]),
    ("/api/audit-logs/", "end_date", ["x", "0000-01-01", "2025-13-01", "\x00"]),
    ("/api/analytics/", "days", ["0", "-1", "3651", "x", "1.5", "", "9" * 30, "9" * 5000, "٣",
                                 "1_0", "\x00", "NaN"]),
    ("/api/users/me/export/", "format", ["xml", "", "CSV", "json ", "\x00"]),
]  # fmt: skip


class TestBadInput:
    @pytest.mark.parametrize(("method", "path", "good", "field", "values"), BAD)
    def test_invalid_value_is_400_on_field_and_writes_nothing(
        self, administrator, administrator_client, method, path, good, field, values
    ):
        before = all_rows()
        path = path.format(id=administrator.pk)
        for value in values:
            answer = send_json(administrator_client, method, path, {**good, field: value})
            body = assert_error(answer, 400, code="validation_error")
            assert list(body["field_errors"]) == [field], value
            assert body["detail"].startswith(field)
            assert all_rows() == before, value

    @pytest.mark.parametrize(
        ("method", "path"), [pytest.param(m, p, id=f"{m} {p}") for m, p, _, _ in FIELDS]
    )
    def test_non_object_body_is_400_and_writes_nothing(
        self, administrator, administrator_client, method, path
    ):
        before = all_rows()
        path = path.format(id=administrator.pk)
        for body in (None, [], [{}], 0, 1.5, "x", True):
            assert_error(send_json(administrator_client, method, path, body), 400)
        assert all_rows() == before

    @pytest.mark.parametrize(
        ("path", "name", "values"),
        [pytest.param(*row, id=f"{row[0]}?{row[1]}=") for row in BAD_QUERIES],
    )
    def test_invalid_query_parameter_is_400_with_field_error(
        self, administrator_client, path, name, values
    ):
        for value in values:
            answer = administrator_client.get(path, {name: value})
            assert answer.status_code == 400, value
            body = assert_error(answer, 400, code="validation_error", field=name)
            assert body["detail"].startswith(name)

    @pytest.mark.parametrize("tail", ["", "activity/"])
    def test_invalid_user_id_in_path_is_404(self, administrator_client, administrator, tail):
        key = str(administrator.pk)
        for name in (
            *("x", f"{key}_0", f"%20{key}", f"{key}%20", f"+{key}", f"0{key}", f"{key}%0A"),
            *(f"{key}%00", "%00", "٣", f"{key}.0", f"-{key}", "%ff", "9" * 30, "9" * 5000),
            *("1e3", "0x1", "None", "%2e%2e"),
        ):
            answer = administrator_client.get(f"/api/users/{name}/{tail}")
            assert answer.status_code == 404, name
            assert_error(answer, 404, code="not_found")


class TestTimes:
    def test_every_time_is_utc_and_ends_in_z(self, settings, doctor, administrator):
        settings.TIME_ZONE = "Asia/Kolkata"
        client = client_of(administrator)
        client_of(doctor).post("/api/audit-logs/", {**GUESSED_ENTRY, "resource_type": "upload",
                               "action": "upload_created"}, format="json")  # fmt: skip
        times = []
        for path in (
            "/api/auth/user/",
            "/api/users/",
            f"/api/users/{doctor.pk}/",
            f"/api/users/{doctor.pk}/activity/",
            "/api/audit-logs/",
            "/api/health/",
            "/api/auth/sessions/",
        ):
            text = client.get(path).content.decode()
            found = re.findall(r'"(\d{4}-\d\d-\d\d[T ][^"]*)"', text)
            assert found, path
            times += found
        exported = client_of(doctor).get("/api/users/me/export/", {"format": "json"})
        times += re.findall(
            r'"(\d{4}-\d\d-\d\d[T ][^"]*)"', b"".join(exported.streaming_content).decode()
        )
        for moment in times:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", moment), moment


class TestPaging:
    @pytest.fixture
    def crowd(self, administrator):
        users = [make_user(f"user{number}@clinic.example") for number in range(24)]
        AuditLog.objects.all()
        client = client_of(users[0])
        for number in range(25):
            entry = {**GUESSED_ENTRY, "resource_id": str(number)}
            assert client.post("/api/audit-logs/", entry, format="json").status_code == 201
        return client_of(administrator)

    @pytest.mark.parametrize("path", ["/api/users/", "/api/audit-logs/"])
    def test_page_size_is_20_by_default_and_at_most_100(self, crowd, path):
        page = crowd.get(path).json()
        assert set(page) == {"count", "next", "previous", "results"}
        assert page["count"] == 25
        assert len(page["results"]) == 20
        assert page["previous"] is None
        assert len(crowd.get(path, {"page_size": 3}).json()["results"]) == 3
        wide = crowd.get(path, {"page_size": 1000})
        assert wide.status_code == 200
        assert len(wide.json()["results"]) == 25

    @pytest.mark.parametrize(
        ("path", "others"),
        [
            ("/api/users/", {"search": "clinic.example", "role": "doctor"}),
            ("/api/audit-logs/", {"action": "viewed", "resource_type": "scan"}),
        ],
    )
    def test_page_links_visit_each_row_once_and_keep_parameters(self, crowd, path, others):
        seen, backwards = [], 0
        url = f"{path}?" + "&".join(f"{name}={text}" for name, text in others.items())
        url += "&page_size=10"
        page = crowd.get(url).json()
        while True:
            seen += [row["id"] for row in page["results"]]
            if page["next"] is None:
                break
            assert page["next"].startswith("http://testserver/api/")
            for name, text in {**others, "page_size": "10"}.items():
                assert f"{name}={text}" in page["next"]
            page = crowd.get(page["next"]).json()
        while page["previous"] is not None:
            backwards += 1
            page = crowd.get(page["previous"]).json()
        assert len(seen) == len(set(seen)) == page["count"]
        assert backwards == 2
        assert [row["id"] for row in page["results"]] == seen[:10]

    @pytest.mark.parametrize("path", ["/api/users/", "/api/audit-logs/"])
    @pytest.mark.parametrize("page", ["3", "999999999999999999999", "9" * 4000])
    def test_page_past_the_end_is_404(self, crowd, path, page):
        assert_error(crowd.get(path, {"page": page}), 404, code="not_found")

    def test_first_page_without_rows_is_empty(self, administrator_client):
        page = administrator_client.get("/api/audit-logs/", {"action": "never"}).json()
        assert page == {"count": 0, "next": None, "previous": None, "results": []}


class TestClientAddress:
    def post(self, client, **headers):
        return client.post("/api/audit-logs/", GUESSED_ENTRY, format="json", **headers).json()

    @pytest.mark.parametrize(
        "header", ["X_FORWARDED_FOR", "X_REAL_IP", "FORWARDED", "CLIENT_IP", "TRUE_CLIENT_IP"]
    )
    def test_client_cannot_choose_its_address(self, doctor_client, header):
        entry = self.post(doctor_client, **{f"HTTP_{header}": "6.6.6.6"}, REMOTE_ADDR="192.0.2.7")
        assert entry["ip_address"] == "192.0.2.7"

    @pytest.mark.parametrize(
        ("forwarded", "address"),
        [
            ("203.0.113.9", "203.0.113.9"),
            ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
            ("6.6.6.6, 203.0.113.9, 10.0.0.5", "203.0.113.9"),
            ("nonsense", "10.0.0.2"),
            ("6.6.6.6, nonsense", "10.0.0.2"),
            ("", "10.0.0.2"),
            ("2001:db8::1", "2001:db8::1"),
            ("x" * 10_000, "10.0.0.2"),
        ],
    )
    def test_trusted_proxy_vouches_for_last_hop(self, settings, doctor_client, forwarded, address):
        settings.MYOMETRICS = {**settings.MYOMETRICS, "TRUSTED_PROXIES": ["10.0.0.0/8"]}
        entry = self.post(doctor_client, HTTP_X_FORWARDED_FOR=forwarded, REMOTE_ADDR="10.0.0.2")
        assert entry["ip_address"] == address

    def test_untrusted_peer_cannot_forward_addresses(self, settings, doctor_client):
        settings.MYOMETRICS = {**settings.MYOMETRICS, "TRUSTED_PROXIES": ["10.0.0.0/8"]}
        entry = self.post(doctor_client, HTTP_X_FORWARDED_FOR="6.6.6.6", REMOTE_ADDR="11.0.0.2")
        assert entry["ip_address"] == "11.0.0.2"


def test_responses_are_json_and_not_cacheable(doctor_client):
    answer = doctor_client.get("/api/auth/user/")
    assert answer["Content-Type"].startswith("application/json")
    assert answer["Cache-Control"] == "private, no-store"
    assert json.loads(answer.content)["email"] == "doctor@clinic.example"
