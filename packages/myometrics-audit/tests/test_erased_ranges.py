"""Erasure of a range of ids, whose leaves don't refer to the erasure."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from datetime import datetime, timezone
from io import StringIO

import pytest
from checkpoint_site import configure_checkpoints
from django.core.management import call_command
from django.core.serializers import deserialize, serialize
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from myometrics_audit.checkpoints.export_folder import folder_problems
from myometrics_audit.checkpoints.publication import checkpoint_publish
from myometrics_audit.listing import Selection, entries_count
from myometrics_audit.log.guards import install_guards, remove_guards
from myometrics_audit.models import AuditLog, EntryCount, Erasure, Leaf, Seal
from myometrics_audit.sealing import LogVerifier, seal_pending
from myometrics_audit.sealing.counts import counts_rebuild
from myometrics_audit.sealing.erased_ranges import ErasedRange, ErasedRanges
from myometrics_audit.sealing.erasures import range_erasure_prepare, range_erasure_write
from myometrics_audit.sealing.export import archive_lines, export_problems
from myometrics_audit.sealing.locks import evidence_lock
from myometrics_audit.sealing.verification.seal_checks import KnownHead
from myometrics_audit.signing.merkle import MerkleTree
from myometrics_audit.signing.signatures import tree_seal

pytestmark = pytest.mark.django_db


@pytest.fixture
def unguarded():
    """The tables without guards: partitions are dropped, and attackers change rows."""
    remove_guards("default")
    yield
    install_guards("default")


@pytest.fixture
def log(write, administrator):
    """Ten entries of two users, under two seals."""
    for number in range(10):
        write(resource_id=str(number), user=administrator if number % 3 == 0 else None)
        if number == 4:
            list(seal_pending())
    list(seal_pending())
    return list(AuditLog.objects.order_by("pk").values_list("pk", flat=True))


def erase(first_id, end_id, kept=()):
    erased = ErasedRange(first_id, end_id, frozenset(kept))
    with evidence_lock("default"):
        prepared = range_erasure_prepare(erased, using="default")
        assert prepared.has_all_entries
        erasure = range_erasure_write(prepared, details={}, using="default")
        erased.rows("default")._raw_delete("default")
    return erasure


def problems(**options):
    return Counter(problem.kind for problem in LogVerifier(using="default", **options).problems())


def test_erasure_of_a_range_leaves_a_log_that_verifies(log, unguarded):
    erasure = erase(log[2], log[8], kept=[log[4]])
    assert erasure.entries == 5
    assert erasure.details["kept"] == [log[4]]
    assert not Leaf.objects.exclude(erasure_id=None).exists()
    assert entries_count(Selection()) == AuditLog.objects.count() == 5
    verifier = LogVerifier(using="default")
    assert list(verifier.problems()) == []
    assert (verifier.leaves, verifier.entries.entries) == (10, 5)
    list(seal_pending())
    assert not problems()


def test_entries_erased_before_their_range_belong_to_their_own_erasure(
    log, unguarded, administrator
):
    administrator.delete()
    erasure = erase(log[0], log[9] + 1)
    assert erasure.entries == 6
    assert not problems()
    assert not EntryCount.objects.exclude(count=0).exists()


def test_kept_entries_can_be_erased_later(log, unguarded, administrator):
    erase(log[0], log[9] + 1, kept=[log[0], log[1]])
    administrator.delete()
    assert list(AuditLog.objects.values_list("pk", flat=True)) == [log[1]]
    assert not problems()


def test_counts_can_be_rebuilt_after_a_range_was_erased(log, unguarded):
    erase(log[0], log[6])
    counts_rebuild(using="default")
    assert not problems()
    assert entries_count(Selection()) == 4


def test_entry_that_is_back_after_its_range_was_erased_is_found(log, unguarded):
    entry = AuditLog.objects.get(pk=log[3])
    erase(log[2], log[8], kept=[log[4]])
    entry.save_base(raw=True, force_insert=True)
    assert problems() == {"entry_restored": 1}


def test_missing_entry_that_a_range_keeps_is_found(log, unguarded):
    erase(log[2], log[8], kept=[log[4]])
    AuditLog._base_manager.filter(pk=log[4])._raw_delete("default")
    assert problems() == {"entry_deleted": 1}


def test_missing_entry_beside_a_range_is_found(log, unguarded):
    erase(log[2], log[8])
    AuditLog._base_manager.filter(pk=log[8])._raw_delete("default")
    assert problems() == {"entry_deleted": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"first_id": 1},
        {"end_id": 9},
        {"kept": []},
        {"kept": [5]},
        {"kept": "none"},
        {"first_id": None},
        {"end_id": True},
    ],
)
def test_tampered_range_is_found(log, unguarded, change):
    erasure = erase(log[2], log[8], kept=[log[4]])
    places = {name: log[value] if type(value) is int else value for name, value in change.items()}
    if type(change.get("kept")) is list:
        places["kept"] = [log[place] for place in change["kept"]]
    Erasure.objects.filter(pk=erasure.pk).update(details={**erasure.details, **places})
    found = problems()
    assert found["erasure_forged"] == found["erasure_broken"] == 1


def test_leaf_that_is_removed_from_an_erased_range_is_found(log, unguarded):
    erase(log[2], log[8])
    Leaf.objects.filter(pk=log[3]).delete()
    assert problems()["erasure_broken"] == 1


def test_leaf_that_is_attributed_to_another_erasure_is_found(log, unguarded, administrator):
    administrator.delete()
    other = Erasure.objects.get()
    erase(log[0], log[9] + 1)
    Leaf.objects.filter(pk=log[1]).update(erasure_id=other.pk)
    assert problems()["erasure_broken"] == 2


def test_leaf_beside_a_range_can_not_refer_to_it(log, unguarded):
    erasure = erase(log[2], log[8])
    Leaf.objects.filter(pk=log[9]).update(erasure_id=erasure.pk)
    AuditLog._base_manager.filter(pk=log[9])._raw_delete("default")
    counts_rebuild(using="default")
    assert problems() == {"erasure_broken": 1}


def test_ranges_that_overlap_are_found(log, unguarded):
    first = erase(log[2], log[6])
    erased = ErasedRange(log[4], log[8], frozenset())
    with evidence_lock("default"):
        prepared = range_erasure_prepare(erased, using="default")
        assert not prepared.has_all_entries
        range_erasure_write(prepared, details={}, using="default")
        erased.rows("default")._raw_delete("default")
    (problem,) = [p for p in LogVerifier().problems() if p.kind == "erasure_broken"]
    assert str(first.pk) in problem.message


def test_verification_reads_the_ranges_as_often_for_many_erased_entries(
    log, unguarded, monkeypatch
):
    monkeypatch.setattr("myometrics_audit.sealing.verification.entry_checks.CHUNK", 2)
    erase(log[0], log[9] + 1)
    with CaptureQueriesContext(connection) as queries:
        assert not problems()
    # At the start, for overlaps, and before and after the counts.
    read = [one for one in queries if "first_id" in one["sql"] and "audit_erasure" in one["sql"]]
    assert len(read) == 4


def test_verification_finds_a_range_that_is_erased_while_it_runs(log, unguarded):
    verifier = LogVerifier(using="default")
    erase(log[2], log[8])
    assert list(verifier.problems()) == []


def test_range_that_is_erased_while_the_leaves_are_counted_is_no_problem(log, unguarded):
    erased = []

    def erase_after_counting(execute, sql, *arguments):
        result = execute(sql, *arguments)
        if sql.startswith("SELECT (SELECT COALESCE(SUM") and not erased:
            erased.append(erase(log[2], log[8]))
        return result

    with connection.execute_wrapper(erase_after_counting):
        assert not problems()
    assert erased


def first_head():
    return KnownHead(1, MerkleTree([tree_seal(Seal.objects.get(number=1))]).root())


def test_impossible_time_is_a_problem_of_its_entry_only(log, unguarded):
    first_day = datetime(1, 1, 1, tzinfo=timezone.utc)
    AuditLog._base_manager.filter(pk=log[7]).update(timestamp=first_day)
    assert problems(since=first_head()) == {"entry_edited": 1}


def test_entry_replaced_by_a_forged_one_is_no_complete_range(log, unguarded):
    forged = AuditLog.objects.get(pk=log[3])
    AuditLog._base_manager.filter(pk=log[3])._raw_delete("default")
    forged.pk = log[9] + 1
    forged.save_base(raw=True, force_insert=True)
    erased = ErasedRange(log[0], log[9] + 2, frozenset())
    assert not range_erasure_prepare(erased, using="default").has_all_entries


def test_forged_range_under_an_old_seal_is_found_since_a_head(log, unguarded):
    genuine = erase(log[5], log[6])
    list(seal_pending())
    AuditLog._base_manager.filter(pk__in=[log[7], log[8]])._raw_delete("default")
    details = ErasedRange(log[7], log[9], frozenset()).details()
    forged = Erasure.objects.get(pk=genuine.pk)
    forged.pk, forged.seal_number, forged.details = uuid.uuid4(), 1, details
    forged.save(force_insert=True)
    assert problems(since=first_head())["erasure_forged"] == 1


def test_archive_has_erasures_that_were_sealed_before_its_entries(write, administrator, settings):
    settings.MYOMETRICS_AUDIT = {
        **settings.MYOMETRICS_AUDIT,
        "ON_USER_DELETE": "retain",
        "SEAL_BATCH_SIZE": 2,
    }
    entries = [write(user=administrator).pk for _ in range(6)]
    administrator.delete()
    list(seal_pending())
    last = AuditLog.objects.filter(pk=entries[-1])
    assert list(export_problems(archive_lines(last, using="default"))) == []


def test_verification_since_a_head_reads_the_ranges(log, unguarded):
    head = first_head()
    erase(log[2], log[8], kept=[log[4]])
    list(seal_pending())
    verifier = LogVerifier(using="default", since=head)
    assert list(verifier.problems()) == []
    assert (verifier.leaves, verifier.entries.entries) == (5, 2)


def test_new_leaf_in_an_old_range_is_found_since_a_head(write, log, unguarded):
    erase(log[2], log[8], kept=[log[4]])
    list(seal_pending())
    head = KnownHead(3, MerkleTree(map(tree_seal, Seal.objects.order_by("number"))).root())
    Leaf.objects.filter(pk=log[3]).delete()
    new = write().pk
    Leaf.objects.filter(pk=new).update(entry_id=log[3])
    AuditLog._base_manager.filter(pk=new)._raw_delete("default")
    list(seal_pending())
    assert problems(since=head) == {"erasure_broken": 1}


@pytest.mark.django_db(transaction=True)
def test_verification_in_processes_reads_the_ranges(log, unguarded):
    erase(log[2], log[8], kept=[log[4]])
    verifier = LogVerifier(using="default", jobs=2)
    assert list(verifier.problems()) == []
    assert (verifier.leaves, verifier.entries.entries) == (10, 5)


def test_complete_export_names_the_erasure_of_a_range(log, unguarded, settings, tmp_path):
    configure_checkpoints(settings, tmp_path / "tiles")
    erasure = erase(log[2], log[8], kept=[log[4]])
    list(seal_pending())
    checkpoint_publish()
    folder = tmp_path / "log"
    call_command("audit_export", "--folder", str(folder), stdout=StringIO())
    assert list(folder_problems(folder)) == []
    lines = list(map(json.loads, (folder / "log.jsonl").read_text().splitlines()))
    erased = {line["id"]: line["erasure"] for line in lines if line["type"] == "erased"}
    assert erased == dict.fromkeys([log[2], log[3], log[5], log[6], log[7]], str(erasure.pk))
    (line,) = [line for line in lines if line["type"] == "erasure"]
    assert line["details"]["kept"] == [log[4]]
    for line in lines:
        if line.get("id") == log[3]:
            line["erasure"] = str(uuid.uuid4())
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    missing, broken = folder_problems(folder)
    assert "is missing, but 1 entries name it" in missing
    assert f"erasure {erasure.pk} has erased 5 entries, but 4 name it here" in broken


def test_erased_range_survives_dumpdata_and_loaddata(log, unguarded):
    erasure = erase(log[2], log[8], kept=[log[4]])
    dumped = serialize("json", Erasure.objects.all())
    Erasure.objects.all().delete()
    for loaded in deserialize("json", dumped):
        loaded.save()
    assert Erasure.objects.get().details == erasure.details
    assert not problems()


ranges = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 10)), max_size=8)


@given(ranges)
def test_range_is_found_by_the_ids_that_it_contains(pairs):
    found, end = [], 0
    for gap, length in pairs:
        found.append(ErasedRange(end + gap, end + gap + length, frozenset({end + gap})))
        end += gap + length
    erased = ErasedRanges(found)
    assert not list(erased.overlapping())
    for entry_id in range(-1, end + 1):
        containing = [one for one in found if one.contains(entry_id)]
        assert erased.find(entry_id) == (containing[0] if containing else None)


@given(ranges, st.randoms())
def test_ranges_overlap_if_an_id_is_in_two(pairs, random):
    found = [ErasedRange(first, first + length, frozenset()) for first, length in pairs]
    random.shuffle(found)
    is_twice = any(sum(one.contains(entry_id) for one in found) > 1 for entry_id in range(62))
    assert bool(list(ErasedRanges(found).overlapping())) is is_twice
