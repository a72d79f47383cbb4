"""``manage.py audit_purge``."""

from __future__ import annotations

import json
import sys
from datetime import date, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import router

from myometrics_core.management.command_line import Progress, day_or_age
from myometrics_core.times import utc_day_start, utc_now

from ...listing.pages import entries_count
from ...listing.selection import Selection
from ...log.models import AuditLog
from ...sealing.erasures import entries_purge_chunk

MAX_CHUNK = 10_000


class Command(BaseCommand):
    """Erase entries whose retention period is over; without ``--execute`` only count them."""

    help = (
        "Remove entries that are older than a day, in chunks, each with a signed erasure, so that "
        "the log still verifies. Only reports what it would remove unless --execute is given. "
        "Can be interrupted and restarted at any time. Exit code 0; 2 for wrong arguments."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            required=True,
            metavar="AGE",
            help="a UTC day (2025-08-19) or an age (400d, 10y); entries from before are removed",
        )
        parser.add_argument("--execute", action="store_true", help="really remove them")
        parser.add_argument("--chunk", type=int, default=5000, help="entries a transaction (5000)")
        parser.add_argument("--json", action="store_true", help="print the result as one JSON line")

    def handle(self, *args: Any, **options: Any) -> None:
        before = day_or_age(options["older_than"])
        if before > utc_now().date():
            raise CommandError("--older-than must not lie in the future.", returncode=2)
        if not 1 <= options["chunk"] <= MAX_CHUNK:
            raise CommandError(f"--chunk must be from 1 to {MAX_CHUNK}.", returncode=2)
        due = _count_due(before)
        purged = _purge(before, due, options["chunk"]) if options["execute"] else 0
        if options["json"]:
            result = {"older_than": before.isoformat(), "due": due, "purged": purged}
            self.stdout.write(json.dumps(result))
        elif options["execute"]:
            self.stdout.write(f"Removed {purged:,} entries from before {before} (UTC).")
        else:
            self.stdout.write(
                f"Would remove {due:,} entries from before {before} (UTC). Run it with --execute."
            )


def _count_due(before: date) -> int:
    if before == date.min:
        return 0  # no earlier date exists
    return entries_count(Selection(end_date=before - timedelta(days=1)))


def _purge(before: date, due: int, chunk: int) -> int:
    bar, purged, using = Progress(sys.stderr, due, "entries"), 0, router.db_for_write(AuditLog)
    while removed := entries_purge_chunk(before=utc_day_start(before), limit=chunk, using=using):
        purged += removed
        bar.update(purged)
    bar.finish()
    return purged
