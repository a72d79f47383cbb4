"""Who may send a message just now, and how an attempt ends: one conditional UPDATE each.

No lock is held between the two; a worker that is killed loses its lease by the passing of time.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from datetime import timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, connection
from django.db.models import F

from myometrics_core.times import utc_now

from .conf import notifications_settings
from .failures import SendFailure
from .models import Message
from .selectors import free_to_take

__all__ = ["back_off", "message_drop", "message_fail", "message_lease", "message_sent"]

logger = logging.getLogger("myometrics.notifications")

_SETTLE_TRIES = 5


def message_lease(*, message_id: int) -> Message | None:
    """Take the message for ``LEASE``; ``None`` if it is not due, settled or another's.

    The attempt is counted here, so that a message that kills its worker ends as a dead letter.
    """
    token = uuid.uuid4()
    taken = Message.objects.filter(free_to_take(), pk=message_id).update(
        lease_token=token,
        leased_until=utc_now() + notifications_settings.LEASE,
        attempts=F("attempts") + 1,
    )
    if not taken:
        return None
    return (
        Message.objects.select_related("recipient").filter(pk=message_id, lease_token=token).first()
    )


def message_sent(message: Message) -> None:
    """Record that the mail server has taken the message."""
    _settle(message, state=Message.State.SENT, last_error="", settled_at=utc_now())


def message_drop(message: Message, *, reason: str) -> None:
    """Record that nobody is to get the message any more."""
    _settle(message, state=Message.State.DROPPED, last_error=reason, settled_at=utc_now())


def message_fail(message: Message, failure: SendFailure) -> None:
    """Record a failed attempt: a dead letter, or another attempt later."""
    if failure.permanent or message.attempts >= notifications_settings.MAX_ATTEMPTS:
        logger.warning("Message %s is a dead letter: %s", message.pk, failure.summary)
        _settle(
            message,
            state=Message.State.DEAD,
            last_error=failure.summary,
            settled_at=utc_now(),
        )
        return
    pause = back_off(message.attempts)
    _settle(message, last_error=failure.summary, next_attempt_at=utc_now() + pause)


def back_off(attempts: int) -> timedelta:
    """Pause after that many failed attempts: it doubles up to a cap, and between half and the
    whole of it is drawn at random, so that messages that failed together don't return together.
    """
    base = notifications_settings.RETRY_BASE.total_seconds()
    cap = notifications_settings.RETRY_CAP.total_seconds()
    longest = min(base * 2.0 ** min(attempts - 1, 64), cap)
    return timedelta(seconds=longest * random.uniform(0.5, 1.0))


def _settle(message: Message, **changes: Any) -> None:
    # The mail may be out: a database that is away for a moment must not send it twice.
    for attempt in range(_SETTLE_TRIES):
        try:
            _update(message, changes)
            return
        except (OperationalError, InterfaceError):
            if attempt == _SETTLE_TRIES - 1 or connection.in_atomic_block:
                raise
            connection.close()
            time.sleep(0.1 * 2**attempt)


def _update(message: Message, changes: dict[str, Any]) -> None:
    owned = Message.objects.filter(**message.lease)
    if not owned.update(lease_token=None, leased_until=None, **changes):
        logger.warning("Message %s was no longer this worker's when its attempt ended", message.pk)
