"""What this package does when others act: uploads told of, people deleted."""

from __future__ import annotations

from typing import Any

from myometrics_core.activities import Activity, register_receiver
from myometrics_core.people import connect_person_deleted

from .services import uploads_forget, uploads_merge
from .upload_events import RESOURCE_TYPE, evidence_of

__all__ = ["connect_receivers", "receive_activity"]


def receive_activity(activity: Activity) -> None:
    """Merge what ``activity`` says of an upload into the facts."""
    evidence = evidence_of(activity)
    if evidence is not None:
        uploads_merge(evidence=[evidence])


def connect_receivers() -> None:
    """Listen for activities about uploads, and for the deletion of people."""
    register_receiver(
        "myometrics_analytics",
        receive_activity,
        resource_types=frozenset({RESOURCE_TYPE}),
        catch_up="manage.py analytics_rebuild",
    )
    connect_person_deleted(_person_deleted, uid="myometrics_analytics")


def _person_deleted(user: Any, using: str) -> None:
    uploads_forget(user=user)
