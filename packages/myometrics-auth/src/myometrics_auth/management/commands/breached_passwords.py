"""``manage.py breached_passwords``: write the file of ``KnownBreachedPasswordValidator``."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from myometrics_auth.breached_passwords import write_breached_passwords
from myometrics_core.management.command_line import Progress


class Command(BaseCommand):
    """Writes a compact file from a public list of breached passwords or of their hashes."""

    help = "Write the file of KnownBreachedPasswordValidator from a list of breached passwords."
    requires_system_checks = []  # the file may be missing that the settings name

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="the file to write; an existing one is replaced")
        parser.add_argument(
            "--from",
            dest="source",
            required=True,
            help="list with a password, or a SHA-1 hash with an optional ':count', in each line",
        )
        parser.add_argument("--count", type=int, help="use the first lines only")
        parser.add_argument(
            "--seen", type=int, default=1, help="use hashes whose count is at least this one"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if (options["count"] or 1) < 1:
            raise CommandError("--count must be positive.")
        try:
            with open(options["source"], "rb") as lines:
                size = os.fstat(lines.fileno()).st_size
                bar = Progress(sys.stderr)
                written = write_breached_passwords(
                    options["file"],
                    lines,
                    count=options["count"],
                    seen=options["seen"],
                    progress=lambda read: bar.show(read / max(size, 1)),
                )
                bar.finish()
        except OSError as error:
            raise CommandError(str(error)) from error
        if options["verbosity"]:
            self.stdout.write(f"{written} passwords written.")
