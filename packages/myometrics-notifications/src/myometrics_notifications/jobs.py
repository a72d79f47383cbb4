"""Kinds of jobs of this package."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import ClassVar

from django.db import IntegrityError, transaction

from myometrics_core.jobs import Job, JobKind, RetryPolicy, every, register_job_kind
from myometrics_core.mail import MailConnection
from myometrics_core.times import utc_now

from .conf import notifications_settings
from .delivery import message_deliver
from .exports import EXPORT, SWEEP_EXPORTS, export_files_sweep, export_generate
from .models import ExportFile, Message
from .services import DELIVER, messages_purge


class _RowJob(JobKind):
    """A job whose key is the primary key of a row with a state, which is dead with the job."""

    model: ClassVar[type[Message | ExportFile]]

    @property
    def retry(self) -> RetryPolicy:
        return RetryPolicy(
            max_attempts=notifications_settings.MAX_ATTEMPTS,
            base=notifications_settings.RETRY_BASE,
            cap=notifications_settings.RETRY_CAP,
        )

    def on_dead(self, job: Job) -> None:
        self.model._default_manager.filter(pk=job.key, state="queued").update(
            state="dead", last_error=job.last_error, settled_at=utc_now()
        )

    def on_retry(self, job: Job) -> None:
        self.model._default_manager.filter(pk=job.key, state="dead").update(
            state="queued", settled_at=None
        )


class DeliverMessage(_RowJob):
    """Deliver one message; a run of several jobs shares one connection to the mail server."""

    name = DELIVER
    model = Message

    def __init__(self) -> None:
        self._session = threading.local()

    @property
    def lease(self) -> timedelta:
        return notifications_settings.LEASE

    @property
    def pause(self) -> timedelta:
        return notifications_settings.SERVER_PAUSE

    @contextmanager
    def session(self) -> Iterator[None]:
        with MailConnection() as self._session.connection:
            yield

    def run(self, job: Job) -> None:
        message_deliver(job=job, connection=self._session.connection)


class GenerateExport(_RowJob):
    """Write one export file, and queue the mail with its link."""

    name = EXPORT
    model = ExportFile

    @property
    def lease(self) -> timedelta:
        return notifications_settings.EXPORT_LEASE

    def run(self, job: Job) -> None:
        export_generate(job=job)

    def on_retry(self, job: Job) -> None:
        # A user has at most one queued export of a format: a newer request replaces the dead one.
        with suppress(IntegrityError), transaction.atomic():
            super().on_retry(job)


class PurgeMessages(JobKind):
    """Delete finished messages after their retention."""

    name = "myometrics_notifications.purge"
    schedule = every(timedelta(hours=1))
    lease = timedelta(minutes=10)

    def run(self, job: Job) -> None:
        messages_purge()


class SweepExports(JobKind):
    """Delete export files that are expired or have no owner."""

    name = SWEEP_EXPORTS
    schedule = every(timedelta(minutes=10))
    lease = timedelta(minutes=10)

    def run(self, job: Job) -> None:
        export_files_sweep()


def register_jobs() -> None:
    """Register the kinds."""
    for kind in (DeliverMessage(), GenerateExport(), PurgeMessages(), SweepExports()):
        register_job_kind(kind)
