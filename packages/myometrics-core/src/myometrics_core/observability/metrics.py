"""Gauges and observers of completed requests, for the exporter that the site chooses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..db.transactions import DATABASE_FAILURES

logger = logging.getLogger("myometrics.core.metrics")

RequestObserver = Callable[[str, str, int, float], None]
"""Takes method, endpoint (route), status and seconds of a completed request."""
GaugeValue = float | Mapping[str, float]
"""A number or, for a gauge with a label, a number for each label value."""
GaugeFunction = Callable[[], GaugeValue | None]


@dataclass(frozen=True)
class Gauge:
    """A number that is computed at each scrape: ``function()`` returns it, or ``None`` for no
    value.

    The name ends in its unit (``_seconds``), if any. With ``label``, the name of a label, the
    function returns a number for each label value.
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
    """Register a gauge that calls ``function`` at each scrape; replaces one of the same name."""
    _gauges[name] = Gauge(name, description, function, label)


def registered_gauges() -> list[Gauge]:
    """Return every registered gauge, ordered by name."""
    return [_gauges[name] for name in sorted(_gauges)]


def gauge_values() -> Iterator[tuple[Gauge, GaugeValue]]:
    """Yield each gauge with its value; gauges that fail or have no value are left out.

    After a database failure no further gauge is read: each would wait for its timeout.
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
    """Register ``observer`` for completed requests; replaces one of the same name."""
    _observers[name] = observer


def notify_observers(method: str, endpoint: str, status: int, seconds: float) -> None:
    """Notify every observer; an exception is logged and does not affect the others."""
    for name, observer in _observers.items():
        try:
            observer(method, endpoint, status, seconds)
        except Exception:
            logger.exception("Observer of requests %s failed", name)
