"""Wait for what other processes and threads do, for as long as it takes and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["wait_for"]

Found = TypeVar("Found")


def wait_for(
    condition: Callable[[], Found], seconds: float = 60, *, log: Callable[[], str] = str
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
