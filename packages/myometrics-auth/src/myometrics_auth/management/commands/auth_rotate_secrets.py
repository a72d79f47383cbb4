"""``manage.py auth_rotate_secrets``: re-encrypt stored secrets with the newest key."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from myometrics_auth.services.browser import browser_keys_rotate
from myometrics_auth.services.second_factor import totp_secrets_rotate


class Command(BaseCommand):
    """Re-encrypts TOTP secrets and the keys of the admin site's sessions with the newest key."""

    help = (
        "Re-encrypt every TOTP secret, and the keys of the admin site's sessions, with the first "
        "of MFA_ENCRYPTION_KEYS."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        browser_keys_rotate()
        rotated, unreadable = totp_secrets_rotate()
        if options["verbosity"]:
            self.stdout.write(f"{rotated} secrets re-encrypted.")
        if unreadable:
            raise CommandError(f"No key decrypts the secrets of {unreadable} users.")
