"""Is the system well? Probes with deadlines, run side by side.

Specification: "GET /health/". An answer comes within the deadline whatever hangs: each probe has
a thread of its own, and one that still hangs is not started a second time.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from .settings import core_settings
from .times import utc_now

__all__ = [
    "HealthProbe",
    "HealthReport",
    "ServiceState",
    "check_health",
    "register_probe",
    "registered_probes",
]

logger = logging.getLogger("myometrics.core.health")

ServiceState = Literal["up", "down", "not_configured"]
MAX_TIMEOUT = 2.0
"""Seconds; the whole answer is promised within three."""


class HealthProbe(ABC):
    """One dependency. ``run`` returns when it is well and raises when it is not.

    ``max_age``: seconds for which a result is given again; ``None`` means
    ``MYOMETRICS["HEALTH_MAX_AGE"]``.
    """

    name: str
    max_age: float | None = None

    def is_configured(self) -> bool:
        """Whether the site uses this dependency at all."""
        return True

    @abstractmethod
    def run(self) -> None:
        """Ask the dependency; raise any exception if it is not well."""


@dataclass(frozen=True)
class HealthReport:
    """``status`` is ``healthy``, ``degraded`` or ``down`` (the database can't be reached)."""

    status: str
    services: dict[str, ServiceState]
    checked_at: datetime


class _Runner:
    """Runs one probe, at most once at a time, and remembers what came of it."""

    def __init__(self, probe: HealthProbe) -> None:
        self.probe = probe
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._state: ServiceState = "down"
        self._finished_at = float("-inf")

    def start(self, max_age: float | None) -> None:
        with self._lock:
            running = self._thread is not None and self._thread.is_alive()
            if not running and not self._is_fresh(max_age):
                self._thread = threading.Thread(
                    target=self._run, name=f"health-{self.probe.name}", daemon=True
                )
                self._thread.start()

    def state(self, deadline: float) -> ServiceState:
        thread = self._thread
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                logger.warning("Health probe %s did not answer in time", self.probe.name)
                return "down"
        return self._state

    def _is_fresh(self, max_age: float | None) -> bool:
        ages = (max_age, self.probe.max_age, core_settings.HEALTH_MAX_AGE)
        allowed = next(age for age in ages if age is not None)
        return time.monotonic() - self._finished_at < allowed

    def _run(self) -> None:
        try:
            if not self.probe.is_configured():
                self._state = "not_configured"
            else:
                self.probe.run()
                self._state = "up"
        except Exception as error:
            self._state = "down"
            logger.warning("Health probe %s failed: %s", self.probe.name, type(error).__name__)
        finally:
            self._finished_at = time.monotonic()


_runners: dict[str, _Runner] = {}


def register_probe(probe: HealthProbe) -> None:
    """Have ``probe`` asked by :func:`check_health`. Registering a name again replaces it."""
    _runners[probe.name] = _Runner(probe)


def registered_probes() -> list[HealthProbe]:
    """Every registered probe."""
    return [runner.probe for runner in _runners.values()]


def check_health(max_age: float | None = None) -> HealthReport:
    """Ask every dependency, within ``MYOMETRICS["HEALTH_PROBE_TIMEOUT"]`` seconds.

    A result no older than ``max_age`` seconds is given again instead of asking.
    """
    timeout = min(core_settings.HEALTH_PROBE_TIMEOUT, MAX_TIMEOUT)
    deadline = time.monotonic() + timeout
    runners = list(_runners.items())
    for _, runner in runners:
        runner.start(max_age)
    services = {name: runner.state(deadline) for name, runner in runners}
    return HealthReport(_status(services), services, utc_now())


def _status(services: dict[str, ServiceState]) -> str:
    if services.get("database") == "down":
        return "down"
    return "degraded" if "down" in services.values() else "healthy"
