"""RowLookup: what Django's own look-up gives, compiled once."""

from __future__ import annotations

import uuid

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from myometrics_core.db import RowLookup

pytestmark = pytest.mark.django_db


def test_it_gives_the_row_with_its_relations_in_one_query():
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


def test_it_finds_nothing_where_there_is_nothing():
    lookup = RowLookup(get_user_model().objects.all)
    assert lookup.get(uuid.uuid4()) is None


def test_values_come_back_in_their_native_types():
    person = get_user_model().objects.create_user(email="a@site.test")
    lookup = RowLookup(get_user_model().objects.all)
    for _ in range(2):
        found = lookup.get(person.pk)
        assert found.pk == person.pk
        assert isinstance(found.pk, uuid.UUID)
        assert found.is_active is True
        assert found.last_login is None


def test_a_change_is_seen_at_once():
    person = get_user_model().objects.create_user(email="a@site.test")
    lookup = RowLookup(get_user_model().objects.all)
    assert lookup.get(person.pk).is_active
    get_user_model().objects.update(is_active=False)
    assert not lookup.get(person.pk).is_active
    person.delete()
    assert lookup.get(person.pk) is None


def test_a_query_of_further_parameters_is_refused():
    lookup = RowLookup(lambda: get_user_model().objects.filter(email="a@site.test"))
    with pytest.raises(ValueError, match="only parameter"):
        lookup.get(uuid.uuid4())


def test_a_host_that_allows_prepared_statements_has_the_look_up_prepared(database_vendor):
    person = get_user_model().objects.create_user(email="a@site.test")
    lookup = RowLookup(get_user_model().objects.all)
    connection.ensure_connection()
    if database_vendor == "postgresql":
        connection.connection.prepare_threshold = 2
    assert [lookup.get(person.pk).email for _ in range(6)] == ["a@site.test"] * 6
    if database_vendor == "postgresql":
        connection.connection.prepare_threshold = None
        with connection.cursor() as cursor:
            cursor.execute("SELECT statement FROM pg_prepared_statements")
            assert any("person" in statement for (statement,) in cursor.fetchall())


def test_who_watches_the_queries_sees_prepared_ones_too(database_vendor):
    person = get_user_model().objects.create_user(email="a@site.test")
    lookup = RowLookup(get_user_model().objects.all)
    connection.ensure_connection()
    if database_vendor == "postgresql":
        connection.connection.prepare_threshold = 1
    with CaptureQueriesContext(connection) as queries:
        lookup.get(person.pk)
    assert len(queries) == 1
    seen = []
    with connection.execute_wrapper(lambda execute, *call: seen.append(call) or execute(*call)):
        lookup.get(person.pk)
    assert len(seen) == 1


def test_in_a_broken_transaction_it_says_so_as_django_does(database_vendor):
    lookup = RowLookup(get_user_model().objects.all)
    connection.ensure_connection()
    if database_vendor == "postgresql":
        connection.connection.prepare_threshold = 1
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            lookup.get(uuid.uuid4())
