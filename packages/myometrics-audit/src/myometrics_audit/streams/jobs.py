"""The jobs that send streams: one kind for each, so that a slow receiver delays no other."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from myometrics_core.jobs import (
    Job,
    JobFailed,
    JobKind,
    RetryPolicy,
    enqueue,
    every,
    register_job_kind,
    run_job,
)

from ..sealing.seals import register_seal_job
from .delivery import Progress, StreamFailed, no_progress, stream_send
from .models import Stream
from .options import stream_names
from .pending import pending_since, position_of
from .services import stream_job_name, stream_row

MAX_SECONDS: Final = 10.0
"""A run ends after so long, between two batches: well within its lease."""


class SendStream(JobKind):
    """Send pending entries after each seal.

    The lease is short, so that another worker soon takes over from a killed one.
    Celery ends tasks softly after 60 of the 90 seconds, and begins runs in the first 30.
    """

    schedule = every(timedelta(minutes=1))
    lease = timedelta(seconds=90)
    retry = RetryPolicy(base=timedelta(seconds=2), cap=timedelta(minutes=2))
    stream: str

    def __init__(self, progress: Progress = no_progress) -> None:
        self._progress = progress

    def run(self, job: Job) -> None:
        try:
            has_more = stream_send(self.stream, seconds=MAX_SECONDS, progress=self._progress)
        except StreamFailed as error:
            job.attempts = error.failures  # Of the backoff, which begins again after progress.
            raise JobFailed(str(error)) from error
        if has_more:
            enqueue(self.name, key="")  # enqueue this job again


def make_job(stream: str, progress: Progress = no_progress) -> SendStream:
    """Return the job of a stream."""
    kind = type("SendStream", (SendStream,), {"name": stream_job_name(stream), "stream": stream})
    return kind(progress)


def send_now(stream: str, progress: Progress = no_progress) -> bool:
    """Run the job of a stream until nothing is pending, for commands.

    Returns ``False`` if another process is sending it, or it is not running. Raises
    ``StreamFailed``.
    """
    name = stream_job_name(stream)
    register_job_kind(make_job(stream, progress))
    Stream.objects.filter(pk=stream).update(retry_at=None)
    row = stream_row(stream)
    while True:
        before = position_of(row)
        enqueue(name, key="")
        if not run_job(name, now=True):
            return False
        row = stream_row(stream)
        if row.state != Stream.State.RUNNING:
            return False
        if row.failing_since is not None:
            raise StreamFailed(row.last_error)
        if pending_since(position_of(row)) is None:
            return True
        if position_of(row) == before:
            raise StreamFailed("nothing was sent; see the log of myometrics.jobs")


def register_jobs() -> None:
    """Register the job of each stream; each seal enqueues it."""
    for stream in stream_names():
        register_job_kind(make_job(stream))
        register_seal_job(stream_job_name(stream))
