"""Operations for large tables: brief locks, concurrent indexes, migrations that can run again."""

import pytest
from django.db import NotSupportedError, OperationalError, connection, migrations, models
from django.db.migrations.state import ProjectState
from django.test.utils import CaptureQueriesContext

from myometrics_core.db import migration_operations, table_locks
from myometrics_core.db.migration_operations import (
    AddFieldBriefly,
    AddIndexConcurrently,
    RemoveFieldBriefly,
    RemoveIndexConcurrently,
)
from myometrics_testing.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

APP = "clinic_site"
TABLE = "clinic_site_visit"
INDEX = models.Index(fields=["name"], name="visit_name")


@pytest.fixture
def state():
    """The state of a table with rows."""
    fields = [("id", models.BigAutoField(primary_key=True)), ("name", models.TextField())]
    state = apply(migrations.CreateModel("Visit", fields), ProjectState())
    model = state.apps.get_model(APP, "Visit")
    model.objects.bulk_create(model(name=str(number)) for number in range(10))
    yield state
    with connection.schema_editor() as editor:
        editor.delete_model(model)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(migration_operations, "LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(migration_operations, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr(migration_operations, "PAUSE_SECONDS", 0)


@pytest.fixture
def other():
    """Another connection, in a transaction that has read the table."""
    other = connection.copy()
    other.inc_thread_sharing()
    other.set_autocommit(False)
    yield other
    other.close()


def apply(operation, state, *, backwards=False, atomic=False):
    """Run an operation as a migration does; return the state after it (before it if backwards)."""
    after = state.clone()
    operation.state_forwards(APP, after)
    with connection.schema_editor(atomic=atomic) as editor:
        if backwards:
            operation.database_backwards(APP, editor, after, state)
        else:
            operation.database_forwards(APP, editor, state, after)
    return state if backwards else after


def columns():
    with connection.cursor() as cursor:
        found = connection.introspection.get_table_description(cursor, TABLE)
        return [column.name for column in found]


def indexes():
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, TABLE)
        return sorted(name for name in found if name.startswith("visit_"))


def is_valid(name):
    with connection.cursor() as cursor:
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", [name])
        return cursor.fetchone()[0]


def wait_until(cursor, condition):
    """Wait until a process of this database fulfils ``condition``."""
    ours = "datname = current_database()"

    def is_fulfilled():
        cursor.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {ours} AND {condition}")
        return cursor.fetchone()[0]

    wait_for(is_fulfilled)


def add_origin():
    return AddFieldBriefly("visit", "origin", models.CharField(max_length=10, null=True))


@pytest.mark.parametrize("atomic", [True, False])
def test_column_is_added_and_removed(state, atomic):
    after = apply(add_origin(), state, atomic=atomic)
    assert columns() == ["id", "name", "origin"]
    apply(RemoveFieldBriefly("visit", "origin"), after, atomic=atomic)
    assert columns() == ["id", "name"]
    apply(RemoveFieldBriefly("visit", "origin"), after, atomic=atomic, backwards=True)
    assert columns() == ["id", "name", "origin"]
    apply(add_origin(), state, atomic=atomic, backwards=True)
    assert columns() == ["id", "name"]


def test_column_waits_briefly_for_a_table_in_use(state, impatient, other, database_vendor):
    if database_vendor == "sqlite":
        return  # its writers wait for each other, whatever they write
    with other.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {TABLE}")
    with pytest.raises(OperationalError, match=r"run 'manage\.py migrate' again"):
        apply(add_origin(), state, atomic=True)
    assert columns() == ["id", "name"]
    other.rollback()
    apply(add_origin(), state, atomic=True)
    assert columns() == ["id", "name", "origin"]


def test_column_is_added_as_soon_as_the_table_is_free(state, other, monkeypatch, database_vendor):
    if database_vendor == "sqlite":
        return
    monkeypatch.setattr(migration_operations, "LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(table_locks.time, "sleep", lambda seconds: other.rollback())
    with other.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {TABLE}")
    apply(add_origin(), state, atomic=True)
    assert columns() == ["id", "name", "origin"]


def test_other_errors_are_not_retried(state, monkeypatch):
    def wait(seconds):
        raise AssertionError("no lock was missed")

    monkeypatch.setattr(table_locks.time, "sleep", wait)
    after = apply(add_origin(), state)
    with pytest.raises(Exception, match=r"(?i)origin"):
        apply(add_origin(), state)
    apply(RemoveFieldBriefly("visit", "origin"), after)


def test_index_operations_can_be_run_again(state):
    for _ in range(2):
        after = apply(AddIndexConcurrently("visit", INDEX), state)
        assert indexes() == ["visit_name"]
    remove = RemoveIndexConcurrently("visit", "visit_name")
    for _ in range(2):
        apply(remove, after)
        assert indexes() == []
    apply(remove, after, backwards=True)
    assert indexes() == ["visit_name"]
    apply(AddIndexConcurrently("visit", INDEX), state, backwards=True)
    assert indexes() == []


def test_index_is_built_while_others_write(state, other, database_vendor, run_concurrently):
    if database_vendor == "sqlite":
        return
    with other.cursor() as cursor:
        cursor.execute(f"INSERT INTO {TABLE} (name) VALUES ('being written')")

    def build():
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1s'")  # the role's own is outlasted
            cursor.execute("SET statement_timeout = '1s'")
        apply(AddIndexConcurrently("visit", INDEX), state)

    def write():
        # The build waits for the open transaction; other writers don't wait for it.
        try:
            with connection.cursor() as cursor:
                building = "query LIKE 'CREATE INDEX%' AND wait_event_type = 'Lock'"
                wait_until(cursor, f"{building} AND query_start < now() - interval '1.5 s'")
                cursor.execute("SET lock_timeout = '5s'")
                cursor.execute(f"INSERT INTO {TABLE} (name) VALUES ('written concurrently')")
        finally:
            other.commit()

    assert run_concurrently([build, write]) == [None, None]
    assert is_valid("visit_name")


def test_invalid_index_of_a_failed_run_is_built_again(state, database_vendor):
    if database_vendor == "sqlite":
        return
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {TABLE} SET name = 'same'")
        with pytest.raises(Exception, match="visit_name"):
            cursor.execute(f"CREATE UNIQUE INDEX CONCURRENTLY visit_name ON {TABLE} (name)")
    assert not is_valid("visit_name")
    apply(AddIndexConcurrently("visit", INDEX), state)
    assert is_valid("visit_name")


def test_index_in_a_transaction_is_rejected(state, database_vendor):
    if database_vendor == "sqlite":
        return
    with pytest.raises(NotSupportedError, match="atomic = False"):
        apply(AddIndexConcurrently("visit", INDEX), state, atomic=True)


def test_time_limits_of_the_connection_are_restored(state, database_vendor):
    if database_vendor == "sqlite":
        return
    with CaptureQueriesContext(connection) as queries:
        apply(AddIndexConcurrently("visit", INDEX), state)
    statements = [query["sql"] for query in queries]
    assert [s for s in statements if s.startswith(("SET", "RESET"))] == [
        "SET lock_timeout = 0",
        "SET statement_timeout = 0",
        "RESET lock_timeout",
        "RESET statement_timeout",
    ]


@pytest.fixture
def partitioned(database_vendor, state):
    """The same table with two partitions, which have rows; the state."""
    if database_vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {TABLE}")
            cursor.execute(
                f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name text NOT NULL) "
                "PARTITION BY RANGE (id)"
            )
            for first in (0, 100):
                cursor.execute(
                    f"CREATE TABLE {TABLE}_p{first} PARTITION OF {TABLE} "
                    f"FOR VALUES FROM ({first}) TO ({first + 100})"
                )
                cursor.execute(f"INSERT INTO {TABLE} VALUES ({first + 1}, 'a')")
    return state


def partition_indexes():
    """The indexes of the partitions that belong to the table's index."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT i.indrelid::regclass::text, i.indisvalid FROM pg_inherits a "
            "JOIN pg_index i ON i.indexrelid = a.inhrelid "
            "WHERE a.inhparent = to_regclass('visit_name') ORDER BY 1"
        )
        return cursor.fetchall()


def test_operations_work_on_a_partitioned_table(partitioned, database_vendor):
    for _ in range(2):
        after = apply(AddIndexConcurrently("visit", INDEX), partitioned)
        assert indexes() == ["visit_name"]
    if database_vendor == "postgresql":
        assert is_valid("visit_name")
        assert partition_indexes() == [(f"{TABLE}_p0", True), (f"{TABLE}_p100", True)]
    apply(add_origin(), after, atomic=True)
    assert columns() == ["id", "name", "origin"]
    remove = RemoveIndexConcurrently("visit", "visit_name")
    for _ in range(2):
        apply(remove, after)
        assert indexes() == []
    apply(remove, after, backwards=True)
    assert indexes() == ["visit_name"]


def test_index_of_a_partitioned_table_is_built_beside_writers(
    partitioned, other, impatient, database_vendor, run_concurrently
):
    if database_vendor == "sqlite":
        return

    def build():
        apply(AddIndexConcurrently("visit", INDEX), partitioned)

    def write_during_the_build():
        waits = "wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX CONCURRENTLY%'"
        with connection.cursor() as cursor:
            wait_until(cursor, waits)
            cursor.execute(f"INSERT INTO {TABLE} VALUES (50, 'b'), (150, 'b')")
        other.commit()

    with other.cursor() as cursor:
        cursor.execute(f"INSERT INTO {TABLE}_p100 VALUES (160, 'c')")
    assert run_concurrently([build, write_during_the_build]) == [None, None]
    assert is_valid("visit_name")


def test_failed_index_of_a_partition_is_built_again(partitioned, database_vendor):
    if database_vendor == "sqlite":
        return
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE INDEX visit_name ON ONLY {TABLE} (name)")
        # Only its name shows that it is of an attempt that failed.
        child = migration_operations._partition_index_name("visit_name", f"{TABLE}_p100")
        cursor.execute(f"CREATE INDEX {child} ON {TABLE}_p100 (id)")
    apply(AddIndexConcurrently("visit", INDEX), partitioned)
    assert is_valid("visit_name")
    assert len(partition_indexes()) == 2


def test_attached_index_waits_briefly_for_readers(partitioned, other, monkeypatch, database_vendor):
    if database_vendor == "sqlite":
        return
    monkeypatch.setattr(migration_operations, "LOCK_TIMEOUT_MS", 50)
    pauses = []

    def stop_reading(seconds):
        pauses.append(seconds)
        other.rollback()

    monkeypatch.setattr(table_locks.time, "sleep", stop_reading)

    def read_before(execute, sql, params, many, context):
        if " ATTACH PARTITION " in sql and not pauses:
            with other.cursor() as cursor:
                cursor.execute(f"SELECT * FROM {TABLE}")
                # Without a timeout, the operation would wait forever, and other queries behind it.
            with connection.cursor() as cursor:
                cursor.execute("SHOW lock_timeout")
                assert cursor.fetchone() == ("50ms",)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(read_before):
        apply(AddIndexConcurrently("visit", INDEX), partitioned)
    assert pauses
    assert is_valid("visit_name")
