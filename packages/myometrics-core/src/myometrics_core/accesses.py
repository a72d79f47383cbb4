"""Registry of access observers, which receive each access in addition to the log.

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
    """Receives every access that the access log records."""

    @abstractmethod
    def observe(self, access: Mapping[str, Any]) -> None:
        """Receive one access. Must not block: the request waits for it, possibly on an event loop.

        ``access`` has the fields of the log line: ``user_id``, ``address``, ``method``,
        ``endpoint``, ``status``, ``milliseconds``, ``request_id`` and ``time`` (ISO 8601 in UTC).
        """

    @abstractmethod
    def flush(self) -> None:
        """Write buffered accesses. May block, and may raise."""


_observers: dict[str, AccessObserver] = {}


def register_access_observer(name: str, observer: AccessObserver) -> None:
    """Register ``observer`` under ``name``, replacing an earlier one. Call it in
    ``AppConfig.ready``.
    """
    _observers[name] = observer


def flush_accesses() -> None:
    """Flush every observer.

    For tests, and for servers that end a process without running Python's exit handlers.
    """
    for observer in _observers.values():
        observer.flush()


def access_answered(access: Mapping[str, Any]) -> None:
    """Notify every observer; an exception is logged and does not affect the others."""
    for name, observer in _observers.items():
        try:
            observer.observe(access)
        except Exception:
            logger.exception("Observer of accesses %s failed", name)
