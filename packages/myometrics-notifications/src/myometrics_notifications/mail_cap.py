"""Hourly cap of notification mails per user; the rest is sent as one summary."""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth import get_user_model

from myometrics_core.db import atomic_write
from myometrics_core.jobs import Job, enqueue
from myometrics_core.times import utc_now

from .built_in_kinds import Summary
from .conf import notifications_settings
from .kinds import registered_kind
from .models import Message
from .services import DELIVER

WINDOW: Final = timedelta(hours=1)


def message_admit(*, message: Message, job: Job) -> bool:
    """Return whether ``message``, whose ``job`` this worker has claimed, may be mailed now.

    Above ``MAILS_PER_USER_PER_HOUR`` mails within the last hour, the message becomes part of a
    summary that is due when the hour is over. A message is admitted once, regardless of retries.
    The count is exact with concurrent workers: they lock the recipient's row.
    """
    kind = registered_kind(message.kind)
    if message.admitted_at is not None or not (kind.optional or kind.name == Summary.name):
        return True
    with atomic_write():
        users = get_user_model()._base_manager.select_for_update(no_key=True)
        list(users.filter(pk=message.recipient_id).values_list("pk"))
        now = utc_now()
        recent = Message.objects.filter(
            recipient_id=message.recipient_id, admitted_at__gt=now - WINDOW
        )
        limit = notifications_settings.MAILS_PER_USER_PER_HOUR
        if kind.name == Summary.name or recent.count() < limit:
            Message.objects.filter(pk=message.pk).update(admitted_at=now)
            return True
        if job.finish():
            first = recent.order_by("admitted_at").values_list("admitted_at", flat=True).first()
            _add_to_summary(message, due_at=(first or now) + WINDOW, now=now)
        return False


def _add_to_summary(message: Message, *, due_at: datetime, now: datetime) -> None:
    # An admitted summary is being sent, and its counts are final.
    summary = Message.objects.filter(
        recipient_id=message.recipient_id,
        kind=Summary.name,
        state=Message.State.QUEUED,
        admitted_at=None,
    ).first()
    if summary is None:
        mail_uuid = uuid.uuid4()
        summary = Message.objects.create(
            kind=Summary.name,
            recipient_id=message.recipient_id,
            context={"summary": str(mail_uuid)},
            dedupe_key=hashlib.sha256(mail_uuid.bytes).hexdigest(),
            mail_uuid=mail_uuid,
        )
        enqueue(DELIVER, key=str(summary.pk), run_at=due_at)
    Message.objects.filter(pk=message.pk).update(
        state=Message.State.SUMMARISED,
        summary_uuid=summary.mail_uuid,
        settled_at=now,
        last_error="",
    )
