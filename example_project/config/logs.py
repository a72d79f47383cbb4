"""Log lines of every process: in UTC with the offset, and without the secrets in URLs."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from myometrics_core.conf import redact

FIELDS = "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s"
NAMES = {"asctime": "logged_at", "levelname": "level", "name": "logger"}
REQUEST_ID = {"()": "myometrics_core.http.RequestIdFilter"}
"""Filter of every handler: adds the id of the current request."""


class _Utc(logging.Formatter):
    """Times such as ``2026-03-01T12:00:00.000+00:00``, in any server time zone."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        when = datetime.fromtimestamp(record.created, timezone.utc)
        return when.isoformat(timespec="milliseconds")


class JsonLogFormatter(_Utc, JsonFormatter):
    """One JSON object a line."""

    def __init__(self) -> None:
        super().__init__(FIELDS, rename_fields=NAMES)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        # Django adds the request, whose text includes the query and thus the token of a link.
        log_data.pop("request", None)
        return {name: redacted(value) for name, value in log_data.items()}


class PlainLogFormatter(_Utc):
    """Lines for a developer's console."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the traceback if there is one."""
        return redact(super().format(record))


def redacted(value: Any) -> Any:
    """Return ``value`` with every text in it redacted; objects are converted to text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict):
        return {key: redacted(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(one) for one in value]
    return redact(str(value))
