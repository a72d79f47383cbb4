"""Import of other packages' logs from dumps. The packages themselves: ``testing/``."""

from __future__ import annotations

import gzip
import json
import sqlite3
import tracemalloc
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import connection
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from myometrics_audit.importing import services
from myometrics_audit.importing.models import ImportRun
from myometrics_audit.importing.packages import PACKAGES, Package, Reported
from myometrics_audit.importing.rows import DumpFile, UnreadableDump
from myometrics_audit.models import AuditLog
from myometrics_audit.sealing import fhir_lines, proof_lines
from myometrics_core.events import register_receiver
from myometrics_testing.site_processes import SiteProcesses
from myometrics_testing.waiting import wait_for

DUMPS = Path(__file__).parent / "import_dumps"
CONTENT_TYPE = ["clinic", "patient"]

pytestmark = pytest.mark.django_db


def log_row(key, **fields):
    """A row of django-auditlog."""
    values = {
        "content_type": CONTENT_TYPE,
        "object_pk": "7",
        "object_repr": "Eve",
        "action": 1,
        "changes": {"name": ["Eve", "Eva"]},
        "actor": None,
        "timestamp": "2024-05-01T10:00:00.123456Z",
    }
    return {"model": "auditlog.logentry", "pk": key, "fields": {**values, **fields}}


@pytest.fixture
def dump(tmp_path):
    """A function that writes rows (or lines) to a file as JSON Lines, and returns its path."""

    def write(*rows, name="dump.jsonl"):
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
        return path

    return write


def audit_import(path, *options, package="auditlog"):
    """Exit code, output and errors of ``audit_import``."""
    output, errors, code = StringIO(), StringIO(), 0
    try:
        call_command(
            "audit_import", "--from", package, str(path), *options, stdout=output, stderr=errors
        )
    except SystemExit as end:
        code = end.code
    return code, output.getvalue(), errors.getvalue()


def imported():
    """The imported entries, in the order of their time."""
    return list(AuditLog.objects.filter(origin="import").order_by("timestamp", "id"))


@pytest.mark.parametrize(
    ("package", "entries"),
    {
        "auditlog": {"patient_created": 1, "patient_updated": 2, "patient_deleted": 1},
        "easyaudit": {
            "patient_created": 1,
            "patient_updated": 2,
            "patient_deleted": 1,
            "login_succeeded": 2,
            "logout": 2,
            "request_received": 2,
        },
        "simple_history": {"patient_created": 1, "patient_updated": 2, "patient_deleted": 1},
        "pghistory": {"patient_created": 1, "patient_updated": 2, "patient_deleted": 1},
        "reversion": {"patient_saved": 2},
    }.items(),
)
@pytest.mark.parametrize("name", ["natural.jsonl", "keys.json"])
def test_recorded_dump_is_imported(package, entries, name):
    code, _, errors = audit_import(DUMPS / name, package=package)
    assert (code, errors) == (0, "")
    found = [entry.action for entry in imported() if entry.resource_type != "wards.other"]
    assert {action: found.count(action) for action in entries} == entries
    assert "hidden-" not in str([entry.details for entry in imported()])
    run = ImportRun.objects.get()
    assert run.rows == run.imported == len(imported())


def test_entry_keeps_time_user_address_and_changes(dump, user):
    path = dump(log_row(1, actor=str(user.pk), remote_addr="192.0.2.7", cid="c1"))
    assert audit_import(path)[0] == 0
    (entry,) = imported()
    assert entry.timestamp.isoformat() == "2024-05-01T10:00:00.123000+00:00"
    assert (entry.user, entry.ip_address, entry.origin) == (user, "192.0.2.7", "import")
    assert (entry.action, entry.resource_type, entry.resource_id) == (
        "patient_updated",
        "clinic.patient",
        "7",
    )
    run = ImportRun.objects.get()
    assert entry.details == {
        "changes": {"name": {"from": "Eve", "to": "Eva"}},
        "object": "Eve",
        "correlation_id": "c1",
        "imported": {
            "from": "auditlog",
            "system": "auditlog",
            "model": "auditlog.logentry",
            "id": "1",
            "import": str(run.pk),
        },
    }


def test_user_named_by_natural_key_is_found(dump, user):
    audit_import(dump(log_row(1, actor=[user.email])))
    assert imported()[0].user == user


@pytest.mark.parametrize("actor", [10**30, "7\x00", ["gone@clinic.example"], 12, True, {"a": 1}])
def test_unknown_user_is_kept_in_details(dump, actor):
    path = dump(log_row(1, actor=actor, actor_email="gone@clinic.example"))
    code, _, errors = audit_import(path)
    if actor == "7\x00":  # can't be stored
        assert (code, imported()) == (1, [])
        assert "row 1 (auditlog.logentry 1): NUL" in errors
        return
    (entry,) = imported()
    assert entry.user is None
    name = actor[0] if isinstance(actor, list) else str(actor)
    assert entry.details["imported"]["actor"] == name
    assert entry.details["imported"]["actor_name"] == "gone@clinic.example"


def test_secrets_are_masked_at_any_depth(dump):
    text = json.dumps([{"fields": {"api_key": "hidden"}}])
    audit_import(
        dump(
            log_row(
                1,
                changes={"password": ["hidden", "hidden"], "json": [text, text]},
                serialized_data={"fields": {"secret_question": "hidden"}},
                additional_data={"list": [{"token": "hidden"}]},
            )
        )
    )
    (entry,) = imported()
    assert "hidden" not in json.dumps(entry.details)
    assert entry.details["changes"]["password"] == {"masked": True}


def test_provenance_entry_has_counts_and_digest(dump):
    path = dump(log_row(1), log_row(2, action=9), log_row(3))
    assert audit_import(path)[0] == 1
    run, entry = ImportRun.objects.get(), AuditLog.objects.get(action="log_imported")
    details = dict(entry.details)
    assert details.pop("started_at")
    assert details == {
        "from": "auditlog",
        "system": "auditlog",
        "sha256": run.place,
        "rows": 3,
        "imported": 2,
        "known": 0,
        "refused": 1,
    }
    assert (entry.origin, entry.resource_id) == ("server", str(run.pk))


def test_exports_show_the_origin(dump):
    audit_import(dump(log_row(1)))
    call_command("audit_seal", stdout=StringIO())
    chosen = AuditLog.objects.filter(origin="import")
    lines = [json.loads(line) for line in proof_lines(chosen)]
    assert [line["entry"]["origin"] for line in lines if line["type"] == "entry"] == ["import"]
    (event,) = map(json.loads, fhir_lines(chosen, observer="clinic"))
    assert {"type": "origin", "valueString": "import"} in event["entity"][0]["detail"]
    assert event["source"]["observer"] == {"display": "auditlog"}
    output = StringIO()
    call_command("audit_verify", stdout=output)
    assert "No problems." in output.getvalue()


def test_api_shows_the_origin_of_an_entry(dump, administrator, client_of):
    audit_import(dump(log_row(1)))
    (entry,) = imported()
    answer = client_of(administrator).get(f"/api/audit-logs/{entry.pk}/").json()
    assert (answer["origin"], answer["timestamp"]) == ("import", "2024-05-01T10:00:00.123000Z")


def test_entries_are_not_published(dump):
    received = []
    register_receiver("test_importing", received.append)
    try:
        audit_import(dump(log_row(1)))
    finally:
        register_receiver("test_importing", received.append, resource_types=())
    assert [event.action for event in received] == ["log_imported"]


def test_second_import_of_a_file_is_refused(dump):
    path = dump(log_row(1))
    audit_import(path)
    with pytest.raises(CommandError, match="imported already") as caught:
        audit_import(path)
    assert caught.value.returncode == 2
    assert len(imported()) == 1


def test_rows_of_another_dump_are_known(dump):
    audit_import(dump(log_row(1), log_row(2)))
    code, output, _ = audit_import(dump(log_row(2), log_row(2), log_row(3), name="b.jsonl"))
    assert code == 0
    assert "Imported 1 of 3 rows; 2 were imported before, 0 refused." in output
    assert len(imported()) == 3


def test_same_id_of_another_log_needs_a_system(dump):
    audit_import(dump(log_row(1)))
    other = dump(log_row(1, object_pk="8"), name="b.jsonl")
    code, _, errors = audit_import(other)
    assert code == 1
    assert "--system" in errors
    assert audit_import(other, "--system", "clinic-b")[0] == 0
    assert len(imported()) == 2


def test_stopped_import_continues(dump, monkeypatch):
    monkeypatch.setattr(services, "BATCH_SIZE", 2)
    path = dump(*map(log_row, range(1, 4)), log_row(4, action=9), log_row(5))
    written = services.entries_import

    def fail_at_third(entries):
        if len(imported()) == 2:
            raise KeyboardInterrupt
        written(entries)

    monkeypatch.setattr(services, "entries_import", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        audit_import(path)
    assert len(imported()) == 2
    monkeypatch.setattr(services, "entries_import", written)
    code, output, _ = audit_import(path)
    assert code == 1
    assert "Imported 4 of 5 rows; 0 were imported before, 1 refused." in output
    assert AuditLog.objects.get(action="log_imported").details["rows"] == 5


@pytest.mark.any_database
def test_killed_import_continues(dump, tmp_path):
    path = str(dump(*map(log_row, range(1, 2001))))
    with SiteProcesses(Path(__file__).with_name("import_process.py"), tmp_path) as site:
        process = site.start("audit_import", "--from", "auditlog", path)
        wait_for(lambda: site.notes)
        site.kill(process)
        count = f"SELECT count(*), count(DISTINCT activity_id) FROM {AuditLog._meta.db_table}"
        assert site.execute(count) == [(1000, 1000)]
        site.go()
        site.run("audit_import", "--from", "auditlog", path)
        where = " WHERE action != 'log_imported'"
        assert site.execute(count + where) == [(2000, 2000)]
        site.run("audit_verify")


class AdminLog(Package):
    """The log of Django's admin site, as if it were that of a package."""

    def concerns(self, row):
        return row.model == "admin.logentry"

    def reported(self, row, related):
        kind = related("contenttypes.contenttype", row.fields["content_type"])
        return Reported(
            action="changed",
            resource_type=kind["model"],
            resource_id=row.fields["object_id"],
            occurred_at=row.fields["action_time"],
            actor=row.fields["user"],
        )


def test_table_is_imported_and_later_continued(user, monkeypatch):
    monkeypatch.setitem(PACKAGES, "auditlog", AdminLog())
    kind = ContentType.objects.get_for_model(user)

    def change(key):
        LogEntry.objects.create(
            user=user,
            content_type=kind,
            object_id=key,
            action_flag=2,
            change_message="",
            object_repr="",
        )

    change("1")
    assert audit_import("admin.LogEntry")[0] == 0
    change("2")
    assert "Imported 1 of 1 rows" in audit_import(LogEntry._meta.db_table)[1]
    assert "Imported 0 of 0 rows" in audit_import("admin.LogEntry")[1]
    found = [(entry.user, entry.resource_type, entry.resource_id) for entry in imported()]
    assert found == [(user, "person", "1"), (user, "person", "2")]
    provenance = AuditLog.objects.filter(action="log_imported")
    assert [entry.details["table"] for entry in provenance] == ["admin.logentry"] * 2


def test_table_of_another_package_is_refused():
    for place in ("admin.LogEntry", "no.Model", "missing.json"):
        with pytest.raises(CommandError):
            audit_import(place)


def test_dry_run_writes_nothing(dump):
    code, output, errors = audit_import(dump(log_row(1), log_row(2, action=9)), "--dry-run")
    assert code == 1
    assert "Would import 1 of 2 rows" in output
    assert "row 2 (auditlog.logentry 2): the kind of event 9 is unknown" in errors
    assert not AuditLog.objects.exists()
    assert not ImportRun.objects.exists()


BAD_ROWS = [
    "{",
    '{"a": 1}',
    "[1]",
    "{" + '"a":[' * 100_000,
    '{"model": "auditlog.logentry", "pk": 1, "fields": "\udcff"}',
    json.dumps(log_row(None)),
    json.dumps(log_row(5, action=None)),
    json.dumps(log_row(5, action=[1])),
    json.dumps(log_row(5, content_type=None)),
    json.dumps(log_row(5, content_type=999999)),
    json.dumps(log_row(5, content_type={"a": 1})),
    json.dumps(log_row(5, object_pk="")),
    json.dumps(log_row(5, object_repr="\ud800")),
    json.dumps(log_row(5, object_repr="\x00")),
    json.dumps(log_row(5, changes="{")),
    json.dumps(log_row(5, timestamp="yesterday")),
    json.dumps(log_row(5, timestamp="2024-13-01T00:00:00Z")),
    json.dumps(log_row(5, timestamp="9999-01-01T00:00:00Z")),
    json.dumps(log_row(5, timestamp="0001-01-01T00:00:00+14:00")),
    json.dumps(log_row(5, timestamp=17)),
]


@pytest.mark.parametrize("bad", BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_bad_row_is_refused_with_a_line(dump, bad):
    code, output, errors = audit_import(dump(log_row(1), bad, log_row(2)))
    assert code == 1, output
    assert errors.startswith("row 2")
    assert errors.count("\n") == 1
    assert "Imported 2 of 3 rows; 0 were imported before, 1 refused." in output


@pytest.mark.parametrize(
    "text",
    ["", "hello", "<xml/>", "[1]", "[{}, ", '[{"a": ', "[" + "[" * 100_000, '[{"a":' + "[" * 10**5],
)
def test_file_that_is_no_dump_is_refused(dump, text):
    with pytest.raises(CommandError) as caught:
        audit_import(dump(text))
    assert caught.value.returncode == 2
    assert not AuditLog.objects.exists()


def test_details_that_are_too_large_are_omitted(dump):
    audit_import(dump(log_row(1, changes={f"field{i}": ["a" * 400] * 2 for i in range(200)})))
    (entry,) = imported()
    assert entry.details["imported"]["omitted_bytes"] > 64 * 1024


def test_failed_sign_in_keeps_no_name(dump):
    fields = {"login_type": 2, "username": "correct-horse", "user": None, "remote_ip": "192.0.2.7"}
    fields["datetime"] = "2024-05-01T10:00:00Z"
    path = dump({"model": "easyaudit.loginevent", "pk": 3, "fields": fields})
    audit_import(path, package="easyaudit")
    (entry,) = imported()
    assert entry.action == "login_failed"
    assert "correct-horse" not in f"{entry.resource_id} {entry.details}"


def test_compressed_dump_is_imported(tmp_path):
    path = tmp_path / "dump.json.gz"
    path.write_bytes(gzip.compress(json.dumps([log_row(1)]).encode()))
    assert audit_import(path)[0] == 0
    whole = path.read_bytes()
    for damaged in (whole[:-20] + b"x", whole[:10] + b"\xff" * 20):
        path.write_bytes(damaged)
        with pytest.raises(CommandError, match="can't be read") as refused:
            audit_import(path)
        assert refused.value.returncode == 2


def test_full_disk_for_temporary_files_ends_the_import(dump, monkeypatch):
    def connect(path):
        connection = sqlite3.Connection(path)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    path = dump(log_row(1))
    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(CommandError, match="disk is full") as refused:
        audit_import(path)
    assert refused.value.returncode == 2


def test_file_that_can_not_be_opened_is_refused(tmp_path):
    with pytest.raises(UnreadableDump, match="can't be read"):
        DumpFile(tmp_path / "gone.jsonl").prepare(lambda row: True, frozenset())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=4)), st.integers(1, 3))
@examples(max_examples=60)
def test_reader_finds_the_rows_that_a_json_parser_finds(tmp_path_factory, items, indent):
    path = tmp_path_factory.mktemp("dumps") / "dump.json"
    rows = [{"model": "a.b", "pk": 1, "fields": item} for item in items]
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False), "utf-8", "surrogatepass")
    assert [row.fields for row in _read(path)] == items


def _read(path):
    source = DumpFile(path)
    source.prepare(lambda row: True, frozenset())
    try:
        yield from source.rows("")
    finally:
        source.close()


def test_reader_holds_a_small_part_of_the_file(tmp_path):
    row = json.dumps(log_row(1, object_repr="x" * 5_000))
    for name, text in {
        "dump.json": "[" + ",\n".join([row] * 2_000) + "]",
        "dump.jsonl": "\n".join([row] * 2_000),
    }.items():
        path = tmp_path / name
        path.write_text(text)
        tracemalloc.start()
        assert sum(1 for _ in _read(path)) == 2_000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert path.stat().st_size > 10_000_000
        assert peak < 2_000_000


@pytest.mark.django_db(transaction=True)
def test_two_imports_at_once_import_each_row_once(dump, monkeypatch, run_concurrently):
    monkeypatch.setattr(services, "BATCH_SIZE", 5)
    path = dump(*map(log_row, range(1, 41)))

    def run():
        try:
            return audit_import(path)[0]
        except CommandError as error:
            return str(error)
        finally:
            connection.close()

    results = run_concurrently(run, times=4)
    assert set(results) <= {0, *(str(error) for error in results if isinstance(error, str))}
    assert not [one for one in results if isinstance(one, Exception)]
    while not AuditLog.objects.filter(action="log_imported").exists():
        run()  # each of them was stopped by another
    assert len(imported()) == 40
    assert AuditLog.objects.get(action="log_imported").details["imported"] == 40
