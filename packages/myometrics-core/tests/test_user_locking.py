"""Locks of user rows: shared by writers, exclusive for deletions."""

import threading

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, models
from django.db.models.signals import pre_delete
from django.test.utils import isolate_apps

from myometrics_core.db import atomic_write
from myometrics_core.personal_data import erase_user
from myometrics_core.users import (
    connect_user_deleted,
    existing_user_ids,
    lock_user_for_delete,
    lock_users_shared,
    lock_users_shared_unless_busy,
)
from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)
UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def waits(database_vendor):
    """Maximum wait for another transaction; short on SQLite, whose single writer would block."""
    return PATIENCE if database_vendor == "postgresql" else 0.2


def test_existing_users_are_found_and_locked(user):
    assert existing_user_ids([user.pk, UNKNOWN_ID]) == {user.pk}
    with atomic_write():
        assert lock_users_shared([user.pk, UNKNOWN_ID]) == {user.pk}
        assert lock_users_shared_unless_busy([user.pk, UNKNOWN_ID]) == ({user.pk}, set())
    assert lock_users_shared([]) == set()


def test_shared_lock_delays_only_deletion(user, run_concurrently, waits, database_vendor):
    is_held, is_edited = threading.Event(), threading.Event()
    existed = []

    def hold():
        with atomic_write():
            lock_users_shared([user.pk])
            is_held.set()
            is_edited.wait(waits)
            existed.append(existing_user_ids([user.pk]))

    def edit():
        is_held.wait(PATIENCE)
        lock_users_shared([user.pk])
        get_user_model().objects.filter(pk=user.pk).update(full_name="Edited")
        is_edited.set()

    def delete():
        is_held.wait(PATIENCE)
        erase_user(get_user_model().objects.get(pk=user.pk))

    outcomes = run_concurrently([hold, edit, delete])
    assert outcomes == [None, None, None]
    assert existed == [{user.pk}]
    assert is_edited.is_set()
    assert not existing_user_ids([user.pk])


def test_user_being_deleted_is_busy_without_waiting(
    user, administrator, run_concurrently, waits, database_vendor
):
    is_locked, is_asked = threading.Event(), threading.Event()

    def delete():
        with atomic_write():
            lock_user_for_delete(user)
            is_locked.set()
            return is_asked.wait(waits)

    def ask():
        is_locked.wait(PATIENCE)
        with atomic_write():
            found = lock_users_shared_unless_busy([user.pk, administrator.pk])
        is_asked.set()
        return found

    outcomes = run_concurrently([delete, ask])
    assert outcomes == [True, ({administrator.pk}, {user.pk})] or database_vendor == "sqlite", (
        outcomes
    )


def test_user_deleted_receiver_is_called_once_before_deletion(user, administrator):
    called = []

    def record(user, using):
        assert existing_user_ids([user.pk])
        called.append((user.pk, using))

    for _ in range(2):
        connect_user_deleted(record, uid="test_users")
    try:
        deleted = user.pk
        get_user_model().objects.filter(pk=deleted).delete()
        assert called == [(deleted, "default")]
    finally:
        label = get_user_model()._meta.label
        assert pre_delete.disconnect(sender=get_user_model(), dispatch_uid=f"test_users:{label}")


@pytest.fixture
def host():
    """A site's clinic and its doctors: users of a subclass, deleted with their clinic."""
    with isolate_apps("django.contrib.auth"):

        class Clinic(models.Model):
            class Meta:
                app_label = "auth"

        class Doctor(get_user_model()):
            clinic = models.ForeignKey(Clinic, models.CASCADE)

            class Meta:
                app_label = "auth"

        with connection.schema_editor() as editor:
            editor.create_model(Clinic)
            editor.create_model(Doctor)
        yield Clinic, Doctor
        with connection.schema_editor() as editor:
            editor.delete_model(Doctor)
            editor.delete_model(Clinic)


@pytest.mark.parametrize("start", ["subclass", "cascade", "queryset"])
def test_user_deleted_receiver_gets_subclasses_and_cascades(host, start):
    Clinic, Doctor = host
    called = []
    connect_user_deleted(lambda user, using: called.append(user.pk), uid="test_users")
    clinic = Clinic.objects.create()
    doctor = Doctor.objects.create(email="doctor@clinic.example", clinic=clinic)
    deleted = doctor.pk
    try:
        {"subclass": doctor, "cascade": clinic, "queryset": Doctor.objects.all()}[start].delete()
    finally:
        label = get_user_model()._meta.label
        assert pre_delete.disconnect(sender=get_user_model(), dispatch_uid=f"test_users:{label}")
    assert called == [deleted]
    assert not existing_user_ids([deleted])
