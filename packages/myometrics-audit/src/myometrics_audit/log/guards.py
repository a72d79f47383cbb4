"""Database triggers that refuse to change or delete audit entries and their evidence.

They stop mistakes and ORM bypasses, but not a database administrator; ``manage.py audit_verify``
detects such changes. SQLite drops a table's triggers when Django rebuilds the table, so
they are created again after each ``migrate``, and a system check reports missing ones.

If the table of entries is partitioned, PostgreSQL copies its row trigger to each partition. The
trigger on TRUNCATE is created on the table and on each partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

PREFIX = "myometrics_audit_guard"

# Model → (columns that may change from NULL to a value, columns that may change freely).
GUARDED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "AuditLog": ((), ()),
    "Leaf": (("seal_number", "erasure_id"), ()),
    "Seal": ((), ("anchored_at",)),
    "Erasure": (("seal_number",), ()),
}


@dataclass(frozen=True)
class _Guard:
    """One trigger.

    ``rules`` is the text that the database stores: on SQLite the whole SQL, on PostgreSQL the body
    of the trigger's function. ``table`` is a partition's name if ``is_in_partition``.
    """

    name: str
    table: str
    create: str
    rules: str
    is_in_partition: bool = False

    def __str__(self) -> str:
        return f"{self.name} of {self.table}" if self.is_in_partition else self.name


def install_guards(using: str) -> None:
    """Create every missing or outdated guard of the existing tables."""
    connection = connections[using]
    guards, present = list(_guards(connection)), _present(connection)
    outdated = [guard for guard in guards if present.get(_key(guard)) != guard.rules]
    with connection.cursor() as cursor:
        if outdated and connection.vendor == "postgresql":
            for statement in _postgresql_functions(connection):
                cursor.execute(statement)
        created = {guard.name for guard in outdated if guard.create and _key(guard) not in present}
        for guard in outdated:
            if not guard.create and guard.name in created:
                continue  # a copy of the trigger that was just created on the table
            # On PostgreSQL only the function contains the rules: no table lock is needed.
            if connection.vendor == "sqlite" or _key(guard) not in present:
                for statement in _restore(guard, connection):
                    cursor.execute(statement)


def _restore(guard: _Guard, connection: BaseDatabaseWrapper) -> Iterator[str]:
    if not guard.create:  # PostgreSQL made it with the table's own trigger: it is disabled
        yield f'ALTER TABLE "{guard.table}" ENABLE TRIGGER {guard.name}'
        return
    yield f"DROP TRIGGER IF EXISTS {_trigger(guard, connection)}"
    yield guard.create


def remove_guards(using: str) -> None:
    """Drop every guard: for reversing the migration, and for flushing test databases."""
    connection = connections[using]
    present = _present(connection)
    with connection.cursor() as cursor:
        for guard in _guards(connection):
            if guard.create and _key(guard) in present:
                cursor.execute(f"DROP TRIGGER {_trigger(guard, connection)}")


def missing_guards(using: str) -> list[str]:
    """Return the names of missing or outdated guards of the existing tables."""
    connection = connections[using]
    present = _present(connection)
    return [str(guard) for guard in _guards(connection) if present.get(_key(guard)) != guard.rules]


def _key(guard: _Guard) -> tuple[str, str]:
    return guard.table, guard.name


def allow_flush(connection: BaseDatabaseWrapper) -> None:
    """Allow ``flush`` to empty the guarded tables on this connection, for tests only."""
    flush = connection.ops.execute_sql_flush

    def unguarded_flush(sql_list: list[str]) -> Any:
        remove_guards(connection.alias)
        try:
            return flush(sql_list)
        finally:
            install_guards(connection.alias)

    if not getattr(flush, "is_unguarded", False):
        unguarded_flush.is_unguarded = True  # type: ignore[attr-defined]
        connection.ops.execute_sql_flush = unguarded_flush  # type: ignore[method-assign,assignment]


def _present(connection: BaseDatabaseWrapper) -> dict[tuple[str, str], str]:
    """Return the rules of each existing trigger, by table and name."""
    query = {
        # PostgreSQL 13 and 14 call the copies for partitions internal.
        "postgresql": "SELECT c.relname, t.tgname, p.prosrc FROM pg_trigger t "
        "JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid "
        "WHERE (NOT t.tgisinternal OR t.tgparentid <> 0) "
        # 'D' is disabled; 'R' (ENABLE REPLICA) fires only for replicated changes.
        "AND t.tgenabled IN ('O', 'A') AND pg_table_is_visible(t.tgrelid)",
        "sqlite": "SELECT tbl_name, name, sql FROM sqlite_master WHERE type = 'trigger'",
    }.get(connection.vendor)
    if query is None:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(query)
        return {(table, name): rules for table, name, rules in cursor.fetchall()}


def _guards(connection: BaseDatabaseWrapper) -> Iterator[_Guard]:
    """Yield the guards of the existing tables."""
    if connection.vendor in {"postgresql", "sqlite"}:
        is_postgresql = connection.vendor == "postgresql"
        make = _postgresql_guards if is_postgresql else _sqlite_guards
        for name, columns in _columns(connection).items():
            yield from make(name, columns)
            if is_postgresql and name == "AuditLog":
                yield from _partition_guards(name, columns, connection)


def _trigger(guard: _Guard, connection: BaseDatabaseWrapper) -> str:
    return guard.name + (f' ON "{guard.table}"' if connection.vendor == "postgresql" else "")


def _table(name: str) -> str:
    return f'"{_table_name(name)}"'


def _table_name(name: str) -> str:
    return apps.get_model("myometrics_audit", name)._meta.db_table


def _columns(connection: BaseDatabaseWrapper) -> dict[str, list[str]]:
    """Map model → current columns of its table, also between two migrations."""
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor))
        return {
            name: [
                column.name
                for column in connection.introspection.get_table_description(
                    cursor, _table_name(name)
                )
            ]
            for name in GUARDED
            if _table_name(name) in tables
        }


def _unchanged(name: str, columns: Iterable[str]) -> str:
    """Return the SQL condition: the update changes only columns that may change."""
    once, free = GUARDED[name]
    terms = []
    for column in columns:
        same = f'NEW."{column}" IS NOT DISTINCT FROM OLD."{column}"'
        if column in once:
            same = f'({same} OR OLD."{column}" IS NULL)'
        if column not in free:
            terms.append(same)
    return " AND ".join(terms)


def _retained(columns: Iterable[str]) -> str:
    """Return the SQL condition: the update replaces the user by the pseudonym of an erasure.

    The nonce of the commitment to the user is erased at the same time.
    """
    same = [
        'NEW."actor_nonce" IS NULL'
        if column == "actor_nonce"
        else f'NEW."{column}" IS NOT DISTINCT FROM OLD."{column}"'
        for column in columns
        if column not in {"user_id", "pseudonym"}
    ]
    return (
        'NEW."user_id" IS NULL AND OLD."user_id" IS NOT NULL AND '
        + " AND ".join(same)
        + f" AND EXISTS (SELECT 1 FROM {_table('Erasure')} AS e "
        "WHERE e.reason = 'retain' AND e.pseudonym = NEW.pseudonym)"
    )


def _update_allowed(name: str, columns: Iterable[str]) -> str:
    return _retained(columns) if name == "AuditLog" else _unchanged(name, columns)


def _delete_allowed(name: str) -> str:
    if name != "AuditLog":
        return "FALSE"
    return (
        f"NOT EXISTS (SELECT 1 FROM {_table('Leaf')} AS l "
        'WHERE l.entry_id = OLD."id" AND l.erasure_id IS NULL)'
    )


def _refusal(name: str, operation: str) -> str:
    way = (
        "erase entries by deleting the user or with manage.py audit_purge; loaddata needs a "
        "database without entries; for tests that empty "
        'tables (TransactionTestCase, flush) set MYOMETRICS_AUDIT["ALLOW_FLUSH"] = True'
    )
    return f"myometrics_audit: {operation} on {name} is refused; {way}"


# --- SQLite ------------------------------------------------------------------------------------


def _sqlite_guards(name: str, columns: Iterable[str]) -> Iterator[_Guard]:
    table = _table_name(name)
    conditions = {
        "UPDATE": f"NOT ({_update_allowed(name, columns)})",
        "DELETE": f"NOT ({_delete_allowed(name)})",
        # REPLACE INTO would delete the old row without firing the trigger on DELETE.
        "INSERT": f'EXISTS (SELECT 1 FROM "{table}" AS o WHERE {_same_key(name)})',
    }
    for operation, condition in conditions.items():
        trigger = f"{PREFIX}_{name.lower()}_{operation.lower()}"
        create = (
            f'CREATE TRIGGER {trigger} BEFORE {operation} ON "{table}" FOR EACH ROW '
            f"WHEN {_sqlite_dialect(condition)} "
            f"BEGIN SELECT RAISE(ABORT, '{_refusal(name, operation)}'); END"
        )
        yield _Guard(trigger, table, create, rules=create)


def _same_key(name: str) -> str:
    key = apps.get_model("myometrics_audit", name)._meta.pk
    return f'o."{key.column}" = NEW."{key.column}"'


def _sqlite_dialect(sql: str) -> str:
    # IS NOT DISTINCT FROM needs SQLite 3.39; IS is equivalent in every version.
    return sql.replace("IS NOT DISTINCT FROM", "IS").replace("FALSE", "0")


# --- PostgreSQL --------------------------------------------------------------------------------


def _postgresql_guards(name: str, columns: Iterable[str]) -> Iterator[_Guard]:
    table = _table_name(name)
    function = f"{PREFIX}_{name.lower()}"
    row = f"{function}_row"
    yield _Guard(
        row,
        table,
        f'CREATE TRIGGER {row} BEFORE UPDATE OR DELETE ON "{table}" '
        f"FOR EACH ROW EXECUTE FUNCTION {function}()",
        rules=_postgresql_row_rules(name, columns),
    )
    yield _truncate_guard(name, table)


def _truncate_guard(name: str, table: str, *, is_in_partition: bool = False) -> _Guard:
    trigger = f"{PREFIX}_{name.lower()}_truncate"
    return _Guard(
        trigger,
        table,
        f'CREATE TRIGGER {trigger} BEFORE TRUNCATE ON "{table}" '
        f"FOR EACH STATEMENT EXECUTE FUNCTION {PREFIX}_refuse()",
        rules=_postgresql_truncate_rules(),
        is_in_partition=is_in_partition,
    )


def _partition_guards(
    name: str, columns: Iterable[str], connection: BaseDatabaseWrapper
) -> Iterator[_Guard]:
    """Yield the guards of the partitions, after those of their table."""
    rules = _postgresql_row_rules(name, columns)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = to_regclass(%s) ORDER BY c.oid",
            [_table(name)],
        )
        partitions = [partition for (partition,) in cursor.fetchall()]
    for partition in partitions:
        yield _Guard(
            f"{PREFIX}_{name.lower()}_row", partition, "", rules=rules, is_in_partition=True
        )
        yield _truncate_guard(name, partition, is_in_partition=True)


def _postgresql_functions(connection: BaseDatabaseWrapper) -> Iterator[str]:
    yield _postgresql_function(f"{PREFIX}_refuse", _postgresql_truncate_rules())
    for name, columns in _columns(connection).items():
        rules = _postgresql_row_rules(name, columns)
        yield _postgresql_function(f"{PREFIX}_{name.lower()}", rules)


def _postgresql_row_rules(name: str, columns: Iterable[str]) -> str:
    return (
        f" BEGIN IF TG_OP = 'UPDATE' THEN IF {_update_allowed(name, columns)} THEN RETURN NEW; "
        f"END IF; ELSE IF {_delete_allowed(name)} THEN RETURN OLD; END IF; END IF; "
        f"{_postgresql_raise(name)} END "
    )


def _postgresql_truncate_rules() -> str:
    return f" BEGIN {_postgresql_raise('the audit tables')} END "


def _postgresql_raise(name: str) -> str:
    message = _refusal(name, "%").replace("'", "''")
    return f"RAISE EXCEPTION '{message}', TG_OP USING ERRCODE = 'restrict_violation';"


def _postgresql_function(name: str, rules: str) -> str:
    return (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql "
        f"AS $guard${rules}$guard$"
    )
