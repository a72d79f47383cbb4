"""The site with a provider like Google, configured by environment alone."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from running_site import LONG_TIMEOUTS, RunningSite

from myometrics_testing.oidc_provider import CLIENT_ID, OidcProvider
from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.any_database


@pytest.fixture(scope="module")
def google():
    provider = OidcProvider()
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def site(google, tmp_path_factory):
    """The site on SQLite, in two processes; its providers are in a file."""
    folder = tmp_path_factory.mktemp("site")
    running = RunningSite(folder, f"sqlite:///{folder / 'site.sqlite3'}", None)
    file = folder / "providers.json"
    configured = {
        "name": "Google",
        "issuer": google.issuer,
        "client_id": CLIENT_ID,
        "access_tokens": "tokeninfo",
        "tokeninfo_endpoint": f"{google.issuer}/tokeninfo",
        "role_claim": "groups",
        "roles": {"admins": "admin"},
    }
    file.write_text(json.dumps({"google": configured}))
    running.environment |= {**LONG_TIMEOUTS, "IDENTITY_PROVIDERS_FILE": str(file)}
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def make_token(google):
    def make(subject, **claims):
        google.userinfo[subject] = {"given_name": "Ada", "family_name": "Lovelace", **claims}
        return google.google_token(subject, email=f"{subject}@clinic.example")

    return make


def test_provider_is_offered(site):
    assert site.get("/api/auth/providers/").json() == [{"slug": "google", "name": "Google"}]
    assert "Sign in with Google" in site.get("/admin/login/").text
    assert "/api/auth/identities/" in site.get("/api/schema/?format=json").json()["paths"]


def test_user_needs_nothing_but_the_token_of_the_provider(site, make_token):
    token = make_token("ada", groups=["admins"])

    def request(method, path, status, body=None):
        answer = site.request(token, method, path, body)
        assert answer.status_code == status, f"{method} {path}: {answer.text}"
        return answer

    profile = request("GET", "/auth/user/", 200).json()
    assert (profile["email"], profile["firstName"]) == ("ada@clinic.example", "Ada")
    changed = {"firstName": "Augusta", "lastName": "King", "email": "ada@clinic.example"}
    assert request("PATCH", "/auth/user/", 200, changed).json()["firstName"] == "Augusta"
    entry = {"action": "report_viewed", "resource_type": "report", "resource_id": "1"}
    request("POST", "/audit-logs/", 201, entry)
    entries = request("GET", "/audit-logs/", 200).json()["results"]
    assert "login_succeeded" in [found["action"] for found in entries]
    for path in ("/users/me/activity/", "/analytics/", "/users/", "/users/me/notifications/"):
        request("GET", path, 200)
    export = request("GET", "/users/me/export/?format=json", 200).json()
    assert [found["provider"] for found in export["identities"]] == ["google"]
    (session,) = request("GET", "/auth/sessions/", 200).json()["results"]
    assert session["current"]
    request("DELETE", "/users/me/", 409)  # the last administrator
    other = make_token("root", groups=["admins"])
    assert site.request(other, "GET", "/auth/user/").status_code == 200
    request("DELETE", "/users/me/", 204)
    request("GET", "/auth/user/", 401)
    assert site.request(make_token("ada"), "GET", "/auth/user/").status_code == 401


def test_doctors_have_no_rights_of_administrators(site, make_token):
    token = make_token("doctor")
    assert site.request(token, "GET", "/auth/user/").json()["role"] == "doctor"
    assert site.request(token, "GET", "/users/").status_code == 403


def test_first_requests_in_two_processes_make_one_call(site, google, make_token):
    token = make_token("many")
    before = google.calls["/tokeninfo"]

    def ask(_number):
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.get(f"{site.url}/api/auth/user/", headers=headers, timeout=PATIENCE)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert google.calls["/tokeninfo"] == before + 1


def test_token_of_another_application_is_refused(site, google):
    token = google.google_token("eve", aud="another-application", azp="another-application")
    assert site.request(token, "GET", "/auth/user/").status_code == 401
