"""Frequent statements: prepared by PostgreSQL where the site allows it, and compiled once.

Django compiles a query at each execution, which for a joined lookup costs several times the work of
the database. Its PostgreSQL cursors also interpolate the parameters, so that the database plans
each statement again. Both matter for a lookup that every request makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

import django
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model, QuerySet
from django.db.models.query import get_related_populators

Row = TypeVar("Row", bound=Model)


def fetch_rows(
    sql: str, parameters: Sequence[Any] | Mapping[str, Any], *, using: str = DEFAULT_DB_ALIAS
) -> Sequence[Sequence[Any]]:
    """Return all rows of ``sql`` on the database ``using``. Raises Django's database errors.

    If the site sets psycopg's option ``DATABASES[…]["OPTIONS"]["prepare_threshold"]``, PostgreSQL
    plans the statement once per connection, after that many uses.
    """
    with _cursor(connections[using]) as cursor:
        cursor.execute(sql, parameters)
        rows: Sequence[Sequence[Any]] = cursor.fetchall()
        return rows


def _cursor(connection: Any) -> Any:
    if connection.vendor == "postgresql":
        connection.close_if_health_check_failed()
        connection.ensure_connection()
        if getattr(connection.connection, "prepare_threshold", None):
            # As Django's `cursor()`, so that the statement is logged and counted like any other.
            with connection.wrap_database_errors:
                return connection._prepare_cursor(_preparing_cursor()(connection.connection))
    return connection.cursor()


@cache
def _preparing_cursor() -> Any:
    from psycopg import Cursor  # noqa: PLC0415 (only where Django itself uses it)

    class PreparingCursor(Cursor[Any]):
        """Keeps the text of its statement for Django's log, also once it is prepared."""

        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            super().execute(query, params, **options)
            self._query: Any = self._query or SimpleNamespace(query=query.encode())
            return self

    return PreparingCursor


@dataclass(frozen=True)
class _Compiled:
    sql: str
    compiler: Any
    converters: Any
    populators: Any
    names: list[str]


class RowLookup(Generic[Row]):
    """``queryset().filter(pk=key).first()``, compiled at the first use on each database.

    ``queryset`` may use ``select_related``; it must not use annotations, parameters or
    ``prefetch_related``.
    """

    def __init__(self, queryset: Callable[[], QuerySet[Row]]) -> None:
        self._make_queryset = queryset
        self._compiled: dict[str, _Compiled] = {}

    def get(self, key: Any) -> Row | None:
        """Return the row with the primary key ``key`` (native type), or ``None``."""
        alias = self._queryset.db
        if alias not in self._compiled:
            self._compiled[alias] = _compile(self._queryset, key)
        compiled = self._compiled[alias]
        value = self._queryset.model._meta.pk.get_db_prep_value(key, connections[alias])
        rows = fetch_rows(compiled.sql, [value], using=alias)
        if not rows:
            return None
        row: Any = rows[0]
        if compiled.converters:
            row = next(iter(compiled.compiler.apply_converters([row], compiled.converters)))
        model = compiled.compiler.klass_info["model"]
        instance: Row = model.from_db(alias, compiled.names, row[: len(compiled.names)])
        for populator in compiled.populators:
            populator.populate(row, instance)
        return instance

    @cached_property
    def _queryset(self) -> QuerySet[Row]:
        """Never evaluated; its ``db`` consults the site's routers at each access."""
        return self._make_queryset()


def _compile(queryset: QuerySet[Any], key: Any) -> _Compiled:
    query = queryset.filter(pk=key).order_by().query
    compiler: Any = query.get_compiler(using=queryset.db)
    sql, parameters = compiler.as_sql()
    if len(parameters) != 1:
        raise ValueError("A row look-up takes the primary key as its only parameter.")
    own_columns = compiler.select[: compiler.klass_info["select_fields"][-1] + 1]
    arguments: tuple[Any, ...] = (compiler.klass_info, compiler.select, queryset.db)
    if django.VERSION >= (6, 1):
        from django.db.models.fetch_modes import FETCH_ONE  # noqa: PLC0415  (new in 6.1)

        arguments += (FETCH_ONE,)
    return _Compiled(
        sql,
        compiler,
        compiler.get_converters([column[0] for column in compiler.select]),
        get_related_populators(*arguments),
        [column[0].target.attname for column in own_columns],
    )
