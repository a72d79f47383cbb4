from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from myometrics_analytics.rollups import changes_fold


class Command(BaseCommand):
    help = "Fold pending changes into the rollups (for sites without Celery)."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"Folded {changes_fold()} changes.")
