"""Wait for other processes and threads, exactly as long as necessary.

Tests must not depend on the machine's speed: they wait for a state, set the clock, or count
operations. A timeout only ends a test that hangs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import TypeVar

PATIENCE = 180.0
"""Seconds after which a wait is considered hung, even on a machine under load."""

Found = TypeVar("Found")


def wait_for(
    condition: Callable[[], Found], seconds: float = PATIENCE, *, log: Callable[[], str] = str
) -> Found:
    """Return the first true result of ``condition``.

    Raises ``AssertionError`` after ``seconds``, with the text that ``log`` returns.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s\n{log()}".rstrip())
        time.sleep(0.05)
    return found


def avoid_midnight() -> None:
    """Wait for the next day (UTC) if this one ends within :data:`PATIENCE`."""
    today = _day_after(0)
    if _day_after(PATIENCE) != today:
        wait_for(lambda: _day_after(0) != today, 2 * PATIENCE)


def _day_after(seconds: float) -> date:
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).date()
