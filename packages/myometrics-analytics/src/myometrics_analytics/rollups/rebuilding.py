"""Replaying all events into the facts, in resumable steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import groupby, islice
from typing import Final

from django.db import connection

from myometrics_core.db import atomic_write
from myometrics_core.events import Event, replay_events
from myometrics_core.jobs import enqueue
from myometrics_core.times import utc_now

from ..facts.event_conversion import receive_events
from ..models import (
    DailyRollup,
    DayRollup,
    LimitDecision,
    PendingChange,
    PullState,
    RebuildCheckpoint,
    Upload,
    UploadReport,
    UserRollup,
)
from ..pull.pulling import PULL_JOB
from .folding import changes_fold
from .rollup_rows import rollup_lock
from .self_check import rollups_check
from .tables import tables

BATCH: Final = 2000
FOLD_EVERY: Final = 10
Progress = Callable[[str, float, int], None]

# Decisions kept by an earlier, unfinished rebuild take precedence. A report under an address does
# not change the decision on what else is reported.
KEEP_DECISIONS: Final = """
INSERT INTO {LimitDecision} (user_id, upload_id, over_limit)
SELECT fact.user_id, fact.upload_id, COALESCE(report.over_limit, fact.over_limit, FALSE)
FROM {Upload} AS fact LEFT JOIN {UploadReport} AS report ON report.user_id = fact.user_id
     AND report.upload_id = fact.upload_id AND report.ownership = '' WHERE TRUE
ON CONFLICT DO NOTHING
"""


def rebuild_run(*, restart: bool = False, progress: Progress | None = None) -> int:
    """Replay every registered source into the facts; return the number of replayed events.

    Idempotent, and resumes after an interruption (``restart``: starts over). Ends with a fold and
    the self-check. ``progress`` is called with the source, the replayed share of its period (0 to
    1) and the number of events.
    """
    if restart:
        RebuildCheckpoint.objects.all().delete()
    replayed = 0
    for number, batch in enumerate(_batches(), start=1):
        checkpoint = _replay(batch)
        replayed += len(batch)
        if progress is not None:
            whole = utc_now() - checkpoint.began_at
            done = checkpoint.reached_at - checkpoint.began_at
            share = min(1.0, done / whole) if whole > timedelta() else 1.0
            progress(checkpoint.source, share, replayed)
        if number % FOLD_EVERY == 0:
            changes_fold()
    changes_fold()
    rollups_check()
    RebuildCheckpoint.objects.all().delete()
    LimitDecision.objects.all().delete()
    return replayed


def facts_clear() -> None:
    """Delete every fact and rollup; the next rebuild and pull read everything again.

    Daily limit decisions are kept for the restored uploads.
    """
    with rollup_lock() as state:
        with connection.cursor() as cursor:
            cursor.execute(KEEP_DECISIONS.format(**tables()))
        for model in (Upload, UploadReport, PendingChange, DailyRollup, DayRollup, UserRollup):
            model._base_manager.all().delete()
        RebuildCheckpoint.objects.all().delete()
        state.uploads = 0
        state.save()
    PullState.objects.update(etag="", last_modified="", completed_at=None)
    enqueue(PULL_JOB, key="")


def _batches() -> Iterator[list[Event]]:
    """Read the events after the checkpoints, each batch from one source."""
    reached = dict(RebuildCheckpoint.objects.values_list("source", "reached_at"))
    # Sources replay oldest first. Several events can share the time of the checkpoint.
    unseen = (
        event
        for event in replay_events()
        if event.source not in reached or event.occurred_at >= reached[event.source]
    )
    for _, of_source in groupby(unseen, key=lambda event: event.source):
        while batch := list(islice(of_source, BATCH)):
            yield batch


def _replay(batch: Sequence[Event]) -> RebuildCheckpoint:
    with atomic_write():
        receive_events(batch)
        checkpoint, _ = RebuildCheckpoint.objects.get_or_create(
            source=batch[0].source,
            defaults={"began_at": batch[0].occurred_at, "reached_at": batch[0].occurred_at},
        )
        checkpoint.reached_at = max(event.occurred_at for event in batch)
        checkpoint.activities += len(batch)
        checkpoint.save()
    return checkpoint
