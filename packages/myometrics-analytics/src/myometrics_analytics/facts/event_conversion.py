"""Conversion of events of the event bus to upload events.

Specification: "POST /audit-logs/" with ``resource_type`` ``upload``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timezone
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from myometrics_core.events import Event

from ..models import Status
from .upload_event import (
    Origin,
    UploadEvent,
    as_confidence,
    as_diagnosis,
    as_file_size,
    as_filename,
    as_processing_us,
    as_upload_id,
)

__all__ = ["RESOURCE_TYPE", "convert_event"]

RESOURCE_TYPE: Final = "upload"

ACTIONS: Final = {
    "upload_created": (Origin.CREATED, Status.PROCESSING),
    "upload_processing": (Origin.PROGRESS, Status.PROCESSING),
    "upload_completed": (Origin.COMPLETED, Status.COMPLETED),
    "upload_failed": (Origin.PROGRESS, Status.FAILED),
    "analysis_ready": (Origin.ANALYSIS_READY, Status.COMPLETED),
}


def convert_event(event: Event) -> UploadEvent | None:
    """Convert ``event`` to an upload event; ``None`` if it isn't a valid one.

    Invalid details are ignored. An ``upload_created`` with a diagnosis is completed, because the
    image service responds synchronously.
    """
    user_id, upload_id = _user_key(event.actor_id), as_upload_id(event.resource_id)
    if event.resource_type != RESOURCE_TYPE or event.action not in ACTIONS:
        return None
    if user_id is None or upload_id is None:
        return None
    origin, status = ACTIONS[event.action]
    details = event.details if isinstance(event.details, Mapping) else {}
    has_diagnosis = origin is not Origin.PROGRESS
    diagnosis = as_diagnosis(details.get("diagnosis")) if has_diagnosis else None
    if origin is Origin.CREATED and diagnosis is not None:
        status = Status.COMPLETED
    return UploadEvent(
        user_id=user_id,
        upload_id=upload_id,
        uploaded_at=event.occurred_at.astimezone(timezone.utc),
        status=status,
        origin=origin,
        diagnosis=diagnosis,
        filename=as_filename(details.get("filename")),
        file_size=as_file_size(details.get("file_size")),
        confidence=as_confidence(details.get("confidence")),
        processing_us=as_processing_us(details.get("processing_time")),
        is_client_report=event.origin == "client",
    )


def _user_key(actor_id: Any) -> Any:
    try:
        return get_user_model()._meta.pk.to_python(actor_id)
    except (ValidationError, TypeError, ValueError):
        return None
