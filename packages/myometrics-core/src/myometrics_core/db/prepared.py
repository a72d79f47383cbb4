"""Run a frequent statement as a prepared statement, if the site allows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

__all__ = ["fetch_rows"]


def fetch_rows(
    sql: str, parameters: Sequence[Any] | Mapping[str, Any], *, using: str = DEFAULT_DB_ALIAS
) -> Sequence[Sequence[Any]]:
    """Return all rows of ``sql`` on the database ``using``. Raises Django's database errors.

    Planning a joined lookup costs PostgreSQL as much as running it. If the site's pooler supports
    prepared statements, the site sets psycopg's option
    ``DATABASES[…]["OPTIONS"]["prepare_threshold"]``; the statement is then prepared on each
    connection after that many uses. While queries are recorded (``assertNumQueries``, a debug
    toolbar, an ``execute_wrapper``), the statement runs through Django's cursor, so that it is
    recorded, too.
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
    # Django's cursors interpolate the parameters, so the statement would differ each time.
    from psycopg import Cursor  # noqa: PLC0415 (only where Django itself uses it)

    connection.validate_no_broken_transaction()
    with connection.wrap_database_errors, Cursor(connection.connection) as cursor:
        return cursor.execute(sql, parameters).fetchall()
