"""Removal of partitions beside other work, and killed at any point; PostgreSQL only."""

from __future__ import annotations

import hashlib
import os
import signal
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from test_partition_removal import NEW, OLD, check, first_ids, log, problems, purge, seal_and_close
from test_partitions import is_waiting, locked, start_command

from myometrics_audit.legal_hold.services import hold_place
from myometrics_audit.models import AuditLog, Erasure
from myometrics_audit.partitions import dropping
from myometrics_audit.partitions.catalog import TABLE
from myometrics_audit.partitions.dropping import NotDropped, PartitionDrop, due_partitions
from myometrics_audit.sealing import seal_pending
from myometrics_audit.sealing.locks import LOCK_NUMBER
from myometrics_testing.waiting import wait_for

__all__ = ["log"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_database")]

STOPS = {
    "evidence": f"SELECT pg_advisory_xact_lock({LOCK_NUMBER})",
    "reader": f'LOCK TABLE "{TABLE}" IN ACCESS SHARE MODE',
}
"""Where a removal waits → what makes it wait."""


@pytest.mark.parametrize("stop", STOPS)
def test_killed_removal_is_continued(log, tmp_path, stop):
    options = ["--older-than", "2025-01-01", "--archive", str(tmp_path), "--execute"]
    with locked(STOPS[stop]):
        process = start_command("audit_purge", *options)
        wait_for(lambda: is_waiting() or process.poll() is not None)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    wait_for(lambda: not is_waiting())
    assert first_ids()[0] == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    assert not problems()
    assert purge("--archive", str(tmp_path), "--execute")[0]["partitions"] == 2
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == ["audit-1-1999.jsonl.gz", "audit-2000-2999.jsonl.gz"]
    assert [check(path) for path in paths] == ["No problems.\n"] * 2
    assert not problems()


@contextmanager
def full_pipe(path):
    """A pipe that is not read: writers wait."""
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        with suppress(BlockingIOError):
            while True:
                os.write(descriptor, b"x" * 4096)
        yield
    finally:
        os.close(descriptor)
        path.unlink()


def has_opened(process, path):
    """Whether a process has opened a file."""
    with suppress(FileNotFoundError):
        folder = Path(f"/proc/{process.pid}/fd")
        return any(os.readlink(link) == str(path) for link in folder.iterdir())
    return False


def test_removal_killed_while_it_writes_the_archive_is_continued(log, tmp_path):
    unfinished = tmp_path / ".audit-1-1999.jsonl.gz.part"
    options = ["--older-than", "2025-01-01", "--archive", str(tmp_path), "--execute"]
    with full_pipe(unfinished):
        process = start_command("audit_purge", *options)
        wait_for(lambda: has_opened(process, unfinished) or process.poll() is not None)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    unfinished.write_bytes(b"half a line")
    assert first_ids()[0] == 1
    assert not problems()
    assert purge("--archive", str(tmp_path), "--execute")[0]["partitions"] == 2
    assert not unfinished.exists()
    assert check(tmp_path / "audit-1-1999.jsonl.gz") == "No problems.\n"


def drop_first():
    """Remove the first partition; the result, or why it was not removed."""
    (first, *_) = due_partitions(NEW, "default") or [None]
    if first is None or first.first_id != 1:
        return None
    try:
        return PartitionDrop(first, before=NEW, using="default").run()
    except NotDropped as error:
        return str(error)


def test_two_removals_at_once_erase_each_entry_once(log, run_concurrently):
    outcomes = run_concurrently(drop_first, times=4)
    assert not [one for one in outcomes if isinstance(one, Exception | str)], outcomes
    assert [one.entries for one in outcomes if one is not None] == [6]
    assert Erasure.objects.count() == 1
    assert not problems()


def test_writers_sealer_and_user_deletion_work_beside_a_removal(
    log, write, administrator, run_concurrently
):
    def write_many():
        return [write(timestamp=NEW).pk for _ in range(30)]

    def seal():
        return list(seal_pending())

    outcomes = run_concurrently([write_many, write_many, seal, administrator.delete, drop_first])
    assert not [one for one in outcomes if isinstance(one, Exception | str)], outcomes
    assert AuditLog.objects.filter(timestamp=NEW).count() == 63
    assert not AuditLog.objects.filter(pk__lt=2000).exists()
    assert not AuditLog.objects.filter(user=administrator.pk).exists()
    assert not problems()
    seal_and_close()
    assert not problems()


def after_preparing(monkeypatch, change):
    """Call ``change`` once, between the preparation and the drop."""
    prepare, changes = dropping.range_erasure_prepare, []

    def prepare_and_change(erased, *, using):
        prepared = prepare(erased, using=using)
        if not changes:
            changes.append(change())
        return prepared

    monkeypatch.setattr(dropping, "range_erasure_prepare", prepare_and_change)


@pytest.mark.parametrize("way", ["cascade", "retain"])
def test_user_deleted_during_the_preparation_is_not_erased_twice(
    log, administrator, settings, monkeypatch, tmp_path, way
):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": way}
    after_preparing(monkeypatch, administrator.delete)
    assert purge("--archive", str(tmp_path), "--execute")[0]["partitions"] == 2
    (erasure,) = Erasure.objects.filter(details__first_id=1)
    assert erasure.entries == (3 if way == "cascade" else 6)
    assert check(tmp_path / "audit-1-1999.jsonl.gz") == "No problems.\n"
    assert not problems()


def test_hold_placed_during_the_preparation_keeps_its_entries(log, administrator, monkeypatch):
    after_preparing(
        monkeypatch,
        lambda: hold_place(actor=administrator, reason="court", data_subject="p1"),
    )
    purge("--partitions-only", "--execute")
    assert AuditLog.objects.filter(data_subject="p1", timestamp=OLD).count() == 2
    assert not problems()


def test_entries_that_change_again_and_again_are_left(log, administrator, monkeypatch):
    prepare = dropping.range_erasure_prepare
    subjects = iter(range(100))

    def prepare_and_hold(erased, *, using):
        prepared = prepare(erased, using=using)
        hold_place(actor=administrator, reason="court", data_subject=f"x{next(subjects)}")
        return prepared

    monkeypatch.setattr(dropping, "range_erasure_prepare", prepare_and_hold)
    result, reported, code = purge("--partitions-only", "--execute")
    assert (result["partitions"], code) == (0, 1)
    assert "changed again and again" in reported
    assert first_ids()[0] == 1


def test_table_in_use_keeps_the_partition_and_says_what_to_do(log, monkeypatch):
    monkeypatch.setattr(dropping, "LOCK_ATTEMPTS", 2)
    monkeypatch.setattr(dropping, "PAUSE_SECONDS", 0)
    with locked(STOPS["reader"]):
        result, reported, code = purge("--execute")
    assert (result["purged"], code) == (0, 1)
    assert "pg_stat_activity" in reported
    assert first_ids()[0] == 1
    assert not Erasure.objects.exists()
    assert not problems()


def test_two_removals_do_not_write_the_same_archive(log, tmp_path, run_concurrently):
    others = []

    def drop(progress=lambda written: None):
        (first, *_) = due_partitions(NEW, "default")
        removal = PartitionDrop(
            first, before=NEW, using="default", folder=tmp_path, progress=progress
        )
        return removal.run()

    def drop_beside(written):
        if written == 2:
            others.extend(run_concurrently(drop, times=1))

    assert drop(drop_beside).entries == 6
    assert others == [None]
    (path,) = tmp_path.iterdir()
    assert check(path) == "No problems.\n"
    assert path.stat().st_mode & 0o077 == 0
    erasure = Erasure.objects.get(details__first_id=1)
    assert erasure.details["archive"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
