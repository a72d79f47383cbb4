from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.files.storage import storages
from django.db import connection, connections
from rest_framework.test import APIClient

from myometrics_audit.log.inserts import insert_entry
from myometrics_audit.models import AuditLog, Leaf
from myometrics_audit.partitions.conversion import convert
from myometrics_audit.sealing import seal_pending
from myometrics_audit.signing.keys import active_key
from myometrics_audit.signing.signatures import entry_leaf, new_nonce, subject_of
from myometrics_testing.evidence import build_verifier, make_authority
from myometrics_testing.waiting import PATIENCE, wait_for

ON_PARTITIONS = {
    f"test_{name}.py"
    for name in (
        "audit_log_read",
        "erasure",
        "events_and_personal_data",
        "export_and_purge",
        "guards",
        "immutability",
        "record",
        "recording_durable",
        "sealing",
        "user_deletion",
    )
}
"""The tests that run on a partitioned log, too."""

if not django_settings.DATABASES["default"]["ENGINE"].endswith("postgresql"):
    collect_ignore = [
        "test_partition_environments.py",
        "test_partition_removal.py",
        "test_legal_hold_races.py",
        "test_partition_removal_races.py",
        "test_partitions.py",
        "test_partitions_kept.py",
    ]

DOCUMENTS = Path(__file__).parents[3] / "docs/audit"


def pytest_addoption(parser):
    parser.addoption(
        "--partitioned",
        action="store_true",
        help="Run the tests that insert and erase on a partitioned log (PostgreSQL)",
    )


def pytest_ignore_collect(collection_path, config):
    is_test = collection_path.name.startswith("test_")
    left_out = is_test and collection_path.name not in ON_PARTITIONS
    return True if config.getoption("partitioned") and left_out else None


@pytest.fixture(scope="session")
def django_db_setup(request, django_db_setup, django_db_blocker):
    """Convert the test database if the command line says so."""
    if request.config.getoption("partitioned"):
        with django_db_blocker.unblock():
            convert("default", size=20_000, ahead=5)


@pytest.fixture
def own_database(django_db_setup, django_db_blocker):
    """A copy of the test database, for a test that changes its tables; PostgreSQL only."""
    settings = connection.settings_dict
    name = settings["NAME"]
    copy = f"{name}_copy"
    connections.close_all()
    server = connection.copy()
    server.settings_dict["NAME"] = "postgres"
    with django_db_blocker.unblock(), server.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{copy}" WITH (FORCE)')
        # PostgreSQL refuses to copy a database whose sessions have not ended after five seconds.
        wait_for(lambda: not has_sessions(cursor, name))
        cursor.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{name}"')
        settings["NAME"] = copy
        with connection.cursor() as own:
            # Rolled back tests have taken ids.
            sequence = "pg_get_serial_sequence(%s, 'id')"
            own.execute(f"SELECT setval({sequence}, 1, false)", [f'"{AuditLog._meta.db_table}"'])
        try:
            yield
        finally:
            connections.close_all()
            settings["NAME"] = name
            cursor.execute(f'DROP DATABASE "{copy}" WITH (FORCE)')
    server.close()


def has_sessions(cursor, name):
    """Whether a client is connected to the database ``name``."""
    cursor.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = %s AND backend_type = 'client backend'",
        [name],
    )
    return cursor.fetchone()[0] > 0


@pytest.fixture(autouse=True)
def _no_checkpoints():
    """Delete the published checkpoints of other tests, which a rollback leaves in the storage."""
    storage = storages["audit_checkpoints"]
    for names in storage.listdir(""):
        for name in names:
            storage.delete(name)


@pytest.fixture
def user(django_user_model):
    """A user who is not an administrator."""
    return django_user_model.objects.create_user(email="tina@clinic.example", password="pw")


@pytest.fixture
def administrator(django_user_model):
    """A user who may read the log."""
    return django_user_model.objects.create_user(
        email="anna@clinic.example", password="pw", is_staff=True
    )


@pytest.fixture
def client_of():
    """A function that returns an API client signed in as the given user."""

    def make(user):
        client = APIClient()
        client.force_authenticate(user)
        return client

    return make


@pytest.fixture
def entry_version():
    """The version of the entries that ``write`` writes. Modules override it to test both."""
    return 2


@pytest.fixture
def write(user, entry_version):
    """A function that writes an entry by ORM, with evidence but without publishing."""

    def make(**fields):
        values = {
            "user": user,
            "action": "upload_created",
            "resource_type": "upload",
            "resource_id": "upload_001",
            **fields,
        }
        return AuditLog.objects.create(**values) if entry_version == 2 else write_v1(**values)

    return make


@pytest.fixture
def seal(write):
    """A function that writes entries and seals them; returns their ids."""

    def make(count=1, **fields):
        ids = [write(**fields).pk for _ in range(count)]
        list(seal_pending())
        return ids

    return make


def write_v1(**values):
    """Write an entry as release 0.1 did."""
    key = active_key()
    entry = AuditLog(nonce=new_nonce(), **values)
    leaf = entry_leaf(entry, subject_of(entry.user_id, key), key)
    insert_entry(entry, leaf_table=Leaf._meta.db_table, leaf=(leaf, key.id, None), using="default")
    return entry


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A time-stamping authority of openssl: its folder, and a function that stamps a query."""
    folder = tmp_path_factory.mktemp("tsa")
    return folder, make_authority(folder)


@pytest.fixture(scope="session")
def go_program(tmp_path_factory):
    """A function that runs the Go program of the documentation."""
    return build_verifier(DOCUMENTS / "verify.go", tmp_path_factory.mktemp("go"))


@pytest.fixture(scope="session", autouse=True)
def _patient_requests():
    """Keep slow machines from failing requests to witnesses and time-stamping authorities."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("myometrics_audit.checkpoints.http.TIMEOUT_SECONDS", PATIENCE)
        yield


@pytest.fixture(autouse=True)
def _no_rate_limit(settings):
    settings.MYOMETRICS = {"RATE_LIMITS": {"auth": None, "api": None, "export": None}}
