"""Events of the event bus, converted to upload events and merged.

Specification: "POST /audit-logs/" with ``resource_type`` ``upload``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timezone
from typing import Final

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from myometrics_core.events import Event

from ..models import MAX_DIAGNOSIS_LENGTH, MAX_FILENAME_LENGTH, Status
from .services import uploads_merge
from .upload_event import (
    Origin,
    UploadEvent,
    as_confidence,
    as_file_size,
    as_processing_us,
    as_text,
    as_upload_id,
)

RESOURCE_TYPE: Final = "upload"
ACTIONS: Final = {
    "upload_created": (Origin.CREATED, Status.PROCESSING),
    "upload_processing": (Origin.PROGRESS, Status.PROCESSING),
    "upload_completed": (Origin.COMPLETED, Status.COMPLETED),
    "upload_failed": (Origin.PROGRESS, Status.FAILED),
    "analysis_ready": (Origin.ANALYSIS_READY, Status.COMPLETED),
}


def receive_events(events: Sequence[Event]) -> None:
    """Merge the valid upload events among ``events`` into the facts."""
    uploads_merge(events=[found for event in events if (found := convert_event(event))])


def convert_event(event: Event) -> UploadEvent | None:
    """Convert ``event`` to an upload event; ``None`` if it isn't a valid one.

    Invalid details are ignored. An ``upload_created`` with a diagnosis is completed, because the
    image service responds synchronously.
    """
    if event.resource_type != RESOURCE_TYPE or event.action not in ACTIONS:
        return None
    try:
        user_id = get_user_model()._meta.pk.to_python(event.actor_id)
    except (ValidationError, TypeError, ValueError):
        return None
    upload_id = as_upload_id(event.resource_id)
    if user_id is None or upload_id is None:
        return None
    origin, status = ACTIONS[event.action]
    details = event.details if isinstance(event.details, Mapping) else {}
    diagnosis = None
    if origin is not Origin.PROGRESS:
        diagnosis = as_text(details.get("diagnosis"), MAX_DIAGNOSIS_LENGTH)
    if origin is Origin.CREATED and diagnosis is not None:
        status = Status.COMPLETED
    return UploadEvent(
        user_id=user_id,
        upload_id=upload_id,
        uploaded_at=event.occurred_at.astimezone(timezone.utc),
        status=status,
        origin=origin,
        diagnosis=diagnosis,
        filename=as_text(details.get("filename"), MAX_FILENAME_LENGTH),
        file_size=as_file_size(details.get("file_size")),
        confidence=as_confidence(details.get("confidence")),
        processing_us=as_processing_us(details.get("processing_time")),
        is_client_report=event.origin == "client",
    )
