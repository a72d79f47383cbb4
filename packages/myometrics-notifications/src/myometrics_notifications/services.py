"""Writes: switches, and messages in the outbox."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models import CharField, Exists, OuterRef, QuerySet
from django.db.models.functions import Cast

from myometrics_core.api import CallerDeleted
from myometrics_core.db import (
    SerializationFailure,
    atomic_write,
    is_serialization_failure,
    is_unique_violation,
    read_in_batches,
)
from myometrics_core.events import Event
from myometrics_core.jobs import Job, enqueue_many
from myometrics_core.times import utc_now
from myometrics_core.users import existing_user_ids, lock_users_shared

from .conf import notifications_settings
from .kinds import NotificationKind, kinds_for, registered_kinds
from .models import Message, NotificationSettings, column_defaults
from .selectors import users_wanting

__all__ = ["messages_queue", "notification_settings_update"]

logger = logging.getLogger("myometrics.notifications")

DELIVER = "myometrics_notifications.deliver"
"""The kind of job that delivers a message; its key is the message's primary key."""

_CHUNK = 500


@dataclass(frozen=True)
class _Notice:
    """One kind's notification of one event: recipients (``None``: all) and deduplication key."""

    kind: NotificationKind
    user_ids: Iterable[Any] | None
    context: Mapping[str, Any]
    once_per: str

    @classmethod
    def of(cls, event: Event, kind: NotificationKind) -> _Notice:
        return cls(kind, kind.concerns(event), kind.context(event), kind.once_per(event))

    def dedupe_key(self, user_id: Any) -> str:
        parts = (self.kind.name, str(user_id), self.once_per)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def recipients(self) -> Iterator[Any]:
        if self.user_ids is None:
            wanting = users_wanting(self.kind).order_by("pk").values("pk")
            return (row["pk"] for row in read_in_batches(wanting))
        to_key = get_user_model()._meta.pk.to_python
        return iter(dict.fromkeys(map(to_key, self.user_ids)))


def notification_settings_ensure(*, user: AbstractBaseUser) -> NotificationSettings:
    """Return the user's settings; created with the defaults at the first use.

    Concurrent first uses create one row. Raises ``CallerDeleted`` if the user was deleted
    concurrently.
    """
    with _report_deleted_caller(user):
        return NotificationSettings.objects.get_or_create(
            user_id=user.pk, defaults=column_defaults()
        )[0]


def notification_settings_update(
    *, user: AbstractBaseUser, switches: Mapping[str, bool]
) -> NotificationSettings:
    """Set the given switches (name → on), and leave the others unchanged.

    Raises ``CallerDeleted`` if the user was deleted concurrently.
    """
    locked = NotificationSettings.objects.select_for_update()
    with _report_deleted_caller(user), atomic_write():
        settings = locked.get_or_create(user_id=user.pk, defaults=column_defaults())[0]
        if "email_notifications" in switches:
            settings.email_notifications = switches["email_notifications"]
        for kind in registered_kinds():
            if kind.optional and kind.name in switches:
                settings.set_switch(kind, switches[kind.name])
        settings.save()
    return settings


def event_notify(event: Event) -> None:
    """Queue the messages for ``event`` inside the caller's transaction.

    Events older than ``IGNORE_OLDER_THAN`` are ignored, so that a replay sends no mails. An error
    in one kind, which may be the site's, does not affect the others.
    """
    for kind in _kinds_notifying(event):
        try:
            with transaction.atomic():
                _queue([_Notice.of(event, kind)])
        except Exception as error:
            if is_serialization_failure(error):
                raise
            logger.exception("Kind %s failed on event %s", kind.name, event.id)


def events_notify(events: Sequence[Event]) -> None:
    """Queue the messages for ``events``; a batched :func:`event_notify`.

    Propagates the exceptions of kinds. The caller then calls :func:`event_notify` for each
    event, where an error affects only one kind and one event.
    """
    _queue(_Notice.of(event, kind) for event in events for kind in _kinds_notifying(event))


def messages_queue(
    *,
    kind: NotificationKind,
    user_ids: Iterable[Any] | None,
    context: Mapping[str, Any],
    once_per: str,
) -> int:
    """Queue a mail of ``kind`` for each of ``user_ids`` (``None``: all users) whose switch is on.

    Call it in the transaction of the event; delivery starts after the commit. A user gets at most
    one mail per ``once_per``. Returns the number of users whose switches are on.
    """
    return _queue([_Notice(kind, user_ids, context, once_per)])


def messages_retry(*, messages: QuerySet[Message]) -> int:
    """Queue the dead and dropped ``messages`` again, with all their attempts.

    Returns the number of messages.
    """
    ended = messages.filter(state__in=(Message.State.DEAD, Message.State.DROPPED)).order_by("pk")
    retried = 0
    with atomic_write():
        locked = ended.select_for_update(of=("self",))
        while batch := list(locked.values_list("pk", flat=True)[:_CHUNK]):
            retried += Message.objects.filter(pk__in=batch).update(
                state=Message.State.QUEUED, settled_at=None
            )
            keys = [str(pk) for pk in batch]
            Job.objects.dead().filter(kind=DELIVER, key__in=keys).delete()
            enqueue_many(DELIVER, [(key, {}) for key in keys])
    return retried


def messages_erase(*, user: AbstractBaseUser) -> None:
    """Delete the switches and every message of ``user``."""
    Message.objects.filter(recipient_id=user.pk).delete()
    NotificationSettings.objects.filter(user_id=user.pk).delete()


def messages_purge() -> int:
    """Delete finished messages after their retention; return the number of rows.

    Queued messages without a job, which an operator cancelled, are dropped.
    """
    now = utc_now()
    jobs = Job.objects.pending().filter(kind=DELIVER, key=Cast(OuterRef("pk"), CharField()))
    Message.objects.filter(~Exists(jobs), state=Message.State.QUEUED).update(
        state=Message.State.DROPPED, last_error="job cancelled", settled_at=now
    )
    ended = Message.objects.filter(
        state__in=(Message.State.SENT, Message.State.DROPPED, Message.State.SUMMARISED),
        settled_at__lt=now - notifications_settings.KEEP_SENT,
    )
    dead = Message.objects.filter(
        state=Message.State.DEAD, settled_at__lt=now - notifications_settings.KEEP_DEAD
    )
    deleted = 0
    for old in (ended, dead):
        while batch := list(old.values_list("pk", flat=True)[:_CHUNK]):
            deleted += Message.objects.filter(pk__in=batch).delete()[0]
    return deleted


def _kinds_notifying(event: Event) -> list[NotificationKind]:
    kinds = kinds_for(event)
    if not kinds or utc_now() - event.occurred_at > notifications_settings.IGNORE_OLDER_THAN:
        return []
    return kinds


@contextmanager
def _report_deleted_caller(user: AbstractBaseUser) -> Iterator[None]:
    """Raise ``CallerDeleted`` if a row can't be written because ``user`` was deleted.

    Wraps the transaction: databases may check foreign keys only at the commit.
    """
    try:
        yield
    except IntegrityError as error:
        own = NotificationSettings.objects.filter(user_id=user.pk)
        if is_unique_violation(error) and own.exists():
            # Under REPEATABLE READ the conflicting row is not visible to the transaction.
            raise SerializationFailure(str(error)) from error
        if existing_user_ids([user.pk]):
            raise
        raise CallerDeleted() from error


def _queue(notices: Iterable[_Notice]) -> int:
    """Queue the messages of ``notices`` in order; return the number of wanted ones."""
    addressed = (
        (number, notice, user_id)
        for number, notice in enumerate(notices)
        for user_id in notice.recipients()
    )
    count = 0
    while chunk := list(islice(addressed, _CHUNK)):
        count += _queue_chunk(chunk)
    return count


def _queue_chunk(addressed: Sequence[tuple[int, _Notice, Any]]) -> int:
    with atomic_write(savepoint=False):
        wanting = _lock_recipients((notice.kind, user_id) for _, notice, user_id in addressed)
        rows = [
            Message(
                kind=notice.kind.name,
                recipient_id=user_id,
                context=dict(notice.context),
                dedupe_key=notice.dedupe_key(user_id),
            )
            # Fixed order within a notice: transactions that queue the same messages would otherwise
            # deadlock.
            for _, notice, user_id in sorted(addressed, key=lambda one: (one[0], str(one[2])))
            if user_id in wanting[notice.kind.name]
        ]
        Message.objects.bulk_create(rows, ignore_conflicts=True)
        created = Message.objects.filter(mail_uuid__in=[row.mail_uuid for row in rows])
        enqueue_many(
            DELIVER, [(str(pk), {}) for pk in created.values_list("pk", flat=True)], is_new=True
        )
    return len(rows)


def _lock_recipients(
    addressed: Iterable[tuple[NotificationKind, Any]],
) -> dict[str, set[Any]]:
    """Lock the addressed users; return those whose switches allow each kind, by its name."""
    kinds: dict[str, NotificationKind] = {}
    user_ids = defaultdict(set)
    for kind, user_id in addressed:
        kinds[kind.name] = kind
        user_ids[kind.name].add(user_id)
    return {
        name: lock_users_shared(user_ids[name], among=users_wanting(kind))
        for name, kind in kinds.items()
    }
