"""The conversion of the table of entries into a partitioned one; PostgreSQL only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from io import StringIO
from threading import Event, Thread
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, connections, transaction

from myometrics_audit.importing.services import _known_entries
from myometrics_audit.log.guards import missing_guards
from myometrics_audit.log.services import NewEntry, entries_record, events_record
from myometrics_audit.models import AuditLog, Leaf
from myometrics_audit.partitions import conversion, doctor, gauges
from myometrics_audit.partitions.catalog import (
    TABLE,
    execute,
    is_partitioned,
    next_id,
    partition_bounds,
    rows,
    sequence_name,
)
from myometrics_audit.partitions.checks import check_partitions
from myometrics_audit.partitions.conversion import convert
from myometrics_audit.partitions.models import Conversion, Partition, RecordedActivity
from myometrics_audit.partitions.recorded_activities import has_triggers
from myometrics_audit.sealing import LogVerifier, seal_pending
from myometrics_audit.sealing.erasures import entries_purge_chunk
from myometrics_audit.sealing.locks import LOCK_NUMBER
from myometrics_core.events import Event as Happened
from myometrics_core.times import utc_now
from myometrics_testing.concurrency import run_concurrently
from myometrics_testing.partitioned_log import is_waiting
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_database")]


FIRST = f"{TABLE}_p1"
CONSTRAINTS = (
    "SELECT oid, conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'f'"
)
INDEXES = (
    "SELECT c.relname, c.relfilenode FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
    "WHERE i.indrelid = %s::regclass ORDER BY 2"
)


def partition(**options):
    """Run the command; return its JSON."""
    output = StringIO()
    call_command("audit_partition", json=True, stdout=output, **{"size": 1000, **options})
    return json.loads(output.getvalue())


def entry(**fields):
    return NewEntry(
        **{
            "actor_id": None,
            "action": "seen",
            "resource_type": "scan",
            "resource_id": "1",
            **fields,
        }
    )


def test_conversion_keeps_entries_names_and_ids(write):
    written = [write(activity_id=f"upload:{number}").pk for number in range(3)]
    written.append(write().pk)
    (constraint,) = rows("default", CONSTRAINTS, [TABLE])
    indexes = dict(rows("default", INDEXES, [TABLE]))
    sequence = sequence_name("default")
    assert partition() == {"converted": True, "partitions": 4, "created": 3, "closed": 0}
    assert [(one.first_id, one.end_id) for one in partition_bounds("default")] == [
        (1, 2000),
        (2000, 3000),
        (3000, 4000),
        (4000, 5000),
    ]
    # The old indexes, apart from the unique one, and the same foreign key, not validated again.
    unique = indexes.pop("myo_audit_activity")
    kept = dict(rows("default", INDEXES, [FIRST]))
    assert sorted(kept.values()) == sorted(indexes.values())
    assert unique not in kept.values()
    assert rows("default", CONSTRAINTS, [FIRST]) == [constraint]
    assert dict(rows("default", INDEXES, [TABLE])).keys() == indexes.keys()
    assert rows("default", CONSTRAINTS, [TABLE])[0][1] == constraint[1]
    assert sequence_name("default") == sequence
    written.append(write(activity_id="upload:3").pk)
    assert written == list(range(written[0], written[0] + 5))
    assert list(AuditLog.objects.order_by("pk").values_list("pk", flat=True)) == written
    assert set(RecordedActivity.objects.values_list("activity_id", flat=True)) == {
        f"upload:{number}" for number in range(4)
    }
    assert not Conversion.objects.exists()
    list(seal_pending())
    assert list(LogVerifier().problems()) == []


def test_first_partition_is_attached_without_reading_it(write):
    write()
    notices = []
    connection.connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    execute("default", "SET client_min_messages = debug1")
    partition()
    assert any(FIRST in text and "implied by existing constraints" in text for text in notices), (
        "\n".join(notices)
    )


def test_command_is_idempotent_and_reports_plans(write):
    write()
    assert partition(dry_run=True) == {"converted": False, "first_id": 1, "end_id": 2000}
    assert not is_partitioned("default")
    partition()
    nothing = {"converted": False, "partitions": 4, "created": 0, "closed": 0}
    assert partition() == partition(dry_run=True) == nothing
    output = StringIO()
    call_command("audit_partition", size=1000, stdout=output)
    assert output.getvalue() == "The audit log has 4 partitions. Created 0, closed 0.\n"


@pytest.mark.parametrize("name", [FIRST, f"{TABLE}_p2000"])
def test_guards_hold_on_each_partition(write, name):
    partition()
    kept = write()
    if name != FIRST:
        execute("default", f"SELECT setval('{sequence_name('default')}', 2000)")
        kept = write()
    assert missing_guards("default") == []
    for statement in (
        f"UPDATE \"{name}\" SET action = 'x'",
        f'DELETE FROM "{name}"',
        f'TRUNCATE "{name}"',
        f'TRUNCATE "{TABLE}"',
        f"UPDATE \"{TABLE}\" SET action = 'x'",
    ):
        with pytest.raises(DatabaseError, match="is refused"), transaction.atomic():
            execute("default", statement)
    assert AuditLog.objects.filter(pk=kept.pk, action="upload_created").exists()


def test_disabled_and_missing_guards_of_a_partition_are_found_and_restored():
    partition()
    row, truncate = (f"myometrics_audit_guard_auditlog_{name}" for name in ("row", "truncate"))
    execute(
        "default",
        f'ALTER TABLE "{FIRST}" DISABLE TRIGGER {row}',
        f'DROP TRIGGER {truncate} ON "{TABLE}_p3000"',
    )
    assert sorted(missing_guards("default")) == [
        f"{row} of {FIRST}",
        f"{truncate} of {TABLE}_p3000",
    ]
    call_command("migrate", verbosity=0)
    assert missing_guards("default") == []


def test_activity_is_recorded_once_in_all_partitions(write):
    write(activity_id="upload:1")
    partition()
    execute("default", f"SELECT setval('{sequence_name('default')}', 2500)")
    for record in (
        lambda: write(activity_id="upload:1"),
        lambda: entries_record([entry(activity_id="upload:2"), entry(activity_id="upload:1")]),
    ):
        with pytest.raises(IntegrityError):
            record()
    outcomes = run_concurrently(lambda: entries_record([entry(activity_id="upload:3")]), times=8)
    assert sum(isinstance(outcome, list) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, IntegrityError) for outcome in outcomes) == 7
    assert AuditLog.objects.count() == Leaf.objects.count() == 2


def test_events_and_imports_find_what_is_recorded(write, django_assert_num_queries):
    written = write(activity_id="upload:1")
    events = [
        Happened(
            id=f"upload:{number}",
            action="upload_created",
            resource_type="upload",
            resource_id=str(number),
            actor_id=None,
            occurred_at=utc_now(),
        )
        for number in (1, 2)
    ]
    assert not Partition.objects.exists()
    assert list(_known_entries(["upload:1", "upload:9"], "default")) == ["upload:1"]
    partition()
    assert list(_known_entries(["upload:1", "upload:9"], "default")) == ["upload:1"]
    with django_assert_num_queries(1):
        assert _known_entries(["upload:9"], "default") == {}
    (recorded,) = events_record(events)
    assert recorded.activity_id == "upload:2"
    assert events_record(events) == []
    assert set(RecordedActivity.objects.values_list("entry_id", flat=True)) == {
        written.pk,
        recorded.pk,
    }


def test_activity_of_an_erased_entry_is_deleted(write, user):
    write(activity_id="upload:1")
    write(user=None, activity_id="upload:2")
    partition()
    user.delete()
    assert list(RecordedActivity.objects.values_list("activity_id", flat=True)) == ["upload:2"]
    entries_purge_chunk(before=utc_now(), limit=10, using="default")
    assert not RecordedActivity.objects.exists()
    write(user=None, activity_id="upload:1")
    list(seal_pending())
    assert list(LogVerifier().problems()) == []


def test_default_of_django_before_4_1_continues(write):
    sequence = sequence_name("default")
    write()
    execute(
        "default",
        f'ALTER TABLE "{TABLE}" ALTER COLUMN id DROP IDENTITY',
        f"CREATE SEQUENCE {sequence} START WITH 2 OWNED BY {TABLE}.id",
        f"ALTER TABLE \"{TABLE}\" ALTER COLUMN id SET DEFAULT nextval('{sequence}')",
    )
    partition()
    assert sequence_name("default") == sequence
    assert [write().pk, *(one.pk for one in entries_record([entry()]))] == [2, 3]
    sequences = "SELECT count(*) FROM pg_class WHERE relkind = 'S' AND starts_with(relname, %s)"
    assert rows("default", sequences, [TABLE]) == [(1,)]


def test_owner_privileges_and_storage_options_are_kept(write):
    write()
    execute(
        "default",
        "DROP ROLE IF EXISTS mm_reader",
        "DROP ROLE IF EXISTS mm_web",
        "CREATE ROLE mm_reader",
        "CREATE ROLE mm_web",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO mm_reader",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO mm_reader",
        f'GRANT SELECT (action) ON "{TABLE}" TO mm_reader',
        f'GRANT SELECT, INSERT ON "{TABLE}", "{Leaf._meta.db_table}" TO mm_web',
        f"GRANT USAGE, SELECT ON {sequence_name('default')} TO mm_web",
        f'ALTER TABLE "{TABLE}" SET (fillfactor = 90)',
    )
    try:
        partition()
        for table in (TABLE, FIRST, f"{TABLE}_p2000"):
            ((acl, options),) = rows(
                "default",
                "SELECT relacl::text, reloptions FROM pg_class WHERE oid = %s::regclass",
                [table],
            )
            assert "mm_web=ar/" in acl
            assert "mm_reader" not in acl
            assert options == (None if table == TABLE else ["fillfactor=90"])
            may_read = "SELECT has_column_privilege('mm_reader', %s, 'action', 'SELECT')"
            assert rows("default", may_read, [table]) == [(True,)]
        ((acl,),) = rows(
            "default",
            "SELECT relacl::text FROM pg_class WHERE oid = %s::regclass",
            [sequence_name("default")],
        )
        assert "mm_web=rU/" in acl
        assert "mm_reader" not in acl
        # A role that may change these rows can hide entries from lists.
        may_change = "SELECT has_table_privilege('mm_web', %s, %s)"
        table = Partition._meta.db_table
        rights = [rows("default", may_change, [table, name])[0][0] for name in ("SELECT", "INSERT")]
        assert rights == [True, False]
        execute("default", "SET ROLE mm_web")
        assert entries_record([entry(activity_id="upload:1")])
    finally:
        execute(
            "default",
            "RESET ROLE",
            "DROP OWNED BY mm_reader, mm_web",
            "DROP ROLE mm_reader, mm_web",
        )


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("CREATE TABLE notes (entry_id bigint REFERENCES {table})", "notes has a foreign key"),
        ("CREATE VIEW newest AS SELECT id FROM {table}", "view or rule newest .* Drop it"),
        (
            "CREATE TRIGGER own AFTER INSERT ON {table} FOR EACH ROW "
            "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "trigger own is not",
        ),
        ("CREATE PUBLICATION copies FOR TABLE {table}", "publication copies would"),
        ("CREATE PUBLICATION everything FOR ALL TABLES", "publish_via_partition_root"),
        ("ALTER TABLE {table} ALTER COLUMN id SET CACHE 10", "caches ids, .* CACHE 1"),
        ("CREATE UNIQUE INDEX own ON {table} (id, action)", "unique index own can't"),
        ("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY", "row-level security"),
        ("CREATE TABLE more () INHERITS ({table})", "more from it"),
        (
            "ALTER TABLE {table} ADD CONSTRAINT own FOREIGN KEY (user_id) "
            "REFERENCES clinic_site_person NOT VALID",
            "foreign key own is not validated",
        ),
        ("ALTER TABLE {table} SET UNLOGGED", "not an ordinary, logged table"),
    ],
    ids=lambda value: value.split("{")[0][:24],
)
def test_tables_that_cannot_be_converted_are_refused(write, statement, reason):
    write()
    execute("default", statement.format(table=TABLE))
    for options in ({}, {"dry_run": True}):
        with pytest.raises(CommandError, match=rf"(?s)can't be partitioned:\n- .*{reason}"):
            partition(**options)
    assert not is_partitioned("default")
    assert not has_triggers("default")


def test_indexes_and_checks_of_the_site_are_kept(write):
    write()
    execute(
        "default",
        f'CREATE INDEX own_index ON "{TABLE}" (ip_address)',
        f"ALTER TABLE \"{TABLE}\" ADD CONSTRAINT own_check CHECK (action <> '')",
    )
    partition()
    assert {"own_index"} <= dict(rows("default", INDEXES, [TABLE])).keys()
    assert "own_index_p1" in dict(rows("default", INDEXES, [FIRST]))
    with pytest.raises(IntegrityError):
        write(action="")


def test_table_in_use_is_reported_and_left_as_it_was(write, monkeypatch):
    write()
    monkeypatch.setattr(conversion, "LOCK_TIMEOUT_MS", 20)
    monkeypatch.setattr(conversion, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr(conversion, "PAUSE_SECONDS", 0)
    with locked(f'LOCK TABLE "{TABLE}" IN ACCESS SHARE MODE'):
        with pytest.raises(CommandError, match=r"run 'manage\.py audit_partition' again"):
            partition()
        assert not is_partitioned("default")
        write()
    partition()
    assert AuditLog.objects.count() == 2


def test_no_entry_of_concurrent_writers_is_lost(write):
    done, written, errors = Event(), [], []

    def write_until_done(name):
        number = 0
        while not done.is_set():
            try:
                if number % 3:
                    entries_record([entry(activity_id=f"{name}:{number}:{n}") for n in range(3)])
                    written.extend(f"{name}:{number}:{n}" for n in range(3))
                else:
                    entries_record([entry(activity_id=f"{name}:{number}")])
                    written.append(f"{name}:{number}")
            except Exception as error:
                errors.append(error)
            number += 1
        connections.close_all()

    for number in range(50):
        write(activity_id=f"before:{number}")
    threads = [Thread(target=write_until_done, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(written) > 20)
        partition(size=100_000)
        before = len(written)
        wait_for(lambda: len(written) > before + 20)
    finally:
        done.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert errors == []
    expected = {*written, *(f"before:{number}" for number in range(50))}
    found = AuditLog.objects.values_list("activity_id", flat=True)
    assert sorted(found) == sorted(expected)
    recorded = RecordedActivity.objects.values_list("activity_id", "entry_id")
    assert dict(recorded) == dict(AuditLog.objects.values_list("activity_id", "pk"))
    assert Leaf.objects.count() == len(expected)


def test_publication_of_all_tables_by_their_root_is_accepted(write):
    write()
    execute(
        "default",
        "CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true)",
    )
    assert partition()["converted"]


def test_unfinished_conversion_is_reported_and_can_be_undone(write, monkeypatch):
    write(activity_id="upload:1")
    monkeypatch.setattr(conversion, "LOCK_TIMEOUT_MS", 20)
    monkeypatch.setattr(conversion, "MAX_ATTEMPTS", 1)
    with (
        locked('LOCK TABLE "clinic_site_person" IN ROW EXCLUSIVE MODE'),
        pytest.raises(CommandError, match="again"),
    ):
        partition()
    (message,) = check_partitions(["default"])
    assert (message.id, "2,000 or more are refused" in message.msg) == (
        "myometrics_audit.W082",
        True,
    )
    assert gauges.ids_ahead() == 1998
    assert [found.state for found in doctor.examine_partitions()] == ["problem"]
    call_command("migrate", "myometrics_audit_partitions", "zero", verbosity=0)
    assert list(check_partitions(["default"])) == []
    execute("default", f"SELECT setval('{sequence_name('default')}', 5000)")
    assert write(activity_id="upload:2").pk == 5001


def test_two_conversions_at_once_make_one():
    outcomes = run_concurrently(partition, times=2)
    assert any(isinstance(outcome, dict) for outcome in outcomes), outcomes
    assert is_partitioned("default")
    assert Partition.objects.count() == len(partition_bounds("default")) == 4


def test_conversion_ends_if_another_process_was_faster(write):
    write()
    partition()
    # The steps that it has not done yet.
    conversion._validate_bounds("default", 1000)
    with transaction.atomic():
        conversion._swap("default", size=1000, ahead=3)
    convert("default", size=1000, ahead=3)
    execute("default", f"SELECT setval('{sequence_name('default')}', 2000)")
    assert write().pk == 2001
    assert not Conversion.objects.exists()


STOPS = {
    "activities": f"SELECT pg_advisory_xact_lock({LOCK_NUMBER})",
    "boundary": f'LOCK TABLE "{TABLE}" IN ACCESS SHARE MODE',
    "swap": 'LOCK TABLE "clinic_site_person" IN ROW EXCLUSIVE MODE',
}
"""Where a conversion waits → what makes it wait."""


@pytest.mark.parametrize("stop", STOPS)
def test_killed_conversion_is_continued(write, stop):
    for number in range(10):
        write(activity_id=f"upload:{number}")
    with locked(STOPS[stop]):
        process = start_command("audit_partition", "--size=1000")
        wait_for(lambda: is_waiting() or process.poll() is not None)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        write(activity_id="upload:10")
    wait_for(lambda: not is_waiting())
    assert not is_partitioned("default")
    write(activity_id="upload:11")
    assert partition()["converted"]
    recorded = RecordedActivity.objects.values_list("activity_id", "entry_id")
    assert dict(recorded) == dict(AuditLog.objects.values_list("activity_id", "pk"))
    assert AuditLog.objects.count() == 12
    assert missing_guards("default") == []


@contextmanager
def locked(statement):
    """Another transaction that has executed ``statement``."""
    other = connection.copy()
    other.inc_thread_sharing()
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            cursor.execute(statement)
        yield other
    finally:
        other.close()


def start_command(*arguments):
    """Start a management command on this test's database."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    environment = {
        **os.environ,
        "DATABASE_URL": url.geturl(),
        "DJANGO_SETTINGS_MODULE": "audit_test_settings",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "django", *arguments]
    return subprocess.Popen(command, env=environment)


def test_ids_taken_during_the_work_stay_below_the_boundary(write):
    write()
    execute("default", f"SELECT setval('{sequence_name('default')}', 1500000)")
    assert partition(dry_run=True)["end_id"] == 1_651_000
    assert next_id("default") == 1_500_001
