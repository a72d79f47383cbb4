"""``manage.py audit_seal``."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandParser
from django.db import router

from myometrics_core.jobs import enqueue, run_job
from myometrics_core.management.command_line import Progress

from ...log.models import Seal
from ...sealing.counts import counts_rebuild
from ...sealing.seals import ANCHOR_JOB, SealProgress, seal_pending, unsealed_count

CHECKPOINT_JOB = "myometrics_audit.checkpoint"


class Command(BaseCommand):
    """Seal pending entries now."""

    help = (
        "Seal all audit entries that are not sealed yet, and publish anchors and the checkpoint. "
        "Safe to run at any time: only one sealer runs at a time. Exit code 0 if nothing is left "
        "to seal, 1 if another sealer is running."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the result as one JSON line")
        parser.add_argument(
            "--recount",
            action="store_true",
            help="then recount all sealed entries (writers continue, sealing waits)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        unsealed = unsealed_count()
        bar = Progress(sys.stderr, unsealed, "leaves")
        progress = SealProgress(seals=0, leaves=0, number=None)
        for progress in seal_pending():
            bar.update(progress.leaves)
        bar.finish()
        run_job(ANCHOR_JOB, now=True)
        if apps.is_installed("myometrics_audit.checkpoints"):
            enqueue(CHECKPOINT_JOB, key="")
            run_job(CHECKPOINT_JOB, now=True)
        counted = counts_rebuild(using=router.db_for_write(Seal)) if options["recount"] else None
        self._report(progress, counted, options["json"])
        if unsealed and not progress.seals and unsealed_count():
            sys.exit(1)

    def _report(self, progress: SealProgress, counted: int | None, as_json: bool) -> None:
        if as_json:
            result = {"seals": progress.seals, "leaves": progress.leaves, "number": progress.number}
            self.stdout.write(json.dumps({**result, "counted": counted}))
            return
        self.stdout.write(f"Leaves sealed: {progress.leaves:,}. New seals: {progress.seals:,}.")
        if counted is not None:
            self.stdout.write(f"Recounted {counted:,} sealed entries.")
