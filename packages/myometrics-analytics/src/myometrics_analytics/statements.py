"""Running a statement that is the same each time, planned once where the host allows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection

__all__ = ["rows_fetch"]


def rows_fetch(sql: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    """The rows of ``sql`` with named ``parameters``.

    Planning the report's statement costs PostgreSQL as much as running it. A host whose pooler
    permits prepared statements says so by psycopg's own option
    ``DATABASES[…]["OPTIONS"]["prepare_threshold"]``; the statement is then prepared on each
    connection after that many uses.
    """
    with connection.cursor() as cursor:
        raw = connection.connection
        if connection.vendor == "postgresql" and getattr(raw, "prepare_threshold", None):
            return _rows_prepared(raw, sql, parameters)
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def _rows_prepared(raw: Any, sql: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    # Django's own cursors write parameters into the statement, which so is never the same.
    from psycopg import Cursor  # noqa: PLC0415 (only where Django itself uses it)

    with connection.wrap_database_errors, Cursor(raw) as cursor:
        return cursor.execute(sql, parameters).fetchall()
