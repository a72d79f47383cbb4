"""Gauges of core: services, replicas, health check and backup."""

from __future__ import annotations

import math
import time
from pathlib import Path

from django.apps import apps
from django.db.models import Count, Min

from ..conf.core_settings import core_settings
from ..db.replicas import replica_lags, replicas_left_out
from ..health.report import check_health
from ..jobs.kinds import job_kinds
from ..jobs.models import Job
from ..times import seconds_since, utc_now
from .metrics import register_gauge

HEALTH_LOG = "myometrics_core.health_log"


def register_gauges() -> None:
    """Register the gauges."""
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
        "1 if the replica is not read from: it lags by more than REPLICA_LAG, or is unreachable.",
        replicas_left_out,
        label="replica",
    )
    register_gauge(
        "myometrics_health_check_age_seconds",
        "Seconds since the recurring health check last ran.",
        health_check_age_seconds,
    )
    register_gauge(
        "myometrics_jobs_pending", "Jobs that are due or will be.", jobs_pending, label="kind"
    )
    register_gauge(
        "myometrics_jobs_age_seconds",
        "Seconds for which the job that is due longest has been due.",
        jobs_age_seconds,
        label="kind",
    )
    register_gauge("myometrics_jobs_dead", "Jobs given up.", jobs_dead, label="kind")
    register_gauge(
        "myometrics_backup_age_seconds",
        "Seconds since the file BACKUP_FILE was written.",
        backup_age_seconds,
    )


def services_up() -> dict[str, float]:
    """Return 1 for each configured service that is up, 0 for one that is down."""
    states = check_health().services.items()
    return {name: float(state == "up") for name, state in states if state != "not_configured"}


def finite_replica_lags() -> dict[str, float]:
    """Return the lag in seconds of each usable replica."""
    return {alias: lag for alias, lag in replica_lags().items() if math.isfinite(lag)}


def health_check_age_seconds() -> float | None:
    """Return the seconds since the last check; infinite before the first, ``None`` without log."""
    if not apps.is_installed(HEALTH_LOG):
        return None
    from ..health_log.models import HealthState  # noqa: PLC0415  (the app is optional)

    checked_at = HealthState.objects.values_list("checked_at", flat=True).first()
    return seconds_since(checked_at) if checked_at else math.inf


def jobs_pending() -> dict[str, float]:
    """Return the number of pending jobs by kind, recurring ones included."""
    pending = dict(Job.objects.pending().values_list("kind").annotate(Count("pk")))
    return {kind.name: float(pending.get(kind.name, 0)) for kind in job_kinds()}


def jobs_age_seconds() -> dict[str, float]:
    """Return by kind how long the oldest due job has been due; 0 if none is."""
    now = utc_now()
    since = dict(Job.objects.due(now).order_by().values_list("kind").annotate(Min("run_at")))
    return {
        kind.name: max(0.0, (now - since.get(kind.name, now)).total_seconds())
        for kind in job_kinds()
    }


def jobs_dead() -> dict[str, float]:
    """Return the number of dead jobs by kind."""
    dead = dict(Job.objects.dead().values_list("kind").annotate(Count("pk")))
    return {kind.name: float(dead.get(kind.name, 0)) for kind in job_kinds()}


def backup_age_seconds() -> float | None:
    """Return the age of ``BACKUP_FILE``; infinite if it is missing, ``None`` if not configured."""
    if not core_settings.BACKUP_FILE:
        return None
    try:
        return max(0.0, time.time() - Path(core_settings.BACKUP_FILE).stat().st_mtime)
    except OSError:
        return math.inf
