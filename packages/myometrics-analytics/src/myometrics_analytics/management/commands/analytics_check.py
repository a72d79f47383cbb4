from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from myometrics_analytics.progress import ProgressBar
from myometrics_analytics.self_check import rollups_check


class Command(BaseCommand):
    help = "Compare the rollups with the upload facts and repair what differs."

    def handle(self, *args: Any, **options: Any) -> None:
        bar = ProgressBar(self.stderr)
        repairs = rollups_check(progress=lambda share: bar.show("self-check", share))
        bar.end()
        said = f"Repaired {repairs} numbers." if repairs else "Every rollup equals the facts."
        self.stdout.write(self.style.WARNING(said) if repairs else self.style.SUCCESS(said))
