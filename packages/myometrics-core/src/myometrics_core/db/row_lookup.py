"""Lookup of one row by primary key, with related rows, compiled once.

Django compiles a query at each execution, which for a joined lookup costs several times the work of
the database. That matters for a lookup that every request makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import django
from django.db import connections
from django.db.models import Model, QuerySet
from django.db.models.query import get_related_populators

from .prepared import fetch_rows

__all__ = ["RowLookup"]

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True)
class _Compiled:
    sql: str
    compiler: Any
    converters: Any
    populators: Any
    names: list[str]
    end: int


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
        queryset = self._queryset
        connection = connections[queryset.db]
        compiled = self._compiled.get(queryset.db) or self._compile(queryset, key)
        value = queryset.model._meta.pk.get_db_prep_value(key, connection)
        rows = fetch_rows(compiled.sql, [value], using=queryset.db)
        return self._instance(compiled, rows[0], queryset.db) if rows else None

    @cached_property
    def _queryset(self) -> QuerySet[Row]:
        """Never evaluated; its ``db`` consults the site's routers at each access."""
        return self._make_queryset()

    def _compile(self, queryset: QuerySet[Row], key: Any) -> _Compiled:
        query = queryset.filter(pk=key).order_by().query
        compiler: Any = query.get_compiler(using=queryset.db)
        sql, parameters = compiler.as_sql()
        if len(parameters) != 1:
            raise ValueError("A row look-up takes the primary key as its only parameter.")
        info = compiler.klass_info
        end = info["select_fields"][-1] + 1
        compiled = _Compiled(
            sql,
            compiler,
            compiler.get_converters([column[0] for column in compiler.select]),
            _populators(info, compiler.select, queryset.db),
            [column[0].target.attname for column in compiler.select[:end]],
            end,
        )
        self._compiled[queryset.db] = compiled
        return compiled

    def _instance(self, compiled: _Compiled, row: Any, alias: str) -> Row:
        if compiled.converters:
            row = next(iter(compiled.compiler.apply_converters([row], compiled.converters)))
        model = compiled.compiler.klass_info["model"]
        instance: Row = model.from_db(alias, compiled.names, row[: compiled.end])
        for populator in compiled.populators:
            populator.populate(row, instance)
        return instance


def _populators(info: Any, select: Any, alias: str) -> Any:
    populators: Any = get_related_populators
    if django.VERSION >= (6, 1):
        from django.db.models.fetch_modes import FETCH_ONE  # noqa: PLC0415  (new in 6.1)

        return populators(info, select, alias, FETCH_ONE)
    return populators(info, select, alias)
