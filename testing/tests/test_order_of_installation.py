"""Packages are added to a site with data, one by one, in any order; each catches up.

The clinic's scanner publishes an upload at every step, the first a year ago. The uploads that a
package must have depend on the packages installed at that step.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from third_party_site import PASSWORD, ThirdPartySite
from whole_site import MAIL_TO_FILES, mails_of

PACKAGES = ("audit", "analytics", "notifications")
# With each user model every pair in both orders; with both together every subset.
ORDERS = {
    "stock": [PACKAGES, PACKAGES[::-1]],
    "auth": [
        ("analytics", "notifications", "audit"),
        ("audit", "notifications", "analytics"),
    ],
}
SETTINGS = """
INSTALLED_APPS += ["rest_framework", "myometrics_core"]
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": [
    "rest_framework.authentication.SessionAuthentication",
]}
MYOMETRICS = {"JOB_RUNNER": "none"}
"""
AUTH = """
INSTALLED_APPS += ["myometrics_auth"]
AUTH_USER_MODEL = "myometrics_auth.User"
REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"] += [
    "myometrics_auth.authentication.SessionTokenAuthentication",
]
"""
PAST = f"""
from datetime import timedelta
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from myometrics_core.events import Event, publish

users = get_user_model()._default_manager
if not users.exists():
    for name, make in (("root", users.create_superuser), ("ada", users.create_user)):
        named = {{"username": name}} if users.model.USERNAME_FIELD == "username" else {{}}
        make(email=f"{{name}}@clinic.example", password={PASSWORD!r}, **named)
ada, root = (users.get(email=f"{{name}}@clinic.example") for name in ("ada", "root"))
assert ada.check_password({PASSWORD!r})

def scan(step):
    publish(Event(
        id=f"scanner:{{step}}",
        actor_id=ada.pk,
        action="upload_completed",
        resource_type="upload",
        resource_id=f"scan {{step}}",
        occurred_at=timezone.now() - timedelta(days=0 if step else 365),
        details={{"filename": "scan.jpg", "diagnosis": "Normal"}},
    ))

def ask(user, path, **body):
    client = Client(HTTP_HOST="localhost")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    method = client.patch if body else client.get
    answer = method(f"/api/{{path}}", body or None, content_type="application/json")
    assert answer.status_code == 200, answer.content
    return answer.json()
"""
WORKS = {
    "audit": """
call_command("audit_seal", verbosity=0)
call_command("audit_verify", verbosity=0)
kept = ask(root, "audit-logs/?resource_type=upload")
assert {row["resource_id"] for row in kept["results"]} == {f"scan {step}" for step in KEPT}, kept
""",
    "analytics": """
call_command("analytics_rebuild", verbosity=0)
figures = ask(root, "analytics/?days=730")
assert figures["system_health"]["total_uploads"] == len(COUNTED), figures["system_health"]
seen = {row["id"] for row in ask(ada, "users/me/activity/")["recent_uploads"]}
assert seen == {f"scan {step}" for step in COUNTED}, seen
""",
    "notifications": """
call_command("jobs_run", once=True, kind="myometrics_notifications.deliver")
""",
}
SWITCH_ON = 'ask(ada, "users/me/notifications/", upload_completed=True, email_notifications=True)\n'


def _clinic(folder, user_model="stock"):
    site = ThirdPartySite(folder, Path(sys.executable))
    site.write("clinic/settings.py", SETTINGS + MAIL_TO_FILES)
    site.write("clinic/urls.py", "from django.urls import include")
    if user_model == "auth":
        site.write("clinic/settings.py", AUTH)
        _include(site, "auth")
    return site


def _include(site, package):
    route = f'path("api/", include("myometrics_{package}.urls"))'
    site.write("clinic/urls.py", f"urlpatterns += [{route}]")


def _add(site, package):
    site.write("clinic/settings.py", f'INSTALLED_APPS += ["myometrics_{package}"]')
    _include(site, package)


@pytest.mark.parametrize(
    ("user_model", "order"),
    [(model, order) for model, orders in ORDERS.items() for order in orders],
)
def test_packages_work_and_catch_up_in_any_order(user_model, order, tmp_path):
    clinic = _clinic(tmp_path, user_model)
    clinic.prepare(f"{PAST}\nscan(0)")
    begins = {package: order.index(package) + 1 for package in order}
    for step, package in enumerate(order, start=1):
        _add(clinic, package)
        steps = set(range(step + 1))
        kept = {number for number in steps if number >= begins["audit"]}
        # Analytics reads earlier events from the log.
        counted = kept | {number for number in steps if number >= begins["analytics"]}
        switch = SWITCH_ON if package == "notifications" else ""
        works = "".join(WORKS[name] for name in order[:step])
        clinic.prepare(f"{PAST}\nKEPT, COUNTED = {kept}, {counted}\n{switch}scan({step})\n{works}")
    # No mail about earlier uploads: one for each upload since.
    assert mails_of(clinic).count("Subject:") == len(order) + 1 - begins["notifications"]


def test_migrate_prints_backfill_hint_once_if_entries_exist(tmp_path):
    site = _clinic(tmp_path)
    for package in ("notifications", "audit"):
        _add(site, package)
    site.prepare(f"{PAST}\nscan(0)")
    _add(site, "analytics")
    assert "manage.py analytics_rebuild" in site.manage("migrate")
    assert "analytics_rebuild" not in site.manage("migrate")


def test_migrate_prints_no_backfill_hint_without_entries(tmp_path):
    site = _clinic(tmp_path)
    for package in PACKAGES:
        _add(site, package)
    assert "analytics_rebuild" not in site.manage("migrate")
