"""A partitioned log: partitions ahead, closing, jobs, metrics, fixtures; PostgreSQL only."""

from __future__ import annotations

import json
import math
import threading
from datetime import datetime, timedelta, timezone
from functools import partial
from io import StringIO

import pytest
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.migrations.exceptions import IrreversibleError

from myometrics_audit.log.guards import missing_guards
from myometrics_audit.models import AuditLog, Leaf
from myometrics_audit.partitions import doctor, gauges
from myometrics_audit.partitions.ahead import create_partitions_ahead
from myometrics_audit.partitions.catalog import (
    TABLE,
    execute,
    partition_bounds,
    rows,
    sequence_name,
)
from myometrics_audit.partitions.jobs import PARTITIONS_JOB
from myometrics_audit.partitions.maintenance import maintain_partitions
from myometrics_audit.partitions.models import Conversion, Partition, RecordedActivity
from myometrics_audit.partitions.removal import remove_partitions
from myometrics_audit.partitions.triggers import missing_triggers
from myometrics_audit.sealing import LogVerifier, seal_pending
from myometrics_core.jobs import Job, enqueue, run_job
from myometrics_core.observability.metrics import registered_gauges
from myometrics_testing.concurrency import run_concurrently
from myometrics_testing.partitioned_log import is_waiting
from myometrics_testing.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_database")]


LEAVES = Leaf._meta.db_table
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def partitioned(own_database, settings):
    """A partitioned log: ids 1 to 1999, then a thousand in each of three partitions."""
    settings.MYOMETRICS_AUDIT = {
        **settings.MYOMETRICS_AUDIT,
        "PARTITION_SIZE": 1000,
    }
    call_command("audit_partition", stdout=StringIO())


def run_partitions_job():
    enqueue(PARTITIONS_JOB, key="")
    run_job(PARTITIONS_JOB, now=True)


def continue_at(number):
    execute("default", f"SELECT setval('{sequence_name('default')}', {number}, false)")


def maintain(patience=0.0):
    done = maintain_partitions("default", patience=patience)
    return done.created, done.closed


@pytest.fixture
def other():
    """Another connection, in a transaction."""
    other = connection.copy()
    other.inc_thread_sharing()
    other.set_autocommit(False)
    yield other
    other.close()


def test_partitions_are_kept_ahead(partitioned, write):
    assert maintain() == (0, 0)
    continue_at(2000)
    assert maintain() == (1, 1)
    assert [bounds.first_id for bounds in partition_bounds("default")] == [
        1,
        2000,
        3000,
        4000,
        5000,
    ]
    assert missing_guards("default") == missing_triggers("default") == []
    continue_at(5999)
    assert [write().pk, maintain(), write().pk] == [5999, (4, 3), 6000]


def test_partitions_are_created_once_by_concurrent_processes(partitioned):
    continue_at(8000)

    def create():
        with transaction.atomic():
            return create_partitions_ahead("default", size=1000, ahead=3)

    assert sorted(run_concurrently(create, times=4)) == [0, 0, 0, 4]


def test_partition_that_is_dropped_concurrently_is_left_out(partitioned, other):
    with other.cursor() as cursor:
        cursor.execute(f'DROP TABLE "{TABLE}_p4000"')
    read = partial(partition_bounds, "default")

    def drop():
        wait_for(is_waiting)
        other.commit()

    bounds, _ = run_concurrently([read, drop])
    assert [one.first_id for one in bounds] == [1, 2000, 3000]


def test_ids_without_a_partition_get_one(partitioned, write):
    continue_at(7777)
    with pytest.raises(IntegrityError, match="no partition"):
        write()
    continue_at(7777)
    maintain()
    assert write().pk == 7777


def test_partition_is_closed_when_it_is_over_and_sealed(partitioned, write):
    moments = [LONG_AGO + timedelta(days=days) for days in (3, 1, 2)]
    for moment in moments:
        write(timestamp=moment)
    continue_at(2000)
    assert maintain() == (1, 0)  # its entries are not sealed
    list(seal_pending())
    assert maintain() == (0, 1)
    first = Partition.objects.get(first_id=1)
    assert (first.oldest, first.newest) == (min(moments), max(moments))
    assert first.closed_at is not None
    assert Partition.objects.filter(closed_at=None).count() == 4
    with pytest.raises(DatabaseError, match=r"partition myometrics_audit_auditlog_p1 is closed"):
        write(id=5)
    assert write().pk == 2000
    list(seal_pending())
    assert list(LogVerifier().problems()) == []


def test_partition_without_entries_has_no_times(partitioned):
    continue_at(3000)
    assert maintain() == (2, 2)
    assert set(Partition.objects.exclude(closed_at=None).values_list("oldest", "newest")) == {
        (None, None)
    }


@pytest.mark.parametrize("is_inserted", [True, False], ids=["inserted", "id_taken"])
def test_open_transaction_of_a_writer_keeps_the_partition_open(partitioned, other, is_inserted):
    sequence = sequence_name("default")
    insert = (
        f'INSERT INTO "{TABLE}" (id, action, resource_type, resource_id, timestamp, user_agent, '
        "details, pseudonym, nonce) VALUES (1, 'a', 'b', 'c', now(), '', '{}', '', '')"
    )
    with other.cursor() as cursor:
        cursor.execute(f'LOCK TABLE "{TABLE}" IN ROW EXCLUSIVE MODE')
        cursor.execute(f"SELECT nextval('{sequence}')")
        if is_inserted:
            cursor.execute(insert)
    continue_at(2000)
    assert maintain(patience=0.1) == (1, 0)
    if not is_inserted:
        with other.cursor() as cursor:
            cursor.execute(insert)
    other.commit()
    assert AuditLog.objects.count() == 1
    assert maintain() == (0, 1)


def test_partition_in_use_is_closed_later(partitioned, write, user, other, monkeypatch):
    write()
    list(seal_pending())
    continue_at(2000)
    with other.cursor() as cursor:
        cursor.execute(f'LOCK TABLE "{TABLE}_p1" IN ROW EXCLUSIVE MODE')
    assert maintain() == (1, 0)
    other.rollback()
    assert maintain() == (0, 1)


def test_partition_is_not_closed_beside_an_erasure(partitioned, other):
    from myometrics_audit.sealing.locks import LOCK_NUMBER

    continue_at(2000)
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_NUMBER])
    assert maintain() == (1, 0)
    other.rollback()
    assert maintain() == (0, 1)


def test_user_deletion_and_retention_work_in_closed_partitions(partitioned, write, user):
    write()
    write(user=None, timestamp=LONG_AGO)
    kept = write(user=None)
    continue_at(2000)
    list(seal_pending())
    assert maintain() == (1, 1)
    user.delete()
    call_command("audit_purge", older_than="2021-01-01", execute=True, stdout=StringIO())
    assert list(AuditLog.objects.values_list("pk", flat=True)) == [kept.pk]
    list(seal_pending())
    assert list(LogVerifier().problems()) == []


def test_job_maintains_partitions(partitioned):
    continue_at(2000)
    run_partitions_job()
    assert Partition.objects.count() == 5
    assert Partition.objects.exclude(closed_at=None).count() == 1


def test_seal_enqueues_the_job_when_a_partition_ahead_is_reached(partitioned, write):
    run_partitions_job()
    write()
    list(seal_pending())
    assert not run_job(PARTITIONS_JOB)  # it is due in an hour
    continue_at(2000)
    write()
    list(seal_pending())
    assert run_job(PARTITIONS_JOB)
    assert gauges.partitions_ahead() == 3
    write()
    list(seal_pending())
    assert not run_job(PARTITIONS_JOB)


def test_job_without_a_partitioned_log_does_nothing():
    run_partitions_job()
    assert not Partition.objects.exists()


def test_job_of_a_role_that_only_inserts_accepts_the_work_of_the_owner(partitioned):
    continue_at(2000)
    command_output()
    execute(
        "default",
        "DROP ROLE IF EXISTS mm_jobs",
        "CREATE ROLE mm_jobs",
        f'GRANT SELECT, INSERT ON "{TABLE}", "{Partition._meta.db_table}", "{LEAVES}" TO mm_jobs',
        f"GRANT SELECT ON {sequence_name('default')} TO mm_jobs",
        "SET ROLE mm_jobs",
    )
    try:
        assert maintain() == (0, 0)
    finally:
        execute("default", "RESET ROLE", "DROP OWNED BY mm_jobs", "DROP ROLE mm_jobs")


def test_job_of_a_role_without_rights_says_what_to_do(partitioned, caplog):
    continue_at(2000)
    execute(
        "default",
        "DROP ROLE IF EXISTS mm_jobs",
        "CREATE ROLE mm_jobs",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO mm_jobs",
        "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO mm_jobs",
        "SET ROLE mm_jobs",
    )
    try:
        run_partitions_job()
        with pytest.raises(CommandError, match="as the owner of the tables"):
            command_output()
    finally:
        execute("default", "RESET ROLE", "DROP OWNED BY mm_jobs", "DROP ROLE mm_jobs")
    assert "run 'manage.py audit_partition' regularly as the owner" in caplog.text
    assert Job.objects.get(kind=PARTITIONS_JOB).last_error
    assert json.loads(command_output("--json"))["created"] == 1


def command_output(*arguments):
    output = StringIO()
    call_command("audit_partition", *arguments, stdout=output)
    return output.getvalue()


def test_gauges_and_checks_report_missing_partitions(partitioned):
    names = {gauge.name for gauge in registered_gauges()}
    assert {"myometrics_partitions", "myometrics_partition_ids_ahead"} <= names
    assert (gauges.partition_count(), gauges.ids_ahead(), gauges.partitions_ahead()) == (
        4,
        4999,
        3,
    )
    assert check_ids() == set()
    assert [found.state for found in doctor.examine_partitions()] == ["ok"]
    continue_at(4500)
    assert (gauges.ids_ahead(), gauges.partitions_ahead()) == (500, 0)
    assert check_ids() == {"myometrics_audit.W080"}
    (found,) = doctor.examine_partitions()
    assert (found.state, "500 ids are left" in found.summary) == ("problem", True)
    maintain()
    assert check_ids() == set()


def test_missing_activity_trigger_is_reported_and_restored(partitioned, write):
    trigger = "myometrics_audit_activity_insert"
    execute("default", f'ALTER TABLE "{TABLE}_p1" DISABLE TRIGGER {trigger}')
    assert missing_triggers("default") == [f"{trigger} of {TABLE}_p1"]
    assert check_ids() == {"myometrics_audit.W081"}
    assert [found.state for found in doctor.examine_partitions()] == ["problem"]
    call_command("migrate", verbosity=0)
    execute("default", f'DROP TRIGGER {trigger} ON "{TABLE}"')
    assert len(missing_triggers("default")) == 5
    call_command("migrate", verbosity=0)
    assert missing_triggers("default") == []
    write(activity_id="upload:1")
    assert RecordedActivity.objects.count() == 1


@pytest.mark.parametrize(
    "statement", ['DROP TRIGGER {} ON "{}"', 'ALTER TABLE "{1}" DISABLE TRIGGER {0}']
)
def test_restored_trigger_records_activities_written_without_it(partitioned, write, statement):
    statement = statement.format("myometrics_audit_activity_insert", TABLE)
    execute("default", statement)
    write(activity_id="upload:1")
    call_command("migrate", verbosity=0)
    with pytest.raises(IntegrityError):
        write(activity_id="upload:1")
    assert not Conversion.objects.exists()


def check_ids():
    messages = checks.run_checks(databases=["default"])
    return {one.id for one in messages if (one.id or "").startswith("myometrics_audit.")}


def test_gauges_of_a_log_in_one_table():
    assert (gauges.partition_count(), gauges.ids_ahead(), gauges.partitions_ahead()) == (
        0,
        math.inf,
        math.inf,
    )
    assert [found.state for found in doctor.examine_partitions()] == ["not configured"]


def test_flush_leaves_open_partitions(partitioned, write):
    write(activity_id="upload:1")
    list(seal_pending())
    continue_at(2000)
    assert maintain() == (1, 1)
    call_command("flush", interactive=False, verbosity=0)
    assert not AuditLog.objects.exists()
    assert missing_guards("default") == missing_triggers("default") == []
    known = Partition.objects.values_list("first_id", "end_id", "table_name")
    assert list(known) == [
        (bounds.first_id, bounds.end_id, bounds.table) for bounds in partition_bounds("default")
    ]
    assert not Partition.objects.exclude(closed_at=None).exists()
    assert write(user=None, activity_id="upload:1").pk == 1


@pytest.mark.parametrize("into", ["partitioned", "one_table"])
def test_fixture_of_a_partitioned_log_can_be_loaded(partitioned, write, tmp_path, into):
    written = write(activity_id="upload:1")
    write()
    list(seal_pending())
    continue_at(2000)
    maintain()
    dump = tmp_path / "dump.json"
    labels = ["myometrics_audit", "myometrics_audit_partitions", "clinic_site"]
    call_command("dumpdata", *reversed(labels), output=str(dump), verbosity=0)
    if into == "one_table":
        call_command("flush", interactive=False, verbosity=0)
        call_command("migrate", "myometrics_audit", "zero", verbosity=0)
        call_command("migrate", verbosity=0)
    else:
        call_command("flush", interactive=False, verbosity=0)
    call_command("loaddata", str(dump), verbosity=0)
    assert AuditLog.objects.get(activity_id="upload:1").pk == written.pk
    assert not Partition.objects.exclude(closed_at=None).exists()
    if into == "one_table":
        assert not Partition.objects.exists()
        call_command("audit_partition", stdout=StringIO())
    assert list(RecordedActivity.objects.values_list("activity_id", "entry_id")) == [
        ("upload:1", written.pk)
    ]
    assert Partition.objects.count() == len(partition_bounds("default"))
    assert write(user=None).pk == 3
    list(seal_pending())
    assert list(LogVerifier().problems()) == []


def test_app_cannot_be_removed_from_a_partitioned_log_with_entries(partitioned, write):
    write()
    with pytest.raises(IrreversibleError, match="Keep the app installed"):
        call_command("migrate", "myometrics_audit_partitions", "zero", verbosity=0)
    assert Partition.objects.count() == 4
    assert missing_triggers("default") == []


def test_removal_of_the_app_waits_for_writers(partitioned, write, run_concurrently):
    has_written = threading.Event()

    def write_slowly():
        with transaction.atomic():
            write()
            has_written.set()
            # Unlike pg_stat_activity, pg_locks is not cached in a transaction.
            waits = "NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            wait_for(lambda: rows("default", f"SELECT 1 FROM pg_locks WHERE {waits}"))

    def remove():
        has_written.wait()
        with transaction.atomic():
            remove_partitions("default")

    outcomes = run_concurrently([write_slowly, remove])
    assert [type(one) for one in outcomes if isinstance(one, Exception)] == [IrreversibleError]
    assert missing_triggers("default") == []


def table_definition():
    """The columns, indexes, constraints, options, owner and privileges of the table of entries."""
    table = [f'"{TABLE}"']
    return [
        rows("default", sql, table)
        for sql in (
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attidentity "
            "FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 "
            "AND NOT attisdropped ORDER BY attnum",
            "SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index "
            "WHERE indrelid = to_regclass(%s) ORDER BY 1",
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid = to_regclass(%s) ORDER BY 1",
            "SELECT relkind, relowner, reloptions, relacl::text FROM pg_class "
            "WHERE oid = to_regclass(%s)",
            "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger "
            "WHERE tgrelid = to_regclass(%s) AND NOT tgisinternal ORDER BY 1",
            "SELECT pg_get_serial_sequence(%s, 'id')",
        )
    ]


def test_removal_of_the_app_makes_an_empty_log_one_table_again(write):
    execute(
        "default",
        f'ALTER TABLE "{TABLE}" SET (fillfactor = 90)',
        f'GRANT SELECT ON "{TABLE}" TO PUBLIC',
    )
    before = table_definition()
    call_command("audit_partition", size=1000, stdout=StringIO())
    continue_at(2500)
    call_command("migrate", "myometrics_audit_partitions", "zero", verbosity=0)
    assert table_definition() == before
    assert rows("default", "SELECT 1 FROM pg_class WHERE relname ~ %s", [f"^{TABLE}_p[0-9]"]) == []
    assert missing_guards("default") == []
    assert write(activity_id="upload:1").pk == 2500
    with pytest.raises(IntegrityError), transaction.atomic():
        write(activity_id="upload:1")
    call_command("migrate", "myometrics_audit_partitions", verbosity=0)
    call_command("audit_partition", size=1000, stdout=StringIO())
    assert list(RecordedActivity.objects.values_list("activity_id", "entry_id")) == [
        ("upload:1", 2500)
    ]


def test_partition_dropped_by_hand_loses_its_row(partitioned):
    execute("default", f'DROP TABLE "{TABLE}_p4000"')
    maintain()
    assert [row.first_id for row in Partition.objects.all()] == [1, 2000, 3000, 4000]


def test_closed_trigger_that_was_disabled_opens_the_partition(partitioned):
    continue_at(2000)
    maintain()
    execute("default", f'ALTER TABLE "{TABLE}_p1" DISABLE TRIGGER myometrics_audit_closed')
    assert maintain() == (0, 1)
    with pytest.raises(DatabaseError, match="is closed"), transaction.atomic():
        AuditLog(id=5, action="a", resource_type="b", resource_id="c").save()


@pytest.mark.parametrize("times", [{"newest": LONG_AGO}, {"oldest": None, "newest": None}])
def test_wrong_times_of_a_closed_partition_are_found_and_corrected(partitioned, write, times):
    write(timestamp=LONG_AGO)
    newest = write()
    list(seal_pending())
    continue_at(2000)
    maintain()
    Partition.objects.filter(first_id=1).update(**times)
    assert [problem.kind for problem in LogVerifier().problems()] == ["times_wrong"]
    assert maintain() == (0, 1)
    found = Partition.objects.get(first_id=1)
    assert (found.oldest, found.newest) == (LONG_AGO, newest.timestamp)
    assert list(LogVerifier().problems()) == []


def test_admin_lists_partitions(partitioned, client, django_user_model):
    root = django_user_model.objects.create_superuser(email="root@clinic.example")
    client.force_login(root)
    base = "/admin/myometrics_audit_partitions/partition/"
    assert f"{TABLE}_p2000" in client.get(base).content.decode()
    assert client.get(f"{base}1/change/").status_code == 200
    assert client.get(f"{base}add/").status_code == 403


def test_size_is_checked():
    with pytest.raises(CommandError, match="--size must be 1000 or more") as caught:
        call_command("audit_partition", size=999)
    assert caught.value.returncode == 2
