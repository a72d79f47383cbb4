from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from myometrics_analytics.rebuilding import facts_clear, rebuild_is_unfinished, rebuild_run
from myometrics_core.management.command_line import Progress


class Command(BaseCommand):
    help = (
        "Replay every recorded activity into the upload facts and the rollups. "
        "Interrupted, it goes on where it stopped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--restart", action="store_true", help="Don't resume: replay from the start."
        )
        parser.add_argument(
            "--clear",
            action="store_true",
            help="First forget every fact, also those pulled from the image service "
            "(the next pull brings them back). Until the end the numbers are incomplete.",
        )

    def handle(self, *args: Any, restart: bool, clear: bool, **options: Any) -> None:
        if clear:
            facts_clear()
        elif rebuild_is_unfinished() and not restart:
            self.stdout.write("Going on where the last rebuild stopped.")
        bar = Progress(sys.stderr)
        replayed = rebuild_run(
            restart=restart,
            progress=lambda source, share, count: bar.show(
                share, f"{source}: {count:,} activities"
            ),
        )
        bar.finish()
        self.stdout.write(self.style.SUCCESS(f"Replayed {replayed} activities."))
