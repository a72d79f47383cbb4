"""Fast export of many records: PostgreSQL's COPY as text, without a Python object per row.

A section whose records are columns of one query describes them with an :class:`ExportTable`. A
million rows then cost about twice the CPU of a bare COPY; dictionaries cost ten to twenty times as
much.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from django.core.exceptions import EmptyResultSet
from django.db import connections, models
from django.db.models import QuerySet

_BATCH_BYTES: Final = 32 * 1024
_BINARY_HEADER: Final = 19
_BINARY_ROW: Final = 6
_NUMBERS = (models.IntegerField, models.FloatField)
_TEXTS = (models.CharField, models.TextField, models.UUIDField, models.DateField)
_MOMENT = (
    "replace(to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.USZ'), '.000000Z', 'Z')"
)
_IN_JSON = {"time": _MOMENT, "address": "host({})"}
_IN_CSV = {"time": _MOMENT, "address": "host({})", "boolean": "{}::text"}
_ESCAPE = re.compile(rb"\\(.)", re.S)
_ESCAPED = {
    b"N": b"",  # NULL: the column's whole text is \N
    b"b": b"\b",
    b"t": b"\t",
    b"n": b"\n",
    b"v": b"\v",
    b"f": b"\f",
    b"r": b"\r",
}
# If a column begins with any other character, the rows of the batch are unescaped one by one.
_NEEDS_ESCAPE = re.compile(rb"\t[^\t!-*,./0-<>?A-~]")


@dataclass(frozen=True, kw_only=True)
class ExportTable:
    """Records that are columns of one query; ``columns`` maps export names to model field names.

    ``queryset`` is filtered and ordered. Supported are numbers, text, booleans, datetimes, IP
    addresses and JSON. With a column of any other type, ``can_be_copied`` is false.
    """

    queryset: QuerySet[Any]
    columns: Mapping[str, str]

    def can_be_copied(self) -> bool:
        """Return whether this database supports COPY; if not, the section's ``export`` is used."""
        connection = connections[self.queryset.db]
        if connection.vendor != "postgresql" or None in self.kinds:
            return False
        with connection.cursor() as cursor:
            driver = cursor.cursor
            # psycopg 3 has `copy`; `mogrify` exists only with client-side binding.
            if not (hasattr(driver, "copy") and hasattr(driver, "mogrify")):
                return False
            style = driver.connection.info.parameter_status("DateStyle")
            return str(style).startswith("ISO")

    @cached_property
    def kinds(self) -> list[str | None]:
        fields = self.queryset.model._meta
        return [_kind(fields.get_field(name)) for name in self.columns.values()]

    def copy(
        self, expressions: Mapping[str, str], shown: str, options: str = ""
    ) -> Iterator[bytes]:
        """Yield the lines of ``COPY (SELECT {shown} FROM … AS record)``.

        ``expressions`` maps a kind to the SQL expression for columns of that kind.
        """
        connection = connections[self.queryset.db]
        quote = connection.ops.quote_name
        selected = self.queryset.values_list(*self.columns.values())
        try:
            sql, values = selected.query.sql_with_params()
        except EmptyResultSet:
            return
        names = [quote(f"column{number}") for number in range(len(self.columns))]
        record = ", ".join(
            f"{expressions.get(str(kind), '{}').format(name)} AS {quote(column)}"
            for kind, name, column in zip(self.kinds, names, self.columns, strict=True)
        )
        source = f"SELECT {record} FROM ({sql}) AS source ({', '.join(names)})"
        statement = f"COPY (SELECT {shown} FROM ({source}) AS record) TO STDOUT {options}"
        with (
            connection.cursor() as cursor,
            connection.wrap_database_errors,
            cursor.cursor.copy(statement, values) as lines,
        ):
            yield from map(bytes, lines)


def json_objects(table: ExportTable) -> Iterator[bytes]:
    """Yield the rows as comma-separated JSON objects, in pieces of about 32 to 64 KiB."""
    batch: list[bytes] = []
    size = 0
    between = b""
    for value in _only_values(table.copy(_IN_JSON, "row_to_json(record)", "(FORMAT BINARY)")):
        batch.append(value)
        size += len(value)
        if size > _BATCH_BYTES:
            yield between + b",\n".join(batch)
            between, batch, size = b",\n", [], 0
    if batch:
        yield between + b",\n".join(batch)


def csv_lines(section: str, table: ExportTable, escape: Callable[[str], str]) -> Iterator[bytes]:
    """Yield the rows as lines ``section,record,field,value``, in pieces of about 32 to 64 KiB.

    ``escape`` escapes text that a spreadsheet might run as a formula.
    """
    quoted = [number for number, kind in enumerate(table.kinds) if kind in {"text", "json"}]
    lines = [
        f'{name},"%b"\r\n' if number in quoted else f"{name},%b\r\n"
        for number, name in enumerate(table.columns)
    ]
    shape = [b"", *(line.encode() for line in lines)]
    number = 0
    # NULL as an empty cell: "\\N" contains a backslash, so every row would need unescaping.
    for batch in join_chunks(table.copy(_IN_CSV, "*", "(NULL '')"), _BATCH_BYTES):
        records = []
        for row in _rows(batch, quoted, escape):
            number += 1
            start = b"%b,%d," % (section.encode(), number)
            records.append(start.join(shape) % tuple(row))
        yield b"".join(records)


def join_chunks(pieces: Iterable[bytes], min_bytes: int) -> Iterator[bytes]:
    """Yield ``pieces`` joined to chunks of at least ``min_bytes`` (the last may be shorter)."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= min_bytes:
            yield b"".join(batch)
            batch, size = [], 0
    if batch:
        yield b"".join(batch)


def _only_values(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the values of COPY's binary format with one non-null column.

    The first line begins with a header. Each row begins with the number of columns and the length
    of the value. The last line is a bare -1.
    """
    skipped = _BINARY_HEADER + _BINARY_ROW
    for line in lines:
        value = line[skipped:]
        skipped = _BINARY_ROW
        if value:
            yield value


def _rows(batch: bytes, texts: list[int], escape: Callable[[str], str]) -> Iterator[list[bytes]]:
    """Return the cells of each line of COPY's text format, with quotes doubled and text escaped."""
    rows = (line.split(b"\t") for line in batch[:-1].replace(b'"', b'""').split(b"\n"))
    if b"\\" not in batch and not _NEEDS_ESCAPE.search(b"\t" + batch.replace(b"\n", b"\t")):
        return rows

    def unescaped(row: list[bytes]) -> list[bytes]:
        row = [
            _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), value)
            if b"\\" in value
            else value
            for value in row
        ]
        for column in texts:
            row[column] = escape(row[column].decode()).encode()
        return row

    return map(unescaped, rows)


def _kind(field: Any) -> str | None:
    if field.many_to_many or not field.concrete:
        return None
    while getattr(field, "target_field", None) is not None:
        field = field.target_field
    kinds: list[tuple[Any, str]] = [
        (models.DateTimeField, "time"),
        (models.BooleanField, "boolean"),
        (models.JSONField, "json"),
        (models.GenericIPAddressField, "address"),
        (_NUMBERS, "number"),
        (_TEXTS, "text"),
    ]
    return next((kind for classes, kind in kinds if isinstance(field, classes)), None)
