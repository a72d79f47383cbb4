"""Replaying all events into the facts, in resumable steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby, islice
from typing import Final

from django.db import connection

from myometrics_core.db import atomic_write
from myometrics_core.events import Event, replay_events
from myometrics_core.jobs import enqueue
from myometrics_core.times import utc_now

from ..facts.event_conversion import convert_event
from ..facts.services import uploads_merge
from ..models import (
    DailyRollup,
    DayRollup,
    LimitDecision,
    PendingChange,
    PullState,
    RebuildCheckpoint,
    Upload,
    UserRollup,
)
from ..pull.pulling import PULL_JOB
from .folding import changes_fold
from .rollup_rows import rollup_lock
from .self_check import rollups_check
from .tables import tables

__all__ = ["facts_clear", "rebuild_is_unfinished", "rebuild_run"]

BATCH: Final = 2000
FOLD_EVERY: Final = 10
Progress = Callable[[str, float, int], None]

# Decisions kept by an earlier, unfinished rebuild take precedence.
KEEP_DECISIONS: Final = """
INSERT INTO {decision} (user_id, upload_id, over_limit)
SELECT fact.user_id, fact.upload_id, fact.over_limit IS NOT NULL AND fact.over_limit
FROM {upload} AS fact
WHERE NOT EXISTS (SELECT 1 FROM {decision} AS kept
                  WHERE kept.user_id = fact.user_id AND kept.upload_id = fact.upload_id)
"""


def rebuild_is_unfinished() -> bool:
    """Return whether an earlier rebuild was interrupted and will be resumed."""
    return RebuildCheckpoint.objects.exists()


def rebuild_run(*, restart: bool = False, progress: Progress | None = None) -> int:
    """Replay every registered source into the facts; return the number of replayed events.

    Idempotent, and resumes after an interruption (``restart``: starts over). Ends with a fold and
    the self-check. ``progress`` is called with the source, the replayed share of its period (0 to
    1) and the number of events.
    """
    if restart:
        RebuildCheckpoint.objects.all().delete()
    seen = dict(RebuildCheckpoint.objects.values_list("source", "reached_at"))
    replayed = 0
    for number, batch in enumerate(_batches(_unseen(replay_events(), seen)), start=1):
        checkpoint = _replay(batch)
        replayed += len(batch)
        if progress is not None:
            progress(checkpoint.source, _share(checkpoint), replayed)
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
        for model in (Upload, PendingChange, DailyRollup, DayRollup, UserRollup):
            model._base_manager.all().delete()
        RebuildCheckpoint.objects.all().delete()
        state.uploads = 0
        state.save()
    PullState.objects.update(etag="", last_modified="", completed_at=None)
    enqueue(PULL_JOB, key="")


def _unseen(events: Iterable[Event], seen: Mapping[str, datetime]) -> Iterator[Event]:
    # Sources replay oldest first. Several events can share the time of the checkpoint.
    for event in events:
        reached_at = seen.get(event.source)
        if reached_at is None or event.occurred_at >= reached_at:
            yield event


def _batches(events: Iterator[Event]) -> Iterator[list[Event]]:
    for _, of_source in groupby(events, key=lambda event: event.source):
        while batch := list(islice(of_source, BATCH)):
            yield batch


def _replay(batch: Sequence[Event]) -> RebuildCheckpoint:
    with atomic_write():
        uploads_merge(events=[found for event in batch if (found := convert_event(event))])
        checkpoint, _ = RebuildCheckpoint.objects.get_or_create(
            source=batch[0].source,
            defaults={"began_at": batch[0].occurred_at, "reached_at": batch[0].occurred_at},
        )
        checkpoint.reached_at = max(event.occurred_at for event in batch)
        checkpoint.activities += len(batch)
        checkpoint.save()
    return checkpoint


def _share(checkpoint: RebuildCheckpoint) -> float:
    whole = (utc_now() - checkpoint.began_at).total_seconds()
    done = (checkpoint.reached_at - checkpoint.began_at).total_seconds()
    return min(1.0, done / whole) if whole > 0 else 1.0
