"""Read many rows with short, independent statements.

Outside a transaction, ``QuerySet.iterator()`` keeps a cursor open on one database connection. A
pooler in transaction mode may run each statement on another connection, and the query fails with
"cursor does not exist".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet
from django.db.models.query import ModelIterable, ValuesIterable

ModelT = TypeVar("ModelT", bound=Model)
Row = TypeVar("Row")


def read_in_batches(rows: QuerySet[ModelT, Row], *, size: int = 2000) -> Iterator[Row]:
    """Yield ``rows`` in their order, ``size`` rows per statement, in constant memory.

    ``rows`` must be ordered by non-null columns, ascending, the last of them unique; with
    ``values()``, these columns must be selected. A row that is added or deleted concurrently may be
    missing; a row whose order changes may be yielded twice. Raises ``ValueError`` for an
    unsupported order, for ``values_list()`` and for slices.
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
    """Filter for the rows after ``row``: by the first column, then by the other columns."""
    name, *others = names
    value = row[name] if isinstance(row, dict) else getattr(row, name)
    if not others:
        return Q(**{f"{name}__gt": value})
    # PostgreSQL uses an index range only for this form, not for "greater, or equal and …".
    return Q(**{f"{name}__gte": value}) & (Q(**{f"{name}__gt": value}) | _after(row, others))
