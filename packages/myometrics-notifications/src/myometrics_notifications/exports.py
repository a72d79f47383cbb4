"""Exports by mail: a file in the storage, a mail with a link, and the clean-up sweep."""

from __future__ import annotations

import logging
import tempfile
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

from django.contrib.auth.base_user import AbstractBaseUser
from django.core.files import File
from django.core.files.storage import Storage, storages
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError

from myometrics_core.api import CallerDeleted
from myometrics_core.db import atomic_write
from myometrics_core.jobs.background import enqueue
from myometrics_core.mail import classify_failure, mail_address
from myometrics_core.personal_data import export_chunks
from myometrics_core.times import utc_now
from myometrics_core.users import lock_users_shared

from .built_in_kinds import ExportReady
from .conf import notifications_settings
from .kinds import registered_kind
from .leases import claim, fail, finish
from .models import ExportFile
from .selectors import claimable
from .services import messages_queue
from .signed_links import link_not_valid

__all__ = [
    "export_file_chunks",
    "export_files_release",
    "export_files_sweep",
    "export_generate",
    "export_request",
    "exports_due",
]

logger = logging.getLogger("myometrics.notifications")

GENERATE = "myometrics_notifications.export"
SWEEP = "myometrics_notifications.sweep_exports"

_FOLDER = "myometrics-exports"
_CHUNK_BYTES = 64 * 1024
_BATCH = 200


def export_request(*, user: AbstractBaseUser, export_format: str) -> str:
    """Queue an export for ``user``; return a sentence for the response.

    Reuses a pending request of the same format. Raises ``ValidationError`` on ``delivery`` if the
    user has no e-mail address, and ``CallerDeleted`` if the user was deleted concurrently.
    """
    if not mail_address(user):
        raise ValidationError({"delivery": [_("There is no e-mail address to send a link to.")]})
    with atomic_write():
        if not lock_users_shared([user.pk]):
            raise CallerDeleted()
        export, _created = ExportFile.objects.get_or_create(
            user_id=user.pk,
            export_format=export_format,
            state=ExportFile.State.QUEUED,
            defaults={
                "storage_name": f"{_FOLDER}/{uuid.uuid4().hex}.{export_format}",
                "next_attempt_at": utc_now(),
            },
        )
        enqueue(GENERATE, export.pk)
    return _("The export is being prepared. A link to it will be mailed to you.")


def export_generate(*, export_id: int) -> bool:
    """Write the file of one due export, and queue the mail with its link.

    Returns false if there was nothing to do (not due, claimed by another worker, or released
    concurrently), and if writing failed: failures are logged and retried.
    """
    export = claim(ExportFile, export_id, notifications_settings.EXPORT_LEASE)
    if export is None:
        return False
    try:
        _write(export)
    except Exception as error:
        logger.exception("%s could not be written", export)
        fail(export, classify_failure(error))
        return False
    announced = _announce(export)
    if not announced:
        _storage().delete(export.storage_name)
    return announced


def export_file_chunks(export: ExportFile) -> Iterator[bytes]:
    """Open the file, and return its chunks. Raises ``NotFound`` if the file does not exist."""
    try:
        file = _storage().open(export.storage_name, "rb")
    except FileNotFoundError:
        raise link_not_valid() from None
    return _chunks(file)


def export_files_release(*, user: AbstractBaseUser) -> None:
    """Detach ``user``'s exports: links end at once, files are deleted after the commit."""
    mine = ExportFile.objects.filter(user_id=user.pk)
    if mine.update(user=None, lease_token=None):
        enqueue(SWEEP)


def export_files_sweep() -> int:
    """Delete files that are expired or have no owner, and enqueue pending exports.

    Returns the number of deleted files.
    """
    for pk in exports_due():
        enqueue(GENERATE, pk)
    return sum(map(_delete, _overdue()[:_BATCH]))


def exports_due() -> list[int]:
    """Return the primary keys of exports that a worker may claim now."""
    due = ExportFile.objects.filter(claimable(), user__isnull=False)
    return list(due.order_by("next_attempt_at").values_list("pk", flat=True)[:_BATCH])


def _write(export: ExportFile) -> None:
    with tempfile.TemporaryFile(prefix="export-") as copy:
        for chunk in export_chunks(cast(AbstractBaseUser, export.user), export.export_format):
            copy.write(chunk)
        copy.seek(0)
        storage = _storage()
        storage.delete(export.storage_name)
        name = storage.save(export.storage_name, File(copy))
    if name != export.storage_name:
        storage.delete(name)
        raise RuntimeError("the storage keeps the file under another name")


def _announce(export: ExportFile) -> bool:
    kind = registered_kind(ExportReady.name)
    expires_at = utc_now() + notifications_settings.EXPORT_LIFETIME
    with atomic_write():
        lock_users_shared([export.user_id])
        if not finish(export, state=ExportFile.State.READY, expires_at=expires_at):
            return False
        messages_queue(
            kind=kind,
            user_ids=[export.user_id],
            context={"export_id": export.pk, "expires_at": expires_at.isoformat()},
            once_per=f"export:{export.pk}",
        )
    return True


def _overdue() -> QuerySet[ExportFile]:
    now = utc_now()
    abandoned = Q(user=None)
    expired = Q(expires_at__lte=now)
    dead = Q(state=ExportFile.State.DEAD, settled_at__lte=now - timedelta(days=1))
    overdue = ExportFile.objects.filter(abandoned | expired | dead)
    return overdue.order_by("next_attempt_at", "pk")


def _delete(export: ExportFile) -> bool:
    try:
        _storage().delete(export.storage_name)
    except Exception:
        # The row stays: a later sweep retries it, after all others.
        logger.exception("The file of %s could not be deleted", export)
        ExportFile.objects.filter(pk=export.pk).update(next_attempt_at=utc_now())
        return False
    export.delete()
    return True


def _chunks(file: Any) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _storage() -> Storage:
    return storages[notifications_settings.EXPORT_STORAGE]
