"""Rows of other packages, read in constant memory from a dump or from a table of this site.

Both yield rows in the form of ``dumpdata``: model, primary key and fields.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TextIO

from django.apps import apps
from django.core.serializers.json import DjangoJSONEncoder
from django.core.serializers.python import Serializer
from django.db import models, router

CONTENT_TYPE: Final = "contenttypes.contenttype"
MAX_ROW_LENGTH: Final = 16 * 1024 * 1024
CHUNK: Final = 64 * 1024
BATCH_SIZE: Final = 500
OPENERS: Final[Mapping[str, Callable[..., Any]]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


class UnreadableDump(Exception):
    """The file is no dump in JSON or JSON Lines."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row as ``dumpdata`` writes it; ``problem`` says why it could not be read.

    ``cursor`` is its position, from which reading can continue.
    """

    cursor: str
    model: str = ""
    key: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    def __str__(self) -> str:
        return f"row {self.cursor}" + (f" ({self.model} {self.key})" if self.model else "")


Concerns = Callable[[Row], bool]


class RowSource(Protocol):
    """A file or a table. Call ``prepare`` first."""

    place: str
    """Digest of the file, or name of the model."""
    total: int
    """The number of rows that are imported."""
    has_log: bool
    """Whether these are rows of the package."""
    is_file: bool
    has_ordered_keys: bool
    """Whether new rows come after all existing ones."""

    def prepare(self, concerns: Concerns, related: frozenset[str]) -> None:
        """Count the rows, and make those of the models ``related`` available."""
        ...

    def rows(self, after: str) -> Iterator[Row]:
        """Yield the rows after the cursor ``after`` (``""``: all)."""
        ...

    def related(self, model: str, key: Any) -> Mapping[str, Any] | None:
        """Return the fields of a row of a related model."""
        ...

    def close(self) -> None: ...


class DumpFile:
    """A dump of ``dumpdata --format json`` or ``jsonl``, possibly compressed.

    Rows that others refer to are kept in a temporary SQLite file.
    """

    is_file = True
    has_ordered_keys = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place, self.total, self.has_log = "", 0, False
        self._concerns: Concerns = lambda row: True
        self._related = sqlite3.connect("")

    def prepare(self, concerns: Concerns, related: frozenset[str]) -> None:
        self._concerns = concerns
        try:
            with self.path.open("rb") as file:
                self.place = _digest(file)
        except OSError as error:
            raise UnreadableDump(f"it can't be read: {error}") from error
        wanted = related | {CONTENT_TYPE}
        self._related.execute("CREATE TABLE kept (model, key, fields, PRIMARY KEY (model, key))")
        for row in self._all_rows():
            is_concerned = not row.problem and concerns(row)
            self.has_log |= is_concerned
            self.total += is_concerned or bool(row.problem)
            if row.model in wanted:
                kept = (row.model, row.key, json.dumps(row.fields))
                self._related.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", kept)
        self._related.commit()

    def rows(self, after: str) -> Iterator[Row]:
        last = int(after or 0)
        for row in self._all_rows():
            if int(row.cursor) > last and (row.problem or self._concerns(row)):
                yield row

    def related(self, model: str, key: Any) -> Mapping[str, Any] | None:
        found = self._related.execute(
            "SELECT fields FROM kept WHERE model = ? AND key = ?", [model, str(key)]
        ).fetchone()
        if found is None:
            return None
        fields: Mapping[str, Any] = json.loads(found[0])
        return fields

    def close(self) -> None:
        self._related.close()

    def _all_rows(self) -> Iterator[Row]:
        opener = OPENERS.get(self.path.suffix, open)
        # A byte that is no UTF-8 must only affect its own row, which is refused as it can't be
        # stored.
        with closing(
            opener(self.path, "rt", encoding="utf-8-sig", errors="surrogateescape")
        ) as file:
            try:
                for number, text in enumerate(_objects(file), start=1):
                    yield _row(str(number), text)
            except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
                raise UnreadableDump(f"it can't be read: {error}") from error


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _objects(file: TextIO) -> Iterator[Any]:
    """Yield the objects of a JSON array, or the lines of JSON Lines as text."""
    start = file.read(CHUNK)
    while start.isspace():
        start = file.read(CHUNK)
    start = start.lstrip()
    if start.startswith("["):
        yield from _array_items(start[1:], file)
    elif start.startswith("{"):
        yield from _lines(start, file)
    elif start:
        raise UnreadableDump("it is neither JSON nor JSON Lines; use dumpdata --format jsonl")


def _lines(buffer: str, file: TextIO) -> Iterator[str]:
    while True:
        *lines, buffer = buffer.split("\n")
        yield from (line for line in lines if line and not line.isspace())
        _check_length(buffer)
        more = file.read(max(CHUNK, len(buffer)))
        if not more:
            break
        buffer += more
    if buffer and not buffer.isspace():
        yield buffer


def _array_items(buffer: str, file: TextIO) -> Iterator[Any]:
    decode, position, number = json.JSONDecoder().raw_decode, 0, 0
    while True:
        while position < len(buffer) and buffer[position] in " \t\r\n,":
            position += 1
        found = buffer[position : position + 1]
        if found == "]":
            return
        if found not in ("{", ""):
            raise UnreadableDump(f"after row {number} an object is expected, not {found!r}")
        try:
            item, position = decode(buffer, position)
        except RecursionError:
            raise UnreadableDump(f"row {number + 1} is nested too deeply") from None
        except ValueError as error:
            # Incomplete: read as much again, so that a long row is not decoded too often.
            buffer, position = buffer[position:], 0
            _check_length(buffer)
            more = file.read(max(CHUNK, len(buffer)))
            if not more:
                problem = f"the file ends within row {number + 1}, or it is no JSON: {error}"
                raise UnreadableDump(problem) from None
            buffer += more
            continue
        number += 1
        yield item


def _check_length(text: str) -> None:
    if len(text) > MAX_ROW_LENGTH:
        raise UnreadableDump(f"a row is longer than {MAX_ROW_LENGTH:,} characters, or no JSON")


def _row(cursor: str, item: Any) -> Row:
    if isinstance(item, str):
        try:
            item = json.loads(item)
        except (ValueError, RecursionError) as error:
            return Row(cursor=cursor, problem=f"is no JSON: {error}")
    if isinstance(item, dict) and "model" not in item and isinstance(item.get("type"), str):
        return _archive_row(cursor, item)
    model, fields = (item.get("model"), item.get("fields")) if isinstance(item, dict) else (0, 0)
    if not isinstance(model, str) or not isinstance(fields, dict):
        return Row(cursor=cursor, problem="is no object with model, pk and fields")
    return Row(cursor=cursor, model=model.lower(), key=_key(item.get("pk")), fields=fields)


def _archive_row(cursor: str, line: Mapping[str, Any]) -> Row:
    """Return a line of ``audit_export`` or of an archive of ``audit_purge`` as a row."""
    entry = line.get("entry")
    key = _key(entry.get("id")) if isinstance(entry, dict) else ""
    return Row(cursor=cursor, model=f"archive.{line['type']}", key=key, fields=line)


def _key(value: Any) -> str:
    return "" if value is None else str(value)


class ModelTable:
    """The rows of a model of this site, in the order of their primary keys."""

    is_file = False

    def __init__(self, model: type[models.Model]) -> None:
        self.model = model
        self.place, self.total, self.has_log = model._meta.label_lower, 0, False
        self._rows = model._base_manager.using(router.db_for_read(model)).order_by("pk")
        self.has_ordered_keys = isinstance(model._meta.pk, models.AutoField)
        self._found = lru_cache(maxsize=BATCH_SIZE)(self._find_related)

    @classmethod
    def find(cls, name: str) -> ModelTable | None:
        """Return the table of a model's label (``auditlog.LogEntry``), or with this name."""
        for model in apps.get_models(include_auto_created=True):
            if name.lower() == model._meta.label_lower or name == model._meta.db_table:
                return cls(model)
        return None

    def prepare(self, concerns: Concerns, related: frozenset[str]) -> None:
        names = {one.name: None for one in self.model._meta.concrete_fields}
        self.has_log = concerns(Row(cursor="", model=self.place, fields=names))
        self.total = self._rows.count()

    def rows(self, after: str) -> Iterator[Row]:
        rows, last = self._rows, after
        while chunk := list((rows.filter(pk__gt=last) if last else rows)[:BATCH_SIZE]):
            for item in _serialize(chunk):
                key = _key(item["pk"])
                yield Row(cursor=key, model=self.place, key=key, fields=item["fields"])
            last = str(chunk[-1].pk)

    def related(self, model: str, key: Any) -> Mapping[str, Any] | None:
        return self._found(model, key)

    def _find_related(self, model: str, key: Any) -> Mapping[str, Any] | None:
        related = apps.get_model(model)
        found = related._base_manager.using(self._rows.db).filter(pk=key)
        items = _serialize(list(found))
        return items[0]["fields"] if items else None

    def close(self) -> None:
        self._found.cache_clear()


def _serialize(instances: list[models.Model]) -> list[Any]:
    """Return rows as ``dumpdata`` would write them in JSON."""
    items: list[Any] = json.loads(
        json.dumps(Serializer().serialize(instances), cls=DjangoJSONEncoder)
    )
    return items
