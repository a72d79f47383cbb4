"""Shared parts of management commands: dates and ages, progress bar, purge command."""

from __future__ import annotations

import json
import math
import sys
import time
from abc import ABC, abstractmethod
from datetime import date, timedelta
from typing import IO, Any, ClassVar

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ..times import utc_now

__all__ = ["Progress", "PurgeCommand", "day", "day_or_age"]

WIDTH = 30


def day(text: str) -> date:
    """Parse a day as ``YYYY-MM-DD``; raises ``CommandError``."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is no day such as 2025-08-19.", returncode=2) from None


def day_or_age(text: str) -> date:
    """Parse a day, or an age in days or years (``400d``, ``10y``) before today in UTC.

    Raises ``CommandError`` for other text, and for an age before year 1.
    """
    number, unit = text[:-1], text[-1:]
    if unit in {"d", "y"} and number.isascii() and number.isdigit() and len(number) <= 6:
        days = int(number) * (366 if unit == "y" else 1)
        try:
            return utc_now().date() - timedelta(days=days)
        except OverflowError:
            raise CommandError(f"{text!r} is before the calendar.", returncode=2) from None
    return day(text)


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
        """Show that ``done`` of the total are done."""
        if self._is_due():
            rate = done / max(time.monotonic() - self._started, 0.001)
            self._draw(done / self._total, f"{done:,} {self._unit}  {rate:,.0f}/s")

    def show(self, share: float, note: str = "") -> None:
        """Show ``share`` (0 to 1), with ``note`` beside the bar."""
        if self._is_due():
            self._draw(share, note)

    def finish(self) -> None:
        """Clear the bar."""
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


class PurgeCommand(ABC, BaseCommand):
    """Delete records older than a day, in chunks; without ``--execute`` only count them.

    A subclass sets the plural name of the records (``things``), example ages for the help text, the
    unit of a chunk (statement or transaction) and the largest chunk size.
    """

    things: ClassVar[str]
    example_ages: ClassVar[str]
    chunk_unit: ClassVar[str]
    largest_chunk: ClassVar[int]

    @abstractmethod
    def due(self, before: date) -> int:
        """Return the number of records from before the start of ``before`` in UTC."""

    @abstractmethod
    def purge_chunk(self, before: date, limit: int) -> int:
        """Delete at most ``limit`` of them, oldest first; return the number, 0 if none are left."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--older-than``, ``--execute``, ``--chunk`` and ``--json``."""
        parser.add_argument(
            "--older-than",
            required=True,
            metavar="AGE",
            help=f"a UTC day (2025-08-19) or an age ({self.example_ages}); "
            f"{self.things} from before are removed",
        )
        parser.add_argument("--execute", action="store_true", help="really remove them")
        parser.add_argument(
            "--chunk", type=int, default=5000, help=f"{self.things} a {self.chunk_unit} (5000)"
        )
        parser.add_argument("--json", action="store_true", help="print the result as one JSON line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete or count the records, and print the result."""
        before = day_or_age(options["older_than"])
        if before > utc_now().date():
            raise CommandError("--older-than must not lie in the future.", returncode=2)
        if not 1 <= options["chunk"] <= self.largest_chunk:
            raise CommandError(f"--chunk must be from 1 to {self.largest_chunk}.", returncode=2)
        due = self.due(before)
        purged = self._purge(before, due, options["chunk"]) if options["execute"] else 0
        if options["json"]:
            result = {"older_than": before.isoformat(), "due": due, "purged": purged}
            self.stdout.write(json.dumps(result))
        elif options["execute"]:
            self.stdout.write(f"Removed {purged:,} {self.things} from before {before} (UTC).")
        else:
            self.stdout.write(
                f"Would remove {due:,} {self.things} from before {before} (UTC). "
                "Run it with --execute."
            )

    def _purge(self, before: date, due: int, chunk: int) -> int:
        bar, purged = Progress(sys.stderr, due, self.things), 0
        while removed := self.purge_chunk(before, chunk):
            purged += removed
            bar.update(purged)
        bar.finish()
        return purged
