"""Progress on a terminal, silence elsewhere."""

from __future__ import annotations

import time
from typing import IO

__all__ = ["Progress"]

WIDTH = 30


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
