"""Changes of a host's own models are recorded where the host says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import connection, connections
from django.db.models import Count, Exists, F, OuterRef, Value
from django.db.models.functions import Concat
from django.db.models.signals import post_delete
from django.test.utils import CaptureQueriesContext

from myometrics_audit.models import AuditLog
from myometrics_audit.tracking import (
    changes,
    recorded,
    recorded_bulk_create,
    recorded_delete,
    recorded_save,
    recorded_update,
)
from myometrics_core.times import utc_now
from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def model(django_user_model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """People, of whom the address is masked; what a test records besides ends with it."""
    monkeypatch.setattr(changes, "_recordings", dict(changes._recordings))
    return recorded(masked=["email"])(django_user_model)


def only_entry() -> AuditLog:
    return AuditLog.objects.get()


def test_a_new_row_is_recorded_with_its_values(model: Any, administrator: Any) -> None:
    patient = model(email="p@clinic.example", full_name="Pat")
    recorded_save(patient, actor=administrator)
    entry = only_entry()
    assert entry.user_id == administrator.pk
    assert entry.action == "person_created"
    assert (entry.resource_type, entry.resource_id) == ("clinic_site.person", str(patient.pk))
    assert entry.details["values"]["full_name"] == "Pat"
    assert entry.details["values"]["is_active"] is True
    assert entry.details["values"]["email"] == {"masked": True}
    assert entry.details["values"]["password"] == {"masked": True}


def test_a_change_is_recorded_field_by_field_and_masked_values_are_not(
    person: Any, administrator: Any
) -> None:
    person.full_name = "Tina"
    person.email = "new@clinic.example"
    person.set_password("new")
    recorded_save(person, actor=administrator)
    assert only_entry().action == "person_updated"
    assert only_entry().details == {
        "changes": {
            "full_name": {"from": "", "to": "Tina"},
            "email": {"masked": True},
            "password": {"masked": True},
        }
    }
    assert "clinic.example" not in str(only_entry().details)


def test_a_save_that_changes_nothing_is_not_recorded(person: Any) -> None:
    recorded_save(person, actor=person)
    assert not AuditLog.objects.exists()


def test_only_what_was_saved_counts(person: Any) -> None:
    person.full_name = "Tina"
    person.is_staff = True
    recorded_save(person, actor=person, update_fields=["full_name"])
    assert list(only_entry().details["changes"]) == ["full_name"]


def test_long_text_is_cut(person: Any) -> None:
    recorded(fields=["details"])(AuditLog)
    entry = AuditLog(action="a", resource_type="b", resource_id="c", details={"t": "x" * 9000})
    recorded_save(entry, actor=None)
    kept = AuditLog.objects.get(action="auditlog_created")
    assert len(kept.details["values"]["details"]) < 600


def test_a_deletion_is_recorded_with_what_went(model: Any, person: Any, administrator: Any) -> None:
    key = str(person.pk)
    recorded_delete(person, actor=administrator)
    assert only_entry().action == "person_deleted"
    assert only_entry().resource_id == key
    assert not model.objects.filter(pk=key).exists()


@pytest.fixture
def ward(person: Any) -> Any:
    """A recorded row with recorded rows that refer to it: deleted with it, or set to null."""
    for referring in (ContentType, Permission, LogEntry):
        recorded()(referring)
    ward = ContentType.objects.create(app_label="clinic", model="ward")
    for code in ("open", "close"):
        Permission.objects.create(content_type=ward, codename=code, name=code)
    LogEntry.objects.create(content_type=ward, user=person, action_flag=1, object_repr="bed")
    return ward


def test_deletion_records_the_rows_that_are_deleted_or_changed_with_it(
    ward: Any, person: Any, administrator: Any
) -> None:
    log = LogEntry.objects.get()
    keys = {str(permission.pk) for permission in Permission.objects.filter(content_type=ward)}
    key = ward.pk
    recorded_delete(ward, actor=administrator)
    entries = {(e.action, e.resource_id): e for e in AuditLog.objects.all()}
    assert set(entries) == {
        ("contenttype_deleted", str(key)),
        *(("permission_deleted", permission) for permission in keys),
        ("logentry_updated", str(log.pk)),
    }
    changes = entries["logentry_updated", str(log.pk)].details["changes"]
    assert changes == {"content_type_id": {"from": key, "to": None}}
    assert {entry.user_id for entry in entries.values()} == {administrator.pk}


def test_deletion_of_the_actor_names_no_actor(model: Any, person: Any) -> None:
    key = person.pk
    recorded_delete(person, actor=person)
    entry = only_entry()
    assert (entry.action, entry.resource_id) == ("person_deleted", str(key))
    assert entry.user_id is None


def test_deletion_that_fails_records_nothing(ward: Any, administrator: Any) -> None:
    def refuse(**kwargs: Any) -> None:
        raise RuntimeError("not now")

    post_delete.connect(refuse, sender=Permission)
    try:
        with pytest.raises(RuntimeError):
            recorded_delete(ward, actor=administrator)
    finally:
        post_delete.disconnect(refuse, sender=Permission)
    assert not AuditLog.objects.exists()
    assert ContentType.objects.filter(pk=ward.pk).exists()


def test_deletion_reads_rows_of_a_model_in_batches(
    ward: Any, administrator: Any, django_assert_max_num_queries: Any
) -> None:
    Permission.objects.bulk_create(
        Permission(content_type=ward, codename=f"c{number}", name="x") for number in range(400)
    )
    with django_assert_max_num_queries(60):
        recorded_delete(ward, actor=administrator)
    assert AuditLog.objects.filter(action="permission_deleted").count() == 402


def test_deletion_reads_no_table_that_leads_to_no_recorded_rows(person: Any) -> None:
    recorded()(Session)
    session = Session.objects.create(pk="s1", session_data="a", expire_date=utc_now())
    with CaptureQueriesContext(connection) as queries:
        recorded_delete(session, actor=person)
    # The row before and after, and the actor.
    assert sum(query["sql"].startswith("SELECT") for query in queries) == 3


def test_deletion_of_a_row_that_is_not_recorded_is_refused(person: Any) -> None:
    with pytest.raises(LookupError, match="ContentType"):
        recorded_delete(ContentType.objects.create(app_label="a", model="b"), actor=person)


def test_bulk_create_and_update_are_recorded_row_by_row(model: Any, administrator: Any) -> None:
    people = [model(email=f"{n}@clinic.example", full_name=str(n)) for n in range(3)]
    recorded_bulk_create(model, people, actor=administrator)
    assert AuditLog.objects.filter(action="person_created").count() == 3
    chosen = model.objects.filter(email__in=["1@clinic.example", "2@clinic.example"])
    renamed = Concat(F("full_name"), Value("!"))
    assert recorded_update(chosen, actor=administrator, full_name=renamed) == 2
    changes = AuditLog.objects.filter(action="person_updated").values_list("details", flat=True)
    assert sorted(change["changes"]["full_name"]["to"] for change in changes) == ["1!", "2!"]


@pytest.mark.django_db(transaction=True)
def test_a_row_that_left_the_selection_meanwhile_is_neither_changed_nor_recorded(
    model: Any, person: Any, administrator: Any
) -> None:
    actives = model.objects.filter(is_active=True)

    def leave() -> None:
        model.objects.filter(pk=person.pk).update(is_active=False)

    with _just_before_the_second_read(leave):
        matched = recorded_update(actives, actor=administrator, full_name="Active")
    # SQLite's writers queue: there the row leaves once it is changed.
    was_first = connection.vendor == "postgresql"
    named = set(model.objects.filter(full_name="Active").values_list("pk", flat=True))
    assert named == ({administrator.pk} if was_first else {administrator.pk, person.pk})
    assert matched == len(named)
    recorded_keys = AuditLog.objects.values_list("resource_id", flat=True)
    assert sorted(recorded_keys) == sorted(map(str, named))


@contextmanager
def _just_before_the_second_read(change: Callable[[], Any]) -> Iterator[None]:
    """Have ``change`` made by another connection once this one has read rows a first time.

    PostgreSQL has it committed before this connection goes on; SQLite when this one is done.
    """
    other = Thread(target=_in_own_connection, args=[change])
    reads = 0

    def execute_and_count(execute: Any, sql: str, *call: Any) -> Any:
        nonlocal reads
        is_read = sql.startswith("SELECT")
        reads += is_read
        if is_read and reads == 2:
            other.start()
            if connection.vendor == "postgresql":
                other.join(timeout=PATIENCE)
        return execute(sql, *call)

    with connection.execute_wrapper(execute_and_count):
        yield
    other.join(timeout=PATIENCE)


def _in_own_connection(change: Callable[[], Any]) -> None:
    try:
        change()
    finally:
        connections.close_all()


def test_rows_may_leave_the_selection_by_the_very_update(
    model: Any, person: Any, administrator: Any
) -> None:
    actives = model.objects.filter(is_active=True)
    assert recorded_update(actives, actor=administrator, is_active=False) == 2
    assert not actives.exists()
    details = AuditLog.objects.values_list("details", flat=True)
    change = {"changes": {"is_active": {"from": True, "to": False}}}
    assert list(details) == [change, change]


def test_an_update_of_many_rows_goes_by_the_selection_as_it_was_at_first(
    model: Any, administrator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("myometrics_audit.tracking.changes.CHUNK", 1)
    for n in range(2):
        model.objects.create_user(email=f"{n}@clinic.example", full_name="same")
    namesakes = model.objects.filter(full_name="same")
    others = namesakes.exclude(pk=OuterRef("pk"))
    assert recorded_update(namesakes.filter(Exists(others)), actor=None, full_name="x") == 2
    assert AuditLog.objects.filter(action="person_updated").count() == 2


@pytest.mark.parametrize(
    "narrow",
    [
        lambda people: people.order_by("-full_name"),
        lambda people: people.distinct(),
        lambda people: people.filter(groups__name__startswith="ward"),
        lambda people: people.annotate(wards=Count("groups")).filter(wards=2),
        lambda people: people.only("full_name"),
    ],
    ids=["ordered", "distinct", "joined", "aggregated", "deferred"],
)
def test_each_row_of_any_selection_is_changed_and_recorded_once(
    model: Any, person: Any, narrow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("myometrics_audit.tracking.changes.CHUNK", 1)
    person.groups.set([Group.objects.create(name=f"ward {n}") for n in range(2)])
    longer = Concat(F("full_name"), Value("!"))
    assert recorded_update(narrow(model.objects.all()), actor=None, full_name=longer) == 1
    assert only_entry().details["changes"] == {"full_name": {"from": "", "to": "!"}}


def test_a_slice_can_not_be_updated_as_with_any_update(model: Any, person: Any) -> None:
    with pytest.raises(TypeError, match="slice"):
        recorded_update(model.objects.all()[:1], actor=None, full_name="x")
    assert not AuditLog.objects.exists()


def test_what_can_not_be_recorded_is_not_done(person: Any, model: Any) -> None:
    person.full_name = "Tina"
    with pytest.raises(ValueError, match="NUL"):
        recorded_save(person, actor=person, request=BrokenRequest())
    assert model.objects.get(pk=person.pk).full_name == ""


class BrokenRequest:
    """A request whose address can't be kept."""

    @property
    def META(self) -> Any:
        raise ValueError("NUL in the address")


def test_a_model_that_was_not_declared_is_refused(write: Any) -> None:
    from myometrics_audit.models import Seal

    with pytest.raises(LookupError, match="Seal"):
        recorded_save(Seal(), actor=None)


def test_an_unknown_field_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="nickname"):
        recorded(masked=["nickname"])(model)


@pytest.mark.parametrize(
    "conflicts",
    [
        {"ignore_conflicts": True},
        {
            "update_conflicts": True,
            "unique_fields": ["email"],
            "update_fields": ["full_name"],
        },
    ],
)
def test_rows_that_may_exist_already_are_not_created_in_bulk(
    model: Any, conflicts: dict[str, Any]
) -> None:
    people = [model(email="p@clinic.example")]
    with pytest.raises(ValueError, match=r"recorded_save|recorded_update"):
        recorded_bulk_create(model, people, actor=None, **conflicts)
    assert not model.objects.exists()
    assert not AuditLog.objects.exists()
