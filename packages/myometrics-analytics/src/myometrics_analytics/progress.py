"""A progress bar of plain text for management commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ProgressBar"]

WIDTH: Final = 30


@dataclass
class ProgressBar:
    """Draws on ``stream`` where it is a terminal; elsewhere says each tenth on a line."""

    stream: Any
    tenth: int = -1

    def show(self, label: str, share: float, note: str = "") -> None:
        """Draw ``share`` (0 to 1) of ``label``."""
        filled = round(share * WIDTH)
        line = f"{label:<12} [{'#' * filled}{'.' * (WIDTH - filled)}] {share:4.0%} {note}"
        if self.stream.isatty():
            self.stream.write(f"\r{line}", ending="")
        elif int(share * 10) != self.tenth:
            self.tenth = int(share * 10)
            self.stream.write(line)

    def end(self) -> None:
        """Leave the drawn bar behind."""
        if self.stream.isatty():
            self.stream.write("")
