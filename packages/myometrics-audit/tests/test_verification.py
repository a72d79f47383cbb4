"""Verification detects every kind of tampering by raw SQL."""

from __future__ import annotations

import json
import re
import uuid
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import OperationalError, connection
from django.db.models import F

from myometrics_audit.log.guards import remove_guards
from myometrics_audit.models import AuditLog, EntryCount, Erasure, Leaf, Seal
from myometrics_audit.sealing import LogVerifier, seal_pending
from myometrics_audit.sealing.erasures import entries_purge_chunk
from myometrics_audit.sealing.seals import ANCHOR_JOB
from myometrics_audit.sealing.verification import verifier
from myometrics_audit.sealing.verification.problems import ADVICE, Problem
from myometrics_audit.signing.signatures import canonical_entry_v2, entry_leaf_v2
from myometrics_core.jobs import run_job
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

LOG, LEAF, SEAL, ERASURE = (m._meta.db_table for m in (AuditLog, Leaf, Seal, Erasure))


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def entry_version(request):
    """Every test runs with entries of both versions."""
    return request.param


def verify(**kwargs):
    return list(LogVerifier(**kwargs).problems())


def found(**kwargs):
    return {(problem.kind, problem.subject) for problem in verify(**kwargs)}


def sql(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


class Log:
    """A log with three seals (4 + 4 + 4 leaves and an erasure), and two unsealed entries."""

    def __init__(self, write, user, deleted_user):
        self.user = user
        self.entries = [write(details={"n": n}, resource_id=f"r{n}") for n in range(4)]
        list(seal_pending())
        self.entries += [write(resource_id=f"r{n}") for n in range(4, 6)]
        self.erased = [write(user=deleted_user, resource_id="deleted_user").pk for _ in range(2)]
        list(seal_pending())
        deleted_user.delete()
        self.entries += [write(resource_id=f"r{n}") for n in range(6, 10)]
        list(seal_pending())
        self.entries += [write(resource_id=f"r{n}") for n in range(10, 12)]
        self.erasure = Erasure.objects.get()

    def id(self, place):
        return self.entries[place].pk


@pytest.fixture
def log(write, user, django_user_model):
    made = Log(
        write, user, django_user_model.objects.create_user(email="deleted_user@clinic.example")
    )
    assert verify() == []
    connection.check_constraints()
    remove_guards(connection.alias)
    return made


def test_untouched_log_has_no_problems(log):
    verifier = LogVerifier()
    assert list(verifier.problems()) == []
    assert (verifier.leaves, verifier.entries.entries, verifier.seals.seals) == (14, 12, 3)


@pytest.mark.parametrize("place", [1, 11], ids=["sealed", "unsealed"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("action", "viewed"),
        ("resource_type", "report"),
        ("resource_id", "other"),
        ("timestamp", "2020-01-01 00:00:00+00:00"),
        ("ip_address", "10.0.0.1"),
        ("user_agent", "other"),
        ("details", '{"n": 99}'),
        ("user_id", None),
        ("pseudonym", "made up"),
        ("activity_id", "auth:1"),
        ("nonce", b"0123456789abcdef"),
        ("origin", "import"),
        ("data_subject", "patient-9"),
        ("purpose", "TREAT"),
        ("legal_basis", "consent"),
        ("actor", b"x" * 32),
        ("actor_nonce", b"x" * 16),
    ],
)
def test_edited_row_is_detected(log, place, column, value):
    if connection.vendor == "sqlite" and column == "timestamp":
        value = value.removesuffix("+00:00")
    sql(f'UPDATE "{LOG}" SET "{column}" = %s WHERE id = %s', value, log.id(place))
    assert found() == {("entry_edited", f"entry {log.id(place)}")}


@pytest.mark.parametrize("entry_version", [2])
@pytest.mark.parametrize(
    ("column", "value"),
    [("origin", "client"), ("origin", None), ("actor", None), ("actor_nonce", None)],
)
def test_edited_column_of_version_2_is_detected(log, entry_version, column, value):
    sql(f'UPDATE "{LOG}" SET "{column}" = %s WHERE id = %s', value, log.id(1))
    assert found() == {("entry_edited", f"entry {log.id(1)}")}


def test_edited_microseconds_are_detected(log):
    moment = AuditLog.objects.get(pk=log.id(1)).timestamp + timedelta(microseconds=7)
    AuditLog._base_manager.filter(pk=log.id(1)).update(timestamp=moment)
    assert found() == {("entry_edited", f"entry {log.id(1)}")}


@pytest.mark.parametrize("version", [None, 0, 1, 2, 3])
def test_edited_version_of_a_leaf_is_detected(log, entry_version, version):
    sql(f'UPDATE "{LEAF}" SET version = %s WHERE entry_id = %s', version, log.id(1))
    is_same = version == (None if entry_version == 1 else entry_version)
    assert found() == (set() if is_same else {("entry_edited", f"entry {log.id(1)}")})


@pytest.mark.parametrize("entry_version", [2])
def test_inserted_row_with_a_computed_leaf_is_detected(log, entry_version):
    """Leaves of version 2 can be computed by everyone, the tag of the nonce can't."""
    _copy(LOG, f"id = {log.id(1)}", id="1000000", action="'viewed'")
    _copy(LEAF, f"entry_id = {log.id(1)}", entry_id="1000000", seal_number="NULL")
    forged = AuditLog.objects.get(pk=1000000)
    row = canonical_entry_v2(forged, bytes(forged.actor).hex())
    nonce = bytes(32)
    sql(f'UPDATE "{LOG}" SET nonce = %s WHERE id = 1000000', nonce)
    sql(f'UPDATE "{LEAF}" SET hash = %s WHERE entry_id = 1000000', entry_leaf_v2(nonce, row))
    assert found() == {("entry_edited", "entry 1000000")}


def test_row_moved_to_another_user_is_detected(log, administrator):
    key = AuditLog._meta.get_field("user").get_db_prep_value(administrator.pk, connection)
    sql(f'UPDATE "{LOG}" SET user_id = %s WHERE id = %s', key, log.id(0))
    assert found() == {("entry_edited", f"entry {log.id(0)}")}


@pytest.mark.parametrize("place", [1, 11], ids=["sealed", "unsealed"])
def test_deleted_row_is_detected(log, place):
    sql(f'DELETE FROM "{LOG}" WHERE id = %s', log.id(place))
    assert found() == {("entry_deleted", f"entry {log.id(place)}")}


def _copy(table, condition, **changes):
    columns = [c.name for c in _description(table)]
    chosen = ", ".join(changes.get(column, f'"{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    sql(f'INSERT INTO "{table}" ({names}) SELECT {chosen} FROM "{table}" WHERE {condition}')


def _description(table):
    with connection.cursor() as cursor:
        return connection.introspection.get_table_description(cursor, table)


def test_inserted_row_is_detected(log):
    _copy(LOG, f"id = {log.id(1)}", id="1000000")
    assert found() == {("entry_forged", "entry 1000000")}


def test_inserted_row_with_inserted_leaf_is_detected(log):
    _copy(LOG, f"id = {log.id(1)}", id="1000000")
    _copy(LEAF, f"entry_id = {log.id(1)}", entry_id="1000000", seal_number="NULL")
    assert found() == {("entry_forged", "entry 1000000")}
    sql(f'UPDATE "{LOG}" SET nonce = %s WHERE id = 1000000', b"0123456789abcdef")
    assert ("entry_edited", "entry 1000000") in found()


def test_swapped_rows_are_detected(log):
    first, second = log.id(0), log.id(1)
    for old, new in ((first, -1), (second, first), (-1, second)):
        sql(f'UPDATE "{LOG}" SET id = %s WHERE id = %s', new, old)
    assert found() == {("entry_edited", f"entry {first}"), ("entry_edited", f"entry {second}")}


def test_restored_erased_row_is_detected(log):
    _copy(LOG, f"id = {log.id(1)}", id=str(log.erased[0]))
    assert found() == {("entry_restored", f"entry {log.erased[0]}")}


@pytest.mark.parametrize(("place", "seals"), [(1, {"seal 1"}), (11, set())])
def test_edited_leaf_is_detected(log, place, seals):
    sql(f'UPDATE "{LEAF}" SET hash = %s WHERE entry_id = %s', b"x" * 32, log.id(place))
    expected = {("entry_edited", f"entry {log.id(place)}")}
    assert found() == expected | {("seal_broken", seal) for seal in seals}


def test_deleted_leaf_is_detected(log):
    sql(f'DELETE FROM "{LEAF}" WHERE entry_id = %s', log.id(1))
    assert found() == {
        ("entry_forged", f"entry {log.id(1)}"),
        ("seal_broken", "seal 1"),
        ("counts_wrong", "stored counts"),
    }


def test_deleted_leaf_and_row_break_the_seal(log):
    sql(f'DELETE FROM "{LEAF}" WHERE entry_id = %s', log.id(1))
    sql(f'DELETE FROM "{LOG}" WHERE id = %s', log.id(1))
    assert ("seal_broken", "seal 1") in found()


def test_inserted_leaf_is_detected(log):
    _copy(LEAF, f"entry_id = {log.id(1)}", entry_id="1000000")
    assert found() == {
        ("entry_deleted", "entry 1000000"),
        ("entry_forged", "entry 1000000"),
        ("seal_broken", "seal 1"),
        ("counts_wrong", "stored counts"),
    }


def test_swapped_leaves_are_detected(log):
    first, second = log.id(0), log.id(1)
    for old, new in ((first, -1), (second, first), (-1, second)):
        sql(f'UPDATE "{LEAF}" SET entry_id = %s WHERE entry_id = %s', new, old)
    assert found() == {
        ("entry_edited", f"entry {first}"),
        ("entry_edited", f"entry {second}"),
        ("seal_broken", "seal 1"),
    }


def test_leaves_moved_between_seals_break_both(log):
    sql(f'UPDATE "{LEAF}" SET seal_number = 2 WHERE entry_id = %s', log.id(0))
    sql(f'UPDATE "{LEAF}" SET seal_number = 1 WHERE entry_id = %s', log.id(4))
    assert found() == {("seal_broken", "seal 1"), ("seal_broken", "seal 2")}


@pytest.mark.parametrize("table", [LEAF, SEAL, ERASURE])
def test_unknown_key_of_evidence_is_reported(log, table):
    sql(f'UPDATE "{table}" SET key_id = %s', "unknown")
    assert found() == {("key_lost", "key unknown")}


def test_entries_swapped_with_their_leaves_break_the_seal(log):
    first, second = log.id(0), log.id(1)
    for old, new in ((first, -1), (second, first), (-1, second)):
        sql(f'UPDATE "{LOG}" SET id = %s WHERE id = %s', new, old)
        sql(f'UPDATE "{LEAF}" SET entry_id = %s WHERE entry_id = %s', new, old)
    assert found() == {("seal_broken", "seal 1")}


@pytest.mark.parametrize("number", [None, 1])
def test_erasure_moved_to_another_seal_breaks_its_seal(log, number):
    sql(f'UPDATE "{ERASURE}" SET seal_number = %s', number)
    assert ("seal_broken", "seal 3") in found()


@pytest.mark.parametrize("number", [0, 99, -5])
def test_leaf_of_a_missing_seal_is_detected(log, number):
    sql(f'UPDATE "{LEAF}" SET seal_number = %s WHERE entry_id = %s', number, log.id(11))
    assert ("seal_missing", f"seal {number}") in found()


def test_unsealed_leaf_breaks_its_seal(log):
    sql(f'UPDATE "{LEAF}" SET seal_number = NULL WHERE entry_id = %s', log.id(0))
    assert ("seal_broken", "seal 1") in found()


def test_removed_erasure_mark_is_detected(log):
    sql(f'UPDATE "{LEAF}" SET erasure_id = NULL WHERE entry_id = %s', log.erased[0])
    assert ("entry_deleted", f"entry {log.erased[0]}") in found()
    assert ("erasure_broken", f"erasure {log.erasure.pk}") in found()


def test_added_erasure_mark_is_detected(log):
    mark = Leaf.objects.get(entry_id=log.erased[0]).erasure_id
    Leaf.objects.filter(entry_id=log.id(0)).update(erasure_id=mark)
    sql(f'DELETE FROM "{LOG}" WHERE id = %s', log.id(0))
    assert ("erasure_broken", f"erasure {log.erasure.pk}") in found()


@pytest.mark.parametrize("spelling", ["upper(id)", "'{' || id || '}'"])
def test_leaf_that_spells_an_erasure_in_another_way_is_detected(log, spelling):
    """Only SQLite stores ids of erasures as text, which could name a second, forged erasure."""
    if connection.vendor == "sqlite":
        sql(
            f'UPDATE "{LEAF}" SET erasure_id = (SELECT {spelling} FROM "{ERASURE}") '
            "WHERE entry_id = %s",
            log.id(0),
        )
        _copy(ERASURE, "TRUE", id=spelling, pseudonym="NULL", seal_number="NULL")
        sql(f'DELETE FROM "{LOG}" WHERE id = %s', log.id(0))
        misspelled = [one for one in verify() if "never spells so" in one.message]
        assert [one.kind for one in misspelled] == ["erasure_forged"]


def test_leaf_of_a_deleted_row_can_not_refer_to_a_retention(
    log, write, settings, django_user_model
):
    retained = django_user_model.objects.create_user(email="kept@clinic.example")
    write(user=retained)
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    retained.delete()
    retention = Erasure.objects.get(reason="retain")
    Leaf.objects.filter(entry_id=log.id(0)).update(erasure_id=retention.pk)
    sql(f'DELETE FROM "{LOG}" WHERE id = %s', log.id(0))
    call_command("audit_seal", "--recount", stdout=StringIO())
    assert found() == {("erasure_broken", f"erasure {retention.pk}")}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("root", b"x" * 32),
        ("entries", 5),
        ("erasures", 5),
        ("sealed_at", "2020-01-01 00:00:00"),
        ("signature", b"x" * 32),
    ],
)
def test_edited_seal_is_detected(log, column, value):
    sql(f'UPDATE "{SEAL}" SET "{column}" = %s WHERE number = 2', value)
    assert ("seal_forged", "seal 2") in found()


def test_seal_with_another_predecessor_is_detected(log):
    sql(f'UPDATE "{SEAL}" SET previous = %s WHERE number = 2', b"x" * 32)
    assert {("seal_forged", "seal 2"), ("seal_reordered", "seal 2")} <= found()


def test_deleted_seal_is_detected(log):
    sql(f'DELETE FROM "{SEAL}" WHERE number = 2')
    assert {("seal_missing", "seal 2"), ("seal_missing", "seals 2 to 2")} <= found()


def test_deleted_first_seal_is_detected(log):
    sql(f'DELETE FROM "{SEAL}" WHERE number = 1')
    assert {("seal_missing", "seal 1"), ("seal_missing", "seals 1 to 1")} <= found()


def test_deleted_last_seal_is_detected(log):
    sql(f'DELETE FROM "{SEAL}" WHERE number = 3')
    assert ("seal_missing", "seal 3") in found()


def test_inserted_seal_is_detected(log):
    _copy(SEAL, "number = 3", number="4")
    assert {("seal_forged", "seal 4"), ("seal_reordered", "seal 4")} <= found()


def test_swapped_seals_are_detected(log):
    for old, new in ((1, -1), (2, 1), (-1, 2)):
        sql(f'UPDATE "{SEAL}" SET number = %s WHERE number = %s', new, old)
    assert {("seal_forged", "seal 1"), ("seal_forged", "seal 2")} <= found()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("entries", 1),
        ("reason", "purge"),
        ("details", '{"a": 1}'),
        ("digest", b"x" * 32),
        ("nonce", b"x" * 16),
        ("pseudonym", "made up"),
        ("erased_at", "2020-01-01 00:00:00"),
    ],
)
def test_edited_erasure_is_detected(log, column, value):
    sql(f'UPDATE "{ERASURE}" SET "{column}" = %s', value)
    assert ("erasure_forged", f"erasure {log.erasure.pk}") in found()


def test_edited_leaf_of_an_erasure_is_detected(log):
    sql(f'UPDATE "{ERASURE}" SET hash = %s', b"x" * 32)
    assert found() == {
        ("erasure_forged", f"erasure {log.erasure.pk}"),
        ("seal_broken", "seal 3"),
    }


def test_deleted_erasure_is_detected(log):
    sql(f'DELETE FROM "{ERASURE}"')
    kinds = {kind for kind, _ in found()}
    assert kinds == {"erasure_missing", "seal_broken"}


def test_inserted_erasure_is_detected(log):
    made = uuid.uuid4()
    text = f"'{made}'" if connection.vendor == "postgresql" else f"'{made.hex}'"
    _copy(ERASURE, "1 = 1", id=text, seal_number="NULL")
    assert {("erasure_forged", f"erasure {made}"), ("erasure_broken", f"erasure {made}")} <= found()


def test_swapped_erasures_are_detected(log, write, django_user_model):
    other = django_user_model.objects.create_user(email="second@clinic.example")
    write(user=other)
    other.delete()
    first, second = Erasure.objects.order_by("erased_at")
    Leaf.objects.filter(erasure_id__in=[first.pk, second.pk]).update(erasure_id=second.pk)
    problems = found()
    assert ("erasure_broken", f"erasure {first.pk}") in problems
    assert ("erasure_broken", f"erasure {second.pk}") in problems


def test_restored_backup_is_detected_by_anchors(log, write, settings, tmp_path):
    anchors = tmp_path / "anchors.jsonl"
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ANCHOR_FILE": str(anchors)}
    list(seal_pending())
    assert run_job(ANCHOR_JOB)
    # The state before that seal, as a backup would bring it back, is consistent in itself.
    for entry in log.entries[10:]:
        sql(f'DELETE FROM "{LOG}" WHERE id = %s', entry.pk)
        sql(f'DELETE FROM "{LEAF}" WHERE entry_id = %s', entry.pk)
    sql(f'DELETE FROM "{SEAL}" WHERE number = 4')
    call_command("audit_seal", "--recount", stdout=StringIO())
    assert found() == set()
    output = StringIO()
    with pytest.raises(SystemExit) as stopped:
        call_command("audit_verify", "--json", stdout=output)
    assert stopped.value.code == 1
    problem = json.loads(output.getvalue().splitlines()[0])
    assert (problem["kind"], problem["subject"]) == ("anchor_broken", "seal 4")


def test_restored_tables_of_erasures_and_rows_are_detected(log):
    """Rows and marks as they were before the erasure, and the erasure deleted."""
    for entry_id in log.erased:
        _copy(LOG, f"id = {log.id(1)}", id=str(entry_id))
    sql(f'UPDATE "{LEAF}" SET erasure_id = NULL')
    sql(f'DELETE FROM "{ERASURE}"')
    assert ("seal_broken", "seal 3") in found()


@pytest.mark.parametrize("period", ["A", "M", "D"])
@pytest.mark.parametrize("scope", ["", "a:upload_created", "t:upload", "u:"])
def test_edited_count_is_detected(log, scope, period):
    counts = EntryCount.objects.filter(scope__startswith=scope, period=period)
    count = counts.order_by("scope", "start").first()
    EntryCount.objects.filter(pk=count.pk).update(count=count.count - 1)
    assert found() == {("counts_wrong", "stored counts")}
    call_command("audit_seal", "--recount", stdout=StringIO())
    assert found() == set()


@pytest.mark.parametrize("scope", ["", "a:upload_created", "t:upload"])
def test_edited_counts_that_agree_with_each_other_are_detected(log, scope):
    EntryCount.objects.filter(scope=scope).update(count=F("count") - 1)
    assert found() == {("counts_wrong", "stored counts")}


def test_purged_deleted_and_retained_entries_pass(log, settings):
    entries_purge_chunk(before=utc_now(), limit=3, using="default")
    assert found() == set()
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    log.user.delete()
    assert AuditLog.objects.exclude(pseudonym="").count() == 9
    assert found() == set()
    list(seal_pending())
    entries_purge_chunk(before=utc_now(), limit=3, using="default")
    list(seal_pending())
    assert found() == set()


@pytest.mark.parametrize("entry_version", [2])
def test_retained_entry_with_its_nonce_put_back_is_detected(log, settings, entry_version):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    nonce = bytes(AuditLog.objects.get(pk=log.id(0)).actor_nonce)
    log.user.delete()
    assert found() == set()
    sql(f'UPDATE "{LOG}" SET actor_nonce = %s WHERE id = %s', nonce, log.id(0))
    assert found() == {("entry_edited", f"entry {log.id(0)}")}


def test_retained_entry_with_another_pseudonym_is_detected(log, write, settings, django_user_model):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    other = django_user_model.objects.create_user(email="second@clinic.example")
    entry = write(user=other)
    other.delete()
    log.user.delete()
    name = AuditLog.objects.get(pk=log.id(0)).pseudonym
    sql(f'UPDATE "{LOG}" SET pseudonym = %s WHERE id = %s', name, entry.pk)
    assert found() == {("entry_edited", f"entry {entry.pk}")}


@pytest.mark.parametrize("details", ["[]", "5", "{}", '{"subjects": 5}', '{"subjects": {}}'])
def test_erasure_with_changed_details_and_its_entries_are_detected(log, settings, details):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    log.user.delete()
    erasure = Erasure.objects.get(reason="retain")
    sql(f'UPDATE "{ERASURE}" SET details = %s WHERE reason = %s', details, "retain")
    entries = AuditLog.objects.filter(pseudonym=erasure.pseudonym)
    assert found() == {
        ("erasure_forged", f"erasure {erasure.pk}"),
        *(("entry_edited", f"entry {entry.pk}") for entry in entries),
    }


def test_keys_rotate_by_id_and_a_lost_key_is_reported(log, write, settings):
    settings.MYOMETRICS_AUDIT = {"KEYS": {"2026": "a" * 32}, "ALLOW_FLUSH": True}
    write()
    list(seal_pending())
    settings.MYOMETRICS_AUDIT = {"KEYS": {"2026": "a" * 32, "2027": "b" * 32}, "ALLOW_FLUSH": True}
    write()
    list(seal_pending())
    assert Seal.objects.get(number=5).key_id == "2027"
    assert found() == set()
    settings.MYOMETRICS_AUDIT = {"KEYS": {"2027": "b" * 32}, "ALLOW_FLUSH": True}
    assert found() == {("key_lost", "key 2026")}


def test_changed_secret_key_is_lost_unless_it_is_a_fallback(log, settings):
    old = settings.SECRET_KEY
    settings.SECRET_KEY = "another-secret-key-of-this-site-" + "y" * 30
    assert {kind for kind, _ in found()} == {"key_lost"}
    settings.SECRET_KEY_FALLBACKS = [old]
    assert found() == set()


def test_impossible_value_is_detected(log):
    sql(f'UPDATE "{LOG}" SET details = %s WHERE id = %s', "[1]", log.id(1))
    assert found() == {("entry_edited", f"entry {log.id(1)}")}


def test_unreadable_row_does_not_stop_the_verification(log):
    if connection.vendor == "postgresql":
        return  # its columns hold nothing that can't be read
    sql(f'UPDATE "{LOG}" SET action = %s WHERE id = %s', "viewed", log.id(0))
    sql(f'UPDATE "{LOG}" SET user_id = %s WHERE id = %s', "nonsense", log.id(1))
    problems = found()
    sql(f'UPDATE "{LOG}" SET user_id = NULL WHERE id = %s', log.id(1))
    assert problems == {
        ("entry_edited", f"entry {log.id(0)}"),
        ("entry_unreadable", f"entry {log.id(1)}"),
    }


def test_verification_that_can_not_run_has_its_own_exit_code(tmp_path):
    anchors = tmp_path / "anchors.jsonl"
    with pytest.raises(CommandError) as missing:
        call_command("audit_verify", "--anchors", str(anchors), stdout=StringIO())
    anchors.write_text("no anchor\n")
    with pytest.raises(CommandError) as unreadable:
        call_command("audit_verify", "--anchors", str(anchors), stdout=StringIO())
    assert (missing.value.returncode, unreadable.value.returncode) == (2, 2)


@pytest.mark.parametrize("error", [OperationalError("server closed"), BrokenProcessPool("killed")])
def test_interrupted_verification_has_the_exit_code_of_one_that_can_not_run(
    log, monkeypatch, error
):
    def unsealed_leaves(using):
        raise error

    monkeypatch.setattr(verifier, "unsealed_leaves", unsealed_leaves)
    with pytest.raises(CommandError, match=f"could not be verified: {type(error).__name__}") as one:
        call_command("audit_verify", stdout=StringIO())
    assert one.value.returncode == 2


def test_verification_with_wrong_settings_has_the_exit_code_of_one_that_can_not_run(settings):
    settings.MYOMETRICS_AUDIT = {"NO_SUCH_SETTING": 1}
    with pytest.raises(SystemCheckError, match="NO_SUCH_SETTING") as refused:
        call_command("audit_verify", skip_checks=False, stdout=StringIO())
    assert refused.value.returncode == 2


def test_verify_command_reports_and_stores_the_result(log):
    from myometrics_audit.models import Verification

    output = StringIO()
    call_command("audit_verify", "--json", stdout=output)
    assert json.loads(output.getvalue()) == {
        "entries": 12,
        "leaves": 14,
        "seals": 3,
        "newest_seal": 3,
        "problems": 0,
    }
    kept = Verification.objects.get()
    assert (kept.seal_number, kept.entries, kept.problems) == (3, 12, 0)
    call_command("audit_verify", "--no-record", stdout=output)
    assert "No problems." in output.getvalue()
    assert Verification.objects.count() == 1


def test_problem_says_what_to_do(log):
    sql(f'UPDATE "{LOG}" SET action = %s WHERE id = %s', "viewed", log.id(0))
    output = StringIO()
    with pytest.raises(SystemExit):
        call_command("audit_verify", stdout=output)
    line, _ = output.getvalue().splitlines()
    assert line.startswith(f"entry {log.id(0)}: differs from its leaf [entry_edited]. Compare it")


def test_problem_with_a_tampered_value_has_one_line(log):
    sql(f'UPDATE "{LEAF}" SET key_id = %s WHERE entry_id = %s', "x\nNo problems.\x1b[2J", log.id(0))
    output = StringIO()
    with pytest.raises(SystemExit):
        call_command("audit_verify", stdout=output)
    line, _ = output.getvalue().splitlines()
    assert line.startswith("key x?No problems.?[2J: is not in the settings")


def test_every_kind_of_problem_has_advice():
    kinds = set(re.findall(r"``([a-z]+_[a-z]+)``", Problem.__doc__))
    assert kinds == set(ADVICE)
