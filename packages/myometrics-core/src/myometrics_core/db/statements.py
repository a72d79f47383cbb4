"""Frequent statements: prepared by PostgreSQL where the site allows it, and compiled once.

Django compiles a query at each execution, which for a joined lookup costs several times the work of
the database. Its PostgreSQL cursors also interpolate the parameters, so that the database plans
each statement again. Both matter for a lookup that every request makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model, QuerySet

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


def convert_rows(
    rows: Sequence[Sequence[Any]], model: type[Model], columns: tuple[str, ...], *, using: str
) -> list[list[Any]]:
    """Return ``rows`` with the values of ``columns``, their first ones, as the ORM returns them."""
    converted = [list(row) for row in rows]
    for position, convert, expression in _converters(model, columns, using):
        for row in converted:
            row[position] = convert(row[position], expression, connections[using])
    return converted


@lru_cache(maxsize=32)
def _converters(
    model: type[Model], columns: tuple[str, ...], using: str
) -> list[tuple[int, Any, Any]]:
    """Return the ORM's converters of database values: (position, function, expression)."""
    compiler = model._base_manager.using(using).values(*columns).query.get_compiler(using)
    compiler.setup_query()
    expressions = [column for column, _, _ in compiler.select]
    return [
        (position, convert, expression)
        for position, (converts, expression) in compiler.get_converters(expressions).items()
        for convert in converts
    ]


def _cursor(connection: Any) -> Any:
    """Return Django's cursor; where psycopg may prepare statements, the server binds parameters."""
    connection.ensure_connection()
    driver = connection.connection
    # Django can't log the text of a statement that psycopg has prepared.
    if connection.queries_logged or not getattr(driver, "prepare_threshold", None):
        return connection.cursor()
    from psycopg import Cursor  # noqa: PLC0415 (only where Django itself uses it)

    factory = driver.cursor_factory
    driver.cursor_factory = Cursor
    try:
        return connection.cursor()
    finally:
        driver.cursor_factory = factory


class _Part(NamedTuple):
    """One of the rows that a statement joins; ``path`` is the relation to it, ``""`` its own."""

    path: str
    model: type[Model]
    columns: list[str]
    key: int


@dataclass(frozen=True)
class _Compiled:
    sql: str
    columns: tuple[str, ...]
    parts: list[_Part]


class RowLookup(Generic[Row]):
    """``queryset().filter(pk=key).first()``, compiled at the first use on each database.

    ``queryset`` may use ``select_related`` with names of foreign keys; it must not use annotations,
    parameters or ``prefetch_related``.
    """

    def __init__(self, queryset: Callable[[], QuerySet[Row]]) -> None:
        self._make_queryset = queryset
        self._compiled: dict[str, _Compiled] = {}

    def get(self, key: Any) -> Row | None:
        """Return the row with the primary key ``key`` (native type), or ``None``."""
        alias, model = self._queryset.db, self._queryset.model
        if alias not in self._compiled:
            self._compiled[alias] = _compile(self._queryset, key)
        compiled = self._compiled[alias]
        value = model._meta.pk.get_db_prep_value(key, connections[alias])
        found = fetch_rows(compiled.sql, [value], using=alias)
        rows = convert_rows(found, model, compiled.columns, using=alias)
        return _instance(compiled.parts, rows[0], alias) if rows else None

    @cached_property
    def _queryset(self) -> QuerySet[Row]:
        """Never evaluated; its ``db`` consults the site's routers at each access."""
        return self._make_queryset()


def _compile(queryset: QuerySet[Any], key: Any) -> _Compiled:
    related: Any = queryset.query.select_related or {}
    parts = list(_parts("", queryset.model, related))
    columns = tuple(
        f"{part.path}__{column}" if part.path else column
        for part in parts
        for column in part.columns
    )
    query = queryset.filter(pk=key).order_by().values_list(*columns).query
    sql, parameters = query.get_compiler(using=queryset.db).as_sql()
    if len(parameters) != 1:
        raise ValueError("A row look-up takes the primary key as its only parameter.")
    return _Compiled(sql, columns, parts)


def _parts(path: str, model: Any, related: Mapping[str, Any]) -> Iterator[_Part]:
    columns = [field.attname for field in model._meta.concrete_fields]
    yield _Part(path, model, columns, columns.index(model._meta.pk.attname))
    for name, nested in related.items():
        target = model._meta.get_field(name).related_model
        yield from _parts(f"{path}__{name}" if path else name, target, nested)


def _instance(parts: list[_Part], row: list[Any], using: str) -> Any:
    """Return the instance of the first part with its relations set."""
    instances: dict[str, Any] = {}
    first = 0
    for path, model, columns, key in parts:
        values = row[first : first + len(columns)]
        first += len(columns)
        # A foreign key may be empty.
        instance = None if values[key] is None else model.from_db(using, columns, values)
        parent, _, name = path.rpartition("__")
        if path and instances[parent] is not None:
            setattr(instances[parent], name, instance)
        instances[path] = instance
    return instances[""]
