from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from myometrics_analytics.pull.pulling import uploads_pull
from myometrics_analytics.pull.upload_sources import SourceUnavailable


class Command(BaseCommand):
    help = "Pull all uploads from the image service now."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = uploads_pull()
        except SourceUnavailable as failure:
            raise CommandError(f"The image service is unavailable: {failure}.") from failure
        if report is None:
            raise CommandError("No image service is configured, or another pull is running.")
        self.stdout.write(
            f"{report.rows} rows: {report.created} new uploads, {report.updated} updated, "
            f"{report.unknown_users} of unknown users, {report.bad_rows} invalid."
        )
