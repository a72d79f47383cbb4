"""Changes of the state of streams: creation, pause, resume, replay."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.db import router

from myometrics_core.db import atomic_write
from myometrics_core.jobs import enqueue

from ..audit import Actor, AnyRequest, record
from ..log.models import Seal
from .models import Stream
from .options import stream_names
from .pending import log_alias

RESOURCE_TYPE = "audit_stream"
STREAM_PAUSED, STREAM_RESUMED = "stream_paused", "stream_resumed"
STREAM_REPLAYED = "stream_replayed"


class SealNotReached(ValueError):
    """A stream can't be set to a seal that it has not reached: it would skip entries."""

    def __init__(self, stream: str, seal_number: int) -> None:
        super().__init__(f"The stream {stream} has only reached seal {seal_number:,}.")
        self.stream, self.seal_number = stream, seal_number


def stream_job_name(stream: str) -> str:
    """Return the kind of the job that sends a stream. Each has its own: one must not block."""
    return f"myometrics_audit.stream.{stream}"


def stream_row(name: str) -> Stream:
    """Return the state of a configured stream. A new one begins with the next seal."""
    if stream := Stream.objects.filter(pk=name).first():
        return stream
    seals = Seal.objects.using(log_alias()).order_by("-number")
    newest = seals.values_list("number", flat=True).first() or 0
    Stream.objects.bulk_create([Stream(name=name, seal_number=newest + 1)], ignore_conflicts=True)
    return Stream.objects.get(pk=name)


def configured_streams() -> list[Stream]:
    """Return the state of each configured stream."""
    rows = Stream.objects.in_bulk(stream_names())
    return [rows.get(name) or stream_row(name) for name in stream_names()]


def stream_pause(name: str, *, actor: Actor, request: AnyRequest | None = None) -> None:
    """Pause a stream; a running sender stops before its next batch."""
    state = {"state": Stream.State.PAUSED, "failing_since": None}
    _change(name, STREAM_PAUSED, actor, request, {}, state)


def stream_resume(name: str, *, actor: Actor, request: AnyRequest | None = None) -> None:
    """Let a paused or dead stream continue where it stopped."""
    state = {
        "state": Stream.State.RUNNING,
        "refused_in_row": 0,
        "retry_at": None,
        "failing_since": None,
        "failures": 0,
        "last_error": "",
    }
    _change(name, STREAM_RESUMED, actor, request, {}, state)


def stream_replay(
    name: str, *, seal_number: int, actor: Actor, request: AnyRequest | None = None
) -> None:
    """Send everything again from the seal with this number on.

    Raises ``SealNotReached`` if it is above the seal that the stream is at.
    """
    position = {"seal_number": seal_number, "entry_id": 0, "marks": [], "is_connected": False}
    details = {"seal_number": seal_number}
    stream_row(name)
    with atomic_write(router.db_for_write(Stream)):
        reached = Stream.objects.select_for_update().get(pk=name).seal_number
        if seal_number > reached:
            raise SealNotReached(name, reached)
        _change(name, STREAM_REPLAYED, actor, request, details, {**position, "retry_at": None})


def _change(
    name: str,
    action: str,
    actor: Actor,
    request: AnyRequest | None,
    details: dict[str, Any],
    values: dict[str, Any],
) -> None:
    stream_row(name)
    with atomic_write(router.db_for_write(Stream)):
        # The process that is sending now, or is about to begin, can't save its position any more.
        Stream.objects.filter(pk=name).update(sender=uuid4(), **values)
        record(
            actor=actor,
            action=action,
            resource=(RESOURCE_TYPE, name),
            details=details,
            request=request,
        )
        if name in stream_names():
            enqueue(stream_job_name(name), key="")
