"""Export of a user's data as one streamed file. Specification: "GET /users/me/export/"."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser

from ..texts import encodable_text
from ..times import utc_text
from .sections import PersonalDataSection, personal_data_sections
from .tables import csv_lines, join_chunks, json_objects

CHUNK_BYTES = 64 * 1024
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def export_chunks(user: AbstractBaseUser, export_format: str) -> Iterator[bytes]:
    """Return the export of ``user`` as UTF-8, in chunks of about 64 KiB.

    ``export_format`` is a key of :data:`EXPORT_FORMATS`. JSON is one object keyed by section; CSV
    is one table ``section,record,field,value``. Both end with a completeness marker: a file without
    ``"complete": true`` or the row ``export,,complete,true`` is truncated.
    """
    return join_chunks(EXPORT_FORMATS[export_format](user), CHUNK_BYTES)


def export_filename(export_format: str) -> str:
    """Return the file name of an export: ``user_data.csv`` or ``user_data.json``."""
    return f"user_data.{export_format}"


def _json_pieces(user: AbstractBaseUser) -> Iterator[bytes]:
    yield b"{"
    for section in personal_data_sections():
        yield f"{json.dumps(section.name)}: ".encode()
        yield from _json_section(section, user)
        yield b",\n"
    yield b'"complete": true}\n'


def _json_section(section: PersonalDataSection, user: AbstractBaseUser) -> Iterator[bytes]:
    table = section.export_table(user)
    if table is not None and table.can_be_copied():
        yield b"["
        yield from json_objects(table)
        yield b"]"
        return
    records = (
        json.dumps(dict(record), default=_json_value).encode() for record in section.export(user)
    )
    if not section.many:
        yield next(records, b"{}")
        return
    yield b"["
    yield next(records, b"")
    for record in records:
        yield b",\n" + record
    yield b"]"


def _csv_pieces(user: AbstractBaseUser) -> Iterator[bytes]:
    writer = csv.writer(_Line())
    yield writer.writerow(["section", "record", "field", "value"])
    for section in personal_data_sections():
        table = section.export_table(user)
        if table is not None and table.can_be_copied():
            yield from csv_lines(section.name, table, spreadsheet_safe)
        else:
            for number, record in enumerate(section.export(user), start=1):
                for field, value in record.items():
                    cell = spreadsheet_safe(_csv_value(value))
                    yield writer.writerow([section.name, number, spreadsheet_safe(field), cell])
    yield writer.writerow(["export", "", "complete", "true"])


EXPORT_FORMATS = {"csv": _csv_pieces, "json": _json_pieces}
"""Format → generator function of the file's content."""


class _Line:
    """A file-like object whose ``write`` returns the encoded line, so that ``csv`` can stream."""

    def write(self, line: str) -> bytes:
        return encodable_text(line).encode()


def _csv_value(value: Any) -> Any:
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, default=_json_value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    return _json_value(value) if isinstance(value, datetime) else value


def _json_value(value: Any) -> str:
    return utc_text(value) if isinstance(value, datetime) else str(value)


def spreadsheet_safe(value: Any) -> Any:
    """Return ``value``; a string that a spreadsheet would run as a formula gets a leading quote.

    NUL, which CSV readers treat differently, is replaced by the replacement character.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\x00", "\ufffd")
    if text.startswith(FORMULA_STARTS) or text.lstrip().startswith(FORMULA_STARTS):
        return "'" + text
    return text
