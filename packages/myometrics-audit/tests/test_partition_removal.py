"""Retention of a partitioned log: whole partitions are dropped, archived and held; PostgreSQL."""

from __future__ import annotations

import errno
import gzip
import json
import os
from contextlib import suppress
from datetime import datetime, timezone
from io import StringIO
from unittest import mock

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from myometrics_audit.legal_hold.services import hold_place, hold_release
from myometrics_audit.listing import Selection, entries_count
from myometrics_audit.log.guards import missing_guards, remove_guards
from myometrics_audit.log.services import NewEntry, entries_record
from myometrics_audit.models import AuditLog, Erasure, Leaf
from myometrics_audit.partitions import archives, dropping
from myometrics_audit.partitions.catalog import execute, partition_bounds, sequence_name
from myometrics_audit.partitions.closing import match_catalog
from myometrics_audit.partitions.dropping import PartitionDrop, due_partitions
from myometrics_audit.partitions.maintenance import maintain_partitions
from myometrics_audit.partitions.models import Partition, RecordedActivity
from myometrics_audit.partitions.removed_activities import REMOVED_ACTIVITIES_JOB
from myometrics_audit.partitions.triggers import missing_triggers
from myometrics_audit.sealing import LogVerifier, seal_pending
from myometrics_core.jobs import Job, run_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_database")]

OLD = datetime(2020, 1, 1, tzinfo=timezone.utc)
NEW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def purge(*options):
    """The result of the command, what it reported, and its exit code."""
    output, errors = StringIO(), StringIO()
    code = 0
    try:
        arguments = ["--older-than", "2025-01-01", "--json", *options]
        call_command("audit_purge", *arguments, stdout=output, stderr=errors)
    except SystemExit as error:
        code = error.code
    return json.loads(output.getvalue()), errors.getvalue(), code


def problems():
    return [str(problem) for problem in LogVerifier(using="default").problems()]


def seal_and_close():
    list(seal_pending())
    maintain_partitions("default", patience=60)


@pytest.fixture
def log(own_database, settings, write, administrator):
    """A closed partition (1) with six old entries, one (2000) with three, and one in use (3000)."""
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "PARTITION_SIZE": 1000}
    call_command("audit_partition", stdout=StringIO())
    for number in range(6):
        user = administrator if number % 2 else None
        subject = "p1" if number < 2 else ""
        write(timestamp=OLD, user=user, data_subject=subject, activity_id=f"upload:{number}")
    for first in (2000, 3000):
        execute("default", f"SELECT setval('{sequence_name('default')}', {first}, false)")
        for _ in range(3):
            write(timestamp=OLD if first == 2000 else NEW, activity_id=f"upload:{first}:{_}")
        seal_and_close()
    assert [row.closed_at is not None for row in Partition.objects.all()][:3] == [True, True, False]


def first_ids():
    return [bounds.first_id for bounds in partition_bounds("default")]


def test_dry_run_counts_partitions_and_changes_nothing(log):
    result, _, code = purge("--partitions-only")
    assert result == {
        "older_than": "2025-01-01",
        "due": 9,
        "held": 0,
        "partitions": 2,
        "purged": 0,
        "archives": [],
    }
    assert (code, first_ids()[:3]) == (0, [1, 2000, 3000])
    output = StringIO()
    call_command("audit_purge", "--older-than", "2025-01-01", stdout=output)
    assert "Would remove 9 entries and 2 partitions from before 2025-01-01" in output.getvalue()


def test_whole_partitions_are_dropped_with_one_signed_erasure_each(log):
    result, reported, code = purge("--partitions-only", "--execute")
    assert reported == ""
    assert (result["purged"], result["partitions"], code) == (9, 2, 0)
    assert first_ids()[0] == 3000
    assert not Partition.objects.filter(first_id__lt=3000).exists()
    erasures = Erasure.objects.order_by("entries")
    assert [
        (e.reason, e.entries, e.details["first_id"], e.details["end_id"]) for e in erasures
    ] == [
        ("purge", 3, 2000, 3000),
        ("purge", 6, 1, 2000),
    ]
    assert not Leaf.objects.exclude(erasure_id=None).exists()
    assert entries_count(Selection()) == 3
    assert not problems()
    seal_and_close()
    assert not problems()
    assert missing_guards("default") == missing_triggers("default") == []


def test_statements_of_a_drop_do_not_grow_with_the_entries(log):
    many, few = due_partitions(NEW, "default")
    counts = []
    for partition in (few, many):
        with CaptureQueriesContext(connection) as queries:
            assert PartitionDrop(partition, before=NEW, using="default").run().is_whole
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_without_partitions_only_the_rest_is_removed_row_by_row(log, write):
    write(timestamp=OLD)
    assert purge()[0]["due"] == 10
    result, _, _ = purge("--execute")
    assert (result["purged"], result["partitions"]) == (10, 2)
    assert AuditLog.objects.count() == 3
    assert not problems()


def test_partition_with_a_recent_entry_stays(log, write):
    Partition.objects.filter(first_id=2000).update(newest=NEW)
    assert purge("--partitions-only", "--execute")[0]["partitions"] == 1
    assert first_ids()[0] == 2000


def test_partition_stays_if_its_row_hides_a_recent_entry(log):
    Partition.objects.update(closed_at=datetime.now(timezone.utc), oldest=OLD, newest=OLD)
    list(seal_pending())
    _, reported, code = purge("--partitions-only", "--execute")
    assert "has newer entries" in reported
    assert "audit_verify" in reported
    assert code == 1
    assert first_ids()[0] == 3000
    assert entries_count(Selection()) == 3


def test_partition_emptied_by_user_deletions_is_dropped_without_erasure(log, administrator):
    Partition.objects.filter(first_id=2000).update(newest=None, oldest=None)
    type(administrator).objects.all().delete()
    before = Erasure.objects.count()
    assert purge("--partitions-only", "--execute")[0]["partitions"] == 2
    assert first_ids()[0] == 3000
    assert Erasure.objects.count() == before + 1  # of the anonymous entries
    assert not problems()


def test_held_entries_stay_in_a_partition_with_their_ids(log, administrator):
    hold = hold_place(actor=administrator, reason="court", data_subject="p1")
    old = AuditLog.objects.filter(data_subject="p1", timestamp=OLD)
    held = sorted(old.values_list("pk", flat=True))
    assert purge("--partitions-only")[0]["held"] == 2
    result, _, _ = purge("--partitions-only", "--execute")
    assert (result["purged"], result["partitions"], result["held"]) == (7, 1, 2)
    assert first_ids()[:2] == [1, 3000]
    assert sorted(AuditLog.objects.filter(pk__lt=2000).values_list("pk", flat=True)) == held
    partition = Partition.objects.get(first_id=1)
    assert partition.closed_at is not None
    assert partition.newest == OLD
    assert missing_guards("default") == missing_triggers("default") == []
    match_catalog("default")
    assert Partition.objects.get(first_id=1).closed_at == partition.closed_at
    assert RecordedActivity.objects.filter(entry_id__in=held).count() == 2
    assert not problems()
    assert purge("--partitions-only", "--execute")[0]["purged"] == 0
    hold_release(hold, actor=administrator)
    result, _, _ = purge("--partitions-only", "--execute")
    assert (result["purged"], result["partitions"]) == (2, 1)
    assert first_ids()[0] == 3000
    assert not problems()
    assert entries_count(Selection()) == AuditLog.objects.count()


def test_held_entries_of_a_deleted_user_stay_under_the_pseudonym(log, administrator, user):
    hold_place(actor=user, reason="court", user=administrator)
    administrator.delete()
    assert purge("--partitions-only", "--execute")[0]["purged"] == 6
    assert AuditLog.objects.filter(pk__lt=2000).exclude(pseudonym="").count() == 3
    assert not problems()


@pytest.mark.parametrize("way", ["cascade", "retain"])
def test_entries_under_several_holds_leave_with_the_last_release(
    log, administrator, user, settings, tmp_path, way
):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": way}
    subject = hold_place(actor=user, reason="court", data_subject="p1")
    holds = [hold_place(actor=user, reason="court", user=administrator) for _ in range(2)]
    purged = []
    for release in (None, holds[0], subject, holds[1]):
        if release:
            hold_release(release, actor=user)
        purged.append(purge("--archive", str(tmp_path), "--execute")[0]["purged"])
        type(administrator).objects.filter(pk=administrator.pk).delete()
        assert not problems()
    # What no hold keeps, nothing, what only the first hold kept, and the user's entries.
    assert purged == [2 + 3, 0, 1, 3]
    assert not AuditLog.objects.filter(timestamp=OLD).exists()
    archives_of_first = list(tmp_path.glob("audit-1-*"))
    assert {check(path) for path in archives_of_first} == {"No problems.\n"}
    assert sorted(len(entries_of(path)) for path in archives_of_first) == [1, 2, 3]


def test_too_many_held_entries_are_left_to_the_removal_of_rows(log, administrator, monkeypatch):
    monkeypatch.setattr(dropping, "MAX_KEPT", 1)
    hold_place(actor=administrator, reason="court", data_subject="p1")
    result, reported, code = purge("--partitions-only", "--execute")
    assert (result["partitions"], code) == (1, 1)
    assert "More than 1 of its entries are under a legal hold" in reported
    assert purge("--execute")[0]["purged"] == 4
    assert AuditLog.objects.filter(timestamp=OLD).count() == 2
    assert not problems()


def test_partition_that_does_not_match_its_evidence_stays(log):
    remove_guards("default")
    AuditLog._base_manager.filter(pk=1)._raw_delete("default")
    result, reported, code = purge("--partitions-only", "--execute")
    assert (result["partitions"], code) == (1, 1)
    assert "audit_verify" in reported
    assert first_ids()[0] == 1


def test_activities_of_dropped_entries_are_deleted_by_a_job(log, administrator, monkeypatch):
    monkeypatch.setattr("myometrics_audit.partitions.removed_activities.BATCH_IDS", 2)
    hold_place(actor=administrator, reason="court", data_subject="p1")
    purge("--partitions-only", "--execute")
    keys = sorted(Job.objects.filter(kind=REMOVED_ACTIVITIES_JOB).values_list("key", flat=True))
    assert keys == ["1-2000", "2000-3000"]
    assert RecordedActivity.objects.count() == 12
    for key in keys:
        run_job(REMOVED_ACTIVITIES_JOB, key)
    assert set(RecordedActivity.objects.values_list("entry_id", flat=True)) == set(
        AuditLog.objects.exclude(activity_id=None).values_list("pk", flat=True)
    )


@pytest.mark.celery
def test_activities_of_dropped_entries_are_deleted_by_a_celery_task(log):
    from myometrics_audit.partitions import tasks

    purge("--partitions-only", "--execute")
    due = Job.objects.filter(kind=REMOVED_ACTIVITIES_JOB).count()
    assert tasks.removed_activities.name == REMOVED_ACTIVITIES_JOB
    assert tasks.removed_activities.apply().get() == due > 0
    assert not Job.objects.filter(kind=REMOVED_ACTIVITIES_JOB).exists()


def test_activity_of_a_dropped_entry_can_be_recorded_before_the_job(log, write):
    purge("--partitions-only", "--execute")
    assert RecordedActivity.objects.filter(activity_id="upload:1").exists()
    again = write(activity_id="upload:1")
    with pytest.raises(IntegrityError), transaction.atomic():
        write(activity_id="upload:1")
    run_job(REMOVED_ACTIVITIES_JOB, "1-2000")
    recorded = RecordedActivity.objects.filter(entry_id__lt=2000) | RecordedActivity.objects.filter(
        activity_id="upload:1"
    )
    assert list(recorded.values_list("entry_id", flat=True)) == [again.pk]


def test_activity_of_a_dropped_entry_is_recorded_once(log, run_concurrently):
    purge("--partitions-only", "--execute")
    entry = NewEntry(
        actor_id=None,
        action="seen",
        resource_type="scan",
        resource_id="1",
        activity_id="upload:1",
    )
    outcomes = run_concurrently(lambda: entries_record([entry]), times=8)
    assert sum(isinstance(outcome, list) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, IntegrityError) for outcome in outcomes) == 7
    assert AuditLog.objects.filter(activity_id="upload:1").count() == 1


@pytest.mark.parametrize("option", [["--partitions-only"], ["--archive", "archive"]])
def test_options_of_partitions_need_a_partitioned_log(option):
    with pytest.raises(CommandError, match="not partitioned") as refused:
        call_command("audit_purge", "--older-than", "2025-01-01", *option)
    assert refused.value.returncode == 2


def check(path):
    output = StringIO()
    with suppress(SystemExit):
        call_command("audit_export", "--check", str(path), stdout=output)
    return output.getvalue()


def entries_of(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [line for line in map(json.loads, file) if line["type"] == "entry"]


def test_archive_is_written_before_the_drop_and_can_be_checked(log, tmp_path):
    folder = tmp_path / "archive"
    result, _, code = purge("--archive", str(folder), "--execute")
    assert code == 0
    paths = sorted(folder.iterdir())
    assert result["archives"] == list(map(str, paths))
    assert [path.name for path in paths] == ["audit-1-1999.jsonl.gz", "audit-2000-2999.jsonl.gz"]
    assert [len(entries_of(path)) for path in paths] == [6, 3]
    assert [check(path) for path in paths] == ["No problems.\n"] * 2
    erasure = Erasure.objects.get(entries=6)
    assert erasure.details["archive"]["file"] == "audit-1-1999.jsonl.gz"
    assert erasure.details["archive"]["sha256"] == archives._sha256(paths[0])
    assert not problems()


def test_archive_of_retained_entries_has_the_erasures_that_name_them(
    log, administrator, settings, tmp_path
):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    administrator.delete()
    purge("--archive", str(tmp_path / "unsealed"), "--execute")
    assert check(tmp_path / "unsealed/audit-1-1999.jsonl.gz") == "No problems.\n"


def test_archive_finds_erasures_under_later_seals(log, administrator, settings, tmp_path):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    administrator.delete()
    list(seal_pending())
    purge("--archive", str(tmp_path), "--execute")
    assert check(tmp_path / "audit-1-1999.jsonl.gz") == "No problems.\n"


def test_altered_or_cut_archive_is_found(log, tmp_path):
    purge("--archive", str(tmp_path), "--execute")
    path = tmp_path / "audit-1-1999.jsonl.gz"
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(text.replace(b"upload_001", b"upload_002", 1)))
    assert "differs from its leaf" in check(path)
    path.write_bytes(gzip.compress(text)[:-20])
    with pytest.raises(CommandError, match="is not an export with proofs"):
        check(path)


def test_released_entries_have_an_archive_of_their_own(log, administrator, tmp_path):
    hold = hold_place(actor=administrator, reason="court", data_subject="p1")
    purge("--archive", str(tmp_path), "--execute")
    hold_release(hold, actor=administrator)
    result, _, _ = purge("--archive", str(tmp_path), "--execute")
    (path,) = tmp_path.glob("*-rest-*")
    assert result["archives"] == [str(path)]
    assert [line["data_subject"] for line in entries_of(path)] == ["p1", "p1"]
    assert len(entries_of(tmp_path / "audit-1-1999.jsonl.gz")) == 4
    assert check(path) == "No problems.\n"
    assert not problems()


def test_full_disk_keeps_the_partition(log, tmp_path):
    # A device on which every write fails with "no space left".
    (tmp_path / ".audit-1-1999.jsonl.gz.part").symlink_to("/dev/full")
    result, reported, code = purge("--archive", str(tmp_path), "--execute")
    assert (result["partitions"], code) == (1, 1)
    assert "audit-1-1999.jsonl.gz can't be written: " in reported
    assert "No space left" in reported
    assert first_ids()[0] == 1
    assert purge("--archive", str(tmp_path), "--execute")[0]["partitions"] == 1


@pytest.mark.parametrize(
    ("failing", "number"),
    [
        ("fcntl.flock", errno.ENOLCK),
        ("os.fsync", errno.EIO),
        ("pathlib.Path.replace", errno.EIO),
    ],
)
def test_storage_that_fails_keeps_the_partition(log, tmp_path, failing, number):
    error = OSError(number, os.strerror(number))
    with pytest.MonkeyPatch.context() as patch:
        for name in (failing, "pathlib.Path.unlink"):
            patch.setattr(name, mock.Mock(side_effect=error))
        result, reported, code = purge("--archive", str(tmp_path), "--execute")
    assert (result["purged"], result["partitions"], code) == (0, 0, 1)
    assert reported.count(f"can't be written: {error}") == 2
    assert not Erasure.objects.exists()
    assert not problems()
    assert purge("--archive", str(tmp_path), "--execute")[0]["partitions"] == 2
    assert check(tmp_path / "audit-1-1999.jsonl.gz") == "No problems.\n"


def test_file_that_can_not_be_verified_keeps_the_partition(log, tmp_path, monkeypatch):
    real = dropping.archive_lines

    def one_less(entries, *, using):
        lines = list(real(entries, using=using))
        return lines[:2] + lines[3:]

    monkeypatch.setattr(dropping, "archive_lines", one_less)
    result, reported, code = purge("--archive", str(tmp_path), "--execute")
    assert (result["partitions"], code) == (0, 1)
    assert "has 5 entries, not 6" in reported
    assert first_ids()[0] == 1
    assert list(tmp_path.iterdir()) == []


def test_folder_that_can_not_be_written_is_an_error(log, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="can't be written") as refused:
        purge("--archive", str(tmp_path / "file"), "--execute")
    assert refused.value.returncode == 2
    assert first_ids()[0] == 1


def test_role_that_may_not_drop_tables_gets_an_error(log):
    execute(
        "default",
        "DROP ROLE IF EXISTS mm_purge",
        "CREATE ROLE mm_purge",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO mm_purge",
        "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO mm_purge",
        "SET ROLE mm_purge",
    )
    try:
        result, reported, code = purge("--execute")
    finally:
        execute("default", "RESET ROLE", "DROP OWNED BY mm_purge", "DROP ROLE mm_purge")
    assert (result["purged"], code) == (0, 1)
    assert "Run the command as the owner of the tables" in reported
    assert not Erasure.objects.exists()
