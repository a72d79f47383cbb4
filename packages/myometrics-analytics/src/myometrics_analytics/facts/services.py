"""Services that write upload facts together with their pending changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import IntegrityError
from django.db.models import Count, Sum

from myometrics_core.db import SerializationFailure, atomic_write, is_unique_violation
from myometrics_core.users import lock_user_for_delete, lock_users_shared

from ..models import ClientReports, LimitDecision, PendingChange, Upload, UploadReport
from .addresses import OwnershipChanged, lock_ownerships, resolve_addresses
from .daily_limit import keys_over_limit
from .reports import (
    BATCH,
    MERGED_FIELDS,
    Reports,
    combine,
    merge_with_reports,
    reports_of,
    reports_write,
    revoked_reports,
)
from .upload_event import UploadEvent, UploadKey

MAX_ATTEMPTS: Final = 5
EventsByKey = dict[UploadKey, list[UploadEvent]]


@dataclass(frozen=True)
class MergeReport:
    """Result of a merge: created and updated uploads, and events of unknown users."""

    created: int = 0
    updated: int = 0
    unknown_users: int = 0


class CountChanges:
    """Sums the changes of the counts within one transaction."""

    def __init__(self) -> None:
        self._by_place: dict[tuple[date, str, str, Any], PendingChange] = {}

    def add(self, upload: Upload, sign: int = 1) -> None:
        """Add ``upload`` (``sign`` -1: subtract it), unless it is over the daily limit."""
        if upload.over_limit:
            return
        place = upload.day, upload.diagnosis, str(upload.status), upload.user_id
        if place not in self._by_place:
            day, diagnosis, status, user_id = place
            self._by_place[place] = PendingChange(
                day=day, diagnosis=diagnosis, status=status, user_id=user_id
            )
        change = self._by_place[place]
        change.uploads += sign
        if upload.processing_us is not None:
            change.processing_us += sign * upload.processing_us
            change.processed += sign

    def write(self) -> None:
        """Insert the non-zero changes."""
        changes = self._by_place.values()
        PendingChange.objects.bulk_create(
            (row for row in changes if row.uploads or row.processing_us or row.processed),
            batch_size=1000,
        )


def uploads_merge(*, events: Sequence[UploadEvent]) -> MergeReport:
    """Merge ``events`` into the facts in one transaction.

    Idempotent and independent of the order, except that the daily limit is decided in the order
    of ``events``. Events of unknown or deleted users are skipped and counted; so are those of
    addresses without an owner. If two writers
    insert the same upload concurrently, the second merges into the row of the first. Raises
    ``SerializationFailure`` if that row is not visible in the transaction's snapshot.
    """
    if not events:
        return MergeReport()
    for _ in range(MAX_ATTEMPTS - 1):
        with suppress(IntegrityError, OwnershipChanged), atomic_write():
            return _merge(events)
    try:
        with atomic_write():
            return _merge(events)
    except IntegrityError as error:
        if is_unique_violation(error):
            # "repeatable read": the snapshot doesn't show the other writer's row.
            raise SerializationFailure(str(error)) from error
        raise


def uploads_delete(*, user: AbstractBaseUser) -> None:
    """Delete all facts about ``user`` and subtract them from the counts.

    Call it in the transaction that deletes the user. It locks the user's row first, so that no
    writer can add a fact between counting and deleting.
    """
    with atomic_write():
        lock_user_for_delete(user)
        counted = Upload.objects.filter(user_id=user.pk).counted()
        groups = counted.values("day", "diagnosis", "status").order_by()
        PendingChange.objects.bulk_create(
            PendingChange(
                day=group["day"],
                diagnosis=group["diagnosis"],
                status=group["status"],
                uploads=-group["uploads"],
                processing_us=-(group["microseconds"] or 0),
                processed=-group["processed"],
            )
            for group in groups.annotate(
                uploads=Count("pk"),
                microseconds=Sum("processing_us"),
                processed=Count("processing_us"),
            )
        )
        for model in (Upload, UploadReport, ClientReports, LimitDecision):
            model._base_manager.filter(user_id=user.pk).delete()
        # This may wait for a fold; folds skip locked rows, so there is no deadlock.
        PendingChange.objects.filter(user_id=user.pk).update(user=None)


def reports_revoke() -> int:
    """Take back what addresses report that did not belong to the user at that time.

    An ownership can end before uploads that it had got, or turn out to have been none (an undone
    change of address). Returns the number of reports.
    """
    return sum(_revoke(batch) for batch in revoked_reports())


def _merge(events: Sequence[UploadEvent]) -> MergeReport:
    resolved = resolve_addresses(events)
    user_ids = lock_users_shared({event.user_id for event in resolved} - {None})
    known: EventsByKey = defaultdict(list)
    for event in resolved:
        if event.user_id in user_ids:
            known[event.key].append(event)
    # Merge into unlocked copies first, to see what changes: of the thousands of rows of a pull, few
    # are new.
    stored = _uploads(known, lock=False)
    reports = reports_of(stored)
    effective = {
        key: found
        for key, found in known.items()
        if key not in stored
        or any(merge_with_reports(stored[key], reports[key], event) for event in found)
    }
    lock_ownerships(event for found in effective.values() for event in found)
    locked = _uploads(stored.keys() & effective.keys(), lock=True)
    new = {key: found for key, found in effective.items() if key not in locked}
    changes = CountChanges()
    _update_uploads(locked, effective, changes)
    _create_uploads(new, changes)
    changes.write()
    unknown_users = len(events) - sum(map(len, known.values()))
    return MergeReport(len(new), len(locked), unknown_users)


def _uploads(keys: Iterable[UploadKey], *, lock: bool) -> dict[UploadKey, Upload]:
    wanted = set(keys)
    uploads = Upload.objects.filter(
        user_id__in={user_id for user_id, _ in wanted},
        upload_id__in={upload_id for _, upload_id in wanted},
    )
    if lock:
        uploads = uploads.select_for_update().order_by("pk")
    found = {(upload.user_id, upload.upload_id): upload for upload in uploads}
    return {key: upload for key, upload in found.items() if key in wanted}


def _update_uploads(
    locked: Mapping[UploadKey, Upload], events: EventsByKey, changes: CountChanges
) -> None:
    reports = reports_of(locked)
    for key, upload in locked.items():
        changes.add(upload, -1)
        for event in events[key]:
            merge_with_reports(upload, reports[key], event)
        changes.add(upload)
    _write_uploads(locked.values())
    reports_write(reports)


def _write_uploads(uploads: Iterable[Upload]) -> None:
    # Upsert of existing rows: bulk_update() would need a CASE for each row and column.
    Upload.objects.bulk_create(
        uploads,
        batch_size=BATCH,
        update_conflicts=True,
        unique_fields=["pk"],
        update_fields=MERGED_FIELDS,
    )


def _create_uploads(new: EventsByKey, changes: CountChanges) -> None:
    over_limit = keys_over_limit(found[0] for found in new.values())
    created = []
    reports: dict[UploadKey, Reports] = {}
    for key in sorted(new, key=lambda key: (str(key[0]), key[1])):  # a fixed lock order
        upload = Upload(
            user_id=key[0],
            upload_id=key[1],
            client_only=new[key][0].is_client_report,
            over_limit=key in over_limit,
        )
        reports[key] = {}
        for event in new[key]:
            merge_with_reports(upload, reports[key], event)
        changes.add(upload)
        created.append(upload)
    Upload.objects.bulk_create(created, batch_size=BATCH)
    reports_write(reports)


def _revoke(revoked: Sequence[UploadReport]) -> int:
    with atomic_write():
        lock_users_shared({report.user_id for report in revoked})
        locked = _uploads({(report.user_id, report.upload_id) for report in revoked}, lock=True)
        remaining = reports_of(locked)
        for report in revoked:
            remaining[report.user_id, report.upload_id].pop(report.ownership, None)
        changes = CountChanges()
        for key, upload in locked.items():
            changes.add(upload, -1)
            if remaining[key]:
                combine(upload, remaining[key])
                changes.add(upload)
        kept = [upload for key, upload in locked.items() if remaining[key]]
        _write_uploads(kept)
        gone = [upload.pk for key, upload in locked.items() if not remaining[key]]
        Upload.objects.filter(pk__in=gone).delete()
        # Without addresses the upload itself is everything else.
        alone = [found[""].pk for found in remaining.values() if found.keys() == {""}]
        keys = [*(report.pk for report in revoked), *alone]
        UploadReport.objects.filter(pk__in=keys).delete()
        changes.write()
    return len(revoked)
