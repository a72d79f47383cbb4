"""The daily limit on client-reported uploads: ``UPLOADS_PER_USER_PER_DAY``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from datetime import date
from typing import Any

from django.db import router

from myometrics_core.times import utc_day

from ..conf import analytics_settings
from ..models import ClientReports, LimitDecision
from .upload_event import UploadEvent, UploadKey

UserDay = tuple[Any, date]


def keys_over_limit(first_reports: Iterable[UploadEvent]) -> set[UploadKey]:
    """Return the keys of the new uploads that are over the limit.

    ``first_reports``: the first event of each new upload, in order of arrival. Uploads that were
    not first reported by a client are exempt. The day is that of the event; for audit entries it
    comes from the server's clock. Decisions from before a rebuild are reused. Call it in the
    transaction that inserts the uploads: it locks one row per user and day. The number of
    statements is constant.
    """
    claimed = [event for event in first_reports if event.is_client_report]
    if not claimed:
        return set()
    decisions = LimitDecision.objects.using(router.db_for_write(LimitDecision)).filter(
        user_id__in={event.user_id for event in claimed},
        upload_id__in={event.upload_id for event in claimed},
    )
    decided = {(found.user_id, found.upload_id): found.over_limit for found in decisions}
    over_limit = {key for key, is_over in decided.items() if is_over}
    undecided: dict[UserDay, list[UploadKey]] = defaultdict(list)
    for event in claimed:
        if event.key not in decided:
            undecided[event.user_id, utc_day(event.uploaded_at)].append(event.key)
    reports = _lock_reports(undecided.keys())
    for user_day, row in reports.items():
        free = max(0, analytics_settings.UPLOADS_PER_USER_PER_DAY - row.uploads)
        over_limit.update(undecided[user_day][free:])
        row.uploads += len(undecided[user_day])
    ClientReports.objects.bulk_update(reports.values(), ["uploads"], batch_size=500)
    return over_limit


def _lock_reports(user_days: Set[UserDay]) -> dict[UserDay, ClientReports]:
    """Lock the rows of ``user_days``; insert those that are missing."""
    reports = _lock_stored_reports(user_days)
    if missing := user_days - reports.keys():
        ClientReports.objects.bulk_create(
            (
                ClientReports(user_id=user_id, day=day)
                for user_id, day in sorted(missing, key=lambda item: (str(item[0]), item[1]))
            ),
            batch_size=1000,
            ignore_conflicts=True,  # a concurrent transaction may insert it
        )
        reports = _lock_stored_reports(user_days)
    return reports


def _lock_stored_reports(user_days: Set[UserDay]) -> dict[UserDay, ClientReports]:
    rows = ClientReports.objects.select_for_update().filter(
        user_id__in={user_id for user_id, _ in user_days}, day__in={day for _, day in user_days}
    )
    # A fixed lock order prevents deadlocks between batches.
    found = {(row.user_id, row.day): row for row in rows.order_by("user_id", "day")}
    return {user_day: row for user_day, row in found.items() if user_day in user_days}
