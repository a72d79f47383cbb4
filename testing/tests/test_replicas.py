"""Lists and numbers come from a replica of the database, all else from the primary one.

With a streaming replica of PostgreSQL, and with a copy of a SQLite file. While the replica is
paused, rows that exist on one of them show which was read.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from pathlib import Path

import dj_database_url
import psycopg
import pytest
from third_party_site import AdminSession
from whole_site import ApiUser, WholeSite

from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import wait_for

LAG = 3600
"""Seconds: longer than any test. The test itself lets the lag pass."""
SETTINGS = """
DATABASES["replica"] = {replica!r}
DATABASE_ROUTERS = ["myometrics_core.db.ReplicaRouter"]
MYOMETRICS |= {{"READ_REPLICAS": ["replica"], "REPLICA_LAG": {lag}}}
CACHES = {{
    "default": {{
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": BASE_DIR / "cache",
    }}
}}
"""
ROUTES = """
from django.contrib.auth import get_user_model
from django.db import router, transaction
from myometrics_audit.models import AuditLog
from myometrics_core.db import read_from_replica

root = get_user_model().objects.get(email="root@clinic.example")
print("outside", router.db_for_read(AuditLog))
with read_from_replica(user=root):
    entry = AuditLog.objects.first()
    print("entry", entry._state.db, router.db_for_write(AuditLog, instance=entry))
    with transaction.atomic():
        print("transaction", router.db_for_read(AuditLog))
with transaction.atomic(), read_from_replica(user=root):
    print("begun", router.db_for_read(AuditLog))
print("author", entry.user._state.db)
"""
LAPSE = """
from datetime import timedelta
import time_machine
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import router
from django.utils import timezone
from myometrics_audit.models import AuditLog
from myometrics_core.db.replicas import read_from_replica, remember_write

root = get_user_model().objects.get(email="root@clinic.example")
lag = settings.MYOMETRICS["REPLICA_LAG"]
start = timezone.now()
for seconds in (0, lag - 1, lag + 1):
    with time_machine.travel(start, tick=False) as clock:
        remember_write(root)
        clock.shift(timedelta(seconds=seconds))
        with read_from_replica(user=root):
            print(router.db_for_read(AuditLog))
"""


class CopiedFile:
    """A copy of the primary SQLite file, made by :meth:`follow`."""

    def __init__(self, folder, request):
        (folder / "replica").mkdir()
        self.primary, self.copy = folder / "site.sqlite3", folder / "replica" / "site.sqlite3"
        self.primary_url, self.url = f"sqlite:///{self.primary}", f"sqlite:///{self.copy}"

    def hold(self):
        """Pause replication."""
        self.follow()

    def follow(self):
        with sqlite3.connect(self.primary) as primary, sqlite3.connect(self.copy) as copy:
            primary.backup(copy)

    def disconnect(self):
        """Make it unreachable."""
        shutil.rmtree(self.copy.parent)


class StreamingReplica:
    """A streaming replica of PostgreSQL that can be paused."""

    def __init__(self, folder, request):
        self.primary_url = request.getfixturevalue("postgresql_server").url
        self.server = OwnedServer("postgresql-replica", self.primary_url)
        request.addfinalizer(self.server.close)
        self.url = self.server.url

    def hold(self):
        with psycopg.connect(self.primary_url) as primary:
            # Committed data may not be flushed yet: the test servers do not wait for the disk.
            reached = primary.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        arrived = "SELECT pg_last_wal_replay_lsn() >= %s"
        with psycopg.connect(self.url, autocommit=True) as replica:
            wait_for(lambda: replica.execute(arrived, reached).fetchone()[0])
            replica.execute("SELECT pg_wal_replay_pause()")

    def follow(self):
        with psycopg.connect(self.url, autocommit=True) as replica:
            replica.execute("SELECT pg_wal_replay_resume()")

    def disconnect(self):
        self.server.stop()


@pytest.fixture(params=[CopiedFile, StreamingReplica], ids=["sqlite", "postgresql"])
def replica(request, tmp_path):
    return request.param(tmp_path, request)


@pytest.fixture
def site(replica, tmp_path):
    site = WholeSite(tmp_path / "site", Path(sys.executable), replica.primary_url)
    settings = SETTINGS.format(replica=dict(dj_database_url.parse(replica.url)), lag=LAG)
    site.write("clinic/settings.py", settings)
    site.manage("migrate", "--verbosity=0")
    site.make_administrator("root@clinic.example")
    with site.served():
        yield site


def listed(root):
    return {entry["resource_id"] for entry in root.request("GET", "audit-logs/").json()["results"]}


def counted(root):
    return root.request("GET", "analytics/?days=7").json()["system_health"]["total_uploads"]


def recent(user, path="users/me/activity/"):
    return {upload["id"] for upload in user.request("GET", path).json()["recent_uploads"]}


def test_lists_and_numbers_read_replica_and_rest_primary(site, replica):
    root, ada = ApiUser(site, "root@clinic.example"), ApiUser(site, "ada@clinic.example")
    root.sign_in()
    ada.register()
    ada.upload("known")
    replica.hold()
    late = ada.upload("late")
    _assert_lists_and_numbers_lag(site, root, ada)
    _assert_own_data_is_current(site, root, ada, late)
    # After the lag, writers read from the replica, too.
    site.runs("from django.core.cache import cache; cache.clear()")
    assert recent(ada) == {"known"}
    replica.follow()
    wait_for(lambda: {"known", "late"} <= listed(root))
    replica.disconnect()
    assert ada.upload("last") > late
    assert "last" in listed(root)
    assert counted(root) == 3


def _assert_lists_and_numbers_lag(site, root, ada):
    user_id = ada.request("GET", "auth/user/").json()["id"]
    assert "known" in listed(root)
    assert "late" not in listed(root)
    assert counted(root) == 1
    assert recent(root, f"users/{user_id}/activity/") == {"known"}
    browser = AdminSession(site, root.email)
    downloaded = browser.http.get("/admin/myometrics_analytics/dashboard/download.json").json()
    assert downloaded["system_health"]["total_uploads"] == 1
    assert recent(ada) == {"known", "late"}


def _assert_own_data_is_current(site, root, ada, late):
    newcomer = ApiUser(site, "newcomer@clinic.example")
    newcomer.register()
    newcomer.sign_in()
    assert newcomer.own_pages()["users/me/activity/"]["recent_uploads"] == []
    assert newcomer.email in {
        user["email"] for user in root.request("GET", "users/").json()["results"]
    }
    assert root.request("GET", f"audit-logs/{late}/").json()["resource_id"] == "late"
    exported = ada.request("GET", "users/me/export/?format=json").json()
    assert "late" in {entry["resource_id"] for entry in exported["audit_logs"]}


@pytest.mark.parametrize("replica", [CopiedFile], indirect=True)
def test_only_marked_block_outside_transaction_reads_replica(site, replica):
    ada = ApiUser(site, "ada@clinic.example")
    ada.register()
    ada.upload("known")
    replica.hold()
    assert site.runs(ROUTES)[-5:] == [
        "outside default",
        "entry replica default",
        "transaction default",
        "begun default",
        "author default",
    ]


@pytest.mark.parametrize("replica", [CopiedFile], indirect=True)
def test_writer_reads_primary_until_lag_has_passed(site, replica):
    replica.hold()
    assert site.runs(LAPSE)[-3:] == ["default", "default", "replica"]


@pytest.mark.parametrize("replica", [CopiedFile], indirect=True)
def test_system_checks_report_invalid_replicas(site):
    assert "no issues" in site.manage("check")
    site.write("clinic/settings.py", "DATABASE_ROUTERS = []")
    site.write("clinic/settings.py", "from django.conf.global_settings import CACHES")
    site.write("clinic/settings.py", 'MYOMETRICS["READ_REPLICAS"] = ["nowhere"]')
    said = site.refused("check", "--fail-level", "WARNING")
    assert [f"myometrics_core.{number}" in said for number in ("E011", "W012", "W013")] == [
        True
    ] * 3
    assert "nowhere" in said
