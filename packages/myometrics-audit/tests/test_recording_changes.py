"""Many-to-many relations, soft deletion, data subjects and blocks of changes."""

from __future__ import annotations

import uuid

import pytest
from django.db import models, transaction
from django.test.utils import isolate_apps
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_site.models import Invoice, Letter, Patient, Visit, Ward

from myometrics_audit import audit
from myometrics_audit.models import AuditLog
from myometrics_audit.tracking import (
    declarations,
    recorded,
    recorded_bulk_create,
    recorded_changes,
    recorded_delete,
    recorded_save,
    recorded_update,
)
from myometrics_audit.tracking.declarations import RecordedModel, recorded_model
from myometrics_audit.tracking.stored_rows import StoredRow, describe_change, stored_rows
from myometrics_core.events import is_reserved_action
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _declarations(monkeypatch):
    known = dict(declarations._recorded_models)
    monkeypatch.setattr(declarations, "_recorded_models", known)


@pytest.fixture
def patient():
    return Patient.objects.create(number="P-1", name="Pat")


def changes():
    return AuditLog.objects.get().details["changes"]


def make_wards(number):
    return [Ward.objects.create(name=str(n)) for n in range(number)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda wards, new: wards.add(new), [0, 1, 2]),
        (lambda wards, new: wards.remove(wards.first()), [1]),
        (lambda wards, new: wards.set([new]), [2]),
        (lambda wards, new: wards.clear(), []),
    ],
    ids=["add", "remove", "set", "clear"],
)
def test_many_to_many_change_has_old_and_new_keys(patient, user, change, expected):
    first, second, new = made = make_wards(3)
    patient.wards.set([first, second])
    with recorded_changes(patient, actor=user):
        change(patient.wards, new)
    keys = [ward.pk for ward in made]
    assert changes() == {"wards": {"from": keys[:2], "to": [keys[place] for place in expected]}}


def test_many_to_many_change_of_many_keys_is_bounded(patient, user):
    wards = Ward.objects.bulk_create(Ward(name=str(n)) for n in range(1200))
    wards = list(Ward.objects.order_by("pk"))
    patient.wards.set(wards[:1000])
    with recorded_changes(patient, actor=user):
        patient.wards.set(wards[500:])
    change = changes()["wards"]
    assert change["from"] == {"count": 1000}
    assert change["to"] == {"count": 700}
    keys = [ward.pk for ward in wards]
    assert change["added"] == {"keys": keys[1000:1100], "count": 200}
    assert change["removed"] == {"keys": keys[:100], "count": 500}


@settings(max_examples=25)
@given(before=st.sets(st.integers(0, 7)), after=st.sets(st.integers(0, 7)))
def test_many_to_many_changes_equal_the_difference_of_sets(user, before, after):
    with transaction.atomic():
        wards = make_wards(8)
        patient = Patient.objects.create(number="P-1", name="Pat")
        patient.wards.set(wards[n] for n in before)
        with recorded_changes(patient, actor=user):
            patient.wards.set(wards[n] for n in after)
        found = [entry.details["changes"]["wards"] for entry in AuditLog.objects.all()]
        keys = [[wards[n].pk for n in sorted(side)] for side in (before, after)]
        assert found == ([{"from": keys[0], "to": keys[1]}] if before != after else [])
        transaction.set_rollback(True)


def test_masked_many_to_many_relation_has_no_keys(patient, user):
    recorded(masked=["wards"], many_to_many=["wards"])(Patient)
    with recorded_changes(patient, actor=user):
        patient.wards.set(make_wards(1))
    assert changes() == {"wards": {"masked": True}}


def test_block_records_changed_new_and_deleted_rows(patient, user):
    visit = Visit.objects.create(patient=patient, reason="a")
    key = visit.pk
    with recorded_changes(patient, actor=user, purpose="TREAT", legal_basis="consent") as tracker:
        patient.name = "new"
        patient.save()
        tracker.watch_deletion([visit])
        visit.delete()
        new = Visit.objects.create(patient=patient, reason="b")
        tracker.add([new])
    found = {(e.action, e.resource_id, e.data_subject) for e in AuditLog.objects.all()}
    assert found == {
        ("patient_updated", str(patient.pk), "P-1"),
        ("visit_deleted", str(key), "P-1"),
        ("visit_created", str(new.pk), "P-1"),
    }
    assert {(e.purpose, e.legal_basis) for e in AuditLog.objects.all()} == {("TREAT", "consent")}


def test_block_that_fails_changes_and_records_nothing(patient, user):
    with pytest.raises(RuntimeError), recorded_changes(patient, actor=user):
        patient.wards.set(make_wards(1))
        raise RuntimeError
    assert not AuditLog.objects.exists()
    assert not patient.wards.exists()


def test_block_of_an_undeclared_model_is_refused(user):
    with (
        pytest.raises(LookupError, match="Invoice"),
        recorded_changes(Invoice.objects.create(number="1"), actor=user),
    ):
        pass


def test_soft_deletion_and_restore_are_named_as_such(patient, user):
    for value in (utc_now(), utc_now(), None):
        patient.deleted_at = value
        recorded_save(patient, actor=user)
    actions = list(AuditLog.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["patient_soft_deleted", "patient_updated", "patient_restored"]


def test_soft_deletion_by_update_is_named_as_such(patient, user):
    recorded_update(Patient.objects.all(), actor=user, deleted_at=utc_now())
    assert AuditLog.objects.get().action == "patient_soft_deleted"


@pytest.mark.parametrize("verb", ["created", "updated", "deleted", "soft_deleted", "restored"])
def test_actions_of_changes_are_reserved_for_the_server(verb):
    assert is_reserved_action(f"patient_{verb}")


def test_each_function_records_data_subject_purpose_and_legal_basis(user):
    why = {"purpose": "TREAT", "legal_basis": "consent"}
    patient = Patient(number="P-1", name="x")
    recorded_save(patient, actor=user, **why)
    recorded_bulk_create(Visit, [Visit(patient=patient, reason="a")], actor=user, **why)
    with audit.recording(actor=user, **why):
        recorded_update(Patient.objects.all(), name="y")
    recorded_delete(patient, actor=user, **why)
    facts = AuditLog.objects.values_list("data_subject", "purpose", "legal_basis", "user_id")
    assert set(facts) == {("P-1", "TREAT", "consent", user.pk)}
    assert len(facts) == 5


def test_data_subject_of_a_call_replaces_that_of_the_model(patient, user):
    patient.name = "new"
    recorded_save(patient, actor=user, data_subject="case-7")
    assert AuditLog.objects.get().data_subject == "case-7"


@pytest.mark.parametrize(
    "wrong",
    [{"data_subject": "nope__id"}, {"soft_delete": "nope"}, {"many_to_many": ["name"]}],
    ids=["data_subject", "soft_delete", "many_to_many"],
)
def test_declaration_with_an_unknown_field_is_refused(wrong):
    with pytest.raises(ValueError, match="has no fields"):
        recorded(**wrong)(Patient)


def test_declaration_of_a_subclass_keeps_the_masks_of_its_base():
    with isolate_apps("recording_site"):
        meta = type("Meta", (), {"app_label": "recording_site"})
        model = type(
            "Inpatient",
            (Patient,),
            {"__module__": __name__, "Meta": meta, "bed": models.CharField(max_length=9)},
        )
        recorded(masked=["bed"])(model)
    rows = [
        StoredRow(dict.fromkeys(recorded_model(model).columns, value), "")
        for value in ("old", "new")
    ]
    ((_, details),) = describe_change(recorded_model(model), *rows)
    masked = [name for name, change in details["changes"].items() if change == {"masked": True}]
    assert masked == ["phone", "bed"]


@pytest.mark.parametrize(("fields", "shown"), [(10, 500), (60, 100), (250, 20)])
def test_change_of_many_long_texts_fits_into_an_entry(user, fields, shown):
    names = tuple(f"field_{number}" for number in range(fields))
    declared = RecordedModel(names, (), frozenset(), "", "")
    rows = [StoredRow(dict.fromkeys(names, letter * 3000), "") for letter in "жд"]
    ((verb, details),) = describe_change(declared, *rows)
    audit.record(actor=user, action=f"form_{verb}", resource=("form", 1), details=details)
    assert changes()["field_9"]["to"] == f"{'д' * shown}… (3000 characters)"


def history():
    rows = AuditLog.objects.order_by("id")
    return [(row.action, row.data_subject, row.resource_id) for row in rows]


def test_rows_whose_keys_are_text_are_recorded(patient, user):
    keys = [uuid.uuid4() for _ in range(4)]
    letters = [Letter(pk=key.hex, patient=patient, text="a") for key in keys]
    recorded_save(letters[0], actor=user)
    recorded_bulk_create(Letter, letters[1:2], actor=user)
    with recorded_changes(actor=user) as tracker:
        letters[2].save()
        tracker.add([letters[2]])
    with recorded_changes(letters[2], actor=user) as tracker:
        letters[2].text = "b"
        letters[2].save()
        tracker.add([letters[2]])
    recorded_delete(letters[2], actor=user)
    assert history() == [
        ("letter_created", "P-1", str(keys[0])),
        ("letter_created", "P-1", str(keys[1])),
        ("letter_created", "P-1", str(keys[2])),
        ("letter_updated", "P-1", str(keys[2])),
        ("letter_deleted", "P-1", str(keys[2])),
    ]


def test_keys_that_differ_from_those_in_the_database_are_refused(patient):
    """Such as those of a field without to_python()."""
    letter = Letter.objects.create(patient=patient, text="a")
    with pytest.raises(LookupError, match="UUIDField"):
        stored_rows(Letter, [str(letter.pk)], "default")


def test_added_row_without_a_key_is_refused(patient, user):
    with pytest.raises(ValueError, match="Save the Visit"), recorded_changes(actor=user) as tracker:
        tracker.add([Visit(patient=patient, reason="cough")])


def test_move_to_another_subject_is_recorded_for_both(patient, user):
    other = Patient.objects.create(number="P-2", name="Kim")
    visit = Visit.objects.create(patient=patient, reason="cough")
    visit.patient = other
    recorded_save(visit, actor=user)
    recorded_update(Visit.objects.all(), actor=user, patient=patient)
    with recorded_changes(visit, actor=user):
        Visit.objects.update(patient=other)
    assert [row[:2] for row in history()] == [
        ("visit_updated", "P-1"),
        ("visit_updated", "P-2"),
        ("visit_updated", "P-2"),
        ("visit_updated", "P-1"),
        ("visit_updated", "P-1"),
        ("visit_updated", "P-2"),
    ]


def test_given_subject_replaces_both(patient, user):
    visit = Visit.objects.create(patient=patient, reason="cough")
    visit.patient = Patient.objects.create(number="P-2", name="Kim")
    recorded_save(visit, actor=user, data_subject="P-3")
    assert [row[:2] for row in history()] == [("visit_updated", "P-3")]
