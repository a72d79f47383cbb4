"""Marks: where a stream was in the last seconds, for transports without acknowledgement."""

from __future__ import annotations

from typing import Final

from .pending import Position

SPACING: Final = 1.0
"""Seconds between two marks, so that there are few."""


def add_mark(
    marks: list[list[float]], now: float, position: Position, *, is_last: bool = False
) -> list[list[float]]:
    """Return the marks and one for ``position``, unless there is a recent one."""
    if marks and marks[-1][1:] == list(position):
        return marks
    if marks and not is_last and 0 <= now - marks[-1][0] < SPACING:
        return marks
    return [*marks, [now, *position]]


def drop_old_marks(marks: list[list[float]], before: float) -> list[list[float]]:
    """Return the newest mark before this time, and all after it."""
    old = [mark for mark in marks if mark[0] <= before]
    return [*old[-1:], *marks[len(old) :]]
