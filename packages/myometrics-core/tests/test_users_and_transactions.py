"""User ids, administrators, times, and transactions that read before they write."""

import uuid
from datetime import date, datetime, timedelta, timezone

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import OperationalError, connection

from myometrics_core.db import atomic_write
from myometrics_core.db.transactions import write_lock
from myometrics_core.times import utc_day, utc_day_start, utc_now, utc_text
from myometrics_core.users import is_administrator, parse_user_id, user_id_json


@pytest.mark.parametrize(
    "text", ["", "1", "abc", "\x00", "9" * 400, "١", "ffffffff-ffff", "\ud800"]
)
def test_invalid_user_id_is_rejected(text):
    with pytest.raises(ValueError, match="not a user id"):
        parse_user_id(text)


def test_uuid_is_parsed_as_user_id():
    key = uuid.uuid4()
    assert parse_user_id(str(key)) == key
    assert user_id_json(key) == str(key)


def test_user_id_json_keeps_numbers_and_null():
    assert user_id_json(7) == 7
    assert user_id_json(None) is None


def test_administrator_rule_is_configurable(settings, user, administrator):
    assert is_administrator(administrator)
    assert not is_administrator(user)
    assert not is_administrator(AnonymousUser())
    assert not is_administrator(None)
    administrator.is_active = False
    assert not is_administrator(administrator)


def test_role_takes_precedence_over_staff_flag(administrator):
    administrator.role = "doctor"
    assert not is_administrator(administrator)
    administrator.role = "admin"
    assert is_administrator(administrator)


def test_utc_text_ends_in_z():
    moment = datetime(2025, 8, 19, 17, 45, tzinfo=timezone(timedelta(hours=2)))
    assert utc_text(moment) == "2025-08-19T15:45:00Z"
    assert utc_day_start(date(2025, 8, 19)).isoformat() == "2025-08-19T00:00:00+00:00"
    assert utc_now().utcoffset() == timedelta(0)


def test_utc_day_is_independent_of_time_zone():
    after_midnight = datetime(2025, 8, 20, 1, 45, tzinfo=timezone(timedelta(hours=2)))
    assert utc_day(after_midnight) == date(2025, 8, 19)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_atomic_write_loses_no_update(run_concurrently, level):
    users = get_user_model().objects
    user = users.create_user(email="count@clinic.example", password="x", full_name="0")

    def increment():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"SET default_transaction_isolation = '{level}'")
        with atomic_write():
            found = users.select_for_update().get(pk=user.pk)
            found.full_name = str(int(found.full_name) + 1)
            found.save()

    outcomes = run_concurrently(increment, times=8)
    user.refresh_from_db()
    assert outcomes == [None] * 8
    assert user.full_name == "8"


@pytest.mark.django_db(transaction=True)
def test_atomic_write_can_be_nested():
    with atomic_write(), atomic_write():
        get_user_model().objects.create_user(email="n@clinic.example", password="x")
    assert not connection.in_atomic_block
    assert get_user_model().objects.count() == 1


@pytest.mark.django_db
def test_transactions_need_no_table_of_the_site(database_vendor, user):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS django_migrations")
    with atomic_write():
        write_lock()
    get_user_model().objects.get(pk=user.pk).delete()


@pytest.mark.django_db(transaction=True)
def test_write_lock_blocks_other_writers_on_sqlite(database_vendor):
    other = connection.copy()
    try:
        with atomic_write(), other.cursor() as cursor:
            if database_vendor == "sqlite":
                cursor.execute("PRAGMA busy_timeout = 0")
                with pytest.raises(OperationalError, match="locked"):
                    cursor.execute("BEGIN IMMEDIATE")
            else:
                cursor.execute("BEGIN")
                cursor.execute("ROLLBACK")
    finally:
        other.close()
