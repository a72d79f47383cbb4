"""``manage.py audit_partition``."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, ProgrammingError, router

from myometrics_core.management.command_line import Progress

from ....conf import audit_settings
from ....log.models import AuditLog
from ...catalog import is_partitioned, is_privilege_missing
from ...conversion import ConversionRefused, convert, plan_conversion
from ...maintenance import maintain_partitions
from ...models import Partition

MIN_SIZE = 1000


class Command(BaseCommand):
    """Partition the audit log, or create and close partitions of a partitioned one."""

    help = (
        "Turn the table of audit entries into a partitioned one while entries are read and "
        "written; today's table becomes the first partition. If the log is partitioned, create "
        "missing partitions ahead and close those that are over, as the hourly job does. Run it "
        "as the owner of the tables. Can be interrupted and restarted at any time. Exit code 0; "
        "1 if the table can't be converted or was in use for too long, 2 for wrong arguments."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--size", type=int, help="ids in a new partition (by default PARTITION_SIZE)"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="change nothing; check and report only"
        )
        parser.add_argument("--json", action="store_true", help="print the result as one JSON line")

    def handle(self, *args: Any, **options: Any) -> None:
        size = audit_settings.PARTITION_SIZE if options["size"] is None else options["size"]
        if size < MIN_SIZE:
            raise CommandError(f"--size must be {MIN_SIZE} or more.", returncode=2)
        using = router.db_for_write(AuditLog)
        try:
            if is_partitioned(using):
                self._maintain(using, size, options)
            elif options["dry_run"]:
                self._plan(using, size, options["json"])
            else:
                self._convert(using, size, options["json"])
        except ConversionRefused as error:
            reasons = "\n".join(f"- {obstacle}" for obstacle in error.obstacles)
            raise CommandError(f"The audit log can't be partitioned:\n{reasons}") from error
        except OperationalError as error:
            raise CommandError(str(error)) from error
        except ProgrammingError as error:
            if not is_privilege_missing(error):
                raise
            raise CommandError(f"Run the command as the owner of the tables ({error}).") from error

    def _plan(self, using: str, size: int, as_json: bool) -> None:
        plan = plan_conversion(using, size=size)
        self._report(
            {"converted": False, "first_id": plan.first_id, "end_id": plan.end_id},
            f"Would make today's table the partition of the ids {plan.first_id:,} to "
            f"{plan.end_id - 1:,}. Run it without --dry-run.",
            as_json,
        )

    def _convert(self, using: str, size: int, as_json: bool) -> None:
        bar: Progress | None = None

        def show(done: int, total: int) -> None:
            nonlocal bar
            bar = bar or Progress(sys.stderr, total, "entries")
            bar.update(done)

        convert(using, size=size, ahead=audit_settings.PARTITIONS_AHEAD, progress=show)
        if bar:
            bar.finish()
        count = Partition.objects.using(using).count()
        self._report(
            {"converted": True, "partitions": count, "created": count - 1, "closed": 0},
            f"The audit log is partitioned now; {count - 1} empty partitions follow the first.",
            as_json,
        )

    def _maintain(self, using: str, size: int, options: dict[str, Any]) -> None:
        partitions = Partition.objects.using(using)
        created = closed = 0
        if not options["dry_run"]:
            done = maintain_partitions(using, size=size)
            created, closed = done.created, done.closed
        count = partitions.count()
        self._report(
            {"converted": False, "partitions": count, "created": created, "closed": closed},
            f"The audit log has {count} partitions. Created {created}, closed {closed}.",
            options["json"],
        )

    def _report(self, result: dict[str, Any], text: str, as_json: bool) -> None:
        self.stdout.write(json.dumps(result) if as_json else text)
