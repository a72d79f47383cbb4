"""Spans of UTC days over which analytics are counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from myometrics_core.times import utc_now

MAX_DAYS = 3650


def utc_today() -> date:
    """Return today's date in UTC."""
    return utc_now().date()


def as_date(value: date | str) -> date:
    """Convert a date column of a raw query to a date; SQLite returns text."""
    return date.fromisoformat(value) if isinstance(value, str) else value


def month_end(day: date) -> date:
    """Return the last day of the month of ``day``."""
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)


@dataclass(frozen=True)
class Span:
    """``days`` whole UTC days, the last of which is ``today``."""

    today: date
    days: int

    @property
    def start(self) -> date:
        return self.today - timedelta(days=self.days - 1)

    @property
    def previous_start(self) -> date:
        return self.start - timedelta(days=self.days)

    @property
    def first_of_months(self) -> date:
        return self.start.replace(day=1)

    @property
    def last_of_months(self) -> date:
        return month_end(self.today)

    def __iter__(self) -> Iterator[date]:
        start = self.start
        return (start + timedelta(days=offset) for offset in range(self.days))

    def weeks(self) -> list[list[date]]:
        """Return the days in weeks counted back from today; the first week may be shorter."""
        days, short = list(self), self.days % 7
        weeks = [days[:short]] if short else []
        return weeks + [days[at : at + 7] for at in range(short, self.days, 7)]

    def months(self) -> list[date]:
        """Return the first day of each calendar month that overlaps the span, oldest first."""
        first, months = self.first_of_months, []
        while first <= self.today:
            months.append(first)
            first = month_end(first) + timedelta(days=1)
        return months
