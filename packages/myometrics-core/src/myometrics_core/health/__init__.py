"""Health probes and the health report."""

from __future__ import annotations

from .report import HealthProbe, HealthReport, check_health, register_probe

__all__ = ["HealthProbe", "HealthReport", "check_health", "register_probe"]
