"""Events received and published, and the personal data of users."""

from __future__ import annotations

import csv
import io
import json
import threading
from datetime import datetime, timezone
from typing import Any

import pytest
from django.db import connection

from myometrics_audit.log.guards import install_guards, remove_guards
from myometrics_audit.models import AuditLog, Leaf
from myometrics_audit.personal_data import AuditLogsSection
from myometrics_audit.sealing import LogVerifier
from myometrics_core.db import atomic_write
from myometrics_core.events import bus
from myometrics_core.personal_data import export_chunks
from myometrics_core.personal_data.tables import csv_lines
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.django_db

MOMENT = datetime(2025, 8, 19, 15, 45, tzinfo=timezone.utc)


def event(**changes):
    values: dict[str, Any] = {
        "id": "auth:7",
        "actor_id": None,
        "action": "login_failed",
        "resource_type": "session",
        "resource_id": "ab12",
        "occurred_at": MOMENT,
        "details": {"reason": "password"},
        "client_address": "203.0.113.9",
        "user_agent": "curl",
    }
    return bus.Event(**{**values, **changes})


def test_event_becomes_an_entry_with_a_leaf(user):
    bus.publish(event(actor_id=user.pk))
    entry = AuditLog.objects.get()
    assert entry.user_id == user.pk
    assert entry.action == "login_failed"
    assert entry.timestamp == MOMENT
    assert entry.ip_address == "203.0.113.9"
    assert Leaf.objects.get().entry_id == entry.pk


def test_repeated_event_is_recorded_once():
    bus.publish(event())
    bus.publish(event())
    assert AuditLog.objects.count() == 1


def test_batch_of_events_is_recorded_once_and_in_order(user):
    bus.publish(event(id="auth:2", action="kept"))
    bus.publish_many(
        event(id=f"auth:{number}", action=action, actor_id=actor)
        for number, action, actor in [
            (3, "first", user.pk),
            (1, "second", str(user.pk)),
            (2, "known", None),
            (3, "repeated", user.pk),
            (4, "x" * 51, None),
            (5, "third", None),
        ]
    )
    entries = AuditLog.objects.order_by("pk").values_list("action", "user_id")
    assert list(entries) == [
        ("kept", None),
        ("first", user.pk),
        ("second", user.pk),
        ("third", None),
    ]
    assert Leaf.objects.count() == 4
    assert list(LogVerifier().problems()) == []


def test_own_event_is_not_recorded_again(write):
    entry = write()
    bus.publish(event(id=f"audit:{entry.pk}"))
    assert AuditLog.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_event_of_a_deleted_actor_has_no_user(user):
    deleted_key = user.pk
    user.delete()
    bus.publish(event(actor_id=deleted_key))
    assert AuditLog.objects.get().user_id is None


def _wait_until_another_is_blocked():
    """Wait until another transaction waits for this one; SQLite can't report it."""
    if connection.vendor == "postgresql":
        wait_for(_another_is_blocked)


def _another_is_blocked():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks"
            " WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_event_of_a_concurrently_deleted_actor_has_no_user(user, run_concurrently):
    is_deleted = threading.Event()
    did = event(actor_id=user.pk)

    def delete():
        with atomic_write():
            user.delete()
            is_deleted.set()
            _wait_until_another_is_blocked()

    def write():
        is_deleted.wait(PATIENCE)
        with atomic_write():
            bus.publish(did)

    assert run_concurrently([delete, write]) == [None, None]
    assert AuditLog.objects.get(activity_id=did.id).user_id is None


def test_recorded_event_is_not_published_again():
    received: list[str] = []
    bus.register_receiver("test", lambda a: received.append(a.id))
    try:
        bus.publish(event())
    finally:
        bus._receivers.pop("test")
    assert received == ["auth:7"]


def test_replay_returns_entries_as_published(write, user):
    first = write(details={"file_size": 5})
    bus.publish(event())
    replayed = list(bus.replay_events(["audit"]))
    assert [a.id for a in replayed] == [f"audit:{first.pk}", "auth:7"]
    assert replayed[0].details == {"file_size": 5}
    assert replayed[0].actor_id == user.pk
    assert replayed[1] == event()


@pytest.mark.parametrize("origin", ["client", "server", "import"])
def test_event_keeps_its_origin(origin):
    bus.publish(event(origin=origin))
    assert AuditLog.objects.get().origin == origin
    (replayed,) = bus.replay_events(["audit"])
    assert replayed.origin == origin


def _remove_origins(where):
    """Turn entries into those of releases without origins."""
    remove_guards(connection.alias)
    with connection.cursor() as cursor:
        cursor.execute(f'UPDATE "{AuditLog._meta.db_table}" SET origin = NULL WHERE {where}')
    install_guards(connection.alias)


@pytest.mark.parametrize("entry_version", [1])
def test_replay_of_an_entry_without_origin_has_none(write, entry_version):
    entry = write()
    (replayed,) = bus.replay_events(["audit"])
    assert (replayed.id, replayed.origin) == (f"audit:{entry.pk}", None)
    assert list(LogVerifier().problems()) == []


def test_entries_without_origin_are_exported_as_empty_cells(write, user):
    for user_agent in ("", "Firefox"):
        write(user=user, user_agent=user_agent)
    _remove_origins("user_agent = ''")

    in_json = json.loads(b"".join(export_chunks(user, "json")))["audit_logs"]
    assert [(row["origin"], row["user_agent"]) for row in in_json] == [
        (None, ""),
        ("server", "Firefox"),
    ]
    in_csv = csv.reader(io.StringIO(b"".join(export_chunks(user, "csv")).decode(), newline=""))
    cells = [value for *_, field, value in in_csv if field in ("origin", "user_agent")]
    assert cells == ["", "", "Firefox", "server"]

    if connection.vendor == "postgresql":
        examined: list[str] = []
        table = AuditLogsSection().export_table(user)
        for _ in csv_lines("audit_logs", table, lambda text: examined.append(text) or text):
            pass
        assert examined == []


def test_personal_export_contains_only_the_users_entries(write, user, administrator):
    entry = write(details={"filename": "scan.jpg"}, timestamp=MOMENT)
    write(user=administrator)
    text = b"".join(export_chunks(user, "json")).decode()
    assert json.loads(text)["audit_logs"] == [
        {
            "id": entry.pk,
            "user_id": str(user.pk),
            "action": "upload_created",
            "resource_type": "upload",
            "resource_id": "upload_001",
            "timestamp": "2025-08-19T15:45:00Z",
            "ip_address": None,
            "user_agent": "",
            "details": {"filename": "scan.jpg"},
            "origin": "server",
        }
    ]
    assert b"scan.jpg" in b"".join(export_chunks(user, "csv"))
