"""The parts of uploads that are reported under e-mail addresses, and can be taken back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from django.db.models import Max, Min, Q

from myometrics_core.users import address_ownerships_by_key

from ..models import MergedUpload, Upload, UploadReport
from .merging import merge, merge_report
from .upload_event import UploadEvent, UploadKey

BATCH: Final = 500
MERGED_FIELDS: Final = tuple(
    field.name
    for field in Upload._meta.concrete_fields
    if field.name not in ("id", "user", "upload_id")
)
Reports = dict[str, UploadReport]
"""The reports of one upload by ownership; the empty one is everything else."""


def reports_of(keys: Iterable[UploadKey]) -> dict[UploadKey, Reports]:
    """Return the stored reports of uploads; lock the uploads first to change them."""
    wanted = set(keys)
    reports: dict[UploadKey, Reports] = defaultdict(dict)
    if wanted:
        for report in UploadReport.objects.filter(
            user_id__in={user_id for user_id, _ in wanted},
            upload_id__in={upload_id for _, upload_id in wanted},
        ):
            if (report.user_id, report.upload_id) in wanted:
                reports[report.user_id, report.upload_id][report.ownership] = report
    return reports


def merge_with_reports(upload: Upload, reports: Reports, event: UploadEvent) -> bool:
    """Merge ``event`` into ``upload`` and, if needed, its report; return whether either changed.

    Uploads that are never reported under an address have no reports.
    """
    is_changed = False
    if event.ownership and not reports and upload.uploaded_at is not None:
        reports[""] = _new_report(upload)
        copy_facts(upload, reports[""])
    if event.ownership or reports:
        report = reports.get(event.ownership)
        if report is None:
            is_changed = True
            report = reports[event.ownership] = _new_report(upload, event)
        is_changed = merge(report, event) or is_changed
    return merge(upload, event) or is_changed


def combine(upload: Upload, reports: Reports) -> None:
    """Set the facts of ``upload`` to those of ``reports``, merged."""
    # The part without an address first: `client_only` becomes false if another part says so.
    first, *others = (reports[ownership] for ownership in sorted(reports))
    copy_facts(first, upload)
    for report in others:
        merge_report(upload, report)


def copy_facts(source: MergedUpload, target: MergedUpload) -> None:
    """Set every merged field of ``target``."""
    for name in MERGED_FIELDS:
        setattr(target, name, getattr(source, name))


def reports_write(reports: Mapping[UploadKey, Reports]) -> None:
    """Insert the new reports and update the stored ones."""
    rows = [report for of_upload in reports.values() for report in of_upload.values()]
    UploadReport.objects.bulk_create([row for row in rows if row.pk is None], batch_size=BATCH)
    UploadReport.objects.bulk_create(
        [row for row in rows if row.pk is not None],
        batch_size=BATCH,
        update_conflicts=True,
        unique_fields=["pk"],
        update_fields=MERGED_FIELDS,
    )


def revoked_reports() -> Iterator[list[UploadReport]]:
    """Yield, in batches, the reports under addresses that did not belong to the user then."""
    spans = UploadReport.objects.exclude(ownership="").order_by("ownership", "user_id")
    found = list(
        spans.values_list("ownership", "user_id").annotate(Min("uploaded_at"), Max("uploaded_at"))
    )
    for start in range(0, len(found), BATCH):
        batch = found[start : start + BATCH]
        current = address_ownerships_by_key({key for key, *_ in batch})
        for key, user_id, *ends in batch:
            ownership = current.get(key)
            reports = UploadReport.objects.filter(ownership=key, user_id=user_id)
            if ownership is not None and ownership.user_id == user_id:
                if all(map(ownership.includes, ends)):
                    continue
                reports = reports.filter(_outside(ownership.since, ownership.until))
            # The keys first: the caller deletes the reports of each batch.
            keys = list(reports.values_list("pk", flat=True))
            for first in range(0, len(keys), BATCH):
                yield list(UploadReport.objects.filter(pk__in=keys[first : first + BATCH]))


def _outside(since: Any, until: Any) -> Q:
    outside = Q(pk__in=[])
    if since is not None:
        outside |= Q(uploaded_at__lt=since)
    if until is not None:
        outside |= Q(uploaded_at__gte=until)
    return outside


def _new_report(upload: Upload, event: UploadEvent | None = None) -> UploadReport:
    return UploadReport(
        user_id=upload.user_id,
        upload_id=upload.upload_id,
        ownership=event.ownership if event else "",
        client_only=event.is_client_report if event else None,
        over_limit=False,
    )
