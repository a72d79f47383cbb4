"""Statements that are compiled once and prepared behave like Django's own."""

import uuid

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from myometrics_core.db import RowLookup

pytestmark = pytest.mark.django_db


def test_row_lookup_returns_row_and_relations_in_one_query():
    lookup = RowLookup(lambda: Permission.objects.select_related("content_type"))
    for expected in Permission.objects.select_related("content_type")[:5]:
        with CaptureQueriesContext(connection) as queries:
            found = lookup.get(expected.pk)
            assert found.content_type == expected.content_type
        assert len(queries) == 1
        assert found == expected
        assert found.codename == expected.codename
        assert found._state.db == "default"
        assert not found._state.adding


def test_row_lookup_returns_empty_and_several_relations():
    user = get_user_model().objects.create_user(email="a@site.test")
    kind = ContentType.objects.get_for_model(get_user_model())
    lookup = RowLookup(lambda: LogEntry.objects.select_related("content_type", "user"))
    for expected in (None, kind):
        entry = LogEntry.objects.create(user=user, content_type=expected, action_flag=1)
        with CaptureQueriesContext(connection) as queries:
            found = lookup.get(entry.pk)
            assert (found.content_type, found.user) == (expected, user)
        assert len(queries) == 1
        assert found.action_time == entry.action_time


def test_row_lookup_of_unknown_key_returns_none():
    lookup = RowLookup(get_user_model().objects.all)
    assert lookup.get(uuid.uuid4()) is None


def test_row_lookup_returns_native_types():
    user = get_user_model().objects.create_user(email="a@site.test")
    lookup = RowLookup(get_user_model().objects.all)
    for _ in range(2):
        found = lookup.get(user.pk)
        assert found.pk == user.pk
        assert isinstance(found.pk, uuid.UUID)
        assert found.is_active is True
        assert found.last_login is None


def test_row_lookup_returns_current_values():
    user = get_user_model().objects.create_user(email="a@site.test")
    lookup = RowLookup(get_user_model().objects.all)
    assert lookup.get(user.pk).is_active
    get_user_model().objects.update(is_active=False)
    assert not lookup.get(user.pk).is_active
    user.delete()
    assert lookup.get(user.pk) is None


def test_row_lookup_rejects_queries_with_more_parameters():
    lookup = RowLookup(lambda: get_user_model().objects.filter(email="a@site.test"))
    with pytest.raises(ValueError, match="only parameter"):
        lookup.get(uuid.uuid4())


def test_row_lookup_is_prepared_if_the_site_allows_it(database_vendor):
    user = get_user_model().objects.create_user(email="a@site.test")
    lookup = RowLookup(get_user_model().objects.all)
    connection.ensure_connection()
    if database_vendor == "postgresql":
        connection.connection.prepare_threshold = 2
    assert [lookup.get(user.pk).email for _ in range(6)] == ["a@site.test"] * 6
    if database_vendor == "postgresql":
        connection.connection.prepare_threshold = None
        with connection.cursor() as cursor:
            cursor.execute("SELECT statement FROM pg_prepared_statements")
            assert any("person" in statement for (statement,) in cursor.fetchall())


def test_prepared_row_lookup_is_logged_and_wrapped_like_any_query(database_vendor):
    user = get_user_model().objects.create_user(email="a@site.test")
    lookup = RowLookup(get_user_model().objects.all)
    connection.ensure_connection()
    if database_vendor == "postgresql":
        connection.connection.prepare_threshold = 1
    with CaptureQueriesContext(connection) as queries:
        for _ in range(4):
            lookup.get(user.pk)
    assert len(queries) == 4
    assert all(query["sql"].startswith("SELECT") for query in queries)
    seen = []
    with connection.execute_wrapper(lambda execute, *call: seen.append(call) or execute(*call)):
        lookup.get(user.pk)
    assert len(seen) == 1


def test_row_lookup_in_broken_transaction_raises_as_django_does(database_vendor):
    lookup = RowLookup(get_user_model().objects.all)
    connection.ensure_connection()
    if database_vendor == "postgresql":
        connection.connection.prepare_threshold = 1
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            lookup.get(uuid.uuid4())
