"""Shared parts of management commands: days and ages as arguments, progress bar."""

from __future__ import annotations

import math
import time
from datetime import date, timedelta
from typing import IO

from django.core.management.base import CommandError

from ..times import utc_now

__all__ = ["Progress", "day_or_age"]

WIDTH = 30


def day_or_age(text: str) -> date:
    """Parse a day (``YYYY-MM-DD``), or an age in days or years (``400d``, ``10y``) before today.

    Raises ``CommandError`` for other text, and for an age before year 1.
    """
    number, unit = text[:-1], text[-1:]
    if unit in {"d", "y"} and number.isascii() and number.isdigit() and len(number) <= 6:
        days = int(number) * (366 if unit == "y" else 1)
        try:
            return utc_now().date() - timedelta(days=days)
        except OverflowError:
            raise CommandError(f"{text!r} is before the calendar.", returncode=2) from None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is no day such as 2025-08-19.", returncode=2) from None


class Progress:
    """A progress bar on standard error, redrawn a few times per second, only on a terminal.

    If the total is known, pass ``total`` and ``unit`` and call :meth:`update`. If only a share is
    known, call :meth:`show`.
    """

    def __init__(self, stream: IO[str], total: int = 1, unit: str = "") -> None:
        self._stream = stream
        self._total = max(total, 1)
        self._unit = unit
        self._shown = bool(getattr(stream, "isatty", lambda: False)())
        self._started = time.monotonic()
        self._drawn = -math.inf
        self._width = 0

    def update(self, done: int) -> None:
        if self._is_due():
            rate = done / max(time.monotonic() - self._started, 0.001)
            self._draw(done / self._total, f"{done:,} {self._unit}  {rate:,.0f}/s")

    def show(self, share: float, note: str = "") -> None:
        """Show ``share`` (0 to 1), with ``note`` beside the bar."""
        if self._is_due():
            self._draw(share, note)

    def finish(self) -> None:
        if self._width:
            self._stream.write(f"\r{' ' * self._width}\r")
            self._stream.flush()

    def _is_due(self) -> bool:
        return self._shown and time.monotonic() - self._drawn > 0.2

    def _draw(self, share: float, note: str) -> None:
        share = min(share, 1.0)
        bar = "#" * int(share * WIDTH)
        line = f"[{bar:<{WIDTH}}] {share:6.1%}  {note}"
        # Pad with spaces: the previous line may have been longer.
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width, self._drawn = max(self._width, len(line)), time.monotonic()
