"""Export and erasure of a user's uploads as personal data.

Specification: "Data Export Endpoints".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.contrib.auth.base_user import AbstractBaseUser

from myometrics_core.db import read_in_batches
from myometrics_core.personal_data import PersonalDataSection

from .facts.services import uploads_delete
from .models import Upload, UserRollup


class UploadsSection(PersonalDataSection):
    """Section ``uploads``: one record per upload, oldest first; processing time in seconds."""

    name = "uploads"
    order = 30

    def export(self, user: AbstractBaseUser) -> Iterator[Mapping[str, object]]:
        uploads = Upload.objects.filter(user_id=user.pk).order_by("uploaded_at", "pk")
        for upload in read_in_batches(uploads):
            yield {
                "id": upload.upload_id,
                "filename": upload.filename,
                "timestamp": upload.uploaded_at,
                "status": upload.status,
                "diagnosis": upload.diagnosis or None,
                "confidence": upload.confidence,
                "file_size": upload.file_size,
                "processing_time": upload.processing_time,
            }

    def erase(self, user: AbstractBaseUser) -> None:
        uploads_delete(user=user)
        # No reliance on the cascade: a site may keep the user's row.
        UserRollup.objects.filter(user_id=user.pk).delete()
