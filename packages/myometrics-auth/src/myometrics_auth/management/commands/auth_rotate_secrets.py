"""``manage.py auth_rotate_secrets``: re-encrypt TOTP secrets with the newest key."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from myometrics_auth.services.second_factor_codes import totp_secrets_rotate


class Command(BaseCommand):
    """Re-encrypts every TOTP secret with the first of ``MFA_ENCRYPTION_KEYS``."""

    help = "Encrypt every TOTP secret anew under the first of MFA_ENCRYPTION_KEYS."

    def handle(self, *args: Any, **options: Any) -> None:
        rotated, unreadable = totp_secrets_rotate()
        if options["verbosity"]:
            self.stdout.write(f"{rotated} secrets encrypted anew.")
        if unreadable:
            raise CommandError(f"No key opens the secrets of {unreadable} people.")
