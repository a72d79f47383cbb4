"""Erasure: users and their entries are deleted, the evidence stays valid."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from myometrics_audit.doctor import oldest_failed_login
from myometrics_audit.listing import Selection, entries_count
from myometrics_audit.models import AuditLog, EntryCount, Erasure, Leaf
from myometrics_audit.sealing import seal_pending
from myometrics_core.personal_data import erase_user
from myometrics_core.users import account_pseudonym

pytestmark = pytest.mark.django_db


@pytest.fixture
def log(write, administrator):
    """Two sealed and two unsealed entries of each of two users."""
    for _ in range(2):
        write()
        write(user=administrator)
    list(seal_pending())
    for _ in range(2):
        write()
        write(user=administrator, action="viewed")


@pytest.fixture(params=["delete", "queryset", "erase_user"])
def remove(request):
    """A function that deletes a user."""

    def delete(user):
        if request.param == "queryset":
            type(user).objects.filter(pk=user.pk).delete()
        elif request.param == "erase_user":
            erase_user(user)
        else:
            user.delete()

    return delete


def test_deleting_a_user_erases_only_their_entries(log, user, administrator, remove):
    deleted_key = user.pk
    remove(user)
    assert set(AuditLog.objects.values_list("user_id", flat=True)) == {administrator.pk}
    erasure = Erasure.objects.get()
    assert (erasure.reason, erasure.entries) == ("user", 4)
    assert Leaf.objects.filter(erasure_id=erasure.pk).count() == 4
    assert str(deleted_key) not in str(erasure.details)


def test_counts_stay_exact_when_a_user_is_deleted(log, user, administrator, remove):
    deleted_key = user.pk
    remove(user)
    for _ in range(2):
        assert entries_count(Selection()) == 4
        assert entries_count(Selection(action="upload_created")) == 2
        assert entries_count(Selection(user_id=administrator.pk)) == 4
        assert entries_count(Selection(user_id=deleted_key)) == 0
        list(seal_pending())
    assert not EntryCount.objects.filter(scope__contains=str(deleted_key)).exists()


def test_retained_entries_share_a_pseudonym_instead_of_the_user(
    log, user, administrator, remove, settings
):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    remove(user)
    retained = AuditLog.objects.filter(user=None)
    assert retained.count() == 4
    (pseudonym,) = set(retained.values_list("pseudonym", flat=True))
    assert len(pseudonym) == 32
    assert Erasure.objects.get().pseudonym == pseudonym
    assert AuditLog.objects.filter(user=administrator, pseudonym="").count() == 4
    assert entries_count(Selection()) == 8


def test_deleting_a_user_without_entries_writes_no_erasure(log, django_user_model):
    django_user_model.objects.create_user(email="new@clinic.example").delete()
    assert not Erasure.objects.exists()


def test_deleting_a_user_does_not_load_their_entries(user, write):
    with CaptureQueriesContext(connection) as few:
        write()
        user.delete()
    user.save(force_insert=True)
    AuditLog.objects.bulk_create(
        AuditLog(user=user, action="a", resource_type="b", resource_id="c") for _ in range(500)
    )
    with CaptureQueriesContext(connection) as many:
        user.delete()
    assert len(many) <= len(few)
    table = AuditLog._meta.db_table
    assert not [q for q in many if f'"{table}"."nonce"' in q["sql"]]


def test_several_users_can_be_deleted_at_once(log, user, administrator):
    type(user).objects.all().delete()
    assert not AuditLog.objects.exists()
    assert sorted(Erasure.objects.values_list("entries", flat=True)) == [4, 4]


@pytest.mark.django_db(transaction=True)
def test_concurrent_deletion_and_writes_leave_a_consistent_log(
    user, administrator, write, client_of, run_concurrently
):
    for _ in range(20):
        write()
    body = {"action": "a", "resource_type": "b", "resource_id": "c"}

    def post():
        return client_of(user).post("/api/audit-logs/", body, format="json").status_code

    def erase():
        # Not the object that the requests know: Django takes its key away once it is deleted.
        erase_user(type(user).objects.get(pk=user.pk))

    outcomes = run_concurrently([*[post] * 7, erase])
    assert outcomes[-1] is None
    assert set(outcomes[:-1]) <= {201, 401}
    assert not AuditLog.objects.exists()
    assert not type(user).objects.filter(pk=user.pk).exists()
    (erasure,) = Erasure.objects.all()
    assert erasure.entries == 20 + outcomes.count(201)
    assert Leaf.objects.count() == erasure.entries


@pytest.mark.django_db(transaction=True)
def test_deletion_by_site_code_during_writes_retains_entries(
    administrator, write, settings, run_concurrently
):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    make = type(administrator).objects.create_user
    users = [make(email=f"{number}@clinic.example") for number in range(5)]
    for user in users:
        write(user=user)
    deletions = [type(user).objects.get(pk=user.pk).delete for user in users]
    writes = [lambda: write(user=administrator)] * 10
    outcomes = run_concurrently([*writes, *deletions])
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    assert Erasure.objects.count() == len(users)
    assert AuditLog.objects.filter(user=None).count() == len(users)
    assert AuditLog.objects.filter(user=administrator).count() == len(writes)


@pytest.fixture
def fail_login(write):
    """A function that writes the entry of a failed login with an address."""

    def make(email, **fields):
        name = account_pseudonym(email)
        values = {"user": None, "resource_type": "user", "resource_id": name, **fields}
        return write(action="login_failed", **values)

    return make


@pytest.mark.parametrize("pseudonym_keys", [False, True])
def test_erasure_finds_failed_logins_of_rotated_keys(
    user, remove, fail_login, settings, pseudonym_keys
):
    other = fail_login("other@clinic.example")
    keys = [settings.SECRET_KEY]
    for number in range(3):
        keys.insert(0, f"{number}" * 50)
        if pseudonym_keys:
            settings.MYOMETRICS = {"PSEUDONYM_KEYS": keys[:]}
        else:
            settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS = keys
        fail_login(user.email)
    remove(user)
    assert list(AuditLog.objects.all()) == [other]


def test_oldest_failed_login_ignores_other_entries(user, write, fail_login):
    assert oldest_failed_login() is None
    write(action="login_failed", resource_type="user", resource_id=str(user.pk))
    assert oldest_failed_login() is None
    first = fail_login(user.email)
    fail_login("other@clinic.example")
    assert oldest_failed_login() == first.timestamp
