"""``manage.py verify_addresses``: list users with unverified addresses, mail them, or mark them."""

from __future__ import annotations

import sys
from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet

from myometrics_auth.models import User
from myometrics_auth.selectors import unverified_users
from myometrics_auth.services.verification import verification_request
from myometrics_core.db import read_in_batches
from myometrics_core.management.command_line import Progress, day_or_age
from myometrics_core.times import utc_day_start, utc_now, utc_text

EXAMPLES = """
examples:
  manage.py verify_addresses                                 list them
  manage.py verify_addresses --self-registered --mail        mail each a link
  manage.py verify_addresses --before 2026-01-01 --mark-verified
                                                             trust those of before 2026
"""


class Command(BaseCommand):
    """Lists the active users whose address is not verified; changes nothing without an option."""

    help = (
        "List the active users whose address was never verified. With EMAIL_VERIFICATION "
        "'required', those who registered themselves can't sign in. Nothing is changed or mailed "
        "unless --mail or --mark-verified is given."
    )

    def create_parser(self, *args: Any, **options: Any) -> CommandParser:
        parser = super().create_parser(*args, **options)
        parser.epilog, parser.formatter_class = EXAMPLES, RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        action = parser.add_mutually_exclusive_group()
        action.add_argument("--mail", action="store_true", help="mail each user a link, as a job")
        action.add_argument(
            "--mark-verified",
            action="store_true",
            help="record the addresses as verified, without asking their owners: only if you know "
            "the users. It also keeps second factors at the next password reset",
        )
        parser.add_argument(
            "--before",
            metavar="DATE",
            help="only users who joined before this UTC day (2026-01-31) or age (90d, 2y)",
        )
        parser.add_argument(
            "--self-registered",
            action="store_true",
            help="only users who registered themselves, not those made by an administrator",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        users = unverified_users()
        if options["self_registered"]:
            users = users.filter(self_registered=True)
        if options["before"]:
            before = day_or_age(options["before"])
            if before > utc_now().date():
                raise CommandError("--before must not lie in the future.", returncode=2)
            users = users.filter(date_joined__lt=utc_day_start(before))
        if options["mail"]:
            self.stdout.write(f"{_mail(users):,} mails are queued.")
        elif options["mark_verified"]:
            marked = users.order_by().update(verified_at=utc_now())
            self.stdout.write(f"{marked:,} addresses are marked as verified.")
        else:
            self._list(users)

    def _list(self, users: QuerySet[User]) -> None:
        count = 0
        for user in read_in_batches(users):
            made = "self-registered" if user.self_registered else "made by others"
            self.stdout.write(f"{user.pk}\t{user.email}\t{utc_text(user.date_joined)}\t{made}")
            count += 1
        self.stdout.write(f"{count:,} addresses are not verified. Nothing was changed.")


def _mail(users: QuerySet[User]) -> int:
    bar, done = Progress(sys.stderr, users.count(), "users"), 0
    for user in read_in_batches(users):
        verification_request(email=user.email)
        done += 1
        bar.update(done)
    bar.finish()
    return done
