"""Kinds of jobs: what runs, how long a claim lasts, when a failed job is retried."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, ClassVar

from ..times import utc_now

if TYPE_CHECKING:
    from .models import Job


MAX_INTERVAL = timedelta(days=366)
"""A site may set an interval that should never end, and that no date can represent."""


@dataclass(frozen=True)
class Schedule:
    """When a recurring job is due: ``next_run`` returns the first time after the given one."""

    next_run: Callable[[datetime], datetime]


class JobFailed(Exception):
    """A classified failure of a job. ``summary`` is stored and logged: no personal data.

    ``permanent``: a retry can't succeed. ``service_down``: other jobs of the kind would fail as
    well, for example because the mail server can't be reached.
    """

    def __init__(
        self, summary: str, *, permanent: bool = False, service_down: bool = False
    ) -> None:
        super().__init__(summary)
        self.summary = summary
        self.permanent = permanent
        self.service_down = service_down


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff: ``base``, doubled with each failure up to ``cap``, with jitter.

    The job is dead after ``max_attempts``.
    """

    max_attempts: int = 10
    base: timedelta = timedelta(seconds=30)
    cap: timedelta = timedelta(hours=1)

    def backoff(self, attempts: int) -> timedelta:
        """Return a random delay: between half and all of ``base``, doubled for each failure."""
        doubled = self.base.total_seconds() * 2.0 ** min(attempts - 1, 40)
        longest = min(doubled, self.cap.total_seconds())  # not as `timedelta`s: they overflow
        return timedelta(seconds=longest * random.uniform(0.5, 1.0))


class JobKind:
    """A kind of job. Subclass it, and register an instance with :func:`register_job_kind`."""

    name: ClassVar[str]
    """Stored in each job, and the name of the Celery task that runs it."""
    schedule: Schedule | None = None
    """Makes the kind recurring: one job with the key ``""``, never dead."""

    @property
    def lease(self) -> timedelta:
        """How long a claim lasts: longer than the longest run. Then another worker takes over."""
        return timedelta(minutes=5)

    @property
    def pause(self) -> timedelta:
        """How long this process begins no jobs of the kind after ``service_down``."""
        return timedelta(seconds=30)

    @property
    def retry(self) -> RetryPolicy:
        """When a failed job is tried again. A subclass may set an attribute instead.

        By default after 30 seconds up to an hour; a recurring job by its next run at the latest.
        """
        if self.schedule is None:
            return RetryPolicy()
        now = utc_now()
        return RetryPolicy(cap=self.schedule.next_run(now) - now)

    def run(self, job: Job) -> None:
        """Do the work, outside of any transaction. Must be idempotent: a job may run twice.

        Returning finishes the job. Raise :class:`JobFailed` for a failure whose reason can be
        stored; any other exception is logged and retried under its type's name. A handler that
        writes a result calls ``job.finish()`` in the same transaction, and writes nothing if it
        returns false, because another worker has taken over.
        """
        raise NotImplementedError

    def on_dead(self, job: Job) -> None:
        """React to the last failure, in the transaction that marks the job dead."""

    def on_retry(self, job: Job) -> None:
        """Undo :meth:`on_dead`, in the transaction in which an operator retries a dead job."""

    @contextmanager
    def session(self) -> Iterator[None]:
        """Wrap a run of several jobs in this thread, for example to share a connection."""
        yield


def every(interval: timedelta | Callable[[], timedelta]) -> Schedule:
    """Return a schedule with a fixed interval, or one that is read from the settings each time."""

    def next_run(now: datetime) -> datetime:
        return now + min(interval() if callable(interval) else interval, MAX_INTERVAL)

    return Schedule(next_run)


def daily(hour: int, minute: int = 0) -> Schedule:
    """Return a schedule for a time of day in UTC."""

    def next_run(now: datetime) -> datetime:
        today = now.astimezone(timezone.utc).replace(
            hour=hour, minute=minute, second=0, microsecond=0
        )
        return today if today > now else today + timedelta(days=1)

    return Schedule(next_run)


_kinds: dict[str, JobKind] = {}


def register_job_kind(kind: JobKind) -> None:
    """Register ``kind``, replacing an earlier one of the same name. Call it in ``ready()``."""
    _kinds[kind.name] = kind


def job_kind(name: str) -> JobKind:
    """Return the kind of that name; raises ``LookupError`` if it is not registered."""
    try:
        return _kinds[name]
    except KeyError:
        raise LookupError(f"no job kind is registered as {name!r}") from None


def job_kinds() -> list[JobKind]:
    """Return every registered kind, in order of registration."""
    return list(_kinds.values())
