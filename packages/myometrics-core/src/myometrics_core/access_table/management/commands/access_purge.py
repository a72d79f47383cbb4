"""``manage.py access_purge``."""

from __future__ import annotations

from datetime import date

from ....command_line import PurgeCommand
from ....times import utc_day_start
from ...models import Access
from ...services import accesses_purge_chunk


class Command(PurgeCommand):
    """Delete accesses older than the retention period."""

    help = (
        "Remove accesses that are older than a day, in chunks. Only says what it would remove "
        "unless --execute is given. May be stopped and started again at any time. Exit code 0; "
        "2 for wrong arguments."
    )
    things = "accesses"
    example_ages = "90d, 1y"
    chunk_unit = "statement"
    largest_chunk = 100_000

    def due(self, before: date) -> int:
        return Access.objects.filter(timestamp__lt=utc_day_start(before)).count()

    def purge_chunk(self, before: date, limit: int) -> int:
        return accesses_purge_chunk(before=utc_day_start(before), limit=limit)
