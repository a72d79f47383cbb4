"""Database triggers that refuse to change or delete audit entries and their evidence.

They stop mistakes and ORM bypasses, but not a database administrator; ``manage.py audit_verify``
detects such changes. SQLite drops a table's triggers when Django rebuilds the table, so
they are created again after each ``migrate``, and a system check reports missing ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["allow_flush", "install_guards", "missing_guards", "remove_guards"]

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
    of the trigger's function.
    """

    name: str
    table: str
    create: str
    rules: str


def install_guards(using: str) -> None:
    """Create every missing or outdated guard of the existing tables."""
    connection = connections[using]
    guards, present = list(_guards(connection)), _present(connection)
    outdated = [guard for guard in guards if present.get(guard.name) != guard.rules]
    with connection.cursor() as cursor:
        if outdated and connection.vendor == "postgresql":
            for statement in _postgresql_functions(connection):
                cursor.execute(statement)
        for guard in outdated:
            # On PostgreSQL only the function contains the rules: no table lock is needed.
            if connection.vendor == "sqlite" or guard.name not in present:
                cursor.execute(f"DROP TRIGGER IF EXISTS {_trigger(guard, connection)}")
                cursor.execute(guard.create)


def remove_guards(using: str) -> None:
    """Drop every guard: for reversing the migration, and for flushing test databases."""
    connection = connections[using]
    present = _present(connection)
    with connection.cursor() as cursor:
        for guard in _guards(connection):
            if guard.name in present:
                cursor.execute(f"DROP TRIGGER {_trigger(guard, connection)}")


def missing_guards(using: str) -> list[str]:
    """Return the names of missing or outdated guards of the existing tables."""
    connection = connections[using]
    present = _present(connection)
    return [guard.name for guard in _guards(connection) if present.get(guard.name) != guard.rules]


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


def _present(connection: BaseDatabaseWrapper) -> dict[str, str]:
    """Return the rules of each existing trigger, by name."""
    query = {
        "postgresql": "SELECT t.tgname, p.prosrc FROM pg_trigger t JOIN pg_proc p "
        "ON p.oid = t.tgfoid WHERE NOT t.tgisinternal "
        # 'D' is disabled; 'R' (ENABLE REPLICA) fires only for replicated changes.
        "AND t.tgenabled IN ('O', 'A') AND pg_table_is_visible(t.tgrelid)",
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'",
    }.get(connection.vendor)
    if query is None:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(query)
        return dict(cursor.fetchall())


def _guards(connection: BaseDatabaseWrapper) -> Iterator[_Guard]:
    """Yield the guards of the existing tables."""
    if connection.vendor in {"postgresql", "sqlite"}:
        make = _postgresql_guards if connection.vendor == "postgresql" else _sqlite_guards
        for name, columns in _columns(connection).items():
            yield from make(name, columns)


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
    """Return the SQL condition: the update replaces the user by the pseudonym of an erasure."""
    same = [
        f'NEW."{column}" IS NOT DISTINCT FROM OLD."{column}"'
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
    truncate = f"{function}_truncate"
    yield _Guard(
        truncate,
        table,
        f'CREATE TRIGGER {truncate} BEFORE TRUNCATE ON "{table}" '
        f"FOR EACH STATEMENT EXECUTE FUNCTION {PREFIX}_refuse()",
        rules=_postgresql_truncate_rules(),
    )


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
