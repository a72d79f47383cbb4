"""Import of archives and exports of an audit log."""

from __future__ import annotations

import gzip
import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from myometrics_audit.importing.models import ImportRun
from myometrics_audit.log.guards import install_guards, remove_guards
from myometrics_audit.models import AuditLog, Leaf
from myometrics_audit.sealing import proof_lines, seal_pending
from myometrics_core.times import whole_milliseconds

pytestmark = pytest.mark.django_db

COLUMNS = (
    "user_id",
    "action",
    "resource_type",
    "resource_id",
    "timestamp",
    "ip_address",
    "user_agent",
    "data_subject",
    "purpose",
    "legal_basis",
)


@pytest.fixture(params=[1, 2])
def entry_version(request):
    """The version of the archived entries."""
    return request.param


@pytest.fixture
def archive(write, entry_version, administrator, settings, tmp_path):
    """An archive of three entries, one of a deleted user; the entries don't exist any more."""
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    added = {"data_subject": "p1", "purpose": "TREAT"} if entry_version == 2 else {}
    write(details={"size": 1.5}, ip_address="192.0.2.1", user_agent="curl", **added)
    write(user=None, resource_id="r2")
    write(user=administrator)
    list(seal_pending())
    administrator.delete()
    path = tmp_path / "archive.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in proof_lines())
    rows = list(AuditLog.objects.order_by("pk").values(*COLUMNS, "details", "pseudonym", "pk"))
    remove_guards("default")
    AuditLog._base_manager.all()._raw_delete("default")
    Leaf.objects.all().delete()
    install_guards("default")
    return path, rows


def audit_import(path, *options):
    output = StringIO()
    call_command("audit_import", "--from", "archive", str(path), "--json", *options, stdout=output)
    return json.loads(output.getvalue())


def test_archive_is_imported_with_times_and_provenance(archive, entry_version):
    path, rows = archive
    done = {"rows": 3, "imported": 3, "known": 0, "refused": 0, "dry_run": False}
    assert audit_import(path) == done
    entries = AuditLog.objects.filter(origin="import").order_by("pk")
    for entry, row in zip(entries, rows, strict=True):
        row["timestamp"] = whole_milliseconds(row["timestamp"])
        assert {name: getattr(entry, name) or "" for name in COLUMNS} == {
            name: row[name] or "" for name in COLUMNS
        }
        imported = entry.details["imported"]
        assert (imported["from"], imported["id"]) == ("archive", str(row["pk"]))
        assert {**row["details"], "imported": imported} == entry.details
    assert entries[2].details["imported"]["actor_name"] == rows[2]["pseudonym"]
    provenance = AuditLog.objects.get(action="log_imported")
    assert provenance.details["imported"] == 3
    assert provenance.details["sha256"] == ImportRun.objects.get().place


def test_provenance_of_an_imported_entry_survives_its_archive(write, tmp_path):
    """Only this says who acted, if the user is not known here."""
    before = {"from": "auditlog", "system": "old", "actor": "dr.who"}
    entry = write(user=None, origin="import", details={"a": 1, "imported": before})
    path = tmp_path / "archive.jsonl"
    path.write_text("".join(f"{line}\n" for line in proof_lines()))
    audit_import(path)
    kept = AuditLog.objects.get(
        origin="import", activity_id=f"import:archive:archive.entry:{entry.pk}"
    )
    assert kept.details["a"] == 1
    assert kept.details["imported"]["from"] == "archive"
    assert kept.details["imported"]["before"] == before


def test_archive_is_imported_once(archive, tmp_path):
    path, _ = archive
    assert audit_import(path, "--dry-run")["imported"] == 3
    audit_import(path)
    with pytest.raises(CommandError, match="imported already"):
        audit_import(path)
    # The same entries in another file.
    again = tmp_path / "again.jsonl"
    again.write_bytes(gzip.decompress(path.read_bytes()) + b"\n")
    result = audit_import(again)
    assert (result["known"], result["imported"]) == (3, 0)


def test_file_of_audit_export_without_compression_is_imported(archive, tmp_path):
    path, _ = archive
    plain = tmp_path / "log.jsonl"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    assert audit_import(plain)["imported"] == 3


@pytest.mark.parametrize("line", ['{"type": "entry"}', '{"type": "entry", "entry": {"id": 7}}'])
def test_incomplete_line_is_refused(archive, tmp_path, line):
    path, _ = archive
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(gzip.decompress(path.read_bytes()) + f"{line}\n".encode())
    with pytest.raises(SystemExit):
        audit_import(broken)
    assert ImportRun.objects.get().refused == 1
    assert ImportRun.objects.get().imported == 3


def test_dump_of_another_package_is_no_archive(tmp_path):
    path = tmp_path / "dump.jsonl"
    path.write_text('{"model": "auditlog.logentry", "pk": 1, "fields": {}}\n')
    with pytest.raises(CommandError, match="no rows of archive"):
        audit_import(path)
