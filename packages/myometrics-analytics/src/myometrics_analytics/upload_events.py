"""Conversion of upload activities to evidence.

Specification: "POST /audit-logs/" with ``resource_type`` ``upload``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from myometrics_core.events import Event

from .evidence import (
    Evidence,
    Origin,
    as_confidence,
    as_diagnosis,
    as_file_size,
    as_filename,
    as_processing_us,
    as_upload_id,
)
from .models import Status

__all__ = ["RESOURCE_TYPE", "evidence_of"]

RESOURCE_TYPE: Final = "upload"

ACTIONS: Final = {
    "upload_created": (Origin.CREATED, Status.PROCESSING),
    "upload_processing": (Origin.PROGRESS, Status.PROCESSING),
    "upload_completed": (Origin.COMPLETED, Status.COMPLETED),
    "upload_failed": (Origin.PROGRESS, Status.FAILED),
    "analysis_ready": (Origin.ANALYSIS_READY, Status.COMPLETED),
}


def evidence_of(activity: Event) -> Evidence | None:
    """Convert ``activity`` to evidence; ``None`` if it isn't a valid upload event.

    Invalid details are ignored. An ``upload_created`` with a diagnosis is completed, because the
    image service responds synchronously.
    """
    user_id = _user_key(activity.actor_id)
    upload_id = as_upload_id(activity.resource_id)
    if activity.resource_type != RESOURCE_TYPE or activity.action not in ACTIONS:
        return None
    if user_id is None or upload_id is None:
        return None
    origin, status = ACTIONS[activity.action]
    details = activity.details if isinstance(activity.details, Mapping) else {}
    diagnosis = _diagnosis(details, origin)
    if origin is Origin.CREATED and diagnosis is not None:
        status = Status.COMPLETED
    return Evidence(
        user_id=user_id,
        upload_id=upload_id,
        uploaded_at=_utc(activity.occurred_at),
        status=status,
        origin=origin,
        diagnosis=diagnosis,
        filename=as_filename(details.get("filename")),
        file_size=as_file_size(details.get("file_size")),
        confidence=as_confidence(details.get("confidence")),
        processing_us=as_processing_us(details.get("processing_time")),
        is_client_report=activity.origin == "client",
    )


def _diagnosis(details: Mapping[str, Any], origin: Origin) -> str | None:
    if origin is Origin.PROGRESS:
        return None
    return as_diagnosis(details.get("diagnosis"))


def _user_key(actor_id: Any) -> Any:
    try:
        return get_user_model()._meta.pk.to_python(actor_id)
    except (ValidationError, TypeError, ValueError):
        return None


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc)
