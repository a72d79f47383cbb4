"""What audit hears from other packages, tells them, and holds about people."""

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
from myometrics_core.events import bus as activities
from myometrics_core.personal_data import csv_lines, export_chunks
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.django_db

MOMENT = datetime(2025, 8, 19, 15, 45, tzinfo=timezone.utc)


def activity(**changes: Any) -> activities.Event:
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
    return activities.Event(**{**values, **changes})


def test_what_another_package_publishes_becomes_an_entry_with_a_leaf(person: Any) -> None:
    activities.publish(activity(actor_id=person.pk))
    entry = AuditLog.objects.get()
    assert entry.user_id == person.pk
    assert entry.action == "login_failed"
    assert entry.timestamp == MOMENT
    assert entry.ip_address == "203.0.113.9"
    assert Leaf.objects.get().entry_id == entry.pk


def test_the_same_activity_twice_is_one_entry() -> None:
    activities.publish(activity())
    activities.publish(activity())
    assert AuditLog.objects.count() == 1


def test_activities_published_together_become_entries_once_and_in_order(person: Any) -> None:
    activities.publish(activity(id="auth:2", action="kept"))
    activities.publish_many(
        activity(id=f"auth:{number}", action=action, actor_id=actor)
        for number, action, actor in [
            (3, "first", person.pk),
            (1, "second", str(person.pk)),
            (2, "known", None),
            (3, "repeated", person.pk),
            (4, "x" * 51, None),
            (5, "third", None),
        ]
    )
    entries = AuditLog.objects.order_by("pk").values_list("action", "user_id")
    assert list(entries) == [
        ("kept", None),
        ("first", person.pk),
        ("second", person.pk),
        ("third", None),
    ]
    assert Leaf.objects.count() == 4
    assert list(LogVerifier().problems()) == []


def test_what_audit_published_itself_is_not_recorded_again(write: Any) -> None:
    entry = write()
    activities.publish(activity(id=f"audit:{entry.pk}"))
    assert AuditLog.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_activity_of_somebody_who_is_gone_is_kept_without_them(person: Any) -> None:
    gone = person.pk
    person.delete()
    activities.publish(activity(actor_id=gone))
    assert AuditLog.objects.get().user_id is None


def _wait_until_another_waits() -> None:
    """Until another transaction waits for this one; SQLite does not tell, its writers queue."""
    if connection.vendor == "postgresql":
        wait_for(_another_waits)


def _another_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks"
            " WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_what_somebody_did_who_is_deleted_at_that_moment_happened_and_is_kept_without_them(
    person: Any, run_concurrently: Any
) -> None:
    is_deleted = threading.Event()
    did = activity(actor_id=person.pk)

    def delete() -> None:
        with atomic_write():
            person.delete()
            is_deleted.set()
            _wait_until_another_waits()

    def write() -> None:
        is_deleted.wait(PATIENCE)
        with atomic_write():
            activities.publish(did)

    assert run_concurrently([delete, write]) == [None, None]
    assert AuditLog.objects.get(activity_id=did.id).user_id is None


def test_an_activity_is_not_published_a_second_time() -> None:
    heard: list[str] = []
    activities.register_receiver("test", lambda a: heard.append(a.id))
    try:
        activities.publish(activity())
    finally:
        activities._receivers.pop("test")
    assert heard == ["auth:7"]


def test_replay_gives_every_entry_as_it_was_published(write: Any, person: Any) -> None:
    first = write(details={"file_size": 5})
    activities.publish(activity())
    replayed = list(activities.replay_events(["audit"]))
    assert [a.id for a in replayed] == [f"audit:{first.pk}", "auth:7"]
    assert replayed[0].details == {"file_size": 5}
    assert replayed[0].actor_id == person.pk
    assert replayed[1] == activity()


@pytest.mark.parametrize("origin", ["client", "server", "import"])
def test_activity_of_another_package_keeps_its_origin(origin: Any) -> None:
    activities.publish(activity(origin=origin))
    assert AuditLog.objects.get().origin == origin
    (replayed,) = activities.replay_events(["audit"])
    assert replayed.origin == origin


def _forget_origins(where: str) -> None:
    """Make entries such as were recorded before entries had an origin."""
    remove_guards(connection.alias)
    with connection.cursor() as cursor:
        cursor.execute(f'UPDATE "{AuditLog._meta.db_table}" SET origin = NULL WHERE {where}')
    install_guards(connection.alias)


def test_replay_of_entry_from_before_origins_has_none(write: Any) -> None:
    entry = write()
    _forget_origins("TRUE")
    (replayed,) = activities.replay_events(["audit"])
    assert (replayed.id, replayed.origin) == (f"audit:{entry.pk}", None)
    assert list(LogVerifier().problems()) == []


def test_entries_without_origin_are_exported_as_empty_cells_unexamined(
    write: Any, person: Any
) -> None:
    for user_agent in ("", "Firefox"):
        write(user=person, user_agent=user_agent)
    _forget_origins("user_agent = ''")

    in_json = json.loads(b"".join(export_chunks(person, "json")))["audit_logs"]
    assert [(row["origin"], row["user_agent"]) for row in in_json] == [
        (None, ""),
        ("server", "Firefox"),
    ]
    in_csv = csv.reader(io.StringIO(b"".join(export_chunks(person, "csv")).decode(), newline=""))
    cells = [value for *_, field, value in in_csv if field in ("origin", "user_agent")]
    assert cells == ["", "", "Firefox", "server"]

    if connection.vendor == "postgresql":
        examined: list[str] = []
        table = AuditLogsSection().export_table(person)
        for _ in csv_lines("audit_logs", table, lambda text: examined.append(text) or text):
            pass
        assert examined == []


def test_the_export_holds_ones_own_entries_and_nobody_elses(
    write: Any, person: Any, administrator: Any
) -> None:
    entry = write(details={"filename": "scan.jpg"}, timestamp=MOMENT)
    write(user=administrator)
    text = b"".join(export_chunks(person, "json")).decode()
    assert json.loads(text)["audit_logs"] == [
        {
            "id": entry.pk,
            "user_id": str(person.pk),
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
    assert b"scan.jpg" in b"".join(export_chunks(person, "csv"))
