"""Arguments that several commands take."""

from __future__ import annotations

from datetime import date, timedelta

from django.core.management.base import CommandError

from myometrics_core.times import utc_now

__all__ = ["day", "day_or_age"]


def day(text: str) -> date:
    """A day as ``YYYY-MM-DD``; raises ``CommandError``."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is no day such as 2025-08-19.", returncode=2) from None


def day_or_age(text: str) -> date:
    """A day, or an age in days or years (``400d``, ``10y``) counted back from today in UTC."""
    number, unit = text[:-1], text[-1:]
    if unit in {"d", "y"} and number.isascii() and number.isdigit() and len(number) <= 6:
        days = int(number) * (366 if unit == "y" else 1)
        try:
            return utc_now().date() - timedelta(days=days)
        except OverflowError:
            raise CommandError(f"{text!r} is before the calendar.", returncode=2) from None
    return day(text)
