"""``manage.py audit_key``; needs the extra ``checkpoints``, but not its app."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    """Make a key, or show the public keys."""

    help = (
        "Make a key for checkpoints: writes the private key to a new file that only you can "
        "read, and prints the public key. Without --output print the public keys of this site, "
        "the current one first. Exit code 0; 2 if the key can't be made or read."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--name",
            help="name of the log, such as clinic.example/audit-log: a host and a path without "
            "scheme; also the default origin of its checkpoints",
        )
        parser.add_argument("--witness", action="store_true", help="a key for audit_witness")
        parser.add_argument("--output", metavar="FILE", help="new file for the private key")

    def handle(self, *args: Any, **options: Any) -> None:
        if find_spec("cryptography") is None:
            raise CommandError("Install 'myometrics-audit[checkpoints]'.", returncode=2)
        if not options["output"]:
            self._show()
            return
        from ...signing.notes import InvalidNote, generate_key  # noqa: PLC0415 (of an extra)

        try:
            key = generate_key(options["name"] or "", is_witness=options["witness"])
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(os.open(options["output"], flags, 0o600), "w", encoding="utf-8") as file:
                file.write(key.text + "\n")
        except (InvalidNote, OSError) as error:
            raise CommandError(str(error), returncode=2) from None
        self.stdout.write(str(key.verifier))

    def _show(self) -> None:
        from ...checkpoints.checkpoint_keys import verifier_keys  # noqa: PLC0415 (of an extra)

        try:
            keys = verifier_keys()
        except ImproperlyConfigured as error:
            raise CommandError(str(error), returncode=2) from error
        for key in keys:
            self.stdout.write(str(key))
