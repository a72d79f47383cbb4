"""Gauges of core: services, replicas, and the age of periodic work."""

from __future__ import annotations

import math
import time
from pathlib import Path

from django.apps import apps

from .health import check_health
from .metrics import register_gauge
from .replicas import replica_lags, replicas_left_out
from .settings import core_settings
from .times import utc_now

__all__ = ["HEALTH_LOG", "backup_age_seconds", "health_check_age_seconds", "register_gauges"]

HEALTH_LOG = "myometrics_core.health_log"


def register_gauges() -> None:
    """Offer the state of the services and replicas, and the age of what runs periodically."""
    register_gauge(
        "myometrics_service_up",
        "1 if the health probe of the service succeeds, 0 if not.",
        services_up,
        label="service",
    )
    register_gauge(
        "myometrics_replica_lag_seconds",
        "Seconds that the replica is behind the primary at most.",
        finite_replica_lags,
        label="replica",
    )
    register_gauge(
        "myometrics_replica_left_out",
        "1 if nothing is read from the replica: it is behind by more than REPLICA_LAG, or gone.",
        replicas_left_out,
        label="replica",
    )
    register_gauge(
        "myometrics_health_check_age_seconds",
        "Seconds since beat and worker last ran the health check.",
        health_check_age_seconds,
    )
    register_gauge(
        "myometrics_backup_age_seconds",
        "Seconds since the file BACKUP_FILE was written.",
        backup_age_seconds,
    )


def services_up() -> dict[str, float]:
    """Of each service that the site has: 1 if it is up, else 0."""
    services = check_health().services
    return {
        name: float(state == "up") for name, state in services.items() if state in {"up", "down"}
    }


def finite_replica_lags() -> dict[str, float]:
    """Seconds that each replica that can be used is behind at most."""
    return {alias: lag for alias, lag in replica_lags().items() if math.isfinite(lag)}


def health_check_age_seconds() -> float | None:
    """Time since the periodic health check; infinite before the first one.

    ``None`` where the health log, which remembers it, is not installed.
    """
    if not apps.is_installed(HEALTH_LOG):
        return None
    from .health_log.models import HealthState  # noqa: PLC0415  (its app may be absent)

    checked_at = HealthState.objects.values_list("checked_at", flat=True).first()
    return max(0.0, (utc_now() - checked_at).total_seconds()) if checked_at else math.inf


def backup_age_seconds() -> float | None:
    """Time since ``BACKUP_FILE`` was written; infinite if there is none, ``None`` if not set."""
    if not core_settings.BACKUP_FILE:
        return None
    try:
        return max(0.0, time.time() - Path(core_settings.BACKUP_FILE).stat().st_mtime)
    except OSError:
        return math.inf
