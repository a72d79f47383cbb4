"""Reading many rows by short statements, each complete in itself.

``QuerySet.iterator()`` outside a transaction keeps a cursor on one connection of the database. A
pooler in transaction mode gives each statement another one: "cursor does not exist".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet
from django.db.models.query import ModelIterable, ValuesIterable

__all__ = ["read_in_batches"]

ModelT = TypeVar("ModelT", bound=Model)
Row = TypeVar("Row")


def read_in_batches(rows: QuerySet[ModelT, Row], *, size: int = 2000) -> Iterator[Row]:
    """Yield ``rows`` in their order, ``size`` of them per statement, in constant memory.

    ``rows`` are ordered by columns without NULL, ascending, the last of them unique; with
    ``values()``, the columns of the order are among them. A row that is added or deleted
    concurrently may come or not; one that moves in the order may also come twice. Raises
    ``ValueError`` for an order that can't be continued, ``values_list()`` and slices.
    """
    names = rows.query.order_by
    if not names or not all(isinstance(name, str) and name[:1] not in "-?" for name in names):
        raise ValueError(f"Rows are read in batches by ascending columns, not by {names!r}.")
    columns = rows.query.values_select if rows._iterable_class is ValuesIterable else names
    has_names = rows._iterable_class in (ModelIterable, ValuesIterable)
    if not has_names or rows.query.is_sliced or not set(names) <= set(columns):
        raise ValueError(
            "Only whole query sets of instances, or of values() with the columns of their order, "
            "are read in batches."
        )
    batch = list(rows[:size])
    while batch:
        yield from batch
        if len(batch) < size:
            return
        batch = list(rows.filter(_after(batch[-1], names))[:size])


def _after(row: Any, names: Any) -> Q:
    """The rows after ``row``: by the first column, and among its equals by the others."""
    name, *others = names
    value = row[name] if isinstance(row, dict) else getattr(row, name)
    if not others:
        return Q(**{f"{name}__gt": value})
    # Not "greater, or equal and …": only this form is a range of an index.
    return Q(**{f"{name}__gte": value}) & (Q(**{f"{name}__gt": value}) | _after(row, others))
