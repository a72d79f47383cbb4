"""What management commands share: days and ages as arguments, progress on a terminal."""

from __future__ import annotations

import time
from datetime import date, timedelta
from typing import IO

from django.core.management.base import CommandError

from .times import utc_now

__all__ = ["Progress", "day", "day_or_age"]

WIDTH = 30


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


class Progress:
    """A bar on standard error, redrawn a few times a second, only where that is a terminal."""

    def __init__(self, stream: IO[str], total: int, unit: str) -> None:
        self._stream = stream
        self._total = max(total, 1)
        self._unit = unit
        self._shown = bool(getattr(stream, "isatty", lambda: False)())
        self._started = self._drawn = time.monotonic()

    def update(self, done: int) -> None:
        """Show that ``done`` of the total are done."""
        now = time.monotonic()
        if self._shown and now - self._drawn > 0.2:
            self._drawn = now
            share = min(done / self._total, 1.0)
            bar = "#" * int(share * WIDTH)
            rate = done / max(now - self._started, 0.001)
            self._stream.write(
                f"\r[{bar:<{WIDTH}}] {share:6.1%}  {done:,} {self._unit}  {rate:,.0f}/s "
            )
            self._stream.flush()

    def finish(self) -> None:
        """Clear the bar."""
        if self._shown:
            self._stream.write("\r" + " " * (WIDTH + 50) + "\r")
            self._stream.flush()
