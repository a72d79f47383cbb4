from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from myometrics_analytics.models import RebuildCheckpoint
from myometrics_analytics.rollups.rebuilding import facts_clear, rebuild_run
from myometrics_core.management.command_line import Progress


class Command(BaseCommand):
    help = (
        "Replay every recorded event into the upload facts and the rollups. "
        "Resumes after an interruption."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--restart", action="store_true", help="Don't resume: replay from the start."
        )
        parser.add_argument(
            "--clear",
            action="store_true",
            help="First delete every fact, also those pulled from the image service "
            "(the next pull restores them). Until the end the numbers are incomplete.",
        )

    def handle(self, *args: Any, restart: bool, clear: bool, **options: Any) -> None:
        if clear:
            facts_clear()
        elif RebuildCheckpoint.objects.exists() and not restart:
            self.stdout.write("Resuming the interrupted rebuild.")
        bar = Progress(sys.stderr)
        replayed = rebuild_run(
            restart=restart,
            progress=lambda source, share, count: bar.show(share, f"{source}: {count:,} events"),
        )
        bar.finish()
        self.stdout.write(self.style.SUCCESS(f"Replayed {replayed} events."))
