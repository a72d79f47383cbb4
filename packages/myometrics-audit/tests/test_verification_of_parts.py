"""Verification since a checkpoint, against checkpoints, and in several processes."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from io import StringIO

import pytest
from checkpoint_site import KEY, configure_checkpoints
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from myometrics_audit.checkpoints.models import Checkpoint
from myometrics_audit.checkpoints.publication import checkpoint_publish
from myometrics_audit.log.guards import remove_guards
from myometrics_audit.models import AuditLog, Erasure, Leaf, Seal, Verification
from myometrics_audit.sealing import LogVerifier, seal_pending
from myometrics_audit.signing.notes import generate_key

pytestmark = pytest.mark.django_db

LOG, LEAF, SEAL = (model._meta.db_table for model in (AuditLog, Leaf, Seal))


def sql(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def run(*options):
    """The problems as (kind, subject), and the result of ``audit_verify``."""
    output = StringIO()
    with suppress(SystemExit):
        call_command("audit_verify", "--json", *options, stdout=output)
    *problems, result = map(json.loads, output.getvalue().splitlines())
    return {(one["kind"], one["subject"]) for one in problems}, result


@pytest.fixture
def log(settings, tmp_path, write, django_user_model):
    """Entries under three seals, two checkpoints (of 2 and 3 seals) and an unsealed entry."""
    configure_checkpoints(settings, tmp_path / "tiles")
    deleted = django_user_model.objects.create_user(email="deleted@clinic.example")
    ids = []
    for count in (3, 2, 2):
        ids += [write().pk for _ in range(count)]
        write(user=deleted)
        list(seal_pending())
        if len(ids) > 3:
            checkpoint_publish()
            name = f"checkpoint-{Seal.objects.count()}"
            (tmp_path / name).write_text((tmp_path / "tiles/checkpoint").read_text())
    deleted.delete()
    ids.append(write().pk)
    connection.check_constraints()
    remove_guards(connection.alias)
    return ids


def test_since_reads_only_what_came_after(log, tmp_path):
    problems, result = run("--since", str(tmp_path / "checkpoint-2"))
    assert problems == set()
    assert (result["entries"], result["leaves"], result["seals"]) == (3, 4, 1)
    assert (result["since"], result["newest_seal"]) == (2, 3)
    assert run()[1]["leaves"] == 11
    problems, result = run("--since", str(tmp_path / "checkpoint-3"))
    assert (problems, result["leaves"], result["seals"]) == (set(), 1, 0)


def test_since_detects_tampering_after_the_checkpoint_only(log, tmp_path):
    since = ("--since", str(tmp_path / "checkpoint-2"))
    for place, kinds in ((0, set()), (5, {"entry_edited"}), (7, {"entry_edited"})):
        sql(f"UPDATE \"{LOG}\" SET action = 'viewed' WHERE id = %s", log[place])
        assert {(kind, f"entry {log[place]}") for kind in kinds} == run(*since)[0]
        sql(f"UPDATE \"{LOG}\" SET action = 'upload_created' WHERE id = %s", log[place])
    sql(f'DELETE FROM "{LEAF}" WHERE entry_id = %s', log[5])
    assert run(*since)[0] == {("entry_forged", f"entry {log[5]}"), ("seal_broken", "seal 3")}


@pytest.mark.parametrize("is_sealed", [True, False])
def test_since_detects_a_new_entry_attributed_to_an_old_erasure(log, tmp_path, write, is_sealed):
    list(seal_pending())
    checkpoint_publish()
    (tmp_path / "old").write_text((tmp_path / "tiles/checkpoint").read_text())
    erasure = Erasure.objects.get()
    new = write().pk
    if is_sealed:
        list(seal_pending())
    assert run("--since", str(tmp_path / "old"))[0] == set()
    Leaf.objects.filter(entry_id=new).update(erasure_id=erasure.pk)
    sql(f'DELETE FROM "{LOG}" WHERE id = %s', new)
    broken = {("erasure_broken", f"erasure {erasure.pk}")}
    assert run("--since", str(tmp_path / "old"))[0] == broken
    Erasure.objects.update(entries=4)
    forged = {("erasure_forged", f"erasure {erasure.pk}")}
    assert run("--since", str(tmp_path / "old"))[0] >= forged


def test_since_accepts_an_erasure_sealed_before_its_entries(
    settings, tmp_path, write, django_user_model
):
    configure_checkpoints(settings, tmp_path / "tiles", SEAL_BATCH_SIZE=2)
    user = django_user_model.objects.create_user(email="deleted@clinic.example")
    for _ in range(5):
        write(user=user)
    user.delete()
    next(seal_pending())
    checkpoint_publish()
    list(seal_pending())
    assert run("--since", str(tmp_path / "tiles/checkpoint"))[0] == set()


def test_since_accepts_entries_that_an_old_erasure_retained(log, tmp_path, write, settings):
    retained = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    settings.MYOMETRICS_AUDIT = retained
    user = get_user_model().objects.create_user(email="retained@clinic.example")
    write(user=user)
    user.delete()
    list(seal_pending())
    checkpoint_publish()
    assert run("--since", str(tmp_path / "tiles/checkpoint"))[0] == set()


def test_since_detects_a_new_entry_whose_user_was_removed(log, tmp_path):
    """The forged erasure that assigns the pseudonym claims an old seal."""
    entry, leaf = AuditLog.objects.get(pk=log[5]), Leaf.objects.get(pk=log[5])
    forged = Erasure(
        reason=Erasure.Reason.RETAIN,
        entries=0,
        digest=b"x" * 32,
        pseudonym="f" * 32,
        details={"actors": {leaf.key_id: bytes(entry.actor).hex()}},
        nonce=b"x" * 16,
        key_id=leaf.key_id,
        hash=b"x" * 32,
        seal_number=1,
    )
    forged.save(force_insert=True)
    AuditLog._base_manager.filter(pk=entry.pk).update(
        user_id=None, actor_nonce=None, pseudonym=forged.pseudonym
    )
    since = ("--since", str(tmp_path / "checkpoint-2"))
    assert run(*since)[0] == {("erasure_forged", f"erasure {forged.pk}")}


def copy_row(original, new):
    """Copy an entry without its leaf."""
    columns = [c.column for c in AuditLog._meta.concrete_fields if c.column not in ("id",)]
    names = ", ".join(f'"{name}"' for name in columns)
    sql(
        f'INSERT INTO "{LOG}" (id, {names}) SELECT %s, {names} FROM "{LOG}" WHERE id = %s',
        *(new, original),
    )


def plant_leaf(entry_id, seal_number):
    """Insert a leaf that no key signed."""
    Leaf(entry_id=entry_id, hash=b"x" * 32, key_id="x", seal_number=seal_number, version=2).save(
        force_insert=True
    )


@pytest.mark.parametrize("number", [1, 2])
def test_since_detects_a_new_entry_with_a_leaf_that_claims_an_old_seal(log, tmp_path, number):
    new = log[-1] + 100
    copy_row(log[0], new)
    plant_leaf(new, number)
    since = ("--since", str(tmp_path / "checkpoint-2"))
    assert run(*since)[0] == {("seal_broken", f"seal {number}")}


@pytest.mark.parametrize("number", [0, -1, -(2**63)])
def test_since_detects_a_leaf_of_a_seal_that_can_not_exist(log, tmp_path, number):
    plant_leaf(log[-1] + 100, number)
    since = ("--since", str(tmp_path / "checkpoint-2"))
    assert ("seal_missing", f"seal {number}") in run(*since)[0]


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("has_leaves", [True, False])
def test_since_detects_new_entries_below_a_planted_leaf(
    log, tmp_path, django_user_model, number, has_leaves
):
    if not has_leaves:  # the newest old seal
        sql(f'DELETE FROM "{LEAF}" WHERE seal_number = 3')
    new = log[-1] + 100
    copy_row(log[0], new)
    plant_leaf(new + 100, number)
    since = ("--since", str(tmp_path / "checkpoint-3"))
    assert ("seal_broken", f"seal {number}") in run(*since)[0]


@pytest.fixture
def late_log(settings, tmp_path, write):
    """Three seals and a checkpoint of them; the entry of the last one has an older id."""
    configure_checkpoints(settings, tmp_path / "tiles")
    first = write().pk
    list(seal_pending())
    for later in (200, 100):  # an entry that was committed late
        write(pk=first + later)
        list(seal_pending())
    checkpoint_publish()
    write(pk=first + 300)
    connection.check_constraints()
    remove_guards(connection.alias)
    return first


def test_since_accepts_entries_that_were_committed_late(late_log, tmp_path):
    problems, result = run("--since", str(tmp_path / "tiles/checkpoint"))
    assert (problems, result["leaves"], result["seals"]) == (set(), 1, 0)


@pytest.mark.parametrize("offset", [101, 201])
def test_since_detects_forged_entries_next_to_those_committed_late(late_log, tmp_path, offset):
    since = ("--since", str(tmp_path / "tiles/checkpoint"))
    copy_row(late_log, late_log + offset)
    assert run(*since)[0] == {("entry_forged", f"entry {late_log + offset}")}
    plant_leaf(late_log + offset, 2)
    assert run(*since)[0] == {("seal_broken", "seal 2")}


def test_since_reads_of_the_old_seals_only_those_that_newer_ids_claim(late_log, tmp_path):
    Leaf.objects.filter(seal_number=1).update(hash=b"x" * 32)
    assert run("--since", str(tmp_path / "tiles/checkpoint"))[0] == set()
    Leaf.objects.filter(seal_number=2).update(hash=b"y" * 32)
    assert run("--since", str(tmp_path / "tiles/checkpoint"))[0] == {("seal_broken", "seal 2")}


SMALLEST_ID = -(2**63)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("options", [(), ("--jobs", "2"), ("--since",)])
def test_entry_with_the_smallest_id_is_detected(log, tmp_path, options):
    if options == ("--since",):
        options = ("--since", str(tmp_path / "checkpoint-2"))
    copy_row(log[0], SMALLEST_ID)
    forged = ("entry_forged", f"entry {SMALLEST_ID}")
    assert run(*options)[0] == {forged}
    plant_leaf(SMALLEST_ID, None)
    assert run(*options)[0] == {forged}
    AuditLog._base_manager.filter(pk=SMALLEST_ID)._raw_delete("default")
    assert run(*options)[0] == {forged}
    Leaf.objects.filter(pk=SMALLEST_ID).update(seal_number=SMALLEST_ID)
    assert forged in run(*options)[0]


@pytest.mark.parametrize("options", [(), ("--since",)])
def test_leaf_under_no_seal_number_of_sqlite_is_detected(log, tmp_path, options):
    """SQLite stores a number below the smallest integer as a float."""
    if connection.vendor == "sqlite":
        if options:
            options = ("--since", str(tmp_path / "checkpoint-2"))
        new = log[-1] + 100
        copy_row(log[0], new)
        plant_leaf(new, 1)
        sql(f'UPDATE "{LEAF}" SET seal_number = -1e300 WHERE entry_id = %s', new)
        assert ("entry_forged", f"entry {new}") in run(*options)[0]


def test_since_detects_a_copied_old_entry(log, tmp_path):
    new = log[-1] + 1
    copy_row(log[0], new)
    sql(
        f'INSERT INTO "{LEAF}" (entry_id, hash, key_id, version) '
        f'SELECT %s, hash, key_id, version FROM "{LEAF}" WHERE entry_id = %s',
        *(new, log[0]),
    )
    assert run("--since", str(tmp_path / "checkpoint-3"))[0] == {("entry_forged", f"entry {new}")}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_seals_that_differ_from_a_checkpoint_are_detected(log, tmp_path, number):
    """Even if the whole chain is signed again with the site's key."""
    sql(f'UPDATE "{SEAL}" SET entries = entries + 1 WHERE number = %s', number)
    broken = {("checkpoint_broken", "checkpoint 3")}
    broken |= {("checkpoint_broken", "checkpoint 2")} if number < 3 else set()
    assert broken <= run()[0]
    assert broken <= run("--since", str(tmp_path / "checkpoint-2"))[0]


def test_restored_backup_is_detected_by_the_published_checkpoint(log):
    Checkpoint.objects.filter(size=3).delete()
    sql(f'DELETE FROM "{LOG}" WHERE id IN (SELECT entry_id FROM "{LEAF}" WHERE seal_number = 3)')
    sql(f'DELETE FROM "{LEAF}" WHERE seal_number = 3')
    sql(f'DELETE FROM "{SEAL}" WHERE number = 3')
    assert ("checkpoint_broken", "checkpoint 3") in run()[0]


def test_forged_checkpoints_are_detected(log, settings, tmp_path):
    note = Checkpoint.objects.get(size=2).note
    Checkpoint.objects.filter(size=2).update(note=note.replace("\n2\n", "\n1\n"))
    assert run()[0] == {("checkpoint_forged", "checkpoint 2")}
    Checkpoint.objects.filter(size=2).update(note=Checkpoint.objects.get(size=3).note)
    assert run()[0] == {("checkpoint_forged", "checkpoint 2")}
    Checkpoint.objects.filter(size=2).update(note="nonsense")
    assert run()[0] == {("checkpoint_forged", "checkpoint 2")}
    Checkpoint.objects.filter(size=2).update(note=note)
    (tmp_path / "tiles/checkpoint").write_bytes(b"\xff")
    assert run()[0] == {("checkpoint_forged", "published checkpoint")}


def test_older_checkpoint_put_back_in_the_storage_is_detected(log, tmp_path):
    published = tmp_path / "tiles/checkpoint"
    published.write_text((tmp_path / "checkpoint-2").read_text())
    assert run()[0] == {("checkpoint_outdated", "published checkpoint")}
    list(seal_pending())
    checkpoint_publish()
    assert run()[0] == set()


def test_checkpoint_that_is_not_marked_as_published_yet_is_no_problem(log):
    Checkpoint.objects.filter(size=3).update(published_at=None)
    assert run()[0] == set()


def test_checkpoints_of_an_unknown_key_are_reported_until_it_is_listed(log, settings, tmp_path):
    key = generate_key(KEY.name)
    configure_checkpoints(settings, tmp_path / "tiles", key=key)
    assert {kind for kind, _ in run()[0]} == {"checkpoint_forged"}
    old = [str(KEY.verifier)]
    configure_checkpoints(settings, tmp_path / "tiles", key=key, CHECKPOINT_OLD_KEYS=old)
    assert run()[0] == set()
    settings.MYOMETRICS_AUDIT = {"CHECKPOINT_OLD_KEYS": old}
    assert run()[0] == set()


def test_partial_verification_is_recorded_only_if_it_found_problems(log, tmp_path):
    since = ("--since", str(tmp_path / "checkpoint-2"))
    run(*since)
    assert Verification.objects.count() == 0
    sql(f"UPDATE \"{LOG}\" SET action = 'viewed' WHERE id = %s", log[-1])
    run(*since)
    assert Verification.objects.get().problems == 1


@pytest.mark.parametrize("content", ["", "nonsense", "a\n1\n\n\u2014 x AAAA\n"])
def test_unusable_checkpoint_has_its_own_exit_code(log, tmp_path, content):
    (tmp_path / "other").write_text(content)
    for path in ("other", "missing"):
        with pytest.raises(CommandError, match="can't be read as a checkpoint") as refused:
            call_command("audit_verify", "--since", str(tmp_path / path), stdout=StringIO())
        assert refused.value.returncode == 2


@pytest.mark.django_db(transaction=True)
def test_processes_find_what_one_process_finds(log, monkeypatch):
    monkeypatch.setattr("myometrics_audit.sealing.verification.verifier.RANGE_LEAVES", 1)
    sql(f"UPDATE \"{LOG}\" SET action = 'viewed' WHERE id = %s", log[0])
    sql(f"UPDATE \"{LOG}\" SET action = 'viewed' WHERE id = %s", log[6])
    sql(f'DELETE FROM "{LOG}" WHERE id = %s', log[3])
    sql(f'UPDATE "{SEAL}" SET previous = root WHERE number = 2')
    sql(f"UPDATE \"{LEAF}\" SET key_id = 'lost' WHERE entry_id = %s", log[1])
    monkeypatch.setattr(connection, "chunked_cursor", None)  # behind a pooler
    one, several = run(), run("--jobs", "3")
    assert one == several
    assert len(one[0]) == 8


@pytest.mark.django_db(transaction=True)
def test_processes_find_a_missing_seal(log, monkeypatch):
    monkeypatch.setattr("myometrics_audit.sealing.verification.verifier.RANGE_LEAVES", 1)
    sql(f'DELETE FROM "{SEAL}" WHERE number = 2')
    assert {("seal_missing", "seal 2"), ("seal_missing", "seals 2 to 2")} <= run("--jobs", "2")[0]
    verifier = LogVerifier()
    assert {problem.kind for problem in verifier.problems()} == {"seal_missing"}


def test_since_looks_for_copies_from_the_time_of_the_new_entries_on(log, tmp_path, write):
    """A copy that was sealed before the checkpoint was detected when it was new."""
    sql(f'UPDATE "{SEAL}" SET sealed_at = %s WHERE number = 1', timezone.now() - timedelta(days=9))
    sql(
        f'UPDATE "{LEAF}" SET hash = (SELECT hash FROM "{LEAF}" WHERE entry_id = %s) '
        "WHERE entry_id = %s",
        *(log[0], log[1]),
    )
    since = ("--since", str(tmp_path / "checkpoint-3"))
    copy = ("entry_forged", f"entry {log[1]}")
    assert copy in run()[0]
    assert copy not in run(*since)[0]
    write(timestamp=timezone.now() - timedelta(days=10))
    assert copy in run(*since)[0]
