"""The daily limit on client-reported uploads: ``UPLOADS_PER_USER_PER_DAY``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from django.db import router

from myometrics_core.times import utc_day

from ..conf import analytics_settings
from ..models import ClientReports, LimitDecision
from .upload_event import UploadEvent, UploadKey

__all__ = ["keys_over_limit"]

UserDay = tuple[Any, date]


def keys_over_limit(first_reports: Iterable[UploadEvent]) -> set[UploadKey]:
    """Return the keys of the new uploads that are over the limit.

    ``first_reports``: the first event of each new upload, in order of arrival. Uploads that were
    not first reported by a client are exempt. The day is that of the event; for audit entries it
    comes from the server's clock. Decisions from before a rebuild are reused. Call it in the
    transaction that inserts the uploads: it locks one row per user and day. The number of
    statements is constant.
    """
    claimed = [item for item in first_reports if item.is_client_report]
    if not claimed:
        return set()
    decided = _decisions(claimed)
    over_limit = {key for key, is_over in decided.items() if is_over}
    undecided: dict[UserDay, list[UploadKey]] = defaultdict(list)
    for item in claimed:
        if item.key not in decided:
            undecided[item.user_id, utc_day(item.uploaded_at)].append(item.key)
    for user_day, reported in _count_reports(undecided).items():
        free = max(0, analytics_settings.UPLOADS_PER_USER_PER_DAY - reported)
        over_limit.update(undecided[user_day][free:])
    return over_limit


def _decisions(claimed: Sequence[UploadEvent]) -> dict[UploadKey, bool]:
    kept = LimitDecision.objects.using(router.db_for_write(LimitDecision)).filter(
        user_id__in={item.user_id for item in claimed},
        upload_id__in={item.upload_id for item in claimed},
    )
    return {(item.user_id, item.upload_id): item.over_limit for item in kept}


def _count_reports(new: dict[UserDay, list[UploadKey]]) -> dict[UserDay, int]:
    """Add ``new`` to the stored numbers of reports; return the previous numbers."""
    if not new:
        return {}
    rows = _locked(new)
    if missing := new.keys() - rows.keys():
        ClientReports.objects.bulk_create(
            (
                ClientReports(user_id=user_id, day=day)
                for user_id, day in sorted(missing, key=lambda item: (str(item[0]), item[1]))
            ),
            batch_size=1000,
            ignore_conflicts=True,  # a concurrent transaction may insert it
        )
        rows = _locked(new)
    before = {user_day: row.uploads for user_day, row in rows.items()}
    for user_day, row in rows.items():
        row.uploads += len(new[user_day])
    ClientReports.objects.bulk_update(rows.values(), ["uploads"], batch_size=500)
    return before


def _locked(wanted: Iterable[UserDay]) -> dict[UserDay, ClientReports]:
    user_days = set(wanted)
    rows = ClientReports.objects.select_for_update().filter(
        user_id__in={user_id for user_id, _ in user_days}, day__in={day for _, day in user_days}
    )
    # A fixed lock order prevents deadlocks between batches.
    found = {(row.user_id, row.day): row for row in rows.order_by("user_id", "day")}
    return {user_day: row for user_day, row in found.items() if user_day in user_days}
