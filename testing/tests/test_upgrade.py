"""A site that has worked with the previous release is upgraded to the packages as they are now."""

from __future__ import annotations

import pytest
from environments import NEWEST, OLDEST, rows
from whole_site import WITHOUT_RUNNER, ApiUser, WholeSite, contains, install, make_environment

from myometrics_testing.releases import previous_wheels
from myometrics_testing.waiting import avoid_midnight

EMAILS = ("root@clinic.example", "ada@clinic.example")
# Of the formats, YAML alone keeps the times that version 0.1 signs.
DUMPED = (
    "--natural-foreign",
    "--exclude=contenttypes",
    "--exclude=auth.permission",
    "--format=yaml",
)
FAIL_PULLS = """
from django.utils import timezone
from myometrics_analytics.models import PullState
PullState.objects.create(pk=1, due_at=timezone.now(), failures=3, last_error="down", etag="e1")
"""
PENDING = """
from myometrics_analytics.models import PullState
from myometrics_core.jobs import Job
kinds = [
    "myometrics_analytics.pull",
    "myometrics_auth.send_password_reset",
    "myometrics_notifications.deliver",
    "myometrics_notifications.export",
]
assert PullState.objects.get().etag == "e1"
for job in Job.objects.filter(kind__in=kinds).exclude(attempts=0, key="").order_by("kind"):
    print(job.kind, job.state, job.attempts, job.last_error)
"""
PENDING_AFTER_UPGRADE = [
    "myometrics_analytics.pull pending 3 down",
    "myometrics_auth.send_password_reset pending 0 ",
    "myometrics_notifications.deliver pending 0 ",
    "myometrics_notifications.export pending 0 ",
]
DATABASES = {OLDEST: "sqlite", NEWEST: "postgresql"}


@pytest.fixture(params=[row for row in rows() if row in DATABASES], ids=str)
def site(request, tmp_path):
    row = request.param
    python = make_environment(tmp_path / "python", row, previous_wheels().values())
    url = f"sqlite:///{tmp_path / 'site.sqlite3'}"
    if DATABASES[row] == "postgresql":
        url = request.getfixturevalue("postgresql_server").url
    site = WholeSite(tmp_path / "site", python, url, has_jobs=False)
    site.row = row
    return site


def test_upgrade_keeps_data_evidence_sessions_and_jobs(site, wheels):
    shown, users = _use_previous_release(site)
    dump = site.folder / "site.yaml"
    site.manage("dumpdata", *DUMPED, f"--output={dump}")
    install(site.python, site.row, wheels.glob("*.whl"))
    site.write("clinic/settings.py", WITHOUT_RUNNER)
    site.manage("makemigrations", "--check", "--dry-run")
    site.manage("migrate", "--verbosity=0")
    assert site.runs(PENDING) == PENDING_AFTER_UPGRADE
    assert "No problems." in site.manage("audit_verify")
    with site.served():
        root, ada = (user.at(site) for user in users)
        assert contains(shown, [root.administrator_pages(), ada.own_pages()])
        _assert_site_works(site, root, ada)
    assert "No problems." in site.manage("audit_verify")
    assert "Every rollup equals the facts." in site.manage("analytics_check")
    # Pending work of the previous release is done once: mail of an upload, reset mail, and export.
    assert site.mails().count("Subject:") == 5
    assert site.runs(PENDING) == []
    assert site.mails().count("Subject: Reset your password") == 1
    _load_dump(site, dump)


def _load_dump(site, dump):
    folder = site.folder.parent
    url = f"sqlite:///{folder / 'loaded.sqlite3'}"
    loaded = WholeSite(folder / "loaded", site.python, url, site.secret)
    loaded.manage("migrate", "--verbosity=0")
    # Without pending work, which is in other tables now.
    loaded.manage("loaddata", "--ignorenonexistent", str(dump))
    assert "No problems." in loaded.manage("audit_verify")
    assert "Every rollup equals the facts." in loaded.manage("analytics_check")


def _use_previous_release(site):
    site.manage("migrate", "--verbosity=0")
    site.make_administrator(EMAILS[0])
    with site.served():
        root, ada = (ApiUser(site, email) for email in EMAILS)
        root.sign_in()
        ada.register()
        switches = {"email_notifications": True, "upload_completed": True}
        ada.request("PATCH", "users/me/notifications/", json=switches)
        ada.upload("first")
        # Some entries are sealed and counted, some are not.
        site.manage("audit_seal")
        site.manage("analytics_fold")
        site.manage("notifications_sweep")
        ada.upload("second")
        avoid_midnight()  # the pages are compared later, and show the numbers of each day
        shown = [root.administrator_pages(), ada.own_pages()]
        ada.request("GET", "users/me/export/?format=json&delivery=email", 202)
        ada.request("POST", "auth/password-reset/", json={"email": ada.email})
    site.manage("shell", "-c", FAIL_PULLS)
    assert site.mails().count("Subject:") == 1
    return shown, (root, ada)


def _assert_site_works(site, root, ada):
    before = root.request("GET", "audit-logs/").json()["count"]
    ada.sign_in()
    ada.upload("third")
    site.manage("audit_seal")
    site.manage("analytics_fold")
    assert root.request("GET", "audit-logs/").json()["count"] == before + 2
    assert root.request("GET", "analytics/").json()["system_health"]["total_uploads"] == 3
    # Twice: the export enqueues the mail with its link.
    for _ in range(2):
        site.manage("jobs_run", "--once")
