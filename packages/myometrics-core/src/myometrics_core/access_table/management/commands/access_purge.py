"""``manage.py access_purge``."""

from __future__ import annotations

import json
import sys
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ....command_line import Progress, day_or_age
from ....times import utc_day_start, utc_now
from ...models import Access
from ...services import accesses_purge_chunk


class Command(BaseCommand):
    """Remove accesses whose retention period is over."""

    help = (
        "Remove accesses that are older than a day, in chunks. Only says what it would remove "
        "unless --execute is given. May be stopped and started again at any time. Exit code 0; "
        "2 for wrong arguments."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            required=True,
            metavar="AGE",
            help="a UTC day (2025-08-19) or an age (90d, 1y); accesses from before are removed",
        )
        parser.add_argument("--execute", action="store_true", help="really remove them")
        parser.add_argument("--chunk", type=int, default=5000, help="accesses a statement (5000)")
        parser.add_argument("--json", action="store_true", help="print the result as one JSON line")

    def handle(self, *args: Any, **options: Any) -> None:
        before = day_or_age(options["older_than"])
        if before > utc_now().date():
            raise CommandError("--older-than must not lie in the future.", returncode=2)
        if not 1 <= options["chunk"] <= 100_000:
            raise CommandError("--chunk must be from 1 to 100000.", returncode=2)
        due = Access.objects.filter(timestamp__lt=utc_day_start(before)).count()
        purged = self._purge(before, due, options["chunk"]) if options["execute"] else 0
        if options["json"]:
            result = {"older_than": before.isoformat(), "due": due, "purged": purged}
            self.stdout.write(json.dumps(result))
        elif options["execute"]:
            self.stdout.write(f"Removed {purged:,} accesses from before {before} (UTC).")
        else:
            self.stdout.write(
                f"Would remove {due:,} accesses from before {before} (UTC). Run it with --execute."
            )

    def _purge(self, before: date, due: int, chunk: int) -> int:
        bar, purged = Progress(sys.stderr, due, "accesses"), 0
        while removed := accesses_purge_chunk(before=utc_day_start(before), limit=chunk):
            purged += removed
            bar.update(purged)
        bar.finish()
        return purged
