"""Export of the log, and purge of old entries."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from myometrics_audit.listing import Selection, entries_count
from myometrics_audit.models import AuditLog, Erasure
from myometrics_audit.sealing import LogVerifier, export_problems, proof_lines, seal_pending
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

MOMENT = datetime(2025, 8, 19, 15, 45, tzinfo=timezone.utc)


def run(command, *args):
    output = StringIO()
    call_command(command, *args, stdout=output)
    return output.getvalue()


@pytest.fixture
def log(write, django_user_model, settings):
    """Five sealed entries, an erasure, a retained entry, and one that is not sealed."""
    for number in range(5):
        write(resource_id=f"r{number}", timestamp=MOMENT, details={"n": number * 1.5, "t": "ü"})
    deleted = django_user_model.objects.create_user(email="deleted@clinic.example")
    write(user=deleted)
    list(seal_pending())
    deleted.delete()
    kept = django_user_model.objects.create_user(email="kept@clinic.example")
    write(user=kept, action="viewed")
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    kept.delete()
    list(seal_pending())
    write(action="viewed", resource_id="late")


def test_export_contains_every_entry_with_a_proof(log):
    lines = [json.loads(line) for line in run("audit_export").splitlines()]
    kinds = [line["type"] for line in lines]
    assert kinds[0] == "header"
    assert kinds.count("entry") == 7
    assert kinds.count("seal") == 2
    assert kinds.count("erasure") == 2
    assert lines[-1]["entry"]["resource_id"] == "late"
    assert lines[-1]["seal"] is None
    assert list(export_problems(run("audit_export").splitlines())) == []


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--action", "viewed"], 2),
        (["--resource-type", "report"], 0),
        (["--start-date", "2025-08-19", "--end-date", "2025-08-19"], 5),
        (["--user-id", "{user}"], 6),
    ],
)
def test_export_can_be_filtered(log, user, options, count):
    text = run("audit_export", *[option.format(user=user.pk) for option in options])
    assert text.count('"type": "entry"') == count
    assert list(export_problems(text.splitlines())) == []


def test_entries_sealed_during_export_are_exported_once(log, write, monkeypatch):
    monkeypatch.setattr("myometrics_audit.sealing.export.batches.UNSEALED_BATCH", 1)
    write(resource_id="later")
    lines = proof_lines()
    read = []
    for line in lines:
        read.append(line)
        if '"seal": null' in line:
            break
    list(seal_pending())
    read += lines
    assert list(export_problems(read)) == []
    ids = [json.loads(line)["entry"]["id"] for line in read if '"type": "entry"' in line]
    assert sorted(ids) == sorted(AuditLog.objects.values_list("pk", flat=True))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"resource_id": "r2"', '"resource_id": "r9"', "differs from its leaf"),
        ('"left"', '"right"', "is not under seal"),
        ('"entries": 6', '"entries": 7', "has a wrong signature"),
        ('"subject": "', '"subject": "0', "has a user that differs"),
    ],
)
def test_altered_export_is_detected(log, tmp_path, old, new, message):
    path = tmp_path / "log.jsonl"
    run("audit_export", "--output", str(path))
    assert "No problems." in run("audit_export", "--check", str(path))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    output = StringIO()
    with pytest.raises(SystemExit):
        call_command("audit_export", "--check", str(path), stdout=output)
    assert message in output.getvalue()


def test_export_with_invalid_filter_reports_its_option():
    wrong = ["--user-id", "no-id", "--start-date", "yesterday"]
    with pytest.raises(CommandError, match=r"(?s)--user-id: Not the id.*--start-date: ") as raised:
        run("audit_export", *wrong)
    assert raised.value.returncode == 2
    with pytest.raises(CommandError, match="--start-date: Must not be after end_date"):
        run("audit_export", "--start-date", "2025-08-20", "--end-date", "2025-08-19")


def test_check_of_another_file_has_its_own_exit_code(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("hello\n")
    with pytest.raises(CommandError, match="is not an export"):
        run("audit_export", "--check", str(path))


def test_purge_without_execute_only_reports(log):
    assert "Would remove 5 entries" in run("audit_purge", "--older-than", "2025-08-20")
    assert AuditLog.objects.count() == 7


def test_purge_before_the_first_date_finds_nothing(log):
    assert "Would remove 0 entries" in run("audit_purge", "--older-than", "0001-01-01")


def test_purge_leaves_signed_erasures_and_exact_counts(log):
    purged = run("audit_purge", "--older-than", "2025-08-20", "--execute", "--chunk", "2", "--json")
    assert json.loads(purged) == {
        "older_than": "2025-08-20",
        "due": 5,
        "held": 0,
        "partitions": 0,
        "purged": 5,
        "archives": [],
    }
    erasures = Erasure.objects.filter(reason="purge").order_by("entries")
    assert list(erasures.values_list("entries", flat=True)) == [1, 2, 2]
    assert entries_count(Selection()) == AuditLog.objects.count() == 2
    assert [str(problem) for problem in LogVerifier().problems()] == []


def test_purge_removes_unsigned_entries_too(write):
    write(timestamp=MOMENT)
    AuditLog.objects.model(timestamp=MOMENT, nonce=b"", resource_id="forged").save_base(
        force_insert=True
    )
    run("audit_purge", "--older-than", "2025-08-20", "--execute")
    assert not AuditLog.objects.exists()
    assert Erasure.objects.get().entries == 1


def test_purge_age_counts_back_from_today(write):
    write(timestamp=utc_now() - timedelta(days=9))
    write(timestamp=utc_now() - timedelta(days=11))
    assert "Would remove 1 entries" in run("audit_purge", "--older-than", "10d")
    assert "Would remove 0 entries" in run("audit_purge", "--older-than", "1y")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--older-than", "soon"],
        ["--older-than", "9999-01-01"],
        ["--older-than", "999999y"],
        ["--older-than", "10d", "--chunk", "0"],
    ],
)
def test_purge_with_wrong_arguments_is_refused(arguments):
    with pytest.raises(CommandError) as refused:
        run("audit_purge", *arguments)
    assert refused.value.returncode == 2
