"""Unusual requests, which the API must still answer correctly."""

import gzip
import io
import json

import pytest
from conftest import PASSWORD, assert_error, client_of, make_user, send_json
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

from config.wsgi import application
from myometrics_audit.models import AuditLog

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unlimited", "cheap_hashes")]

ENTRY = {"action": "viewed", "resource_type": "scan", "resource_id": "1"}
BODY = json.dumps(ENTRY).encode()
READABLE = [
    "/api/auth/user/",
    "/api/auth/sessions/",
    "/api/users/",
    "/api/users/{id}/",
    "/api/users/{id}/activity/",
    "/api/users/me/activity/",
    "/api/users/me/notifications/",
    "/api/users/me/export/",
    "/api/analytics/",
    "/api/audit-logs/",
    "/api/health/",
]


@pytest.fixture
def client(administrator):
    client = client_of(administrator)
    client.raise_request_exception = False
    return client


class TestHead:
    @pytest.mark.parametrize("path", READABLE)
    def test_head_responds_like_get_without_body(self, administrator, client, path):
        path = path.format(id=administrator.pk)
        asked, read = client.head(path), client.get(path)
        assert asked.status_code == read.status_code == 200
        assert asked["Content-Type"] == read["Content-Type"]
        if not asked.streaming:
            assert asked.content == b""

    @pytest.mark.parametrize("path", READABLE)
    def test_head_has_the_permissions_of_get(self, path):
        assert APIClient().head(path.format(id=1)).status_code == 401
        doctor = client_of(make_user("doctor@clinic.example"))
        is_open = path not in (
            "/api/users/",
            "/api/users/{id}/",
            "/api/users/{id}/activity/",
            "/api/analytics/",
            "/api/audit-logs/",
        )
        assert doctor.head(path.format(id=1)).status_code == (200 if is_open else 403)


class TestPaths:
    @pytest.mark.parametrize("path", [path.rstrip("/") for path in READABLE])
    def test_missing_trailing_slash_is_404_without_redirect(self, administrator, client, path):
        assert_error(client.get(path.format(id=administrator.pk)), 404, code="not_found")
        assert_error(send_json(client, "POST", path.format(id=administrator.pk), ENTRY), 404)
        assert not AuditLog.objects.exists()

    @pytest.mark.parametrize(
        "path",
        [
            *("/api/users//", "/api//users/", "/api/users/%2F/", "/api/users/;/", "/api/USERS/"),
            *("/api/%00/", "/api/users/%00/", "/api/users/1%00/activity/", "/api/%ff%fe/"),
            *("/api/users/%0d%0aX: y/", "/api/users/..%2f..%2fadmin/", "/api/" + "x" * 20_000),
            *("/api/auth/sessions/%00/", "/api/auth/sessions/x/", "/api/audit-logs/1/"),
        ],
        ids=lambda path: path[:40],
    )
    def test_odd_paths_are_json_404(self, client, path):
        assert_error(client.get(path), 404)

    @pytest.mark.parametrize(
        "path", ["/api/users/", "/api/audit-logs/", "/api/analytics/", "/api/users/me/export/"]
    )
    @pytest.mark.parametrize(
        "query",
        [
            *("%00", "%00=%00", "a=%ff%fe", "&&&==&", "=", "?", "x=" + "y" * 50_000, "%", "%u0041"),
            *("page[]=1", "a=1;b=2", "é=é", "%0d%0a=x", "+=+"),
        ],
        ids=lambda query: query[:20],
    )
    def test_odd_queries_are_not_500(self, client, path, query):
        answer = client.get(f"{path}?{query}")
        assert answer.status_code in (200, 400), answer.content

    @pytest.mark.parametrize(
        ("path", "good", "bad"),
        [
            ("/api/users/", "page_size=5", "page_size=x"),
            ("/api/users/", "role=admin", "role=x"),
            ("/api/audit-logs/", "start_date=2026-01-01", "start_date=x"),
            ("/api/analytics/", "days=5", "days=x"),
            ("/api/users/me/export/", "format=csv", "format=x"),
        ],
    )
    def test_last_of_repeated_parameters_counts(self, client, path, good, bad):
        assert client.get(f"{path}?{bad}&{good}").status_code == 200
        assert_error(client.get(f"{path}?{good}&{bad}"), 400)

    def test_two_thousand_parameters_are_not_500(self, client):
        query = "&".join(f"p{number}=1" for number in range(2000))
        answer = client.get(f"/api/users/?{query}")
        assert answer.status_code in (200, 400)
        if answer.status_code == 400:
            assert_error(answer, 400)


class TestBodies:
    def test_compressed_body_is_400(self, client):
        answer = client.generic(
            "POST", "/api/audit-logs/", gzip.compress(BODY), "application/json",
            HTTP_CONTENT_ENCODING="gzip",
        )  # fmt: skip
        assert_error(answer, 400)

    @pytest.mark.parametrize("length", ["abc", "", "0", "1e3", "٣", "+5"])
    def test_invalid_content_length_is_not_500(self, client, length):
        answer = client.generic(
            "POST", "/api/audit-logs/", BODY, "application/json", CONTENT_LENGTH=length
        )
        assert answer.status_code in (201, 400)

    @pytest.mark.parametrize(
        "media_type",
        [
            "application/json",
            "application/json; charset=utf-8",
            'application/json; charset="UTF-8"',
            "application/json;charset=utf8;x=y",
            "application/json; charset=nonsense",
            "APPLICATION/JSON",
            "application/json;",
        ],
    )
    def test_json_content_type_is_read_in_any_spelling(self, client, media_type):
        answer = client.generic("POST", "/api/audit-logs/", BODY, media_type)
        assert answer.status_code == 201, answer.content

    @pytest.mark.parametrize("media_type", ["application/json", "text/plain", "x/y", ""])
    def test_empty_body_reports_required_fields(self, client, media_type):
        answer = client.generic("POST", "/api/audit-logs/", b"", media_type)
        assert answer.status_code in (400, 415)
        assert_error(answer, answer.status_code)

    @pytest.mark.parametrize("charset", ["utf-16", "utf-32", "latin-1", "utf-7", "ascii"])
    def test_other_charset_is_not_500(self, client, charset):
        media_type = f"application/json; charset={charset}"
        for text in ("viewed", "é字", "\\ud800"):
            body = json.dumps({**ENTRY, "action": text}, ensure_ascii=False).encode()
            answer = client.generic("POST", "/api/audit-logs/", body, media_type)
            assert answer.status_code in (201, 400), answer.content

    def test_repeated_key_counts_once(self, client):
        body = BODY[:-1] + b', "action": "second"}'
        answer = client.generic("POST", "/api/audit-logs/", body, "application/json")
        assert answer.status_code == 201
        assert AuditLog.objects.count() == 1

    def test_unknown_keys_with_nul_or_surrogates_are_ignored(self, client):
        body = {**ENTRY, "\x00": 1, "\ud800": 2, "": 3, "x" * 10_000: 4}
        assert send_json(client, "POST", "/api/audit-logs/", body).status_code == 201

    def test_body_of_get_and_delete_is_not_read(self, client):
        answer = client.generic("GET", "/api/users/", b"{", "application/json")
        assert answer.status_code == 200
        doctor = make_user("doctor@clinic.example")
        path = f"/api/users/{doctor.pk}/"
        assert client.generic("DELETE", path, b"\xff", "text/plain").status_code == 204

    def test_nested_value_of_text_field_is_400_at_any_depth(self, client, administrator):
        for depth in range(1, 1200, 23):
            nested = b"[" * depth + b"]" * depth
            for method, path, name in (
                ("PATCH", f"/api/users/{administrator.pk}/", b"role"),
                ("PATCH", "/api/auth/user/", b"firstName"),
                ("PATCH", "/api/users/me/notifications/", b"system_alerts"),
                ("POST", "/api/auth/token/refresh/", b"refresh"),
            ):
                body = b'{"%s": %s}' % (name, nested)
                answer = client.generic(method, path, body, "application/json")
                assert answer.status_code == 400, (depth, path)


class TestHeaders:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *((name, "x" * 60_000) for name in ("HTTP_USER_AGENT", "HTTP_ACCEPT", "HTTP_COOKIE")),
            *((name, "\x00\xff") for name in ("HTTP_USER_AGENT", "HTTP_ACCEPT", "HTTP_COOKIE")),
            ("HTTP_ACCEPT_LANGUAGE", "x" * 10_000),
            ("HTTP_ACCEPT_LANGUAGE", "\x00"),
            ("HTTP_X_REQUEST_ID", "a\r\nSet-Cookie: x=y"),
            ("HTTP_X_REQUEST_ID", "x" * 10_000),
            ("HTTP_ORIGIN", "null"),
            ("HTTP_ORIGIN", "http://[::1"),
            ("HTTP_RANGE", "bytes=0-1"),
            ("HTTP_IF_MODIFIED_SINCE", "yesterday"),
            ("HTTP_IF_NONE_MATCH", "*"),
            ("HTTP_X_HTTP_METHOD_OVERRIDE", "DELETE"),
            ("HTTP_X_FORWARDED_HOST", "evil.example"),
            ("HTTP_X_FORWARDED_PROTO", "https"),
            ("HTTP_EXPECT", "100-continue"),
            ("REMOTE_ADDR", ""),
            ("REMOTE_ADDR", "nonsense"),
        ],
        ids=lambda value: value[:24],
    )
    def test_odd_headers_do_not_change_response(self, client, name, value):
        plain = client.get("/api/users/").json()
        answer = client.get("/api/users/", **{name: value})
        assert answer.status_code == 200
        assert answer.json() == plain
        assert "Set-Cookie" not in answer
        assert send_json(client, "POST", "/api/audit-logs/", ENTRY).status_code == 201

    @pytest.mark.parametrize(
        "header",
        [
            *(
                "",
                "Bearer",
                "Bearer ",
                "bearer  ",
                "Bearer\tx",
                "Token x",
                "Bearer x y",
                "Bearer ,",
            ),
            *("Bearer " + "x" * 100_000, "Bearer \x00", "Bearer \xff", "Basic " + "x" * 5000),
        ],
        ids=lambda header: repr(header)[:24],
    )
    def test_invalid_authorization_is_401(self, header):
        client = APIClient(HTTP_AUTHORIZATION=header, raise_request_exception=False)
        answer = client.get("/api/users/")
        assert_error(answer, 401)
        assert answer["WWW-Authenticate"] == "Bearer"

    def test_authorization_scheme_is_case_insensitive(self, administrator):
        header = client_of(administrator).defaults["HTTP_AUTHORIZATION"]
        for scheme in ("bearer", "BEARER", "Bearer "):
            client = APIClient(HTTP_AUTHORIZATION=header.replace("Bearer", scheme))
            assert client.get("/api/users/").status_code == 200

    def test_cors_allows_front_end_with_credentials_only(self, client):
        for origin, is_in in (
            ("http://localhost:3000", True),
            ("https://myometrics.com", True),
            ("https://evil.example", False),
            ("http://localhost:3000.evil.example", False),
        ):
            answer = client.options(
                "/api/audit-logs/",
                HTTP_ORIGIN=origin,
                HTTP_ACCESS_CONTROL_REQUEST_METHOD="POST",
                HTTP_ACCESS_CONTROL_REQUEST_HEADERS="authorization,content-type",
            )
            if is_in:
                assert answer.status_code == 200
                assert answer["Access-Control-Allow-Origin"] == origin
                assert answer["Access-Control-Allow-Credentials"] == "true"
                assert "authorization" in answer["Access-Control-Allow-Headers"]
            else:
                assert "Access-Control-Allow-Origin" not in answer


@pytest.mark.django_db(transaction=True)
class TestSimultaneousRequests:
    def test_sixty_simultaneous_logins_succeed_without_limit(self, run_concurrently):
        user = make_user("busy@clinic.example")
        body = {"email": user.email, "password": PASSWORD}
        answers = run_concurrently(
            lambda: send_json(APIClient(), "POST", "/api/auth/login/", body), times=60
        )
        assert [answer.status_code for answer in answers] == [200] * 60
        assert len({answer.json()["access"] for answer in answers}) == 60
        assert user.sessions.live().count() == 60

    def test_simultaneous_logout_and_refresh_are_not_500(self, run_concurrently):
        user = make_user("busy@clinic.example")
        body = {"email": user.email, "password": PASSWORD}
        tokens = send_json(APIClient(), "POST", "/api/auth/login/", body).json()
        client = APIClient(HTTP_AUTHORIZATION=f"Bearer {tokens['access']}")
        refresh = {"refresh": tokens["refresh"]}

        def logout():
            return send_json(client, "POST", "/api/auth/logout/", refresh).status_code

        def renew():
            return send_json(APIClient(), "POST", "/api/auth/token/refresh/", refresh).status_code

        statuses = run_concurrently([logout, renew] * 5)
        assert statuses[::2].count(200) == 1
        assert set(statuses[::2]) <= {200, 400, 401}
        assert set(statuses[1::2]) <= {200, 401}
        assert client.get("/api/auth/user/").status_code == 401

    def test_requests_during_user_deletion_are_not_500(self, run_concurrently):
        leaver = make_user("leaver@clinic.example")
        administrator = client_of(make_user("boss@clinic.example", role="admin"))
        client = client_of(leaver)
        path = f"/api/users/{leaver.pk}/"
        upload = {**ENTRY, "resource_type": "upload", "action": "upload_completed"}
        login = {"email": leaver.email, "password": PASSWORD}
        answers = run_concurrently(
            [
                lambda: administrator.delete(path),
                lambda: client.delete("/api/users/me/"),
                lambda: send_json(administrator, "PATCH", path, {"role": "technician"}),
                lambda: send_json(client, "PATCH", "/api/auth/user/", {"firstName": "X"}),
                lambda: send_json(
                    client, "PATCH", "/api/users/me/notifications/", {"system_alerts": True}
                ),
                lambda: send_json(client, "POST", "/api/audit-logs/", upload),
                lambda: send_json(APIClient(), "POST", "/api/auth/login/", login),
                lambda: client.get("/api/users/me/activity/"),
                lambda: client.get("/api/users/me/notifications/"),
                lambda: administrator.get(f"{path}activity/"),
                lambda: administrator.get(path),
                lambda: b"".join(client.get("/api/users/me/export/")),
            ]
        )
        for answer in answers:
            assert isinstance(answer, bytes) or answer.status_code < 500, answer
        assert not get_user_model().objects.filter(pk=leaver.pk).exists()
        assert administrator.get("/api/analytics/").json()["system_health"]["total_uploads"] == 0


@pytest.mark.django_db(transaction=True)
def test_binary_charset_is_not_500():
    client = client_of(make_user("boss@clinic.example", role="admin"))
    charsets = ["base64", "hex", "rot13", "undefined", "idna", "punycode", "zlib", "nonsense"]
    for charset in charsets:
        for method, expected in (("GET", "200 OK"), ("POST", "201 Created")):
            environ = client._base_environ(
                PATH_INFO="/api/audit-logs/",
                QUERY_STRING="action=%C3%A9",
                REQUEST_METHOD=method,
                CONTENT_TYPE=f"application/json; charset={charset}",
                CONTENT_LENGTH=str(len(BODY)),
                **{"wsgi.input": io.BytesIO(BODY)},
            )
            statuses = []
            answer = application(environ, lambda status, _, seen=statuses: seen.append(status))
            answer.close()
            assert statuses == [expected], charset
