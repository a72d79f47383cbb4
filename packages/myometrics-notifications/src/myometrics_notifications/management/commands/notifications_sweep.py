"""``manage.py notifications_sweep``: the beat tasks of this package, for sites that use cron."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from myometrics_notifications.delivery import messages_sweep
from myometrics_notifications.exports import export_files_sweep, export_generate, exports_due
from myometrics_notifications.services import messages_purge


class Command(BaseCommand):
    """Delivers and purges once, and prints a summary."""

    help = "Deliver due mails, write pending exports, delete expired messages and files."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run once, and print one line; failed jobs are retried by the next run."""
        written = sum(export_generate(export_id=export_id) for export_id in exports_due())
        attempts = messages_sweep()
        deleted = messages_purge() + export_files_sweep()
        self.stdout.write(
            f"{attempts} deliveries tried, {written} exports written, {deleted} rows deleted"
        )
