"""Access log, metrics and gauges."""

from .metrics import gauge_values, observe_requests, register_gauge, registered_gauges

__all__ = ["gauge_values", "observe_requests", "register_gauge", "registered_gauges"]
