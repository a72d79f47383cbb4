"""``manage.py demo``: the whole site from an empty database."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from demo.users import PASSWORD, USERS

LINKS = {
    "Base of the API": "/api/",
    "API documentation": "/api/docs/",
    "OpenAPI schema": "/api/schema/",
    "Admin": "/admin/",
    "Liveness": "/livez",
}


class Command(BaseCommand):
    """Migrates, adds the demo data, prints the credentials and serves."""

    help = "Migrate, fill in demo data and serve the site. Stop it with Ctrl-C; the data stays."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "address", nargs="?", default="localhost:8001", help="default: localhost:8001"
        )
        parser.add_argument(
            "--reload", action="store_true", help="restart the server when the code changes"
        )

    def handle(self, *args: Any, address: str, reload: bool, **options: Any) -> None:
        """Serve until Ctrl-C."""
        if not settings.DEBUG:
            raise CommandError("The demo needs DEBUG=true; in production run a real server.")
        call_command("migrate", verbosity=0)
        call_command("seed_demo", stdout=self.stdout)
        self._introduce(address)
        call_command("runserver", address, use_reloader=reload, stdout=self.stdout)

    def _introduce(self, address: str) -> None:
        base = f"http://{address}" if ":" in address else f"http://localhost:{address}"
        write = self.stdout.write
        write(self.style.MIGRATE_HEADING("\nSign in as (password for all: " + PASSWORD + ")"))
        for user in USERS:
            write(f"  {user.email:<26}{user.role}")
        write(self.style.MIGRATE_HEADING("\nLinks"))
        for name, path in LINKS.items():
            write(f"  {name:<20}{base}{path}")
        write("")
        self.stdout.flush()
