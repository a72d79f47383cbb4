"""A third-party site installs one package from its wheel, and adds three lines.

A bare ``django-admin startproject`` in an environment of its own, with nothing of this repository
but the wheels of core and of one package, on the oldest and the newest Python and Django; over
real HTTP.
"""

from __future__ import annotations

import httpx
import pytest
from environments import rows
from third_party_settings import API, CELERY, SETTINGS, URLS, UUID_USER
from third_party_site import PASSWORD, AdminSession, ThirdPartySite

from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.long

PACKAGES = ("audit", "analytics", "notifications")
CREATE_USERS = f"""
from django.contrib.auth import get_user_model
users = get_user_model().objects
users.create_superuser("root", "root@clinic.example", {PASSWORD!r})
users.create_user("ada", "ada@clinic.example", {PASSWORD!r})
"""
ENTRY = {"action": "upload_created", "resource_type": "upload", "resource_id": "u1"}


for_every_package = pytest.mark.parametrize("package", PACKAGES)


def audit(as_ada, as_root):
    written = as_ada("POST", "audit-logs/", 201, json=ENTRY).json()
    assert written["ip_address"] == "127.0.0.1"
    assert written["timestamp"].endswith("Z")
    as_ada("GET", "audit-logs/", 403)
    listed = as_root("GET", "audit-logs/", 200, params={"user_id": written["user_id"]}).json()
    assert [entry["id"] for entry in listed["results"]] == [written["id"]]


def analytics(as_ada, as_root):
    assert as_ada("GET", "users/me/activity/", 200).json()["recent_uploads"] == []
    as_ada("GET", "analytics/", 403)
    figures = as_root("GET", "analytics/", 200, params={"days": 7}).json()
    assert len(figures["user_activity"]["daily_uploads"]) == 7


def notifications(as_ada, as_root):
    path = "users/me/notifications/"
    assert as_ada("GET", path, 200).json()["system_alerts"] is False
    as_ada("PATCH", path, 200, json={"system_alerts": True})
    assert as_ada("GET", path, 200).json()["system_alerts"] is True
    assert as_root("GET", path, 200).json()["system_alerts"] is False
    as_ada("PATCH", path, 400, json={"system_alerts": "yes"})


EXERCISES = {"audit": audit, "analytics": analytics, "notifications": notifications}
A_PATH = {
    "audit": "audit-logs/",
    "analytics": "users/me/activity/",
    "notifications": "users/me/notifications/",
}


@pytest.mark.parametrize("row", rows(), ids=str)
@for_every_package
def test_bare_site_serves_package_with_three_lines(row, package, environment_of, tmp_path):
    clinic = ThirdPartySite(tmp_path, environment_of(row, package))
    clinic.hash_quickly()
    clinic.take(package)
    assert clinic.prepare(CREATE_USERS)["changed"] == []
    with clinic.served():
        as_ada = clinic.asking(auth=("ada", PASSWORD))
        browser = AdminSession(clinic, "root")
        EXERCISES[package](as_ada, browser.request)
        assert browser.visit_all(f"myometrics_{package}") >= 2
        refused(clinic, A_PATH[package], {})


@pytest.mark.parametrize("row", rows(), ids=str)
@for_every_package
def test_site_with_own_users_and_settings_keeps_them(
    row, package, environment_of, host_libraries, tmp_path
):
    clinic = ThirdPartySite(tmp_path, environment_of(row, package), library=host_libraries)
    clinic.hash_quickly()
    clinic.own_user_model(UUID_USER)
    for name, text in _choices():
        clinic.write(f"clinic/{name}.py", text)
    clinic.take(package)
    _assert_untouched(clinic.prepare(CREATE_USERS))
    with clinic.served():
        as_ada, as_root = _by_token(clinic, "ada"), _by_jwt(clinic, "root")
        EXERCISES[package](as_ada, as_root)
        refused(clinic, A_PATH[package], {"Authorization": "Bearer of.ill.tidings"})
        assert AdminSession(clinic, "root").visit_all(f"myometrics_{package}") >= 2
        _assert_own_api_unchanged(clinic)


def _choices():
    own = {"settings": SETTINGS, "api": API, "urls": URLS, "celery": CELERY}
    return {**own, "__init__": "from . import celery"}.items()


def _assert_untouched(seen):
    assert seen["changed"] == []
    assert seen["celery"]
    assert all(seen["celery"].values())
    root, *ours = seen["loggers"].values()
    assert root == [40, 1]
    assert ours
    assert all(logger == [0, 0] for logger in ours)


def _by_token(clinic, name):
    token = _post(f"{clinic.url}/own/token/", name)["token"]
    return clinic.asking(headers={"Authorization": f"Token {token}"})


def _by_jwt(clinic, name):
    token = _post(f"{clinic.url}/own/jwt/", name)["access"]
    return clinic.asking(headers={"Authorization": f"Bearer {token}"})


def _post(url, name):
    answer = httpx.post(url, json={"username": name, "password": PASSWORD}, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _assert_own_api_unchanged(clinic):
    visit = httpx.get(f"{clinic.url}/own/visits/", timeout=PATIENCE)
    assert visit.json() == {"at": "31.01.2026"}
    missing = httpx.get(f"{clinic.url}/own/missing/", timeout=PATIENCE)
    assert (missing.status_code, missing.json()) == (404, {"clinic_error": "no such visit"})


def refused(clinic, path, headers):
    """The API of ``clinic`` answers anonymous requests with a 401 or 403 in our shape."""
    answer = httpx.get(f"{clinic.url}/api/{path}", headers=headers, timeout=PATIENCE)
    assert answer.status_code in {401, 403}, answer.text
    assert set(answer.json()) == {"detail", "code", "field_errors"}
