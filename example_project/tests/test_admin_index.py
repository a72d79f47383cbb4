"""The admin site's index shows what users act on; other tables have pages alone."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.django_db

SHOWN = {
    "myometrics_core": {"Job"},
    "myometrics_auth": {"User", "Session", "SignInFailures"},
    "myometrics_auth_passkeys": {"Passkey"},
    "myometrics_audit": {"AuditLog"},
    "myometrics_analytics": {"Dashboard", "Upload"},
    "myometrics_notifications": {"Message", "NotificationSettings"},
}
INTERNAL = {
    "myometrics_auth": {"TotpDevice", "RecoveryCode", "UsedToken"},
    "myometrics_auth_passkeys": {"PasskeyChallenge"},
    "myometrics_audit": {"Seal", "Erasure", "Leaf", "EntryCount", "Verification"},
    "myometrics_analytics": {
        *("DayRollup", "DailyRollup", "UserRollup", "PendingChange"),
        *("RollupState", "PullState", "RebuildCheckpoint", "ClientReports", "LimitDecision"),
    },
    "myometrics_notifications": {"ExportFile"},
    "myometrics_rate_limits": {"CountedRequest"},
    "myometrics_health_log": {"HealthState"},
}


def listed(admin_client):
    """Models of ours in the index, by app."""
    apps = admin_client.get("/admin/").context["app_list"]
    return {
        app["app_label"]: {model["object_name"] for model in app["models"]}
        for app in apps
        if app["app_label"].startswith("myometrics_")
    }


def test_index_lists_actionable_models_only(admin_client):
    found = listed(admin_client)
    assert {app: found[app] & names for app, names in SHOWN.items()} == SHOWN
    assert not any(found.get(app, set()) & names for app, names in INTERNAL.items())


def test_index_has_the_header_of_the_site(admin_client):
    answer = admin_client.get("/admin/")
    assert answer.context["site_header"] == answer.context["site_title"] == "MyoMetrics"


def test_index_lists_internal_models_with_setting(admin_client, settings):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "ADMIN_SHOWS_INTERNALS": True}
    found = listed(admin_client)
    for group in (SHOWN, INTERNAL):
        assert {app: found[app] & names for app, names in group.items()} == group


def test_internal_model_page_opens_by_url(admin_client):
    for app, names in INTERNAL.items():
        for name in names:
            url = f"/admin/{app}/{name.lower()}/"
            assert admin_client.get(url).status_code == 200, url


def test_app_page_lists_internal_models(admin_client):
    for app, names in INTERNAL.items():
        answer = admin_client.get(f"/admin/{app}/")
        assert answer.status_code == 200, app
        listed_here = {model["object_name"] for model in answer.context["app_list"][0]["models"]}
        assert listed_here >= names, app
