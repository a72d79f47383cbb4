"""Concurrent requests under PostgreSQL's stricter isolation levels: none fails or is lost."""

import pytest
from conftest import make_user, sign_in
from django.db import connection

from myometrics_analytics.models import Upload
from myometrics_audit.models import AuditLog
from myometrics_core.rate_limits.storage import DatabaseStorage

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("unlimited", "cheap_hashes"),
]

LEVELS = ["read committed", "repeatable read", "serializable"]


@pytest.fixture(params=LEVELS)
def isolation_level(request):
    """The database's default, for the connections of the test's threads."""
    if connection.vendor != "postgresql":
        yield  # SQLite has one writer at a time
        return
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(
            f"ALTER DATABASE {name} SET default_transaction_isolation = '{request.param}'"
        )
        yield
        cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_isolation")


def test_forty_concurrent_profile_changes_succeed(isolation_level, doctor, run_concurrently):
    client = sign_in(doctor)

    def rename(number):
        return client.patch("/api/auth/user/", {"firstName": f"Name{number}"}, format="json")

    answers = run_concurrently([lambda n=n: rename(n) for n in range(40)])
    assert [answer.status_code for answer in answers] == [200] * 40
    doctor.refresh_from_db()
    assert doctor.first_name.startswith("Name")


def test_forty_concurrent_events_make_one_upload(isolation_level, doctor, run_concurrently):
    client = sign_in(doctor)
    event = {"resource_type": "upload", "resource_id": "u1", "details": {"filename": "a.dcm"}}

    def post(action):
        return client.post("/api/audit-logs/", {**event, "action": action}, format="json")

    actions = ["upload_created", "upload_processing", "upload_failed", "upload_completed"] * 10
    answers = run_concurrently([lambda action=action: post(action) for action in actions])
    assert [answer.status_code for answer in answers] == [201] * 40
    assert AuditLog.objects.filter(resource_id="u1").count() == 40
    assert Upload.objects.get().status == "completed"


def test_concurrent_first_settings_changes_succeed(isolation_level, doctor, run_concurrently):
    client = sign_in(doctor)
    answers = run_concurrently(
        lambda: client.patch(
            "/api/users/me/notifications/", {"analysis_ready": False}, format="json"
        ),
        times=20,
    )
    assert [answer.status_code for answer in answers] == [200] * 20


def test_mutual_demotion_leaves_one_administrator(isolation_level, administrator, run_concurrently):
    other = make_user("second@clinic.example", role="admin")
    pairs = [(sign_in(administrator), other), (sign_in(other), administrator)]
    answers = run_concurrently(
        [
            lambda client=client, user=user: client.patch(
                f"/api/users/{user.pk}/", {"role": "doctor"}, format="json"
            )
            for client, user in pairs
        ]
    )
    codes = sorted(answer.status_code for answer in answers)
    # The second is no longer an administrator, or is protected as the last one.
    assert codes in ([200, 403], [200, 409])


def test_user_with_concurrent_writes_can_be_deleted(
    isolation_level, doctor, administrator, run_concurrently
):
    client, admin = sign_in(doctor), sign_in(administrator)
    entry = {"action": "view", "resource_type": "scan", "resource_id": "s1"}

    def write():
        return {client.post("/api/audit-logs/", entry, format="json").status_code for _ in range(9)}

    def delete():
        return {admin.delete(f"/api/users/{doctor.pk}/").status_code}

    codes = run_concurrently([write] * 8 + [delete])
    assert codes.pop() == {204}
    assert set().union(*codes) <= {201, 401}
    assert not AuditLog.objects.filter(resource_id="s1").exists()


def test_rate_limits_in_database_are_exact(isolation_level, run_concurrently):
    storage = DatabaseStorage()
    outcomes = run_concurrently(lambda: storage.acquire_entry("key", 5, 3600), times=60)
    assert sorted(outcomes) == [False] * 55 + [True] * 5
