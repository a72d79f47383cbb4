"""Services that write upload facts together with their pending changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import IntegrityError
from django.db.models import Count, Sum

from myometrics_core.db import SerializationFailure, atomic_write, is_unique_violation
from myometrics_core.users import lock_user_for_delete, lock_users_shared

from .changes import ChangeSheet
from .daily_limit import keys_over_limit
from .evidence import Evidence, absorb, is_news
from .models import ClientReports, LimitDecision, PendingChange, Upload

__all__ = ["MergeReport", "uploads_forget", "uploads_merge"]

ATTEMPTS: Final = 5
BATCH: Final = 500
MERGED_FIELDS: Final = tuple(
    field.name
    for field in Upload._meta.concrete_fields
    if field.name not in ("id", "user", "upload_id")
)
Key = tuple[Any, str]


@dataclass(frozen=True)
class MergeReport:
    """Result of a merge: created and updated uploads, and evidence for unknown users."""

    created: int = 0
    updated: int = 0
    unknown_users: int = 0


def uploads_merge(*, evidence: Sequence[Evidence]) -> MergeReport:
    """Merge ``evidence`` into the facts in one transaction.

    Idempotent and independent of the order, except that the daily limit is decided in the order
    of ``evidence``. Evidence for unknown or deleted users is skipped and counted. If two writers
    insert the same upload concurrently, the second merges into the row of the first. Raises
    ``SerializationFailure`` if that row is not visible in the transaction's snapshot.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with atomic_write():
                return _merge(evidence)
        except IntegrityError as error:
            if attempt == ATTEMPTS:
                if is_unique_violation(error):
                    # "repeatable read": the snapshot doesn't show the other writer's row.
                    raise SerializationFailure(str(error)) from error
                raise
    raise AssertionError("unreachable")


def uploads_forget(*, user: Any) -> None:
    """Delete all facts about ``user`` and subtract them from the counts.

    Call it in the transaction that deletes the user. It locks the user's row first, so that no
    writer can add a fact between counting and deleting.
    """
    with atomic_write():
        lock_user_for_delete(user)
        mine = Upload.objects.filter(user_id=user.pk)
        places = mine.counted().values("day", "diagnosis", "status").order_by()
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


def _merge(evidence: Sequence[Evidence]) -> MergeReport:
    people = lock_users_shared(item.user_id for item in evidence)
    known = [item for item in evidence if item.user_id in people]
    present, news = _news(known)
    locked = _uploads(present.keys() & news.keys(), lock=True)
    sheet = ChangeSheet()
    _update([(upload, news[key]) for key, upload in locked.items()], sheet)
    new = {key: items for key, items in news.items() if key not in locked}
    over_limit = keys_over_limit([items[0] for items in new.values()])
    created = [_created(new[key], key in over_limit) for key in sorted(new, key=_lock_order)]
    Upload.objects.bulk_create(created, batch_size=BATCH)
    for upload in created:
        sheet.add(upload)
    sheet.write()
    return MergeReport(len(created), len(news) - len(created), len(evidence) - len(known))


def _news(evidence: Iterable[Evidence]) -> tuple[dict[Key, Upload], dict[Key, list[Evidence]]]:
    """Return the stored uploads, and the evidence that would change or create one."""
    # Read without locks first: of the thousands of rows of a pull, few are new.
    by_key: dict[Key, list[Evidence]] = defaultdict(list)
    for item in evidence:
        by_key[item.key].append(item)
    present = _uploads(by_key, lock=False)
    news = {
        key: items
        for key, items in by_key.items()
        if key not in present or any(is_news(present[key], item) for item in items)
    }
    return present, news


def _uploads(keys: Iterable[Key], *, lock: bool) -> dict[Key, Upload]:
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


def _created(evidence: Sequence[Evidence], over_limit: bool) -> Upload:
    first = evidence[0]
    upload = Upload(
        user_id=first.user_id,
        upload_id=first.upload_id,
        client_only=first.is_client_report,
        over_limit=over_limit,
    )
    for item in evidence:
        absorb(upload, item)
    return upload


def _update(changed: Iterable[tuple[Upload, list[Evidence]]], sheet: ChangeSheet) -> None:
    """Merge evidence into locked uploads and save them."""
    uploads = []
    for upload, evidence in changed:
        sheet.add(upload, -1)
        for item in evidence:
            absorb(upload, item)
        sheet.add(upload)
        uploads.append(upload)
    # Upsert of existing rows: bulk_update() would need a CASE for each row and column.
    Upload.objects.bulk_create(
        uploads,
        batch_size=BATCH,
        update_conflicts=True,
        unique_fields=["pk"],
        update_fields=MERGED_FIELDS,
    )


def _lock_order(key: Key) -> tuple[str, str]:
    return str(key[0]), key[1]
