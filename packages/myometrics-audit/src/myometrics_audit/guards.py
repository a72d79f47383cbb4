"""Database triggers that refuse to change or remove audit entries and their evidence.

They stop mistakes and ORM tricks, not a database administrator: what gets past them is found by
``manage.py audit_verify``. SQLite drops a table's triggers when Django rebuilds the table, so
they are created again after each ``migrate``, and a system check looks for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["allow_flush", "install_guards", "missing_guards", "remove_guards"]

PREFIX = "myometrics_audit_guard"

# Model → columns that may go from NULL to a value, columns that may change freely.
GUARDED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "AuditLog": ((), ()),
    "Leaf": (("seal_number", "erasure_id"), ()),
    "Seal": ((), ("anchored_at",)),
    "Erasure": (("seal_number",), ()),
}


@dataclass(frozen=True)
class _Guard:
    """One trigger: SQL that creates it, and the name it goes by."""

    name: str
    table: str
    create: str


def install_guards(using: str) -> None:
    """Create every guard that is missing, where the tables exist."""
    connection = connections[using]
    missing = set(missing_guards(using))
    with connection.cursor() as cursor:
        if missing and connection.vendor == "postgresql":
            for statement in _postgresql_functions():
                cursor.execute(statement)
        for guard in _guards(connection.vendor):
            if guard.name in missing:
                cursor.execute(guard.create)


def remove_guards(using: str) -> None:
    """Drop every guard: for the reverse of the migration, and for flushing test databases."""
    connection = connections[using]
    present = _present(connection)
    with connection.cursor() as cursor:
        for guard in _guards(connection.vendor):
            if guard.name in present:
                on_table = f' ON "{guard.table}"' if connection.vendor == "postgresql" else ""
                cursor.execute(f"DROP TRIGGER {guard.name}{on_table}")


def missing_guards(using: str) -> list[str]:
    """Names of the guards that should exist and don't; none where the tables don't either."""
    connection = connections[using]
    tables = set(connection.introspection.table_names())
    present = _present(connection)
    return [
        guard.name
        for guard in _guards(connection.vendor)
        if guard.table in tables and guard.name not in present
    ]


def allow_flush(connection: BaseDatabaseWrapper) -> None:
    """Let ``flush`` empty the guarded tables on this connection: for tests only."""
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


def _present(connection: BaseDatabaseWrapper) -> set[str]:
    query = {
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'",
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    }.get(connection.vendor)
    if query is None:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(query)
        return {name for (name,) in cursor.fetchall()}


def _guards(vendor: str) -> Iterator[_Guard]:
    for name in GUARDED if vendor in {"postgresql", "sqlite"} else ():
        table = apps.get_model("myometrics_audit", name)._meta.db_table
        make = _postgresql_guards if vendor == "postgresql" else _sqlite_guards
        yield from make(name, table)


def _table(name: str) -> str:
    return f'"{apps.get_model("myometrics_audit", name)._meta.db_table}"'


def _columns(name: str) -> list[str]:
    fields = apps.get_model("myometrics_audit", name)._meta.concrete_fields
    return [str(field.column) for field in fields]


def _unchanged(name: str) -> str:
    """SQL: the update touches nothing but what the table's rules let it touch."""
    once, free = GUARDED[name]
    terms = []
    for column in _columns(name):
        same = f'NEW."{column}" IS NOT DISTINCT FROM OLD."{column}"'
        if column in once:
            same = f'({same} OR OLD."{column}" IS NULL)'
        if column not in free:
            terms.append(same)
    return " AND ".join(terms)


def _retained() -> str:
    """SQL: the update takes the person off an entry, as an erasure says."""
    same = [
        f'NEW."{column}" IS NOT DISTINCT FROM OLD."{column}"'
        for column in _columns("AuditLog")
        if column not in {"user_id", "pseudonym"}
    ]
    return (
        'NEW."user_id" IS NULL AND OLD."user_id" IS NOT NULL AND '
        + " AND ".join(same)
        + f" AND EXISTS (SELECT 1 FROM {_table('Erasure')} AS e "
        "WHERE e.reason = 'retain' AND e.pseudonym = NEW.pseudonym)"
    )


def _update_allowed(name: str) -> str:
    return _retained() if name == "AuditLog" else _unchanged(name)


def _delete_allowed(name: str) -> str:
    if name != "AuditLog":
        return "FALSE"
    return (
        f"NOT EXISTS (SELECT 1 FROM {_table('Leaf')} AS l "
        'WHERE l.entry_id = OLD."id" AND l.erasure_id IS NULL)'
    )


def _refusal(name: str, operation: str) -> str:
    way = "erase entries by deleting the person or with manage.py audit_purge"
    return f"myometrics_audit: {operation} on {name} is refused; {way}"


# --- SQLite ------------------------------------------------------------------------------------


def _sqlite_guards(name: str, table: str) -> Iterator[_Guard]:
    conditions = {
        "UPDATE": f"NOT ({_update_allowed(name)})",
        "DELETE": f"NOT ({_delete_allowed(name)})",
        # REPLACE INTO would delete the old row without firing the trigger on DELETE.
        "INSERT": f'EXISTS (SELECT 1 FROM "{table}" AS o WHERE {_same_key(name)})',
    }
    for operation, condition in conditions.items():
        trigger = f"{PREFIX}_{name.lower()}_{operation.lower()}"
        yield _Guard(
            trigger,
            table,
            f'CREATE TRIGGER {trigger} BEFORE {operation} ON "{table}" FOR EACH ROW '
            f"WHEN {_sqlite_dialect(condition)} "
            f"BEGIN SELECT RAISE(ABORT, '{_refusal(name, operation)}'); END",
        )


def _same_key(name: str) -> str:
    key = apps.get_model("myometrics_audit", name)._meta.pk
    return f'o."{key.column}" = NEW."{key.column}"'


def _sqlite_dialect(sql: str) -> str:
    # IS NOT DISTINCT FROM needs SQLite 3.39; IS means the same there in every version.
    return sql.replace("IS NOT DISTINCT FROM", "IS").replace("FALSE", "0")


# --- PostgreSQL --------------------------------------------------------------------------------


def _postgresql_guards(name: str, table: str) -> Iterator[_Guard]:
    function = f"{PREFIX}_{name.lower()}"
    row = f"{function}_row"
    yield _Guard(
        row,
        table,
        f'CREATE TRIGGER {row} BEFORE UPDATE OR DELETE ON "{table}" '
        f"FOR EACH ROW EXECUTE FUNCTION {function}()",
    )
    truncate = f"{function}_truncate"
    yield _Guard(
        truncate,
        table,
        f'CREATE TRIGGER {truncate} BEFORE TRUNCATE ON "{table}" '
        f"FOR EACH STATEMENT EXECUTE FUNCTION {PREFIX}_refuse()",
    )


def _postgresql_functions() -> Iterator[str]:
    yield _postgresql_function(f"{PREFIX}_refuse", _postgresql_raise("TRUNCATE"))
    for name in GUARDED:
        body = (
            f"IF TG_OP = 'UPDATE' THEN IF {_update_allowed(name)} THEN RETURN NEW; END IF; "
            f"ELSE IF {_delete_allowed(name)} THEN RETURN OLD; END IF; END IF; "
            + _postgresql_raise(name)
        )
        yield _postgresql_function(f"{PREFIX}_{name.lower()}", body)


def _postgresql_raise(name: str) -> str:
    message = _refusal(name, "%").replace("'", "''")
    return f"RAISE EXCEPTION '{message}', TG_OP USING ERRCODE = 'restrict_violation';"


def _postgresql_function(name: str, body: str) -> str:
    return (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql "
        f"AS $guard$ BEGIN {body} END $guard$"
    )
