"""Lists, counts and verification of a partitioned log."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from myometrics_audit.listing import Selection, entries_page
from myometrics_audit.listing.pages import entries_count
from myometrics_audit.models import AuditLog, Seal
from myometrics_audit.partitions.models import Partition
from myometrics_audit.sealing import LogVerifier, seal_pending
from myometrics_audit.sealing.erasures import entries_erase
from myometrics_audit.sealing.locks import evidence_lock
from myometrics_audit.sealing.verification.seal_checks import KnownHead
from myometrics_audit.signing.merkle import MerkleTree
from myometrics_audit.signing.signatures import tree_seal
from myometrics_testing.partitioned_log import (
    LOG,
    close_partition,
    create_partition,
    partition_log,
)

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("partitions"),
]

SIZE = 5
FIRST = 1_000_000
BOUNDS = [FIRST + SIZE * number for number in range(8)]


@pytest.fixture
def partitions(database_vendor):
    """Seven partitions of five ids, and one for the next ids of the sequence."""
    if database_vendor == "postgresql":
        partition_log(1, *BOUNDS, FIRST * 1000)


def moment(hours):
    return datetime(2025, 3, 30, tzinfo=timezone.utc) + timedelta(hours=hours)


ENTRY = st.fixed_dictionaries(
    {
        "hours": st.integers(0, 72),
        "action": st.sampled_from(["viewed", "created"]),
        "resource_type": st.sampled_from(["report", "upload"]),
        "resource_id": st.sampled_from(["r1", "r2"]),
        "data_subject": st.sampled_from(["", "p1", "p2"]),
        "has_user": st.booleans(),
    }
)
OFFSET = st.integers(0, SIZE * 7 - 1)
DAY = st.none() | st.dates(date(2025, 3, 29), date(2025, 4, 3))


@st.composite
def selections(draw):
    """A function of the user that returns a selection, and a function that matches entries."""
    wanted = {
        name: draw(st.none() | st.sampled_from(values))
        for name, values in (
            ("action", ["viewed", "created", "deleted"]),
            ("resource_type", ["report", "upload"]),
            ("resource_id", ["r1", "r2"]),
            ("data_subject", ["p1", "p2"]),
        )
    }
    of_user, start, end = draw(st.booleans()), draw(DAY), draw(DAY)
    max_id = draw(st.none() | st.builds(lambda offset: FIRST + offset, OFFSET))

    def matches(entry, user):
        return (
            all(value in (None, getattr(entry, name)) for name, value in wanted.items())
            and (not of_user or entry.user_id == user.pk)
            and (start is None or entry.timestamp.date() >= start)
            and (end is None or entry.timestamp.date() <= end)
            and (max_id is None or entry.pk <= max_id)
        )

    def build(user):
        return Selection(
            **wanted,
            user_id=user.pk if of_user else None,
            start_date=start,
            end_date=end,
            max_id=max_id,
        )

    return build, matches


def insert(rows, user):
    """Write the entries of ``rows``: offset of the id → values."""
    AuditLog.objects.bulk_create(
        AuditLog(
            pk=FIRST + offset,
            timestamp=moment(values["hours"]),
            user=user if values["has_user"] else None,
            **{name: values[name] for name in values if name not in ("hours", "has_user")},
        )
        for offset, values in rows.items()
    )


def erase(ids):
    with evidence_lock("default"):
        entries = AuditLog._base_manager.filter(pk__in=ids)
        entries_erase(entries, reason="purge", details={}, using="default")


@examples(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sealed=st.dictionaries(OFFSET, ENTRY, max_size=35),
    late=st.dictionaries(OFFSET, ENTRY, max_size=8),
    closed=st.sets(st.integers(0, 6)),
    erased=st.sets(OFFSET, max_size=6),
    choice=selections(),
    page=st.tuples(st.integers(0, 20), st.integers(1, 7)),
    shallow=st.integers(0, 8),
)
def test_pages_of_random_partitions_equal_an_oracle(
    user, monkeypatch, sealed, late, closed, erased, choice, page, shallow
):
    monkeypatch.setattr("myometrics_audit.listing.pages.MAX_SHALLOW_OFFSET", shallow)
    build, matches = choice
    offset, limit = page
    with transaction.atomic():
        insert(sealed, user)
        list(seal_pending())
        if connection.vendor == "postgresql":
            for number in closed:
                close_partition(BOUNDS[number])
        erase([FIRST + one for one in erased])
        insert(
            {
                one: values
                for one, values in late.items()
                if one not in sealed and one // SIZE not in closed
            },
            user,
        )
        expected = [
            entry.pk
            for entry in sorted(
                AuditLog.objects.order_by(), key=lambda e: (e.timestamp, e.pk), reverse=True
            )
            if matches(entry, user)
        ]
        count, rows = entries_page(build(user), offset, limit)
        found = [row["id"] for row in rows]
        is_counted = entries_count(build(user)) == len(expected)
        transaction.set_rollback(True)
    assert found == expected[offset : offset + limit]
    assert count == len(expected)
    assert is_counted


def read_partitions(sql, params):
    """Return the partitions that the plan of a statement reads."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}", params)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    names = Partition.objects.values_list("table_name", flat=True)
    return {name for name in names if re.search(rf"\b{name}\b", plan)}


ROW = {
    "action": "viewed",
    "resource_type": "report",
    "resource_id": "r1",
    "data_subject": "",
    "has_user": True,
    "hours": 0,
}


def full_partitions(user):
    """Five entries in each partition, six hours between them; all partitions are closed."""
    insert({offset: {**ROW, "hours": 6 * offset} for offset in range(SIZE * 7)}, user)
    list(seal_pending())
    for first_id in (1, *BOUNDS[:-1]):
        close_partition(first_id)


@pytest.mark.parametrize(
    ("selection", "offset", "most"),
    [
        (Selection(), 0, 2),
        (Selection(action="viewed"), 2, 2),
        (Selection(action="viewed", resource_type="report"), 0, 2),
        (Selection(start_date=date(2025, 3, 30), end_date=date(2025, 3, 30)), 0, 2),
        (Selection(), 20, 5),
    ],
)
def test_page_reads_the_partitions_of_its_entries_only(
    monkeypatch, user, database_vendor, selection, offset, most
):
    if database_vendor == "postgresql":
        monkeypatch.setattr("myometrics_audit.listing.pages.MAX_SHALLOW_OFFSET", 10)
        full_partitions(user)
        statements = []

        def note(execute, sql, params, many, context):
            statements.append((sql, params))
            return execute(sql, params, many, context)

        with connection.execute_wrapper(note):
            _, rows = entries_page(selection, offset, 3)
        assert len(rows) == 3
        read = [read_partitions(*one) for one in statements if f'"{LOG}"' in one[0]]
        assert max(map(len, read)) <= most


def forge(offset, original):
    """Insert an entry without a leaf."""
    columns = [f'"{one.column}"' for one in AuditLog._meta.concrete_fields if one.name != "id"]
    names = ", ".join(columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f'INSERT INTO "{LOG}" (id, {names}) SELECT %s, {names} FROM "{LOG}" WHERE id = %s',
            [FIRST + offset, FIRST + original],
        )


def test_since_finds_forged_entries_in_all_open_partitions(user, database_vendor):
    if database_vendor == "postgresql":
        insert(dict.fromkeys(range(0, SIZE * 7, 2), ROW), user)
        list(seal_pending())
        for first_id in (1, *BOUNDS[:3]):
            close_partition(first_id)
        head = KnownHead(1, MerkleTree(map(tree_seal, Seal.objects.all())).root())
        for offset in (1, SIZE * 3 + 2, SIZE * 7):
            forge(offset, original=0)
        found = {
            since: {one.subject for one in LogVerifier(since=since).problems()}
            for since in (None, head)
        }
        in_open = {f"entry {FIRST + SIZE * 3 + 2}", f"entry {FIRST + SIZE * 7}"}
        assert found[head] == in_open
        assert found[None] == {f"entry {FIRST + 1}", *in_open}


def test_page_is_exact_if_partitions_change_after_they_were_read(user, database_vendor):
    if database_vendor == "postgresql":
        full_partitions(user)
        changed = []

        def change(execute, sql, params, many, context):
            result = execute(sql, params, many, context)
            if not changed and f'FROM "{Partition._meta.db_table}"' in sql:
                changed.append(sql)
                drop_partition(FIRST)
                create_partition(FIRST * 1000, FIRST * 1001)
                # A late commit, and an import with old times into a new partition.
                for entry_id in (FIRST + SIZE * 7, FIRST * 1000):
                    insert({entry_id - FIRST: {**ROW, "hours": -100}}, user)
                close_partition(BOUNDS[7])
            return result

        expected = [FIRST + offset for offset in reversed(range(SIZE, SIZE * 7))]
        with connection.execute_wrapper(change):
            count, rows = entries_page(Selection(), 0, 60)
        assert [row["id"] for row in rows] == [*expected, FIRST * 1000, FIRST + SIZE * 7]
        # The counts are those of the sealer: an erasure corrects them, not the partition.
        assert count == len(rows) + SIZE


@pytest.mark.parametrize(("limit", "columns"), [(0, ("id", "timestamp")), (2, ("id",))])
def test_page_without_rows_or_times_of_several_closed_partitions(
    user, database_vendor, limit, columns
):
    if database_vendor == "postgresql":
        full_partitions(user)
        count, rows = entries_page(Selection(), 3, limit, columns=columns)
        newest_first = [FIRST + offset for offset in reversed(range(SIZE * 7))]
        assert count == len(newest_first)
        assert [row["id"] for row in rows] == newest_first[3 : 3 + limit]


def drop_partition(first_id):
    partition = Partition.objects.get(pk=first_id)
    with connection.cursor() as cursor:
        cursor.execute(f'DROP TABLE "{partition.table_name}"')
    partition.delete()


@pytest.mark.parametrize("partitions_closed", [0, 7])
def test_partitions_cost_a_page_one_statement(
    user, database_vendor, django_assert_num_queries, partitions_closed
):
    if database_vendor == "postgresql":
        insert({offset: {**ROW, "hours": offset} for offset in range(SIZE * 7)}, user)
        list(seal_pending())
        for first_id in BOUNDS[:partitions_closed]:
            close_partition(first_id)
        with django_assert_num_queries(2):
            entries_page(Selection(), 0, SIZE)
        with django_assert_num_queries(2):
            entries_page(Selection(resource_id="r1"), 0, SIZE)
    else:
        with django_assert_num_queries(2):  # the second one counts: there are no rows
            entries_page(Selection(), 0, SIZE)
