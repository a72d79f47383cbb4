"""Health checks: probes with deadlines, run in parallel.

Specification: "GET /health/". A response is ready within the deadline even if a dependency hangs:
each probe runs in its own thread, and a probe that still hangs is not started a second time.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ..conf.core_settings import core_settings
from ..times import utc_now

__all__ = [
    "HealthProbe",
    "HealthReport",
    "ServiceState",
    "check_health",
    "register_probe",
    "registered_probes",
    "status_of",
]

logger = logging.getLogger("myometrics.core.health")

ServiceState = Literal["up", "down", "not_configured"]
"""State of a service; ``not_configured`` if the site does not use it."""
MAX_TIMEOUT = 2.0
"""Seconds; the specification requires the whole response within three."""
GIVE_UP_AFTER = 60.0
"""Seconds after which a hanging run is abandoned, so that the probe can run again."""
GIVEN_UP = 3
"""Maximum number of abandoned runs of one probe that may still hang."""


class HealthProbe(ABC):
    """A health check of one dependency. ``run`` returns if it is healthy and raises if not.

    ``max_age``: seconds for which a result is cached; ``None`` means
    ``MYOMETRICS["HEALTH_MAX_AGE"]``. ``timeout``: seconds after which the dependency counts as
    down, at most 2; ``None`` means ``MYOMETRICS["HEALTH_PROBE_TIMEOUT"]``.
    """

    name: str
    max_age: float | None = None
    timeout: float | None = None

    def is_configured(self) -> bool:
        """Return whether the site uses this dependency."""
        return True

    @abstractmethod
    def run(self) -> None:
        """Check the dependency; raise any exception if it is not healthy."""


@dataclass(frozen=True)
class HealthReport:
    """``status`` is ``healthy``, ``degraded`` or ``down`` (the database is unreachable)."""

    status: str
    services: dict[str, ServiceState]
    checked_at: datetime


@dataclass(frozen=True)
class _Run:
    """A run in progress and its deadline."""

    thread: threading.Thread
    deadline: float

    def ends_in_time(self) -> bool:
        self.thread.join(max(0.0, self.deadline - time.monotonic()))
        return not self.thread.is_alive()


class _Runner:
    """Runs one probe, at most once at a time, and caches the result.

    A run that hangs long after its deadline is abandoned (at most ``GIVEN_UP`` of them), so that
    one lost connection does not make a dependency look down permanently.
    """

    def __init__(self, probe: HealthProbe) -> None:
        self.probe = probe
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._given_up: list[threading.Thread] = []
        self._state: ServiceState = "down"
        self._started_at = self._finished_at = float("-inf")

    def start(self, max_age: float | None) -> _Run | None:
        """Return the run to wait for, or ``None`` if the cached result is fresh.

        A caller that arrives during a run joins that run and its deadline.
        """
        with self._lock:
            if not self._is_running():
                if self._is_fresh(max_age):
                    return None
                self._started_at = time.monotonic()
                self._thread = threading.Thread(
                    target=self._run, name=f"health-{self.probe.name}", daemon=True
                )
                self._thread.start()
            return _Run(self._thread, self._started_at + self.timeout)  # type: ignore[arg-type]

    def state(self, run: _Run | None) -> ServiceState:
        """Return the result of ``run``, or the cached result if ``run`` is ``None``."""
        if run is not None and not run.ends_in_time():
            logger.warning("Health probe %s did not answer in time", self.probe.name)
            return "down"
        return self._state

    def _is_running(self) -> bool:
        if self._thread is None or not self._thread.is_alive():
            return False
        self._given_up = [thread for thread in self._given_up if thread.is_alive()]
        if time.monotonic() - self._started_at < GIVE_UP_AFTER or len(self._given_up) >= GIVEN_UP:
            return True
        self._given_up.append(self._thread)
        return False

    @property
    def timeout(self) -> float:
        """The probe's timeout in seconds."""
        own = self.probe.timeout
        return min(core_settings.HEALTH_PROBE_TIMEOUT if own is None else own, MAX_TIMEOUT)

    def _is_fresh(self, max_age: float | None) -> bool:
        ages = (max_age, self.probe.max_age, core_settings.HEALTH_MAX_AGE)
        allowed = next(age for age in ages if age is not None)
        return time.monotonic() - self._finished_at < allowed

    def _run(self) -> None:
        state = self._asked()
        if threading.current_thread() is self._thread:
            self._state, self._finished_at = state, time.monotonic()

    def _asked(self) -> ServiceState:
        try:
            if not self.probe.is_configured():
                return "not_configured"
            self.probe.run()
        except Exception as error:
            logger.warning("Health probe %s failed: %s", self.probe.name, type(error).__name__)
            return "down"
        return "up"


_runners: dict[str, _Runner] = {}


def register_probe(probe: HealthProbe) -> None:
    """Register ``probe`` for :func:`check_health`, replacing an earlier one of the same name."""
    _runners[probe.name] = _Runner(probe)


def registered_probes() -> list[HealthProbe]:
    """Return every registered probe."""
    return [runner.probe for runner in _runners.values()]


def check_health(max_age: float | None = None) -> HealthReport:
    """Run every probe in parallel, each within its deadline, all within two seconds.

    A result that is at most ``max_age`` seconds old is reused.
    """
    runs = {name: runner.start(max_age) for name, runner in _runners.items()}
    # Shortest timeout first, so that a slow probe does not extend another's deadline.
    hasty_first = sorted(runs, key=lambda name: _runners[name].timeout)
    states = {name: _runners[name].state(runs[name]) for name in hasty_first}
    services = {name: states[name] for name in runs}
    return HealthReport(status_of(services), services, utc_now())


def status_of(services: Mapping[str, str]) -> str:
    """Return ``down`` without the database, ``degraded`` if another service is down, else
    ``healthy``.
    """
    if services.get("database") == "down":
        return "down"
    return "degraded" if "down" in services.values() else "healthy"
