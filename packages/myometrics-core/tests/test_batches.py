"""Reading many rows in short, independent statements."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from myometrics_core.db import read_in_batches
from myometrics_core.health_log.models import HealthState

pytestmark = pytest.mark.django_db


@pytest.fixture
def groups():
    return Group.objects.bulk_create(Group(name=f"group {number:02}") for number in range(10))


@pytest.mark.parametrize("size", [1, 3, 5, 10, 11])
def test_batches_keep_the_order(groups, size):
    with CaptureQueriesContext(connection) as queries:
        found = list(read_in_batches(Group.objects.order_by("name"), size=size))
    assert [group.name for group in found] == [group.name for group in groups]
    assert len(queries) == 10 // size + 1


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_equal_values_are_split_between_batches(size):
    for status in "bbabaca":
        HealthState.objects.create(status=status, services={}, checked_at="2026-01-01T00:00Z")
    rows = HealthState.objects.order_by("status", "checked_at", "id")
    assert list(read_in_batches(rows, size=size)) == list(rows)
    shown = rows.values("id", "status", "checked_at")
    assert list(read_in_batches(shown, size=size)) == list(shown)


def test_empty_query_set_yields_nothing():
    assert list(read_in_batches(Group.objects.order_by("pk"))) == []
    assert list(read_in_batches(Group.objects.none().order_by("pk"))) == []


@pytest.mark.parametrize("order", [(), ("-name",), ("?",)])
def test_unsupported_order_is_rejected(order):
    with pytest.raises(ValueError, match="ascending columns"):
        list(read_in_batches(Group.objects.order_by(*order)))


@pytest.mark.parametrize(
    "rows",
    [
        Group.objects.order_by("pk").values_list("pk"),
        Group.objects.order_by("pk").values_list("pk", flat=True),
        Group.objects.order_by("pk").values("name"),
        Group.objects.order_by("pk")[:5],
    ],
    ids=["tuples", "flat", "values without the order", "slice"],
)
def test_unsupported_query_set_is_rejected(rows):
    with pytest.raises(ValueError, match="are read in batches"):
        list(read_in_batches(rows))


def test_values_of_the_key_are_read_in_batches(groups):
    keys = Group.objects.order_by("pk").values("pk")
    assert list(read_in_batches(keys, size=3)) == list(keys)


@pytest.mark.django_db(transaction=True)
def test_no_cursor_outlives_a_statement(groups, database_vendor):
    rows = read_in_batches(Group.objects.order_by("pk"), size=2)
    next(rows)
    if database_vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_cursors WHERE name <> ''")
            assert cursor.fetchone() == (0,)
    with transaction.atomic():
        Group.objects.create(name="written concurrently")
    assert len(list(rows)) == 10
