"""Recording changes of a site's models."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Thread

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
    declarations,
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
def model(django_user_model, monkeypatch):
    """A recorded user model with a masked address. Restores the registry of recordings."""
    models = dict(declarations._recorded_models)
    monkeypatch.setattr(declarations, "_recorded_models", models)
    return recorded(masked=["email"])(django_user_model)


def only_entry():
    return AuditLog.objects.get()


def test_recorded_save_records_the_values_of_a_new_row(model, administrator):
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


def test_recorded_save_records_changed_fields_without_masked_values(user, administrator):
    user.full_name = "Tina"
    user.email = "new@clinic.example"
    user.set_password("new")
    recorded_save(user, actor=administrator)
    assert only_entry().action == "person_updated"
    assert only_entry().details == {
        "changes": {
            "full_name": {"from": "", "to": "Tina"},
            "email": {"masked": True},
            "password": {"masked": True},
        }
    }
    assert "clinic.example" not in str(only_entry().details)


def test_recorded_save_without_changes_is_not_recorded(user):
    recorded_save(user, actor=user)
    assert not AuditLog.objects.exists()


def test_recorded_save_records_only_saved_fields(user):
    user.full_name = "Tina"
    user.is_staff = True
    recorded_save(user, actor=user, update_fields=["full_name"])
    assert list(only_entry().details["changes"]) == ["full_name"]


def test_recorded_values_are_truncated(user):
    recorded(fields=["details"])(AuditLog)
    entry = AuditLog(action="a", resource_type="b", resource_id="c", details={"t": "x" * 9000})
    recorded_save(entry, actor=None)
    kept = AuditLog.objects.get(action="auditlog_created")
    assert len(kept.details["values"]["details"]) < 600


def test_recorded_delete_records_the_deleted_values(model, user, administrator):
    key = str(user.pk)
    recorded_delete(user, actor=administrator)
    assert only_entry().action == "person_deleted"
    assert only_entry().resource_id == key
    assert not model.objects.filter(pk=key).exists()


@pytest.fixture
def ward(user):
    """A recorded row with recorded rows that refer to it: deleted with it, or set to null."""
    for referring in (ContentType, Permission, LogEntry):
        recorded()(referring)
    ward = ContentType.objects.create(app_label="clinic", model="ward")
    for code in ("open", "close"):
        Permission.objects.create(content_type=ward, codename=code, name=code)
    LogEntry.objects.create(content_type=ward, user=user, action_flag=1, object_repr="bed")
    return ward


def test_recorded_delete_records_related_rows(ward, user, administrator):
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


def test_recorded_delete_of_the_actor_has_no_actor(model, user):
    key = user.pk
    recorded_delete(user, actor=user)
    entry = only_entry()
    assert (entry.action, entry.resource_id) == ("person_deleted", str(key))
    assert entry.user_id is None


def test_recorded_delete_that_fails_records_nothing(ward, administrator):
    def refuse(**kwargs):
        raise RuntimeError("not now")

    post_delete.connect(refuse, sender=Permission)
    try:
        with pytest.raises(RuntimeError):
            recorded_delete(ward, actor=administrator)
    finally:
        post_delete.disconnect(refuse, sender=Permission)
    assert not AuditLog.objects.exists()
    assert ContentType.objects.filter(pk=ward.pk).exists()


def test_recorded_delete_reads_rows_in_batches(ward, administrator, django_assert_max_num_queries):
    Permission.objects.bulk_create(
        Permission(content_type=ward, codename=f"c{number}", name="x") for number in range(400)
    )
    with django_assert_max_num_queries(60):
        recorded_delete(ward, actor=administrator)
    assert AuditLog.objects.filter(action="permission_deleted").count() == 402


def test_recorded_delete_skips_unrelated_tables(user):
    recorded()(Session)
    session = Session.objects.create(pk="s1", session_data="a", expire_date=utc_now())
    with CaptureQueriesContext(connection) as queries:
        recorded_delete(session, actor=user)
    # The row before and after, and the actor.
    assert sum(query["sql"].startswith("SELECT") for query in queries) == 3


def test_recorded_delete_of_an_unrecorded_model_is_refused(user):
    with pytest.raises(LookupError, match="ContentType"):
        recorded_delete(ContentType.objects.create(app_label="a", model="b"), actor=user)


def test_bulk_create_and_update_are_recorded_row_by_row(model, administrator):
    users = [model(email=f"{n}@clinic.example", full_name=str(n)) for n in range(3)]
    recorded_bulk_create(model, users, actor=administrator)
    assert AuditLog.objects.filter(action="person_created").count() == 3
    chosen = model.objects.filter(email__in=["1@clinic.example", "2@clinic.example"])
    renamed = Concat(F("full_name"), Value("!"))
    assert recorded_update(chosen, actor=administrator, full_name=renamed) == 2
    changes = AuditLog.objects.filter(action="person_updated").values_list("details", flat=True)
    assert sorted(change["changes"]["full_name"]["to"] for change in changes) == ["1!", "2!"]


@pytest.mark.django_db(transaction=True)
def test_recorded_update_skips_rows_that_stop_matching(model, user, administrator):
    actives = model.objects.filter(is_active=True)

    def leave():
        model.objects.filter(pk=user.pk).update(is_active=False)

    with _just_before_the_second_read(leave):
        matched = recorded_update(actives, actor=administrator, full_name="Active")
    # SQLite's writers queue: there the row leaves once it is changed.
    was_first = connection.vendor == "postgresql"
    named = set(model.objects.filter(full_name="Active").values_list("pk", flat=True))
    assert named == ({administrator.pk} if was_first else {administrator.pk, user.pk})
    assert matched == len(named)
    recorded_keys = AuditLog.objects.values_list("resource_id", flat=True)
    assert sorted(recorded_keys) == sorted(map(str, named))


@contextmanager
def _just_before_the_second_read(change):
    """Run ``change`` on another connection after the first read of this one.

    PostgreSQL has it committed before this connection goes on; SQLite when this one is done.
    """
    other = Thread(target=_in_own_connection, args=[change])
    reads = 0

    def execute_and_count(execute, sql, *call):
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


def _in_own_connection(change):
    try:
        change()
    finally:
        connections.close_all()


def test_recorded_update_can_make_rows_stop_matching(model, user, administrator):
    actives = model.objects.filter(is_active=True)
    assert recorded_update(actives, actor=administrator, is_active=False) == 2
    assert not actives.exists()
    details = AuditLog.objects.values_list("details", flat=True)
    change = {"changes": {"is_active": {"from": True, "to": False}}}
    assert list(details) == [change, change]


def test_recorded_update_evaluates_the_filter_before_any_change(model, administrator, monkeypatch):
    monkeypatch.setattr("myometrics_audit.tracking.stored_rows.CHUNK", 1)
    for n in range(2):
        model.objects.create_user(email=f"{n}@clinic.example", full_name="same")
    namesakes = model.objects.filter(full_name="same")
    others = namesakes.exclude(pk=OuterRef("pk"))
    assert recorded_update(namesakes.filter(Exists(others)), actor=None, full_name="x") == 2
    assert AuditLog.objects.filter(action="person_updated").count() == 2


@pytest.mark.parametrize(
    "narrow",
    [
        lambda users: users.order_by("-full_name"),
        lambda users: users.distinct(),
        lambda users: users.filter(groups__name__startswith="ward"),
        lambda users: users.annotate(wards=Count("groups")).filter(wards=2),
        lambda users: users.only("full_name"),
    ],
    ids=["ordered", "distinct", "joined", "aggregated", "deferred"],
)
def test_recorded_update_changes_and_records_each_row_once(model, user, narrow, monkeypatch):
    monkeypatch.setattr("myometrics_audit.tracking.stored_rows.CHUNK", 1)
    user.groups.set([Group.objects.create(name=f"ward {n}") for n in range(2)])
    longer = Concat(F("full_name"), Value("!"))
    assert recorded_update(narrow(model.objects.all()), actor=None, full_name=longer) == 1
    assert only_entry().details["changes"] == {"full_name": {"from": "", "to": "!"}}


def test_recorded_update_of_a_slice_is_refused(model, user):
    with pytest.raises(TypeError, match="slice"):
        recorded_update(model.objects.all()[:1], actor=None, full_name="x")
    assert not AuditLog.objects.exists()


def test_change_that_can_not_be_recorded_is_rolled_back(user, model):
    user.full_name = "Tina"
    with pytest.raises(ValueError, match="NUL"):
        recorded_save(user, actor=user, request=BrokenRequest())
    assert model.objects.get(pk=user.pk).full_name == ""


class BrokenRequest:
    """A request whose address can't be stored."""

    @property
    def META(self):
        raise ValueError("NUL in the address")


def test_recorded_save_of_an_undeclared_model_is_refused(write):
    from myometrics_audit.models import Seal

    with pytest.raises(LookupError, match="Seal"):
        recorded_save(Seal(), actor=None)


def test_recorded_with_unknown_field_is_refused(model):
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
def test_recorded_bulk_create_refuses_conflict_options(model, conflicts):
    users = [model(email="p@clinic.example")]
    with pytest.raises(ValueError, match=r"recorded_save|recorded_update"):
        recorded_bulk_create(model, users, actor=None, **conflicts)
    assert not model.objects.exists()
    assert not AuditLog.objects.exists()
