"""A site's own test suite deletes users and empties tables, with and without migrations."""

from __future__ import annotations

import re

import pytest
from environments import CURRENT
from whole_site import WholeSite, make_environment

pytestmark = pytest.mark.any_database

TESTS = """
from django.contrib.auth import get_user_model
from django.db import DatabaseError, connection, transaction
from django.test import TestCase, TransactionTestCase, override_settings
from myometrics_audit import audit
from myometrics_audit.log.guards import missing_guards
from myometrics_audit.models import AuditLog
from myometrics_core.personal_data import erase_user


class Deletions(TestCase):
    def setUp(self):
        self.user = get_user_model().objects.create_user(email="a@clinic.example", password="x")
        audit.record(actor=self.user, action="a", resource=("b", "c"))

    def test_user_is_deleted(self):
        self.user.delete()
        self.assertFalse(AuditLog.objects.exists())

    def test_user_is_erased(self):
        erase_user(self.user)
        self.assertFalse(get_user_model().objects.exists())

    @override_settings(MYOMETRICS_AUDIT={"ON_USER_DELETE": "retain"})
    def test_entries_are_retained(self):
        self.user.delete()
        self.assertEqual(AuditLog.objects.get().user, None)

    def test_entries_are_guarded(self):
        self.assertEqual(missing_guards("default"), [])
        with self.assertRaises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {AuditLog._meta.db_table}")


class Flushes(TransactionTestCase):
    def test_tables_are_emptied(self):
        self.assertFalse(AuditLog.objects.exists())
        audit.record(actor=None, action="a", resource=("b", "c"))

    test_tables_are_emptied_again = test_tables_are_emptied
"""
ALLOW_FLUSH = 'MYOMETRICS_AUDIT["ALLOW_FLUSH"] = True\n'
NO_MIGRATIONS = 'DATABASES["default"]["TEST"] = {"MIGRATE": False}\n'


@pytest.fixture(scope="module")
def python(wheels, tmp_path_factory):
    return make_environment(tmp_path_factory.mktemp("python"), CURRENT, wheels.glob("*.whl"))


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request, python, tmp_path):
    url = f"sqlite:///{tmp_path / 'site.sqlite3'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_server").url
    site = WholeSite(tmp_path / "site", python, url)
    site.write("clinic/tests.py", TESTS)
    return site


@pytest.mark.parametrize("settings", ["", NO_MIGRATIONS], ids=["migrated", "without migrations"])
def test_host_suite_deletes_users_and_flushes_tables(site, settings):
    site.write("clinic/settings.py", ALLOW_FLUSH + settings)
    site.manage("test")


def test_host_suite_that_flushes_tables_gets_a_hint(site):
    said = site.refused("test", "clinic.tests.Flushes")
    assert re.search(r'is refused.*MYOMETRICS_AUDIT\["ALLOW_FLUSH"\] = True', said)
