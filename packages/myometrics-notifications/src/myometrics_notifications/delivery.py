"""Deliver queued messages: claim, send, finish.

Delivery is at least once: a message is sent twice (with the same Message-ID) only if a worker dies
between the mail server's "OK" and the final UPDATE.
"""

from __future__ import annotations

import logging
import time

from myometrics_core.mail import MailConnection, SendFailure, classify_failure, mail_address

from .built_in_kinds import Summary
from .conf import notifications_settings
from .kinds import kind_named
from .leases import claim, fail, finish
from .mail_cap import message_admit
from .models import Message
from .rendering import message_email
from .selectors import message_is_wanted, messages_due, settings_of
from .server_pause import server_pause

__all__ = ["message_deliver", "messages_sweep"]

logger = logging.getLogger("myometrics.notifications")

_SWEEP_LIMIT = 500
_SERVER_FAILURES_IN_A_ROW = 3


def message_deliver(*, message_id: int) -> None:
    """Try to deliver one message now; a failed message is left to a later sweep."""
    if server_pause.is_on():
        return
    with MailConnection() as connection:
        _attempt(message_id, connection)


def messages_sweep() -> int:
    """Deliver all due messages over one connection; return the number of attempts.

    Stops after ``SWEEP_SECONDS``, or when the mail server fails several times in a row. Sweeps may
    run concurrently.
    """
    ends = time.monotonic() + notifications_settings.SWEEP_SECONDS
    attempts = failures = 0
    with MailConnection() as connection:
        for message_id in messages_due(_SWEEP_LIMIT):
            if time.monotonic() >= ends or failures >= _SERVER_FAILURES_IN_A_ROW:
                break
            taken, failure = _attempt(message_id, connection)
            attempts += taken
            failures = failures + 1 if failure and failure.server else 0
    return attempts


def _attempt(message_id: int, connection: MailConnection) -> tuple[bool, SendFailure | None]:
    message = claim(Message, message_id, notifications_settings.LEASE)
    if message is None:
        return False, None
    reason = _reason_to_drop(message)
    if reason:
        finish(message, state=Message.State.DROPPED, last_error=reason)
        return True, None
    if not message_admit(message=message):
        return True, None
    return True, _send(message, connection)


def _send(message: Message, connection: MailConnection) -> SendFailure | None:
    try:
        connection.send(message_email(message))
    except Exception as error:
        failure = classify_failure(error)
        if failure.server:
            server_pause.start()
        logger.info("Message %s was not sent: %s", message.pk, failure.summary)
        fail(message, failure)
        return failure
    finish(message, state=Message.State.SENT, last_error="")
    server_pause.end()
    return None


def _reason_to_drop(message: Message) -> str:
    kind, user = kind_named(message.kind), message.recipient
    if kind is None:
        return "unknown kind"
    if not user.is_active or not mail_address(user):
        return "recipient inactive or without address"
    is_summary = kind.name == Summary.name
    if not message_is_wanted(kind=kind, user=user) or (
        is_summary and not settings_of(user).email_notifications
    ):
        return "switched off"
    if is_summary and not Message.objects.filter(summary_uuid=message.mail_uuid).exists():
        return "nothing to sum up"
    return ""
