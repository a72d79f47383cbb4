"""Who hears of each access beside the log: a small registry for what keeps accesses elsewhere.

Specification: "Logging".
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

__all__ = ["AccessObserver", "flush_accesses", "register_access_observer"]

logger = logging.getLogger("myometrics.core.accesses")


class AccessObserver(ABC):
    """Hears of every access that the access log writes a line about."""

    @abstractmethod
    def observe(self, access: Mapping[str, Any]) -> None:
        """Take note of one access, at once: the request waits, maybe on an event loop.

        ``access`` has what the log line has: ``user_id``, ``address``, ``method``, ``endpoint``,
        ``status``, ``milliseconds``, ``request_id`` and ``time`` (ISO 8601 in UTC).
        """

    @abstractmethod
    def flush(self) -> None:
        """Put in its place what is held back. May take its time, and may raise."""


_observers: dict[str, AccessObserver] = {}


def register_access_observer(name: str, observer: AccessObserver) -> None:
    """Have ``observer`` told. Call it from ``AppConfig.ready``; a name again replaces."""
    _observers[name] = observer


def flush_accesses() -> None:
    """Have every observer put in its place what it holds back: for tests, and for servers that
    end a process without Python's exit handlers.
    """
    for observer in _observers.values():
        observer.flush()


def access_answered(access: Mapping[str, Any]) -> None:
    """Tell every observer; one that fails is logged and harms nobody."""
    for name, observer in _observers.items():
        try:
            observer.observe(access)
        except Exception:
            logger.exception("Observer of accesses %s failed", name)
