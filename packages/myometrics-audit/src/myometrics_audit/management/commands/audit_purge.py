"""``manage.py audit_purge``."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import router

from myometrics_core.command_line import Progress, day_or_age
from myometrics_core.times import utc_day_start, utc_now

from ...erasures import entries_purge_chunk
from ...models import AuditLog
from ...selections import Selection
from ...selectors import entries_count, entries_select


class Command(BaseCommand):
    """Remove entries whose retention period is over."""

    help = (
        "Remove entries that are older than a day, in chunks, each with a signed erasure, so that "
        "the log still verifies. Only says what it would remove unless --execute is given. "
        "May be stopped and started again at any time. Exit code 0; 2 for wrong arguments."
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
        day = day_or_age(options["older_than"])
        if day > utc_now().date():
            raise CommandError("--older-than must not lie in the future.", returncode=2)
        if not 1 <= options["chunk"] <= 10_000:
            raise CommandError("--chunk must be from 1 to 10000.", returncode=2)
        due = entries_count(entries_select(Selection(end_date=day - timedelta(days=1))))
        purged = self._purge(day, due, options["chunk"]) if options["execute"] else 0
        if options["json"]:
            result = {"older_than": day.isoformat(), "due": due, "purged": purged}
            self.stdout.write(json.dumps(result))
        elif options["execute"]:
            self.stdout.write(f"Removed {purged:,} entries from before {day} (UTC).")
        else:
            self.stdout.write(
                f"Would remove {due:,} entries from before {day} (UTC). Run it with --execute."
            )

    def _purge(self, day: Any, due: int, chunk: int) -> int:
        using, before, purged = router.db_for_write(AuditLog), utc_day_start(day), 0
        bar = Progress(sys.stderr, due, "entries")
        while removed := entries_purge_chunk(before=before, limit=chunk, using=using):
            purged += removed
            bar.update(purged)
        bar.finish()
        return purged
