"""Who may work on a row just now, and how an attempt ends: one conditional UPDATE each.

No lock is held between the two; a worker that is killed loses its lease by the passing of time.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from datetime import timedelta
from typing import Any, TypeVar

from django.db import connection
from django.db.models import F

from myometrics_core.mail_failures import SendFailure
from myometrics_core.times import utc_now
from myometrics_core.transactions import DATABASE_FAILURES

from .conf import notifications_settings
from .models import OwedWork
from .selectors import free_to_take

__all__ = ["back_off", "work_fail", "work_lease", "work_settle"]

logger = logging.getLogger("myometrics.notifications")

_PAUSES = (0.1, 0.2, 0.4, 0.8)

Work = TypeVar("Work", bound=OwedWork)


def work_lease(model: type[Work], pk: int, duration: timedelta) -> Work | None:
    """Take the row for ``duration``; ``None`` if it is not due, settled or another's.

    The attempt is counted here, so that work that kills its worker comes to an end.
    """
    token = uuid.uuid4()
    taken = model._default_manager.filter(free_to_take(), pk=pk).update(
        lease_token=token, leased_until=utc_now() + duration, attempts=F("attempts") + 1
    )
    return model._default_manager.filter(pk=pk, lease_token=token).first() if taken else None


def work_settle(work: OwedWork, *, state: str, **changes: Any) -> bool:
    """End the work in ``state``; false if the row was no longer this worker's."""
    return _give_back(work, state=state, settled_at=utc_now(), **changes)


def work_fail(work: OwedWork, failure: SendFailure) -> None:
    """Record a failed attempt: another one later, or none any more (state ``dead``)."""
    if failure.permanent or work.attempts >= notifications_settings.MAX_ATTEMPTS:
        logger.warning("%s is given up: %s", work, failure.summary)
        work_settle(work, state=OwedWork.DEAD, last_error=failure.summary)
        return
    later = utc_now() + back_off(work.attempts)
    _give_back(work, last_error=failure.summary, next_attempt_at=later)


def back_off(attempts: int) -> timedelta:
    """Pause after that many failed attempts: it doubles up to a cap, and between half and the
    whole of it is drawn at random, so that what failed together doesn't return together.
    """
    base = notifications_settings.RETRY_BASE.total_seconds()
    cap = notifications_settings.RETRY_CAP.total_seconds()
    longest = min(base * 2.0 ** min(attempts - 1, 64), cap)
    return timedelta(seconds=longest * random.uniform(0.5, 1.0))


def _give_back(work: OwedWork, **changes: Any) -> bool:
    # The mail may be out: a database that is away for a moment must not send it twice.
    for pause in _PAUSES:
        try:
            return _update(work, changes)
        except DATABASE_FAILURES:
            if connection.in_atomic_block:
                raise
            connection.close()
            time.sleep(pause)
    return _update(work, changes)


def _update(work: OwedWork, changes: dict[str, Any]) -> bool:
    owned = type(work)._default_manager.filter(**work.lease)
    if owned.update(lease_token=None, leased_until=None, **changes):
        return True
    logger.warning("%s was no longer this worker's when its attempt ended", work)
    return False
