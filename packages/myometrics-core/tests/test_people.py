"""People whom rows belong to are held while these are written, and locked when they are deleted."""

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
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def waits(database_vendor):
    """How long one may wait for another: SQLite has one writer at a time, who waits in vain."""
    return PATIENCE if database_vendor == "postgresql" else 0.2


def test_only_who_exists_is_known_and_held(person):
    assert existing_user_ids([person.pk, NOBODY]) == {person.pk}
    with atomic_write():
        assert lock_users_shared([person.pk, NOBODY]) == {person.pk}
        assert lock_users_shared_unless_busy([person.pk, NOBODY]) == ({person.pk}, set())
    assert lock_users_shared([]) == set()


def test_who_is_held_can_be_edited_and_held_by_others_but_is_deleted_only_afterwards(
    person, run_concurrently, waits, database_vendor
):
    is_held, is_edited = threading.Event(), threading.Event()
    existed = []

    def hold():
        with atomic_write():
            lock_users_shared([person.pk])
            is_held.set()
            is_edited.wait(waits)
            existed.append(existing_user_ids([person.pk]))

    def edit():
        is_held.wait(PATIENCE)
        lock_users_shared([person.pk])
        get_user_model().objects.filter(pk=person.pk).update(full_name="Edited")
        is_edited.set()

    def delete():
        is_held.wait(PATIENCE)
        erase_user(get_user_model().objects.get(pk=person.pk))

    outcomes = run_concurrently([hold, edit, delete])
    assert outcomes == [None, None, None]
    assert existed == [{person.pk}]
    assert is_edited.is_set()
    assert not existing_user_ids([person.pk])


def test_who_is_being_deleted_is_busy_and_nobody_waits(
    person, administrator, run_concurrently, waits, database_vendor
):
    is_locked, is_asked = threading.Event(), threading.Event()

    def delete():
        with atomic_write():
            lock_user_for_delete(person)
            is_locked.set()
            return is_asked.wait(waits)

    def ask():
        is_locked.wait(PATIENCE)
        with atomic_write():
            found = lock_users_shared_unless_busy([person.pk, administrator.pk])
        is_asked.set()
        return found

    outcomes = run_concurrently([delete, ask])
    assert outcomes == [True, ({administrator.pk}, {person.pk})] or database_vendor == "sqlite", (
        outcomes
    )


def test_whoever_connects_is_told_once_before_a_person_goes(person, administrator):
    told = []

    def tell(user, using):
        assert existing_user_ids([user.pk])
        told.append((user.pk, using))

    for _ in range(2):
        connect_user_deleted(tell, uid="test_people")
    try:
        gone = person.pk
        get_user_model().objects.filter(pk=gone).delete()
        assert told == [(gone, "default")]
    finally:
        label = get_user_model()._meta.label
        assert pre_delete.disconnect(sender=get_user_model(), dispatch_uid=f"test_people:{label}")


@pytest.fixture
def host():
    """A site's clinic, and its doctors: users of a subclass, which go with their clinic."""
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
def test_whoever_connects_is_told_of_users_of_a_subclass_and_in_a_cascade(host, start):
    Clinic, Doctor = host
    told = []
    connect_user_deleted(lambda user, using: told.append(user.pk), uid="test_people")
    clinic = Clinic.objects.create()
    doctor = Doctor.objects.create(email="doctor@clinic.example", clinic=clinic)
    gone = doctor.pk
    try:
        {"subclass": doctor, "cascade": clinic, "queryset": Doctor.objects.all()}[start].delete()
    finally:
        label = get_user_model()._meta.label
        assert pre_delete.disconnect(sender=get_user_model(), dispatch_uid=f"test_people:{label}")
    assert told == [gone]
    assert not existing_user_ids([gone])
