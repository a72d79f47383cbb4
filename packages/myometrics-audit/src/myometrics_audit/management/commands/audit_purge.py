"""``manage.py audit_purge``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import router

from myometrics_core.management.command_line import Progress, day_or_age
from myometrics_core.times import utc_day_start, utc_now

from ...listing.pages import entries_count
from ...listing.selection import Selection
from ...log.models import AuditLog
from ...sealing.erasures import entries_purge_chunk
from ...sealing.holds import held_condition

MAX_CHUNK = 10_000
PARTITIONS = "myometrics_audit.partitions"


class Command(BaseCommand):
    """Erase entries whose retention period is over; without ``--execute`` only count them."""

    help = (
        "Remove entries that are older than a day, each time with a signed erasure, so that the "
        "log still verifies: whole partitions first, if the log is partitioned, then the other "
        "entries in chunks. Entries under a legal hold are kept. Only reports what it would remove "
        "unless --execute is given. Can be interrupted and restarted at any time. Exit code 0; 1 "
        "if a partition could not be removed; 2 for wrong arguments."
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
        parser.add_argument(
            "--partitions-only",
            action="store_true",
            help="remove only whole partitions; the rest is removed once its partition is over",
        )
        parser.add_argument(
            "--archive",
            metavar="FOLDER",
            help="write each partition to a file before it is removed, and check the file; "
            "audit_export --check and audit_import read it; implies --partitions-only",
        )
        parser.add_argument("--json", action="store_true", help="print the result as one JSON line")

    def handle(self, *args: Any, **options: Any) -> None:
        day = day_or_age(options["older_than"])
        if day > utc_now().date():
            raise CommandError("--older-than must not lie in the future.", returncode=2)
        if not 1 <= options["chunk"] <= MAX_CHUNK:
            raise CommandError(f"--chunk must be from 1 to {MAX_CHUNK}.", returncode=2)
        purge = _Purge(day, router.db_for_write(AuditLog), self.stderr.write)
        is_partial = options["partitions_only"] or options["archive"] is not None
        if is_partial and not purge.is_partitioned:
            raise CommandError(
                "The audit log is not partitioned: leave out --partitions-only and --archive, or "
                "run 'manage.py audit_partition' first.",
                returncode=2,
            )
        purge.count(is_partial)
        if options["execute"]:
            purge.drop_partitions(_folder(options["archive"]))
            if not is_partial and not purge.is_postponed:
                purge.erase_rows(options["chunk"])
            purge.bar.finish()
        if options["json"]:
            self.stdout.write(json.dumps(purge.as_json()))
        else:
            self.stdout.write(purge.in_words(options["execute"]))
        if purge.has_failed:
            sys.exit(1)


class _Purge:
    """One run: counts what is due, then removes it."""

    def __init__(self, day: date, using: str, report: Callable[[str], object]) -> None:
        self.day, self.using, self._report = day, using, report
        self._before = utc_day_start(day)
        self.is_partitioned, self._partitions = False, []
        if apps.is_installed(PARTITIONS):
            from ...partitions.dropping import due_partitions  # noqa: PLC0415 (opt-in)

            partitions = due_partitions(self._before, using)
            self.is_partitioned, self._partitions = partitions is not None, partitions or []
        self.due = self.held = self.purged = 0
        self.partitions = len(self._partitions)
        self.archives: list[str] = []
        self.has_failed = self.is_postponed = False

    def count(self, is_partial: bool) -> None:
        """Count the entries that are due, those in ``partitions`` if it ``is_partial``."""
        held = held_condition(self.using)
        entries = AuditLog._base_manager.using(self.using).order_by()
        if is_partial:
            for partition in self._partitions:
                within = entries.filter(pk__gte=partition.first_id, pk__lt=partition.end_id)
                self.due += within.count()
                self.held += 0 if held is None else within.filter(held).count()
        elif self.day > date.min:  # no earlier date exists
            self.due = entries_count(Selection(end_date=self.day - timedelta(days=1)))
            if held is not None:
                self.held = entries.filter(held, timestamp__lt=self._before).count()
        self.due -= self.held
        self.bar = Progress(sys.stderr, self.due, "entries")

    def drop_partitions(self, folder: Path | None) -> None:
        """Drop whole partitions; report those that can't be dropped."""
        due, self.partitions = self._partitions, 0
        if not due:
            return
        from ...partitions.dropping import (  # noqa: PLC0415 (opt-in)
            NotDropped,
            NotDroppedYet,
            PartitionDrop,
        )

        for partition in due:
            drop = PartitionDrop(
                partition,
                before=self._before,
                using=self.using,
                folder=folder,
                progress=lambda written: self.bar.update(self.purged + written),
            )
            try:
                dropped = drop.run()
            except NotDropped as error:
                self.has_failed = True
                # One by one, its entries would take hours.
                self.is_postponed |= isinstance(error, NotDroppedYet)
                self.bar.finish()
                self._report(f"{partition}: {error}")
                continue
            if dropped is not None:
                self.partitions += dropped.is_whole
                self.purged += dropped.entries
                self.archives += [str(dropped.archive)] if dropped.archive else []
            self.bar.update(self.purged)

    def erase_rows(self, chunk: int) -> None:
        """Erase the remaining entries in chunks."""
        while removed := entries_purge_chunk(before=self._before, limit=chunk, using=self.using):
            self.purged += removed
            self.bar.update(self.purged)

    def as_json(self) -> dict[str, Any]:
        """Return the result for ``--json``."""
        return {
            "older_than": self.day.isoformat(),
            "due": self.due,
            "held": self.held,
            "partitions": self.partitions,
            "purged": self.purged,
            "archives": self.archives,
        }

    def in_words(self, is_executed: bool) -> str:
        """Return the result as text."""
        count = self.purged if is_executed else self.due
        text = f"{'Removed' if is_executed else 'Would remove'} {count:,} entries "
        if self.partitions:
            text += f"and {self.partitions:,} partitions "
        text += f"from before {self.day} (UTC)."
        if self.held:
            text += f" Kept by a legal hold: {self.held:,}."
        if self.archives:
            text += "".join(f"\nArchive: {path}" for path in self.archives)
        return text if is_executed else f"{text} Run it with --execute."


def _folder(path: str | None) -> Path | None:
    if path is None:
        return None
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{path} can't be written: {error}", returncode=2) from error
    return folder
