"""Record health reports and publish lasting changes.

A change is published once the state has differed from the published one for a minute
(``MYOMETRICS["HEALTH_SETTLE"]``); shorter outages are not published.
"""

from __future__ import annotations

import uuid
from collections.abc import Set
from datetime import datetime, timedelta

from ..conf.core_settings import core_settings
from ..db.transactions import atomic_write
from ..events.bus import Event, publish
from ..health.report import HealthReport, status_of
from .models import HealthState

ROW = 1
MAX_DELAY = timedelta(minutes=5)
"""How much later than a newer report an older one may be recorded; else the clock was set back."""
SEVERITY = {"healthy": 0, "degraded": 1, "down": 2}


def health_record(*, report: HealthReport) -> Event | None:
    """Store ``report``; publish and return the resulting event, if any.

    The event is ``system_degraded`` or ``system_down`` if another service is down, and
    ``system_recovered`` if the status is better than the published one; ``details`` contain
    ``status``, ``previous_status`` and ``services``. Runs in one transaction, so that a change is
    published once, regardless of the number of workers.
    """
    HealthState.objects.get_or_create(pk=ROW)
    with atomic_write():
        state = HealthState.objects.select_for_update().get(pk=ROW)
        ahead = timedelta(0) if state.checked_at is None else state.checked_at - report.checked_at
        if timedelta(0) < ahead < MAX_DELAY:
            return None
        state.checked_at, state.status = report.checked_at, report.status
        state.services = dict(report.services)
        was_down = state.services.keys() & set(state.told_down)
        is_down = was_down ^ _take_settled(state, was_down)
        state.told_down = sorted(is_down)
        state.save()
        change = _event(report, was_down, is_down)
        if change is not None:
            publish(change)
    return change


def _take_settled(state: HealthState, published_down: Set[str]) -> set[str]:
    """Return the services that have differed from the published state for long enough."""
    now: datetime = state.checked_at  # type: ignore[assignment]
    since = {name: datetime.fromisoformat(text) for name, text in state.differs_since.items()}
    differing = {
        name: min(since.get(name, now), now)  # the clock may have been set back
        for name, seen in state.services.items()
        if (seen == "down") != (name in published_down)
    }
    settled = {
        name
        for name, moment in differing.items()
        if (now - moment).total_seconds() >= core_settings.HEALTH_SETTLE
    }
    state.differs_since = {
        name: moment.isoformat() for name, moment in differing.items() if name not in settled
    }
    return settled


def _event(report: HealthReport, was_down: Set[str], is_down: Set[str]) -> Event | None:
    before = status_of(dict.fromkeys(was_down, "down"))
    after = status_of(dict.fromkeys(is_down, "down"))
    if is_down - was_down:
        action = "system_down" if after == "down" else "system_degraded"
    elif SEVERITY[after] < SEVERITY[before]:
        action = "system_recovered"
    else:
        return None
    services = {
        name: "down" if name in is_down else "up" if state == "down" else state
        for name, state in report.services.items()
    }
    return Event(
        id=f"health:{uuid.uuid4()}",
        actor_id=None,
        action=action,
        resource_type="system",
        resource_id="health",
        occurred_at=report.checked_at,
        details={"status": after, "previous_status": before, "services": services},
    )
