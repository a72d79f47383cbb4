"""A person's data as one file, streamed.

Specification: "GET /users/me/export/".
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from .personal_data import PersonalDataSection, personal_data_sections
from .times import utc_text

__all__ = ["EXPORT_FORMATS", "export_chunks", "spreadsheet_safe"]

CHUNK_BYTES = 64 * 1024
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def export_chunks(user: Any, export_format: str) -> Iterator[bytes]:
    """The export of ``user`` as UTF-8, in chunks of about 64 KiB.

    ``export_format`` is a key of :data:`EXPORT_FORMATS`. JSON is one object keyed by section;
    CSV is one table ``section,record,field,value``.
    """
    pieces = EXPORT_FORMATS[export_format](user)
    return _chunks(pieces)


def _json_pieces(user: Any) -> Iterator[str]:
    for position, section in enumerate(personal_data_sections()):
        yield "{" if position == 0 else ",\n"
        yield f"{json.dumps(section.name)}: "
        yield from _json_section(section, user)
    yield "}\n"


def _json_section(section: PersonalDataSection, user: Any) -> Iterator[str]:
    records = (json.dumps(dict(record), default=_json_value) for record in section.export(user))
    if not section.many:
        yield next(records, "{}")
        return
    yield "["
    for position, record in enumerate(records):
        yield record if position == 0 else ",\n" + record
    yield "]"


def _csv_pieces(user: Any) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(["section", "record", "field", "value"])
    for section in personal_data_sections():
        for number, record in enumerate(section.export(user), start=1):
            for field, value in record.items():
                row = [
                    section.name,
                    number,
                    spreadsheet_safe(field),
                    spreadsheet_safe(_csv_value(value)),
                ]
                yield writer.writerow(row)


EXPORT_FORMATS = {"csv": _csv_pieces, "json": _json_pieces}
"""Format → what yields the file's text in pieces."""


class _Line:
    """A file whose ``write`` hands the line back, so that ``csv`` can stream."""

    def write(self, line: str) -> str:
        return line


def _chunks(pieces: Iterable[str]) -> Iterator[bytes]:
    waiting: list[str] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield "".join(waiting).encode("utf-8", "replace")
            waiting, size = [], 0
    yield "".join(waiting).encode("utf-8", "replace")


def _csv_value(value: Any) -> Any:
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, default=_json_value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    return _json_value(value) if isinstance(value, datetime) else value


def _json_value(value: Any) -> str:
    return utc_text(value) if isinstance(value, datetime) else str(value)


def spreadsheet_safe(value: Any) -> Any:
    """``value``; text that a spreadsheet would run as a formula gets a leading quote."""
    if isinstance(value, str) and (
        value.startswith(FORMULA_STARTS) or value.lstrip().startswith(FORMULA_STARTS)
    ):
        return "'" + value
    return value
