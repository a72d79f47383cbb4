"""Deliver a message: check the recipient's switches and the hourly cap, send, record.

Delivery is at least once: a message is sent twice (with the same Message-ID) only if a worker dies
between the mail server's "OK" and the UPDATE that follows.
"""

from __future__ import annotations

from django.db import router

from myometrics_core.db import atomic_write, write_despite_failures
from myometrics_core.jobs import Job
from myometrics_core.mail import MailConnection, classify_failure, mail_address
from myometrics_core.times import utc_now

from .built_in_kinds import Summary
from .kinds import kind_named
from .mail_cap import message_admit
from .models import Message
from .rendering import message_email
from .selectors import message_is_wanted, settings_of


def message_deliver(*, job: Job, connection: MailConnection) -> None:
    """Deliver the message whose primary key is the job's key, unless it is no longer queued.

    Raises ``JobFailed`` if it could not be sent, and the exceptions of its kind and templates.
    """
    queued = Message.objects.filter(pk=job.key, state=Message.State.QUEUED)
    message = queued.select_related("recipient").first()
    if message is None:
        return
    if reason := _reason_to_drop(message):
        with atomic_write():
            if job.finish():
                queued.update(state=Message.State.DROPPED, last_error=reason, settled_at=utc_now())
    elif message_admit(message=message, job=job):
        try:
            connection.send(message_email(message))
        except Exception as error:
            raise classify_failure(error) from None  # the cause can contain the address
        _record_as_sent(message)


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


def _record_as_sent(message: Message) -> None:
    # Also if another worker took over: the mail is sent, and a short database failure must not
    # repeat it.
    sent = Message.objects.filter(pk=message.pk)
    write_despite_failures(
        lambda: sent.update(state=Message.State.SENT, last_error="", settled_at=utc_now()),
        router.db_for_write(Message),
    )
