"""Running a statement that is the same each time, planned once where the host allows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

__all__ = ["fetch_rows"]


def fetch_rows(
    sql: str, parameters: Sequence[Any] | Mapping[str, Any], *, using: str = DEFAULT_DB_ALIAS
) -> Sequence[Sequence[Any]]:
    """All rows of ``sql`` on the database ``using``. Raises Django's database errors.

    To plan a joined look-up costs PostgreSQL as much as to run it. A host whose pooler permits
    prepared statements says so by psycopg's own option
    ``DATABASES[…]["OPTIONS"]["prepare_threshold"]``; the statement is then prepared on each
    connection after that many uses. Where somebody watches the queries (``assertNumQueries``, a
    debug toolbar, an ``execute_wrapper``), they go Django's way and are seen.
    """
    connection: Any = connections[using]
    if connection.vendor == "postgresql" and _may_prepare(connection):
        return _rows_prepared(connection, sql, parameters)
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: Sequence[Sequence[Any]] = cursor.fetchall()
        return rows


def _may_prepare(connection: Any) -> bool:
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    allowed = getattr(connection.connection, "prepare_threshold", None)
    return bool(allowed) and not (connection.queries_logged or connection.execute_wrappers)


def _rows_prepared(connection: Any, sql: str, parameters: Any) -> Sequence[Sequence[Any]]:
    # Django's own cursors write parameters into the statement, which so is never the same.
    from psycopg import Cursor  # noqa: PLC0415 (only where Django itself uses it)

    connection.validate_no_broken_transaction()
    with connection.wrap_database_errors, Cursor(connection.connection) as cursor:
        return cursor.execute(sql, parameters).fetchall()
