"""Lawful deletion: people go, and what proves it stays."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from myometrics_audit.doctor import oldest_failed_sign_in
from myometrics_audit.listing import Selection, entries_count
from myometrics_audit.models import AuditLog, EntryCount, Erasure, Leaf
from myometrics_audit.sealing import seal_pending
from myometrics_core.personal_data import erase_user
from myometrics_core.users import account_pseudonym

pytestmark = pytest.mark.django_db


@pytest.fixture
def log(write: Any, administrator: Any) -> None:
    """Two sealed and two waiting entries of each of two people."""
    for _ in range(2):
        write()
        write(user=administrator)
    list(seal_pending())
    for _ in range(2):
        write()
        write(user=administrator, action="viewed")


@pytest.fixture(params=["delete", "queryset", "erase_user"])
def remove(request: Any) -> Any:
    """A way to delete a person."""

    def delete(person: Any) -> None:
        if request.param == "queryset":
            type(person).objects.filter(pk=person.pk).delete()
        elif request.param == "erase_user":
            erase_user(person)
        else:
            person.delete()

    return delete


def test_deleting_a_person_erases_their_entries_and_nobody_elses(
    log: Any, person: Any, administrator: Any, remove: Any
) -> None:
    gone = person.pk
    remove(person)
    assert set(AuditLog.objects.values_list("user_id", flat=True)) == {administrator.pk}
    erasure = Erasure.objects.get()
    assert (erasure.reason, erasure.entries) == ("user", 4)
    assert Leaf.objects.filter(erasure_id=erasure.pk).count() == 4
    assert str(gone) not in str(erasure.details)


def test_counts_stay_exact_when_a_person_is_deleted(
    log: Any, person: Any, administrator: Any, remove: Any
) -> None:
    gone = person.pk
    remove(person)
    for _ in range(2):
        assert entries_count(Selection()) == 4
        assert entries_count(Selection(action="upload_created")) == 2
        assert entries_count(Selection(user_id=administrator.pk)) == 4
        assert entries_count(Selection(user_id=gone)) == 0
        list(seal_pending())
    assert not EntryCount.objects.filter(scope__contains=str(gone)).exists()


def test_retained_entries_lose_their_person_and_share_a_pseudonym(
    log: Any, person: Any, administrator: Any, remove: Any, settings: Any
) -> None:
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    remove(person)
    retained = AuditLog.objects.filter(user=None)
    assert retained.count() == 4
    (pseudonym,) = set(retained.values_list("pseudonym", flat=True))
    assert len(pseudonym) == 32
    assert Erasure.objects.get().pseudonym == pseudonym
    assert AuditLog.objects.filter(user=administrator, pseudonym="").count() == 4
    assert entries_count(Selection()) == 8


def test_deleting_a_person_without_entries_writes_no_erasure(
    log: Any, django_user_model: Any
) -> None:
    django_user_model.objects.create_user(email="new@clinic.example").delete()
    assert not Erasure.objects.exists()


def test_deleting_a_person_does_not_load_their_entries(person: Any, write: Any) -> None:
    with CaptureQueriesContext(connection) as few:
        write()
        person.delete()
    person.save(force_insert=True)
    AuditLog.objects.bulk_create(
        AuditLog(user=person, action="a", resource_type="b", resource_id="c") for _ in range(500)
    )
    with CaptureQueriesContext(connection) as many:
        person.delete()
    assert len(many) <= len(few)
    table = AuditLog._meta.db_table
    assert not [q for q in many if f'"{table}"."nonce"' in q["sql"]]


def test_several_people_can_be_deleted_at_once(log: Any, person: Any, administrator: Any) -> None:
    type(person).objects.all().delete()
    assert not AuditLog.objects.exists()
    assert sorted(Erasure.objects.values_list("entries", flat=True)) == [4, 4]


@pytest.mark.django_db(transaction=True)
def test_a_deletion_and_writers_at_once_leave_no_half_and_no_error(
    person: Any, administrator: Any, write: Any, client_of: Any, run_concurrently: Any
) -> None:
    for _ in range(20):
        write()
    body = {"action": "a", "resource_type": "b", "resource_id": "c"}

    def post() -> int:
        return client_of(person).post("/api/audit-logs/", body, format="json").status_code

    def erase() -> None:
        # Not the object that the requests know: Django takes its key away once it is deleted.
        erase_user(type(person).objects.get(pk=person.pk))

    outcomes = run_concurrently([*[post] * 7, erase])
    assert outcomes[-1] is None
    assert set(outcomes[:-1]) <= {201, 401}
    assert not AuditLog.objects.exists()
    assert not type(person).objects.filter(pk=person.pk).exists()
    (erasure,) = Erasure.objects.all()
    assert erasure.entries == 20 + outcomes.count(201)
    assert Leaf.objects.count() == erasure.entries


@pytest.mark.django_db(transaction=True)
def test_people_deleted_by_the_sites_own_code_amid_writes_keep_what_they_did(
    administrator: Any, write: Any, settings: Any, run_concurrently: Any
) -> None:
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    make = type(administrator).objects.create_user
    people = [make(email=f"{number}@clinic.example") for number in range(5)]
    for person in people:
        write(user=person)
    deletions = [type(person).objects.get(pk=person.pk).delete for person in people]
    writes = [lambda: write(user=administrator)] * 10
    outcomes = run_concurrently([*writes, *deletions])
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    assert Erasure.objects.count() == len(people)
    assert AuditLog.objects.filter(user=None).count() == len(people)
    assert AuditLog.objects.filter(user=administrator).count() == len(writes)


@pytest.fixture
def fail_to_sign_in(write: Any) -> Any:
    """A function that writes the entry of a failed sign-in at an address."""

    def make(email: str, **fields: Any) -> AuditLog:
        name = account_pseudonym(email)
        values = {"user": None, "resource_type": "user", "resource_id": name, **fields}
        return write(action="login_failed", **values)

    return make


@pytest.mark.parametrize("pseudonym_keys", [False, True])
def test_erasure_after_key_rotations_finds_failed_sign_ins_of_before(
    person: Any, remove: Any, fail_to_sign_in: Any, settings: Any, pseudonym_keys: bool
) -> None:
    stranger = fail_to_sign_in("stranger@clinic.example")
    keys = [settings.SECRET_KEY]
    for number in range(3):
        keys.insert(0, f"{number}" * 50)
        if pseudonym_keys:
            settings.MYOMETRICS = {"PSEUDONYM_KEYS": keys[:]}
        else:
            settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS = keys
        fail_to_sign_in(person.email)
    remove(person)
    assert list(AuditLog.objects.all()) == [stranger]


def test_oldest_failed_sign_in_is_the_oldest_under_an_accounts_pseudonym(
    person: Any, write: Any, fail_to_sign_in: Any
) -> None:
    assert oldest_failed_sign_in() is None
    write(action="login_failed", resource_type="user", resource_id=str(person.pk))
    assert oldest_failed_sign_in() is None
    first = fail_to_sign_in(person.email)
    fail_to_sign_in("stranger@clinic.example")
    assert oldest_failed_sign_in() == first.timestamp
