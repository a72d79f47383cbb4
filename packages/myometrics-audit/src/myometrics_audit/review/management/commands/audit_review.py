"""``manage.py audit_review``."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from myometrics_core.management.command_line import Progress, day_or_age

from ...scanning import ScanProgress, pending_count, period_count, scan_pending, scan_period

FIRST_DAY: Final = date(1970, 1, 1)
LAST_DAY: Final = date(9998, 12, 31)
"""No entry is before or after these, and times beside them can be computed."""


class Command(BaseCommand):
    """Examine the audit log with the rules of the review."""

    help = (
        "Examine the audit log with the rules of the review, and open findings. Without options: "
        "the entries that were sealed since the last time, as the job does every minute. With "
        "--since: the entries of a period again, for example after a rule was added; nothing is "
        "reported twice. Examples: audit_review; audit_review --since 30d; "
        "audit_review --since 2026-11-01 --until 2026-11-30. Exit code 2: wrong arguments."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--since", metavar="DAY|AGE", help="first day, such as 2026-11-01, or an age (30d, 1y)"
        )
        parser.add_argument(
            "--until", metavar="DAY|AGE", help="last day, included (default: until now)"
        )
        parser.add_argument("--json", action="store_true", help="print the result as one JSON line")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["until"] and not options["since"]:
            raise CommandError("--until needs --since.", returncode=2)
        if options["since"]:
            since, until = _period(options["since"], options["until"])
            total, scan = period_count(since, until), scan_period(since, until)
        else:
            total, scan = pending_count(), scan_pending()
        bar, done = Progress(sys.stderr, total, "entries"), ScanProgress(0, 0)
        for done in scan:
            bar.update(done.entries)
        bar.finish()
        if options["json"]:
            self.stdout.write(json.dumps({"entries": done.entries, "findings": done.findings}))
        else:
            self.stdout.write(
                f"Examined {done.entries:,} entries. New findings: {done.findings:,}."
            )


def _period(since: str, until: str | None) -> tuple[datetime, datetime]:
    start = _midnight(max(day_or_age(since), FIRST_DAY))
    last = min(day_or_age(until), LAST_DAY) if until else None
    end = _midnight(last + timedelta(days=1)) if last else timezone.now()
    if start >= end:
        raise CommandError("--since must be before --until.", returncode=2)
    return start, end


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min), timezone.get_default_timezone())
