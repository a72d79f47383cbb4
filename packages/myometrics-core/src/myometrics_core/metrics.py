"""What is worth watching: a small registry of gauges, and observers of answered requests.

Packages register; who reads is the host's affair (``myometrics_core.prometheus`` is one way).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .transactions import DATABASE_FAILURES

__all__ = [
    "Gauge",
    "RequestObserver",
    "gauge_values",
    "observe_requests",
    "register_gauge",
    "registered_gauges",
    "request_answered",
]

logger = logging.getLogger("myometrics.core.metrics")

RequestObserver = Callable[[str, str, int, float], None]
"""Takes method, endpoint (route), status and seconds of an answered request."""


GaugeValue = float | Mapping[str, float]
"""A number; of a gauge with a label, a number for each value of the label."""
GaugeFunction = Callable[[], GaugeValue | None]


@dataclass(frozen=True)
class Gauge:
    """A number that is read when metrics are: ``function()`` returns it, or ``None`` if there is
    none. The name ends in its unit (``_seconds``), if it has one.

    With ``label``, the name of a label, the function returns a number for each of its values.
    """

    name: str
    description: str
    function: GaugeFunction
    label: str | None = None


_gauges: dict[str, Gauge] = {}
_observers: dict[str, RequestObserver] = {}


def register_gauge(
    name: str, description: str, function: GaugeFunction, *, label: str | None = None
) -> None:
    """Have ``function`` asked whenever metrics are read. A name again replaces its gauge."""
    _gauges[name] = Gauge(name, description, function, label)


def registered_gauges() -> list[Gauge]:
    """Every registered gauge, by name."""
    return [_gauges[name] for name in sorted(_gauges)]


def gauge_values() -> Iterator[tuple[Gauge, GaugeValue]]:
    """Each gauge with its value; those that fail or have nothing to tell are left out.

    Once the database has failed, no further gauge is asked: each would wait for its time-out.
    """
    for gauge in registered_gauges():
        try:
            value = gauge.function()
        except DATABASE_FAILURES as error:
            logger.warning("Gauges can't be read (%s)", type(error).__name__)
            return
        except Exception as error:
            logger.warning("Gauge %s can't be read (%s)", gauge.name, type(error).__name__)
        else:
            if value is not None:
                yield gauge, value


def observe_requests(name: str, observer: RequestObserver) -> None:
    """Have ``observer`` told of every answered request. A name again replaces its observer."""
    _observers[name] = observer


def request_answered(method: str, endpoint: str, status: int, seconds: float) -> None:
    """Tell every observer; one that fails is logged and harms nobody."""
    for name, observer in _observers.items():
        try:
            observer(method, endpoint, status, seconds)
        except Exception:
            logger.exception("Observer of requests %s failed", name)
