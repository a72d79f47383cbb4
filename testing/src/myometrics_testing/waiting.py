"""Wait for what other processes and threads do, for as long as it takes and no longer.

No test may depend on how fast the machine is: tests wait for a state, set the clock, or count what
is done. A time-out only ends a test that hangs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["PATIENCE", "wait_for"]

PATIENCE = 180.0
"""Seconds after which what a test waits for is taken to hang, even on a machine under load."""

Found = TypeVar("Found")


def wait_for(
    condition: Callable[[], Found], seconds: float = PATIENCE, *, log: Callable[[], str] = str
) -> Found:
    """What ``condition`` gives once that is true.

    Raises ``AssertionError`` after ``seconds``, with what ``log`` says then.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s\n{log()}".rstrip())
        time.sleep(0.05)
    return found
