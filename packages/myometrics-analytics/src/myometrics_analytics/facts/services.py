"""Services that write upload facts together with their pending changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import IntegrityError
from django.db.models import Count, Sum

from myometrics_core.db import SerializationFailure, atomic_write, is_unique_violation
from myometrics_core.users import lock_user_for_delete, lock_users_shared

from ..models import ClientReports, LimitDecision, PendingChange, Upload
from .count_changes import CountChanges
from .daily_limit import keys_over_limit
from .merging import merge, would_change
from .upload_event import UploadEvent, UploadKey

__all__ = ["MergeReport", "uploads_delete", "uploads_merge"]

MAX_ATTEMPTS: Final = 5
BATCH: Final = 500
MERGED_FIELDS: Final = tuple(
    field.name
    for field in Upload._meta.concrete_fields
    if field.name not in ("id", "user", "upload_id")
)


@dataclass(frozen=True)
class MergeReport:
    """Result of a merge: created and updated uploads, and events of unknown users."""

    created: int = 0
    updated: int = 0
    unknown_users: int = 0


def uploads_merge(*, events: Sequence[UploadEvent]) -> MergeReport:
    """Merge ``events`` into the facts in one transaction.

    Idempotent and independent of the order, except that the daily limit is decided in the order
    of ``events``. Events of unknown or deleted users are skipped and counted. If two writers
    insert the same upload concurrently, the second merges into the row of the first. Raises
    ``SerializationFailure`` if that row is not visible in the transaction's snapshot.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            with atomic_write():
                return _merge(events)
        except IntegrityError as error:
            if attempt == MAX_ATTEMPTS:
                if is_unique_violation(error):
                    # "repeatable read": the snapshot doesn't show the other writer's row.
                    raise SerializationFailure(str(error)) from error
                raise
    raise AssertionError("unreachable")


def uploads_delete(*, user: AbstractBaseUser) -> None:
    """Delete all facts about ``user`` and subtract them from the counts.

    Call it in the transaction that deletes the user. It locks the user's row first, so that no
    writer can add a fact between counting and deleting.
    """
    with atomic_write():
        lock_user_for_delete(user)
        counted = Upload.objects.filter(user_id=user.pk).counted()
        places = counted.values("day", "diagnosis", "status").order_by()
        PendingChange.objects.bulk_create(
            PendingChange(
                day=place["day"],
                diagnosis=place["diagnosis"],
                status=place["status"],
                uploads=-place["uploads"],
                processing_us=-(place["microseconds"] or 0),
                processed=-place["processed"],
            )
            for place in places.annotate(
                uploads=Count("pk"),
                microseconds=Sum("processing_us"),
                processed=Count("processing_us"),
            )
        )
        for model in (Upload, ClientReports, LimitDecision):
            model._base_manager.filter(user_id=user.pk).delete()
        # This may wait for a fold; folds skip locked rows, so there is no deadlock.
        PendingChange.objects.filter(user_id=user.pk).update(user=None)


def _merge(events: Sequence[UploadEvent]) -> MergeReport:
    user_ids = lock_users_shared(event.user_id for event in events)
    known = [event for event in events if event.user_id in user_ids]
    stored, effective = _effective(known)
    locked = _uploads(stored.keys() & effective.keys(), lock=True)
    changes = CountChanges()
    _update([(upload, effective[key]) for key, upload in locked.items()], changes)
    new = {key: found for key, found in effective.items() if key not in locked}
    over_limit = keys_over_limit([found[0] for found in new.values()])
    created = [
        _new_upload(new[key], is_over_limit=key in over_limit)
        for key in sorted(new, key=lambda key: (str(key[0]), key[1]))  # a fixed lock order
    ]
    Upload.objects.bulk_create(created, batch_size=BATCH)
    for upload in created:
        changes.add(upload)
    changes.write()
    return MergeReport(len(created), len(effective) - len(created), len(events) - len(known))


def _effective(
    events: Iterable[UploadEvent],
) -> tuple[dict[UploadKey, Upload], dict[UploadKey, list[UploadEvent]]]:
    """Return the stored uploads, and the events that would change or create one."""
    # Read without locks first: of the thousands of rows of a pull, few are new.
    by_key: dict[UploadKey, list[UploadEvent]] = defaultdict(list)
    for event in events:
        by_key[event.key].append(event)
    stored = _uploads(by_key, lock=False)
    effective = {
        key: found
        for key, found in by_key.items()
        if key not in stored or any(would_change(stored[key], event) for event in found)
    }
    return stored, effective


def _uploads(keys: Iterable[UploadKey], *, lock: bool) -> dict[UploadKey, Upload]:
    wanted = set(keys)
    if not wanted:
        return {}
    uploads = Upload.objects.filter(
        user_id__in={user_id for user_id, _ in wanted},
        upload_id__in={upload_id for _, upload_id in wanted},
    )
    if lock:
        uploads = uploads.select_for_update().order_by("pk")
    found = {(upload.user_id, upload.upload_id): upload for upload in uploads}
    return {key: upload for key, upload in found.items() if key in wanted}


def _new_upload(events: Sequence[UploadEvent], *, is_over_limit: bool) -> Upload:
    first = events[0]
    upload = Upload(
        user_id=first.user_id,
        upload_id=first.upload_id,
        client_only=first.is_client_report,
        over_limit=is_over_limit,
    )
    for event in events:
        merge(upload, event)
    return upload


def _update(changed: Sequence[tuple[Upload, list[UploadEvent]]], changes: CountChanges) -> None:
    """Merge events into locked uploads and save them."""
    for upload, events in changed:
        changes.add(upload, -1)
        for event in events:
            merge(upload, event)
        changes.add(upload)
    # Upsert of existing rows: bulk_update() would need a CASE for each row and column.
    Upload.objects.bulk_create(
        [upload for upload, _ in changed],
        batch_size=BATCH,
        update_conflicts=True,
        unique_fields=["pk"],
        update_fields=MERGED_FIELDS,
    )
