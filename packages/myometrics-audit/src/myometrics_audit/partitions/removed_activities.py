"""The job that deletes the activity ids of entries whose partition was dropped."""

from __future__ import annotations

import time
from typing import Any, Final

from django.db import connections, router

from myometrics_core.jobs import Job, JobKind, enqueue

from ..log.models import AuditLog
from .catalog import TABLE, rows
from .models import RecordedActivity

REMOVED_ACTIVITIES_JOB: Final = "myometrics_audit.removed_activities"
BATCH_IDS: Final = 50_000
MAX_SECONDS: Final = 20.0
"""A run ends after so long, and is enqueued again: well within its lease."""

_ACTIVITIES = f'"{RecordedActivity._meta.db_table}"'


class DeleteRemovedActivities(JobKind):
    """Deletes them in batches, which would take too long while the partition is dropped."""

    name = REMOVED_ACTIVITIES_JOB

    def run(self, job: Job) -> None:
        ends = time.monotonic() + MAX_SECONDS
        using = router.db_for_write(AuditLog)
        first_id, end_id = job.payload["first_id"], job.payload["end_id"]
        while (first_id := delete_batch(first_id, end_id, using)) is not None:
            if time.monotonic() >= ends:
                enqueue(self.name, dict(job.payload), key=job.key)  # enqueue this job again
                return


def delete_batch(first_id: int, end_id: int, using: str) -> Any:
    """Delete the activities of missing entries in a batch of ids.

    Returns the id where the next batch begins; ``None`` if this was the last one.
    """
    sql = f"SELECT min(entry_id) FROM {_ACTIVITIES} WHERE entry_id >= %s AND entry_id < %s"
    ((first,),) = rows(using, sql, [first_id, end_id])
    if first is None:
        return None
    until = min(first + BATCH_IDS, end_id)
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {_ACTIVITIES} a WHERE a.entry_id >= %s AND a.entry_id < %s "
            f'AND NOT EXISTS (SELECT 1 FROM "{TABLE}" e WHERE e.id = a.entry_id '
            "AND e.id >= %s AND e.id < %s)",
            [first, until, first, until],
        )
    return until
