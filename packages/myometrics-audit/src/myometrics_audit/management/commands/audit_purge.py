"""``manage.py audit_purge``."""

from __future__ import annotations

from datetime import date, timedelta

from django.db import router

from myometrics_core.management.command_line import PurgeCommand
from myometrics_core.times import utc_day_start

from ...listing.pages import entries_count
from ...listing.selection import Selection
from ...log.models import AuditLog
from ...sealing.erasures import entries_purge_chunk


class Command(PurgeCommand):
    """Erase entries whose retention period is over."""

    help = (
        "Remove entries that are older than a day, in chunks, each with a signed erasure, so that "
        "the log still verifies. Only says what it would remove unless --execute is given. "
        "May be stopped and started again at any time. Exit code 0; 2 for wrong arguments."
    )
    things = "entries"
    example_ages = "400d, 10y"
    chunk_unit = "transaction"
    largest_chunk = 10_000

    def due(self, before: date) -> int:
        if before == date.min:
            return 0  # no earlier date exists
        return entries_count(Selection(end_date=before - timedelta(days=1)))

    def purge_chunk(self, before: date, limit: int) -> int:
        using = router.db_for_write(AuditLog)
        return entries_purge_chunk(before=utc_day_start(before), limit=limit, using=using)
