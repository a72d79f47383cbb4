"""Exports by mail: a file in the storage, a mail with a link, and the deletion of old files."""

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
from django.db.models import Q
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError

from myometrics_core.api import CallerDeleted, link_not_valid
from myometrics_core.db import atomic_write, read_in_batches
from myometrics_core.jobs import Job, cancel_jobs, enqueue
from myometrics_core.mail import mail_address
from myometrics_core.personal_data import export_chunks
from myometrics_core.times import utc_now
from myometrics_core.users import lock_users_shared

from .built_in_kinds import ExportReady
from .conf import notifications_settings
from .kinds import registered_kind
from .models import ExportFile
from .services import messages_queue

logger = logging.getLogger("myometrics.notifications")

EXPORT = "myometrics_notifications.export"
"""The kind of job that writes an export; its key is the primary key of the :class:`ExportFile`."""
SWEEP_EXPORTS = "myometrics_notifications.sweep_exports"

_FOLDER = "myometrics-exports"
_CHUNK_BYTES = 64 * 1024


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
            defaults={"storage_name": f"{_FOLDER}/{uuid.uuid4().hex}.{export_format}"},
        )
        enqueue(EXPORT, key=str(export.pk))
    return _("The export is being prepared. A link to it will be mailed to you.")


def export_generate(*, job: Job) -> None:
    """Write the file of the export whose primary key is the job's key, and queue its mail.

    Nothing happens if the export is no longer queued, or has no owner any more.
    """
    queued = ExportFile.objects.filter(
        pk=job.key, state=ExportFile.State.QUEUED, user__isnull=False
    )
    export = queued.select_related("user").first()
    if export is None:
        return
    _write(export)
    if not _announce(export, job) and not queued.exists():  # its owner was deleted
        _storage().delete(export.storage_name)


def export_file_chunks(export: ExportFile) -> Iterator[bytes]:
    """Open the file, and return its chunks. Raises ``NotFound`` if the file does not exist."""
    try:
        file = _storage().open(export.storage_name, "rb")
    except FileNotFoundError:
        raise link_not_valid() from None
    return _chunks(file)


def export_files_release(*, user: AbstractBaseUser) -> None:
    """Detach ``user``'s exports: links end at once, files are deleted after the commit."""
    exports = ExportFile.objects.filter(user_id=user.pk)
    keys = [str(pk) for pk in exports.values_list("pk", flat=True)]
    if keys:
        exports.update(user=None)
        cancel_jobs(EXPORT, keys)
        enqueue(SWEEP_EXPORTS, key="")


def export_files_sweep() -> int:
    """Delete files that are expired or have no owner; return the number of deleted files."""
    now = utc_now()
    overdue = ExportFile.objects.filter(
        Q(user=None)
        | Q(expires_at__lte=now)
        | Q(state=ExportFile.State.DEAD, settled_at__lte=now - timedelta(days=1))
    )
    return sum(map(_delete, read_in_batches(overdue.order_by("pk"))))


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


def _announce(export: ExportFile, job: Job) -> bool:
    """Mark the export as ready and queue its mail; false if this worker may not, any more."""
    expires_at = utc_now() + notifications_settings.EXPORT_LIFETIME
    with atomic_write():
        if not lock_users_shared([export.user_id]) or not job.finish():
            return False
        ExportFile.objects.filter(pk=export.pk).update(
            state=ExportFile.State.READY, expires_at=expires_at, settled_at=utc_now(), last_error=""
        )
        messages_queue(
            kind=registered_kind(ExportReady.name),
            user_ids=[export.user_id],
            context={"export_id": export.pk, "expires_at": expires_at.isoformat()},
            once_per=f"export:{export.pk}",
        )
    return True


def _delete(export: ExportFile) -> bool:
    try:
        _storage().delete(export.storage_name)
    except Exception:
        logger.exception("The file of %s could not be deleted", export)  # the next sweep tries it
        return False
    export.delete()
    return True


def _chunks(file: Any) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _storage() -> Storage:
    return storages[notifications_settings.EXPORT_STORAGE]
