"""All steps of a front end at http://localhost:3000, over real HTTP.

On SQLite without Redis, and on PostgreSQL with Redis and a Celery worker.
"""

from __future__ import annotations

import csv
import io
import os
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from running_site import ADMIN, LONG_TIMEOUTS, PASSWORD, RunningSite, database_beside

from myometrics_testing.waiting import PATIENCE, avoid_midnight, wait_for

ORIGIN = "http://localhost:3000"
EMAIL = "Newcomer@Clinic.example"
CHANGED, RESET = "staple-battery-horse", "another-staple-again"
SIXTY = 60
LOOPBACK = ("127.0.0.1", "::1")


@pytest.fixture
def site(request, tmp_path, database_vendor):
    if database_vendor == "sqlite":
        running = RunningSite(tmp_path, f"sqlite:///{tmp_path / 'site.sqlite3'}", None)
        yield from _started(running)
    else:
        redis_url = request.getfixturevalue("redis_url")
        with database_beside(os.environ["DATABASE_URL"]) as database_url:
            yield from _started(RunningSite(tmp_path, database_url, redis_url))


def _started(running):
    # With five a minute, the sixth request may fall into the next minute on a slow machine.
    running.environment |= {**LONG_TIMEOUTS, "RATE_LIMIT_AUTH": "5/hour"}
    # The journey asks for the health until all is up.
    running.environment["RATE_LIMIT_API"] = "100000/minute"
    try:
        running.start()
        yield running
    finally:
        running.stop()


class Browser:
    """Sends the front end's requests; makes a browser's checks on every response."""

    def __init__(self, site):
        self.http = httpx.Client(
            base_url=f"{site.url}/api", headers={"Origin": ORIGIN}, timeout=PATIENCE
        )
        self.tokens = {}

    def request(self, method, path, status, body=None, **options):
        answer = self.http.request(method, path, json=body, headers=self._headers(), **options)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        if status >= 400:
            assert set(answer.json()) == {"detail", "code", "field_errors"}
        return answer

    def _headers(self):
        access = self.tokens.get("access")
        return {"Authorization": f"Bearer {access}"} if access else {}

    def finds(self, service, state):
        """Whether the site is healthy; probes may time out on a busy machine."""
        answer = self.http.get("/health/", headers=self._headers())
        return answer.json()["services"][service] == state

    def sign_in(self, password, status=200, email=EMAIL):
        answer = self.request(
            "POST", "/auth/login/", status, {"email": email, "password": password}
        ).json()
        if status == 200:
            self.tokens = answer
        return answer


def test_journey_of_a_new_user(site):
    avoid_midnight()  # the uploads are those of today
    browser, elsewhere = Browser(site), Browser(site)
    _preflight(browser)
    _register(browser)
    _profile(browser)
    _uploads(browser)
    _notifications(browser)
    _exports(browser)
    _change_of_password(browser, elsewhere)
    _reset_by_mail(site, browser)
    _check_administrator_pages(site)
    _the_end(browser)


def _preflight(browser):
    answer = browser.http.options(
        "/auth/login/",
        headers={
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"]
    other_origin = browser.http.options(
        "/auth/login/",
        headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert "Access-Control-Allow-Origin" not in other_origin.headers


def _register(browser):
    body = {
        "email": EMAIL,
        "password": PASSWORD,
        "firstName": "Jane",
        "lastName": "Smith",
        "clinicName": "Heart Clinic",
        "role": "admin",
    }
    browser.tokens = browser.request("POST", "/auth/register/", 201, body).json()
    user = browser.tokens["user"]
    assert set(browser.tokens) == {"access", "refresh", "user"}
    assert set(user) == {
        "id",
        "email",
        "firstName",
        "lastName",
        "role",
        "clinicName",
        "dateJoined",
    }
    assert user["role"] == "doctor"
    assert user["email"] == EMAIL.lower()
    assert user["dateJoined"].endswith("Z")
    again = browser.request("POST", "/auth/register/", 400, body).json()
    assert list(again["field_errors"]) == ["email"]


def _profile(browser):
    assert browser.request("GET", "/auth/user/", 200).json() == browser.tokens["user"]
    changed = browser.request(
        "PATCH",
        "/auth/user/",
        200,
        {"email": "someone@else.example", "firstName": "Janet", "role": "admin"},
    ).json()
    assert changed == {**browser.tokens["user"], "firstName": "Janet"}
    access = browser.request(
        "POST", "/auth/token/refresh/", 200, {"refresh": browser.tokens["refresh"]}
    ).json()
    assert set(access) == {"access"}
    browser.tokens = {**browser.tokens, **access}


def _uploads(browser):
    for number, action in enumerate(("upload_created", "upload_created", "upload_failed"), 1):
        details = {"filename": f"scan_{number}.jpg", "file_size": 2048, "diagnosis": "Normal"}
        entry = browser.request(
            "POST",
            "/audit-logs/",
            201,
            {
                "action": action,
                "resource_type": "upload",
                "resource_id": f"upload_{number:03}",
                "details": details,
            },
        ).json()
        assert entry["user_id"] == browser.tokens["user"]["id"]
        assert entry["ip_address"] in LOOPBACK
        assert entry["details"] == details
    activity = browser.request("GET", "/users/me/activity/", 200).json()
    assert activity["uploads_today"] == 3
    assert activity["uploads_this_week"] == activity["uploads_this_month"] == 3
    assert [upload["id"] for upload in activity["recent_uploads"]] == [
        "upload_003",
        "upload_002",
        "upload_001",
    ]
    assert activity["recent_uploads"][0]["status"] == "failed"
    assert activity["recent_uploads"][2]["status"] == "completed"
    browser.request("GET", "/analytics/", 403)
    browser.request("GET", "/audit-logs/", 403)


def _notifications(browser):
    settings = browser.request("GET", "/users/me/notifications/", 200).json()
    assert settings == {
        "email_notifications": True,
        "upload_completed": True,
        "analysis_ready": True,
        "system_alerts": False,
    }
    changed = browser.request(
        "PATCH", "/users/me/notifications/", 200, {"system_alerts": True}
    ).json()
    assert changed == {**settings, "system_alerts": True}


def _exports(browser):
    table = browser.request("GET", "/users/me/export/", 200)
    assert table.headers["Content-Type"] == "application/octet-stream"
    assert table.headers["Content-Disposition"] == 'attachment; filename="user_data.csv"'
    rows = list(csv.reader(io.StringIO(table.text)))
    assert rows[0] == ["section", "record", "field", "value"]
    assert ["profile", "1", "firstName", "Janet"] in rows
    answer = browser.request("GET", "/users/me/export/", 200, params={"format": "json"})
    assert answer.headers["Content-Disposition"] == 'attachment; filename="user_data.json"'
    export = answer.json()
    assert {"profile", "notification_settings", "uploads", "audit_logs"} <= set(export)
    assert export["profile"]["email"] == EMAIL.lower()
    assert export["notification_settings"]["system_alerts"] is True
    assert {upload["id"] for upload in export["uploads"]} == {
        "upload_001",
        "upload_002",
        "upload_003",
    }
    assert len([e for e in export["audit_logs"] if e["resource_type"] == "upload"]) == 3
    third = browser.request("GET", "/users/me/export/", 429)
    assert 0 < int(third.headers["Retry-After"]) <= 3600


def _change_of_password(browser, elsewhere):
    elsewhere.sign_in(PASSWORD)
    elsewhere.request("GET", "/auth/user/", 200)
    wrong = {"old_password": "nonsense", "new_password": CHANGED}
    refused = browser.request("POST", "/auth/change-password/", 400, wrong).json()
    assert list(refused["field_errors"]) == ["old_password"]
    right = {"old_password": PASSWORD, "new_password": CHANGED}
    browser.request("POST", "/auth/change-password/", 200, right)
    browser.request("GET", "/auth/user/", 200)
    browser.request("POST", "/auth/token/refresh/", 200, {"refresh": browser.tokens["refresh"]})
    refused = elsewhere.request("GET", "/auth/user/", 401)
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    elsewhere.request("POST", "/auth/token/refresh/", 401, {"refresh": elsewhere.tokens["refresh"]})


def _reset_by_mail(site, browser):
    for email in (EMAIL, "unknown@clinic.example"):
        answer = browser.request("POST", "/auth/password-reset/", 200, {"email": email}).json()
        assert answer == {"detail": "Password reset email sent"}
    # The link to verify the address, the notice of the changed password, and the link.
    text = "\n".join(site.mail_to(EMAIL.lower(), 3))
    assert text.count("/api/auth/verify-email/confirm/") == 1
    assert "Your password was changed" in text
    (link,) = re.findall(r"http://localhost:3000/reset-password\S+", text)
    query = parse_qs(urlsplit(link).query)
    body = {"uid": query["uid"][0], "token": query["token"][0], "new_password": RESET}
    too_short = browser.request(
        "POST", "/auth/password-reset/confirm/", 400, {**body, "new_password": "x"}
    ).json()
    assert list(too_short["field_errors"]) == ["new_password"]
    browser.request("POST", "/auth/password-reset/confirm/", 200, body)
    browser.request("POST", "/auth/password-reset/confirm/", 400, body)
    browser.request("GET", "/auth/user/", 401)
    browser.request("POST", "/auth/token/refresh/", 401, {"refresh": browser.tokens["refresh"]})
    browser.tokens = {}
    refused = browser.sign_in(CHANGED, 401)
    assert refused["detail"] == "Invalid credentials"
    browser.sign_in(RESET)


def _check_administrator_pages(site):
    site.make_administrator()
    administrator = Browser(site)
    signed_in = administrator.sign_in(PASSWORD, email=ADMIN)
    assert signed_in["user"]["role"] == "admin"
    redis = "up" if site.environment["REDIS_URL"] else "not_configured"
    wait_for(lambda: administrator.finds("database", "up") and administrator.finds("redis", redis))
    analytics = administrator.request("GET", "/analytics/", 200).json()
    assert analytics["system_health"]["total_uploads"] == 3
    assert analytics["user_activity"]["daily_uploads"][-1]["count"] == 3
    entries = administrator.request(
        "GET", "/audit-logs/", 200, params={"resource_type": "upload"}
    ).json()
    assert entries["count"] == 3
    found = administrator.request("GET", "/users/", 200, params={"search": "janet smi"}).json()
    assert [user["email"] for user in found["results"]] == [EMAIL.lower()]


def _the_end(browser):
    browser.request("DELETE", "/users/me/", 204)
    browser.request("GET", "/auth/user/", 401)
    browser.tokens = {}
    browser.sign_in(RESET, 401)


def test_two_processes_accept_five_of_sixty_simultaneous_logins(site):
    def sign_in(number):
        body = {"email": f"unknown{number}@clinic.example", "password": PASSWORD}
        return httpx.post(f"{site.url}/api/auth/login/", json=body, timeout=PATIENCE).status_code

    with ThreadPoolExecutor(SIXTY) as threads:
        statuses = list(threads.map(sign_in, range(SIXTY)))
    assert (statuses.count(401), statuses.count(429)) == (5, SIXTY - 5), site.log
