"""Health probes and the health report."""

from .report import HealthProbe, HealthReport, check_health, register_probe

__all__ = ["HealthProbe", "HealthReport", "check_health", "register_probe"]
