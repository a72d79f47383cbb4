from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from myometrics_analytics.rollups import rollups_check
from myometrics_core.management.command_line import Progress


class Command(BaseCommand):
    help = "Compare the rollups with the upload facts and repair what differs."

    def handle(self, *args: Any, **options: Any) -> None:
        bar = Progress(sys.stderr)
        repairs = rollups_check(progress=bar.show)
        bar.finish()
        result = f"Repaired {repairs} numbers." if repairs else "Every rollup equals the facts."
        self.stdout.write(self.style.WARNING(result) if repairs else self.style.SUCCESS(result))
