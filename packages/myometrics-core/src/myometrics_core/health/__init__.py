"""Health probes and the health report."""

from __future__ import annotations

from .report import (
    HealthProbe,
    HealthReport,
    ServiceState,
    check_health,
    register_probe,
    registered_probes,
    status_of,
)

__all__ = [
    "HealthProbe",
    "HealthReport",
    "ServiceState",
    "check_health",
    "register_probe",
    "registered_probes",
    "status_of",
]
