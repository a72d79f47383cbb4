"""``manage.py jobs_run``."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...jobs.kinds import job_kinds
from ...jobs.loop import JobLoop
from ...jobs.running import run_all_jobs, run_jobs


class Command(BaseCommand):
    """Run background jobs, without Celery."""

    help = (
        "Run background jobs (mails, exports, sealing, statistics …) until SIGTERM or Ctrl-C; the "
        "jobs that are running then are finished. Any number of processes may run at once. With "
        "--once, run the due jobs and return, for cron. A job whose process is killed is taken "
        "over when its lease has expired."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="run the due jobs, and return")
        parser.add_argument("--kind", help="with --once: only the due jobs of this kind")
        parser.add_argument(
            "--threads", type=int, default=4, help="kinds of jobs that run at once (default: 4)"
        )
        parser.add_argument(
            "--interval",
            type=float,
            default=1.0,
            help="seconds between two looks at the table (default: 1)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.USE_TZ:
            raise CommandError("Jobs store times: set USE_TZ = True.")
        if options["kind"] and not options["once"]:
            raise CommandError("--kind needs --once.")
        kind, names = options["kind"], sorted(known.name for known in job_kinds())
        if kind and kind not in names:
            raise CommandError(f"There is no kind {kind!r}. Kinds: {', '.join(names)}.")
        if options["once"]:
            attempts = run_jobs(kind) if kind else run_all_jobs()
            self.stdout.write(f"{attempts} jobs run.")
            return
        if options["threads"] < 1 or options["interval"] <= 0:
            raise CommandError("--threads and --interval must be greater than 0.")
        loop = JobLoop(threads=options["threads"], interval=options["interval"])
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, lambda *_: loop.stop())
        self.stdout.write("Running jobs. Stop with Ctrl-C.")
        loop.run()
