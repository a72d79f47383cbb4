"""Deletion of users on every path of the ORM, with any receivers, at a constant cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.auth import get_user_model
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.models.signals import post_delete, pre_delete
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext, isolate_apps

from myometrics_audit import audit
from myometrics_audit.models import AuditLog, Erasure, Leaf
from myometrics_audit.sealing import LogVerifier, seal_pending

pytestmark = pytest.mark.django_db

LISTENERS = {
    "none": [],
    "before any deletion": [(pre_delete, None)],
    "all": [(post_delete, None), (pre_delete, AuditLog), (post_delete, AuditLog)],
}


@pytest.fixture(params=LISTENERS)
def received(request):
    """The models of the deletion signals that the site's receivers got."""
    senders = []

    def listener(sender, **kwargs):
        senders.append(sender)

    for signal, sender in LISTENERS[request.param]:
        signal.connect(listener, sender=sender)
    yield senders
    for signal, sender in LISTENERS[request.param]:
        signal.disconnect(listener, sender=sender)


@pytest.fixture(params=["cascade", "retain"])
def mode(request, settings):
    """``ON_USER_DELETE``."""
    settings.MYOMETRICS_AUDIT = {"ON_USER_DELETE": request.param, "ALLOW_FLUSH": True}
    return str(request.param)


@pytest.fixture(scope="module")
def host(django_db_setup, django_db_blocker):
    """A site's models: ``Clinic``, and ``Doctor``, a subclass of the user that a clinic cascades
    to; ``Nurse`` is a subclass with a primary key of its own, ``Guest`` a proxy of the user that
    was not there when the site started.
    """
    user_model: Any = get_user_model()
    with isolate_apps("django.contrib.auth"), django_db_blocker.unblock():

        class Clinic(models.Model):
            class Meta:
                app_label = "auth"

        class Doctor(user_model):
            clinic = models.ForeignKey(Clinic, models.CASCADE)

            class Meta:
                app_label = "auth"

        class Nurse(user_model):
            number = models.AutoField(primary_key=True)
            user_ptr = models.OneToOneField(user_model, models.CASCADE, parent_link=True)

            class Meta:
                app_label = "auth"

        class Guest(user_model):
            class Meta:
                app_label = "auth"
                proxy = True

        Host = type(
            "Host", (), {"Clinic": Clinic, "Doctor": Doctor, "Nurse": Nurse, "Guest": Guest}
        )
        with connection.schema_editor() as editor:
            editor.create_model(Clinic)
            editor.create_model(Doctor)
            editor.create_model(Nurse)
        yield Host
        with connection.schema_editor() as editor:
            editor.delete_model(Nurse)
            editor.delete_model(Doctor)
            editor.delete_model(Clinic)


def historical_user(user):
    """``user`` as an instance of the migration's model."""
    state = MigrationLoader(connection).project_state()
    model = state.apps.get_model(*get_user_model()._meta.label.split("."))
    return model.objects.get(pk=user.pk)


def by_admin(user, **kwargs):
    """Delete as the admin does: collect related objects, then delete all."""
    request = RequestFactory().get("/")
    request.user = type(user)(is_superuser=True)
    page = ModelAdmin(type(user), AdminSite())
    page.get_deleted_objects([user], request)
    page.delete_model(request, user)


PATHS: dict[str, Callable[..., Any]] = {
    "instance": lambda user, **_: user.delete(),
    "queryset": lambda user, **_: type(user).objects.filter(pk=user.pk).delete(),
    "admin": by_admin,
    "proxy": lambda user, host: host.Guest(pk=user.pk, email=user.email).delete(),
    "queryset of proxies": lambda user, host: host.Guest._base_manager.filter(pk=user.pk).delete(),
    "data migration": lambda user, **_: historical_user(user).delete(),
}


@pytest.mark.parametrize("path", PATHS)
def test_user_with_entries_can_be_deleted(write, user, administrator, mode, received, host, path):
    for owner in (user, administrator):
        write(user=owner)
        list(seal_pending())
        write(user=owner)
    key = user.pk
    PATHS[path](user, host=host)
    assert not type(user).objects.filter(pk=key).exists()
    assert_released(mode, 2)
    assert AuditLog.objects.filter(user=administrator).count() == 2
    assert AuditLog not in received


@pytest.mark.parametrize("start", ["subclass", "cascade", "cascade of a queryset"])
def test_users_of_a_subclass_can_be_deleted(write, administrator, mode, received, host, start):
    clinic = host.Clinic.objects.create()
    doctor = host.Doctor.objects.create(email="d@clinic.example", clinic=clinic)
    write(user=get_user_model().objects.get(pk=doctor.pk))
    write(user=administrator)
    clinics = host.Clinic.objects.filter(pk=clinic.pk)
    {"subclass": doctor, "cascade": clinic, "cascade of a queryset": clinics}[start].delete()
    assert not get_user_model().objects.filter(email="d@clinic.example").exists()
    assert_released(mode, 1)
    assert AuditLog.objects.filter(user=administrator).exists()


def test_users_of_a_subclass_with_its_own_primary_key_can_be_deleted(
    write, administrator, mode, host
):
    nurse = host.Nurse.objects.create(email="n@clinic.example")
    write(user=get_user_model().objects.get(email="n@clinic.example"))
    write(user=administrator)
    nurse.delete()
    assert_released(mode, 1)
    assert AuditLog.objects.filter(user=administrator).exists()


def test_deleting_a_subclass_alone_keeps_the_users_entries(write, mode, received, host):
    doctor = host.Doctor.objects.create(
        email="d@clinic.example", clinic=host.Clinic.objects.create()
    )
    user = get_user_model().objects.get(pk=doctor.pk)
    write(user=user)
    doctor.delete(keep_parents=True)
    assert AuditLog.objects.get().user_id == user.pk
    assert not Erasure.objects.exists()


def test_deletion_makes_a_constant_number_of_queries(user, administrator, mode, received):
    counts = []
    for owner, entries in ((user, 10), (administrator, 1000)):
        AuditLog.objects.bulk_create(
            AuditLog(user=owner, action="a", resource_type="b", resource_id="c")
            for _ in range(entries)
        )
        list(seal_pending())
        with CaptureQueriesContext(connection) as queries:
            owner.delete()
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_deletion_returns_the_number_of_erased_entries(write, user, mode):
    write()
    write()
    _, deleted = user.delete()
    assert deleted.get("myometrics_audit.AuditLog", 0) == (2 if mode == "cascade" else 0)


def test_entries_recorded_during_deletion_are_erased_or_retained(write, user, mode):
    def record(instance, **kwargs):
        audit.record(actor=instance, action="account_closed", resource=instance)

    write()
    pre_delete.connect(record, sender=type(user))
    try:
        user.delete()
    finally:
        pre_delete.disconnect(record, sender=type(user))
    assert_released(mode, 2)


def test_deletion_past_the_orm_is_refused(write, user, mode):
    write()
    with pytest.raises(IntegrityError), transaction.atomic():
        type(user).objects.filter(pk=user.pk)._raw_delete("default")
        connection.check_constraints()  # as a commit does
    assert AuditLog.objects.get().user_id == user.pk
    assert not Erasure.objects.exists()


def test_rolled_back_deletion_keeps_entries_and_evidence(write, user, mode, received):
    write()
    with pytest.raises(RuntimeError), transaction.atomic():
        type(user).objects.get(pk=user.pk).delete()
        raise RuntimeError("on purpose")
    assert AuditLog.objects.get().user_id == user.pk
    assert not Erasure.objects.exists()


def assert_released(mode, entries):
    """Check that the entries of one user are erased or retained, and that the log verifies."""
    erasure = Erasure.objects.get()
    reason = {"cascade": "user", "retain": "retain"}[mode]
    assert (erasure.reason, erasure.entries) == (reason, entries)
    retained = AuditLog.objects.filter(user=None).count()
    assert retained == (entries if mode == "retain" else 0)
    erased = Leaf.objects.filter(erasure_id=erasure.pk).count()
    assert erased == (entries if mode == "cascade" else 0)
    assert list(LogVerifier().problems()) == []


def test_retained_entries_lose_the_nonce_with_the_user(write, user, settings):
    settings.MYOMETRICS_AUDIT = {"ON_USER_DELETE": "retain", "ALLOW_FLUSH": True}
    entry = write()
    nonce = bytes(AuditLog.objects.get(pk=entry.pk).actor_nonce)
    user.delete()
    kept = AuditLog.objects.get(pk=entry.pk)
    assert (kept.user_id, kept.actor_nonce) == (None, None)
    assert bytes(kept.actor) == entry.actor
    assert nonce.hex() not in str(Erasure.objects.values())
    assert list(LogVerifier().problems()) == []


def test_update_that_keeps_the_nonce_of_a_deleted_user_is_refused(write, user):
    entry = write()
    Erasure.objects.create(
        reason="retain", entries=1, digest=bytes(32), pseudonym="p", nonce=b"", hash=b"", key_id=""
    )
    with (
        pytest.raises(DatabaseError, match="is refused"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(
            f"UPDATE \"{AuditLog._meta.db_table}\" SET user_id = NULL, pseudonym = 'p' "
            "WHERE id = %s",
            [entry.pk],
        )
