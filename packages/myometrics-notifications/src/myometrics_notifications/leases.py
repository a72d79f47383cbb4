"""Claim, finish and retry jobs, with one conditional UPDATE each.

No lock is held in between: the lease of a killed worker expires.
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

from myometrics_core.db import DATABASE_FAILURES
from myometrics_core.mail import SendFailure
from myometrics_core.times import utc_now

from .conf import notifications_settings
from .models import ClaimedModel
from .selectors import claimable

__all__ = ["back_off", "claim", "fail", "finish"]

logger = logging.getLogger("myometrics.notifications")

_PAUSES = (0.1, 0.2, 0.4, 0.8)

Work = TypeVar("Work", bound=ClaimedModel)


def claim(model: type[Work], pk: int, duration: timedelta) -> Work | None:
    """Claim the row for ``duration``; ``None`` if it is not due, finished or already claimed.

    Counts the attempt here, so that a job that kills its worker is not retried for ever.
    """
    token = uuid.uuid4()
    taken = model._default_manager.filter(claimable(), pk=pk).update(
        lease_token=token, leased_until=utc_now() + duration, attempts=F("attempts") + 1
    )
    return model._default_manager.filter(pk=pk, lease_token=token).first() if taken else None


def finish(work: ClaimedModel, *, state: str, **changes: Any) -> bool:
    """Finish the job in ``state``; false if this worker no longer holds the lease."""
    return _give_back(work, state=state, settled_at=utc_now(), **changes)


def fail(work: ClaimedModel, failure: SendFailure) -> None:
    """Record a failed attempt: schedule a retry, or mark the job ``dead`` after the last one."""
    if failure.permanent or work.attempts >= notifications_settings.MAX_ATTEMPTS:
        logger.warning("%s is given up: %s", work, failure.summary)
        finish(work, state=ClaimedModel.DEAD, last_error=failure.summary)
        return
    later = utc_now() + back_off(work.attempts)
    _give_back(work, last_error=failure.summary, next_attempt_at=later)


def back_off(attempts: int) -> timedelta:
    """Return the backoff after ``attempts`` failures.

    It doubles up to ``RETRY_CAP``. Jitter between half and all of it spreads the retries.
    """
    base = notifications_settings.RETRY_BASE.total_seconds()
    cap = notifications_settings.RETRY_CAP.total_seconds()
    longest = min(base * 2.0 ** min(attempts - 1, 64), cap)
    return timedelta(seconds=longest * random.uniform(0.5, 1.0))


def _give_back(work: ClaimedModel, **changes: Any) -> bool:
    # The mail may already be sent: a short database failure must not cause a second one.
    for pause in _PAUSES:
        try:
            return _update(work, changes)
        except DATABASE_FAILURES:
            if connection.in_atomic_block:
                raise
            connection.close()
            time.sleep(pause)
    return _update(work, changes)


def _update(work: ClaimedModel, changes: dict[str, Any]) -> bool:
    owned = type(work)._default_manager.filter(**work.lease)
    if owned.update(lease_token=None, leased_until=None, **changes):
        return True
    logger.warning("%s was no longer this worker's when its attempt ended", work)
    return False
