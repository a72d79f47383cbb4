"""Health checks: probes with deadlines, run in parallel.

Specification: "GET /health/". A response is ready within the deadline even if a dependency hangs:
each probe runs in its own thread, and a probe that still hangs is not started a second time. A
probe must therefore end by itself: its connections need timeouts.
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

logger = logging.getLogger("myometrics.core.health")

ServiceState = Literal["up", "down", "not_configured"]
"""State of a service; ``not_configured`` if the site does not use it."""
MAX_TIMEOUT = 2.0
"""Seconds; the specification requires the whole response within three."""


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


class _Runner:
    """Runs one probe, at most once at a time, and caches the result."""

    def __init__(self, probe: HealthProbe) -> None:
        self.probe = probe
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._state: ServiceState = "down"
        self._started_at = self._finished_at = float("-inf")

    def start(self, max_age: float | None) -> tuple[threading.Thread, float] | None:
        """Return the new or current run and its deadline; ``None`` if the last result is fresh."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                ages = (max_age, self.probe.max_age, core_settings.HEALTH_MAX_AGE)
                allowed = next(age for age in ages if age is not None)
                if time.monotonic() - self._finished_at < allowed:
                    return None
                self._started_at = time.monotonic()
                self._thread = threading.Thread(
                    target=self._run, name=f"health-{self.probe.name}", daemon=True
                )
                self._thread.start()
            return self._thread, self._started_at + self.timeout

    def state(self, run: tuple[threading.Thread, float] | None) -> ServiceState:
        """Wait for ``run`` until its deadline; return its result, or the cached one if ``None``."""
        if run is not None:
            thread, deadline = run
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                logger.warning("Health probe %s missed its deadline", self.probe.name)
                return "down"
        return self._state

    @property
    def timeout(self) -> float:
        own = self.probe.timeout
        return min(core_settings.HEALTH_PROBE_TIMEOUT if own is None else own, MAX_TIMEOUT)

    def _run(self) -> None:
        state: ServiceState = "up"
        try:
            if self.probe.is_configured():
                self.probe.run()
            else:
                state = "not_configured"
        except Exception as error:
            logger.warning("Health probe %s failed: %s", self.probe.name, type(error).__name__)
            state = "down"
        self._state, self._finished_at = state, time.monotonic()


_runners: dict[str, _Runner] = {}


def register_probe(probe: HealthProbe) -> None:
    """Register ``probe`` for :func:`check_health`, replacing an earlier one of the same name."""
    _runners[probe.name] = _Runner(probe)


def check_health(max_age: float | None = None) -> HealthReport:
    """Run the probes in parallel, 2 s at most; reuse results up to ``max_age`` seconds old."""
    runs = {name: runner.start(max_age) for name, runner in _runners.items()}
    # Shortest timeout first, so that a slow probe does not extend another's deadline.
    shortest_first = sorted(runs, key=lambda name: _runners[name].timeout)
    states = {name: _runners[name].state(runs[name]) for name in shortest_first}
    services = {name: states[name] for name in runs}
    return HealthReport(status_of(services), services, utc_now())


def check_service(name: str, max_age: float | None = None) -> ServiceState | None:
    """Run one probe alone: no other service delays the result. ``None`` for an unknown name."""
    runner = _runners.get(name)
    return None if runner is None else runner.state(runner.start(max_age))


def status_of(services: Mapping[str, str]) -> str:
    """Return ``down`` without the database, ``degraded`` without another service, ``healthy``."""
    if services.get("database") == "down":
        return "down"
    return "degraded" if "down" in services.values() else "healthy"
