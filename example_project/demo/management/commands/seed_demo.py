"""``manage.py seed_demo``: demo data."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from demo.uploads import uploads_of_day
from demo.users import PASSWORD, UPLOADERS, USERS
from myometrics_audit.log import NewEntry, entries_record
from myometrics_audit.models import AuditLog
from myometrics_core.db import atomic_write
from myometrics_core.times import utc_day_start, utc_now

User = get_user_model()


class Command(BaseCommand):
    """Creates three users and the uploads of the last days, through the audit log."""

    help = (
        "Fill the site with an administrator, a doctor, a technician and their uploads of the "
        "last days. Running it again only adds the days that are missing. Refused unless DEBUG "
        "is on: the passwords are no secret."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """``--days``: how far back the uploads go."""
        parser.add_argument("--days", type=int, default=120, help="days of uploads (default: 120)")

    def handle(self, *args: Any, days: int, **options: Any) -> None:
        """Create the missing data, in one transaction."""
        if not settings.DEBUG:
            raise CommandError("seed_demo is for demonstrations only: it needs DEBUG=true.")
        if not 1 <= days <= 3650:
            raise CommandError("--days takes a number from 1 to 3650.")
        with atomic_write():
            uploaders = [user for user in _users() if user.email in UPLOADERS]
            written = sum(self._fill(day, uploaders) for day in _missing_days(days))
        self.stdout.write(f"Demo data is there ({written} uploads added).")

    def _fill(self, day: date, uploaders: list[Any]) -> int:
        now = utc_now()
        entries = [
            NewEntry(
                actor_id=uploaders[position % len(uploaders)].pk,
                action=upload.action,
                resource_type="upload",
                resource_id=upload.upload_id,
                details=upload.details,
                occurred_at=upload.occurred_at,
                user_agent="seed_demo",
            )
            for position, upload in enumerate(uploads_of_day(day, until=now))
        ]
        return len(entries_record(entries))


def _users() -> Iterator[Any]:
    for user in USERS:
        found = User.objects.filter(email=user.email).first()
        yield found or _create(user)


def _create(user: Any) -> Any:
    is_admin = user.role == "admin"
    create = User.objects.create_superuser if is_admin else User.objects.create_user
    return create(
        email=user.email,
        password=PASSWORD,
        first_name=user.first_name,
        last_name=user.last_name,
        role=user.role,
        clinic_name=user.clinic_name,
    )


def _missing_days(days: int) -> list[date]:
    today = utc_now().date()
    first = today - timedelta(days=days - 1)
    seeded = AuditLog.objects.filter(
        user__email__in=UPLOADERS,
        resource_id__startswith="demo-",
        timestamp__gte=utc_day_start(first),
    )
    present = {moment.date() for moment in seeded.values_list("timestamp", flat=True)}
    return [day for day in (first + timedelta(n) for n in range(days)) if day not in present]
