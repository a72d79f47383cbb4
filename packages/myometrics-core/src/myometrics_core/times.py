"""Times in the API's format: UTC, ISO 8601, ending in ``Z``; and the UTC days of analytics."""

from __future__ import annotations

from datetime import date, datetime, time, timezone

__all__ = [
    "seconds_since",
    "utc_day",
    "utc_day_start",
    "utc_now",
    "utc_text",
    "whole_milliseconds",
]


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(timezone.utc)


def seconds_since(moment: datetime | None) -> float:
    """Return the seconds since ``moment`` (aware), never negative; 0 for ``None``."""
    return max(0.0, (utc_now() - moment).total_seconds()) if moment else 0.0


def whole_milliseconds(moment: datetime) -> datetime:
    """Return ``moment`` truncated to milliseconds."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def utc_text(moment: datetime, timespec: str = "auto") -> str:
    """Return ``moment`` (aware) as ISO 8601 text in UTC with a ``Z``.

    ``timespec`` as in ``datetime.isoformat``; by default microseconds are left out if they are 0.
    """
    return moment.astimezone(timezone.utc).isoformat(timespec=timespec).replace("+00:00", "Z")


def utc_day(moment: datetime) -> date:
    """Return the UTC day of ``moment`` (aware)."""
    return moment.astimezone(timezone.utc).date()


def utc_day_start(day: date) -> datetime:
    """Return midnight at the start of ``day`` in UTC, aware."""
    return datetime.combine(day, time.min, tzinfo=timezone.utc)
