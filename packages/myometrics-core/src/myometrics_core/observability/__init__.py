"""Access log, metrics and gauges."""

from .metrics import observe_requests, register_gauge

__all__ = ["observe_requests", "register_gauge"]
