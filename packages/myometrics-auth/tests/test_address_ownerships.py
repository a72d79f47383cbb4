"""Which user a verified address identifies, and in which period."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from threading import Event
from types import SimpleNamespace

import pytest
from conftest import PASSWORD, query_of
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.test import RequestFactory, override_settings

from myometrics_auth.account_links import confirmation_url, undo_url
from myometrics_auth.doctor import examine_address_owners
from myometrics_auth.jobs import Sweep
from myometrics_auth.models import AddressOwnership, EmailChange
from myometrics_auth.models.address_ownerships import _linked, register_linked_addresses
from myometrics_auth.services.email_changes import (
    email_change_confirm,
    email_change_request,
    email_change_undo,
)
from myometrics_auth.services.users import user_delete, user_update
from myometrics_core.times import utc_now
from myometrics_core.users import address_ownerships, connect_address_owners_changed, keyed_hash
from myometrics_core.users.address_owners import _receivers
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.django_db
ADDRESS = "a@clinic.example"


def make(email=ADDRESS, **fields):
    return get_user_model().objects.create_user(email=email, password=PASSWORD, **fields)


def periods(address=ADDRESS):
    return [
        (found.user_id, found.since, found.until)
        for found in address_ownerships({address}).get(address, [])
    ]


def verify(user):
    user.verified_at = utc_now()
    user.save(update_fields=["verified_at"])


def test_unverified_address_has_no_owner():
    make()
    assert periods() == []


def test_first_owner_has_the_address_without_a_beginning():
    user = make()
    verify(user)
    assert periods() == [(user.pk, None, None)]


def by_save(user):
    user.verified_at = utc_now()
    user.save()


def by_update(user):
    get_user_model().objects.filter(pk=user.pk, verified_at=None).update(verified_at=utc_now())


def by_bulk_update(user):
    user.verified_at = utc_now()
    get_user_model().objects.bulk_update([user], ["verified_at"])


def by_the_command(user):
    call_command("verify_addresses", mark_verified=True)


def by_the_sweep(user):
    with connection.cursor() as cursor:
        table = connection.ops.quote_name(get_user_model()._meta.db_table)
        cursor.execute(f"UPDATE {table} SET verified_at = date_joined")
    Sweep().run(None)


def by_the_migration(user):
    with connection.cursor() as cursor:
        table = connection.ops.quote_name(get_user_model()._meta.db_table)
        cursor.execute(f"UPDATE {table} SET verified_at = date_joined")
    migration = import_module("myometrics_auth.migrations.0011_address_ownerships")
    migration.own_verified_addresses(apps, SimpleNamespace(connection=connection))


@pytest.mark.parametrize(
    "verify_it",
    [by_save, by_update, by_bulk_update, by_the_command, by_the_sweep, by_the_migration],
)
def test_every_way_to_verify_gives_the_address_an_owner(verify_it):
    user = make()
    verify_it(user)
    assert periods() == [(user.pk, None, None)]


def test_bulk_created_verified_user_owns_the_address():
    user = get_user_model()(email=ADDRESS, verified_at=utc_now())
    get_user_model().objects.bulk_create([user])
    assert periods() == [(user.pk, None, None)]


def test_change_by_an_administrator_ends_the_period(clock):
    user = make()
    verify(user)
    clock.shift(timedelta(hours=1))
    user_update(actor=None, user_id=user.pk, changes={"email": "b@clinic.example"}, request=None)
    assert periods() == [(user.pk, None, utc_now())]
    assert periods("b@clinic.example") == []


def test_next_owner_begins_with_the_takeover(clock):
    first = make(verified_at=utc_now())
    get_user_model().objects.filter(pk=first.pk).update(email="b@clinic.example")
    ended = utc_now()
    clock.shift(timedelta(hours=1))
    second = make(verified_at=utc_now())
    assert periods() == [(first.pk, None, ended), (second.pk, utc_now(), None)]


def test_user_who_returns_first_continues_the_period(clock):
    user = make(verified_at=utc_now())
    for address in ("b@clinic.example", ADDRESS):
        clock.shift(timedelta(hours=1))
        get_user_model().objects.filter(pk=user.pk).update(email=address)
    assert periods()[-1] == (user.pk, None, None)


@pytest.mark.parametrize("delete", ["erase", "delete"])
def test_deletion_leaves_only_a_keyed_hash(clock, delete):
    user = make(verified_at=utc_now())
    if delete == "erase":
        user_delete(actor=None, user_id=user.pk, request=None)
    else:
        user.delete()
    row = AddressOwnership.objects.get()
    assert (row.user_id, row.until, len(row.address_hash)) == (None, utc_now(), 64)
    assert periods() == []
    clock.shift(timedelta(hours=1))
    second = make(verified_at=utc_now())
    assert periods() == [(second.pk, utc_now(), None)]


def test_owner_is_found_after_a_rotation_of_the_keys(settings):
    user = make(verified_at=utc_now())
    old = settings.MYOMETRICS.get("PSEUDONYM_KEYS") or [settings.SECRET_KEY]
    keys = {**settings.MYOMETRICS, "PSEUDONYM_KEYS": ["n" * 40, *old]}
    with override_settings(MYOMETRICS=keys):
        assert periods() == [(user.pk, None, None)]
        user.save()
    assert AddressOwnership.objects.count() == 1


@pytest.mark.parametrize("is_linked", [False, True])
def test_doctor_finds_owners_whose_key_was_removed(settings, linked, is_linked):
    user = make(verified_at=utc_now())
    if is_linked:
        linked.append((user.pk, "Link@Clinic.example"))
        AddressOwnership.objects.follow([user.pk])
    assert diagnosis().state == "ok"
    old = settings.MYOMETRICS.get("PSEUDONYM_KEYS") or [settings.SECRET_KEY]
    with override_settings(MYOMETRICS={**settings.MYOMETRICS, "PSEUDONYM_KEYS": ["n" * 40, *old]}):
        assert diagnosis().state == "ok"
        assert "2 keys" in diagnosis().summary
    with override_settings(MYOMETRICS={**settings.MYOMETRICS, "PSEUDONYM_KEYS": ["n" * 40]}):
        assert diagnosis().state == "problem"
        assert f"{1 + is_linked} addresses" in diagnosis().summary


def diagnosis():
    (found,) = examine_address_owners()
    return found


@pytest.mark.parametrize(("changes", "undone"), [(n, k) for n in (1, 2, 3) for k in range(n)])
def test_undo_of_any_change_leaves_the_periods_from_before(clock, changes, undone):
    user = make(verified_at=utc_now())
    addresses = [ADDRESS, *(f"{name}@clinic.example" for name in "bcd")]
    made, before = [], []
    for address in addresses[1 : changes + 1]:
        clock.shift(timedelta(hours=1))
        before.append({one: periods(one) for one in addresses})
        made.append(change_address(user, address))
    clock.shift(timedelta(hours=1))
    token = query_of(undo_url(made[undone]))["token"]
    email_change_undo(token=token, request=RequestFactory().post("/"))
    restored = before[undone]
    back = addresses[undone]
    # Its owner left the address and is back.
    assert periods(back)[-1] == restored[back][-1]
    del restored[back]
    assert {one: periods(one) for one in restored} == restored


def change_address(user, address):
    user.refresh_from_db()
    request = RequestFactory().post("/")
    email_change_request(user=user, session=None, email=address, password=PASSWORD, request=request)
    change = EmailChange.objects.pending().get(user=user)
    token = query_of(confirmation_url(change))["token"]
    email_change_confirm(token=token, password=PASSWORD, request=request)
    return change


@pytest.fixture
def linked():
    found = []
    register_linked_addresses("test", lambda ids: [one for one in found if one[0] in ids])
    yield found
    del _linked["test"]


def test_linked_address_has_an_owner_until_it_is_unlinked(linked, clock):
    user = make()
    linked.append((user.pk, "Link@Clinic.example"))
    AddressOwnership.objects.follow([user.pk])
    assert periods("link@clinic.example") == [(user.pk, None, None)]
    linked.clear()
    AddressOwnership.objects.follow([user.pk])
    assert periods("link@clinic.example") == [(user.pk, None, utc_now())]


def test_verified_address_wins_over_a_linked_one(linked, clock):
    first, second = make("b@clinic.example"), make()
    linked.append((first.pk, ADDRESS))
    AddressOwnership.objects.follow([first.pk])
    clock.shift(timedelta(hours=1))
    verify(second)
    AddressOwnership.objects.follow([first.pk])
    assert periods() == [(first.pk, None, utc_now()), (second.pk, utc_now(), None)]


def test_receivers_hear_of_each_change_once():
    heard = []
    connect_address_owners_changed(lambda: heard.append(1), uid="test")
    try:
        user = make()
        assert heard == []
        verify(user)
        assert heard == [1]
        user.save()
        assert heard == [1]
    finally:
        del _receivers["test"]


def test_following_many_users_costs_few_queries(django_assert_max_num_queries):
    users = [get_user_model()(email=f"p{n}@clinic.example") for n in range(100)]
    get_user_model().objects.bulk_create(users)
    with django_assert_max_num_queries(12):
        get_user_model().objects.update(verified_at=utc_now())
    assert AddressOwnership.objects.filter(until=None).count() == 100


@pytest.mark.django_db(transaction=True)
def test_owner_who_leaves_during_a_takeover_is_ended_once(
    linked, run_concurrently, database_vendor
):
    first, second = make("b@clinic.example"), make()
    linked.append((first.pk, ADDRESS))
    AddressOwnership.objects.follow([first.pk])
    linked.clear()
    is_taken = Event()

    def is_waiting():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_locks"
                " WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            )
            return cursor.fetchone()[0]

    def pause():
        """In the transaction of the takeover, wait for the transaction of the first owner."""
        if not is_taken.is_set():
            is_taken.set()
            if database_vendor == "postgresql":
                wait_for(is_waiting)

    def leave():
        assert is_taken.wait(PATIENCE)
        AddressOwnership.objects.follow([first.pk])

    connect_address_owners_changed(pause, uid="test")
    try:
        assert run_concurrently([lambda: verify(second), leave]) == [None, None]
    finally:
        del _receivers["test"]
    ended, begun = AddressOwnership.objects.order_by("pk")
    assert (ended.user_id, begun.user_id) == (first.pk, second.pk)
    assert (ended.until, begun.until) == (begun.since, None)


def test_the_address_itself_is_not_stored():
    make(verified_at=utc_now())
    assert AddressOwnership.objects.get().address_hash == keyed_hash("address ownership", ADDRESS)
