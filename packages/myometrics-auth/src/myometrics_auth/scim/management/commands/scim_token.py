"""``manage.py scim_token``: create, list and revoke the tokens of identity providers."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rest_framework.exceptions import APIException

from myometrics_auth.scim.conf import providers
from myometrics_auth.scim.provisioning_tokens import token_create, token_revoke, tokens_live

DAYS = 365


class Command(BaseCommand):
    """Manages the bearer tokens by which identity providers provision users."""

    help = (
        "Create, list and revoke the tokens by which identity providers provision users over SCIM. "
        "A provider has at most two tokens, so that one can be replaced without a gap."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="print a new token; it is not shown again")
        create.add_argument("provider", help="slug of the provider in the settings")
        create.add_argument(
            "--days", type=int, default=DAYS, help=f"days until it expires (default: {DAYS})"
        )
        actions.add_parser("list", help="list the tokens, without their text")
        revoke = actions.add_parser("revoke", help="revoke a token")
        revoke.add_argument("id", help="id of the token in the list")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['action']}")(options)

    def _create(self, options: dict[str, Any]) -> None:
        if options["provider"] not in providers():
            known = ", ".join(providers()) or "none"
            raise CommandError(f"No provider {options['provider']!r}. Providers: {known}.")
        if not 1 <= options["days"] <= 3650:
            raise CommandError("--days must be between 1 and 3650.")
        try:
            token, text = token_create(
                provider=options["provider"], lifetime=timedelta(days=options["days"])
            )
        except APIException as error:
            raise CommandError(str(error.detail)) from error
        self.stdout.write(text)
        self.stderr.write(f"Token {token.pk}, until {token.expires_at:%Y-%m-%d}.")

    def _list(self, options: dict[str, Any]) -> None:
        for token in tokens_live():
            used = f"used {token.used_at:%Y-%m-%d}" if token.used_at else "never used"
            self.stdout.write(
                f"{token.pk}  {token.provider}  until {token.expires_at:%Y-%m-%d}  {used}"
            )

    def _revoke(self, options: dict[str, Any]) -> None:
        try:
            is_revoked = token_revoke(token_id=str(uuid.UUID(options["id"])))
        except ValueError:
            is_revoked = False
        if not is_revoked:
            raise CommandError(f"No token {options['id']!r}.")
        self.stdout.write("Revoked.")
