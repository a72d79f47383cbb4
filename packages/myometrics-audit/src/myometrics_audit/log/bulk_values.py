"""Many values in one SQL parameter: an array on PostgreSQL, JSON on SQLite.

Parsing a statement with thousands of placeholders takes longer than running it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.db import connections


def one_of(
    column: str, numbers: Sequence[int] | Sequence[str], using: str
) -> tuple[str, list[Any]]:
    """Return SQL for ``column IN numbers``, and its parameters; also for texts."""
    if connections[using].vendor == "postgresql":
        return f'"{column}" = ANY(%s)', [list(numbers)]
    return f'"{column}" IN (SELECT value FROM json_each(%s))', [json.dumps(list(numbers))]


def row_source(
    columns: Sequence[list[Any]], types: Sequence[str], using: str
) -> tuple[str, list[Any]]:
    """Return SQL for a SELECT whose rows are built from ``columns``, and its parameters."""
    if connections[using].vendor == "postgresql":
        arrays = ", ".join(f"%s::{name}[]" for name in types)
        return f"SELECT * FROM unnest({arrays})", list(columns)
    fields = ", ".join(f"json_extract(value, '$[{place}]')" for place in range(len(columns)))
    rows = json.dumps(list(zip(*columns, strict=True)))
    # Without WHERE, SQLite parses ON CONFLICT as part of a join.
    return f"SELECT {fields} FROM json_each(%s) WHERE TRUE", [rows]
